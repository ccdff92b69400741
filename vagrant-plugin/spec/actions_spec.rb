# frozen_string_literal: true

require 'vagrant-hybrid/action/await_release'
require 'vagrant-hybrid/report'

# What each piece of middleware does and says, with libvirt's domain in memory.
RSpec.describe VagrantPlugins::Hybrid::Action do
  let(:ui) { FakeMachine::Recorder.new }
  let(:domain) { FakeDomain.new }
  let(:checkout) { Dir.mktmpdir('checkout', ENV.fetch('HYBRID_RUN_DIR').delete_suffix('/run')) }
  let(:called) { [] }

  before do
    publish
    stub_const('VagrantPlugins::Hybrid::Report::PATIENCE', 0)
    stub_const('VagrantPlugins::Hybrid::Action::AwaitRelease::PATIENCE', 0.3)
  end

  # Without a box there is no guest to set up.
  def run(action, text, app: ->(_env) { called << :app }, **env)
    machine = machine("config.vm.box = nil\n#{text}", domain: domain, cwd: checkout)
    described_class.const_get(action).new(app, {}).call({ machine: machine, ui: ui }.merge(env))
    machine
  end

  def said(level = nil)
    ui.lines.filter_map { |line| line.last if level.nil? || line.first == level }
  end

  describe 'DefineDomain' do
    it 'has the domain changed when it starts, and says the address after' do
      app = lambda do |_env|
        called << domain.entries
        publish(leases: [lease(domain.macs.last, '10.0.1.200')])
      end
      run(:DefineDomain, 'config.hybrid.network "hybrid", ip: "10.0.1.200"', app: app)
      expect(called).to match([[include('ip' => '10.0.1.200')]])
      expect(said(:info).last).to eq('Hybrid network "hybrid": 10.0.1.200 (db.hybrid.internal)')
    end

    it 'says that there is no lease, rather than nothing' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      expect(said(:warn)).to match([include('no lease for 52:54:00')])
    end

    it "touches nothing of a machine that isn't ours" do
      run(:DefineDomain, '')
      expect([called, domain.calls, ui.lines]).to eq([[:app], [], []])
    end

    it 'takes out what is ours when our lines are gone' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      run(:DefineDomain, '')
      expect([domain.macs.size, domain.entries]).to eq([1, []])
    end

    it 'finds its NICs by their MACs when its notes are lost' do
      machine = run(:DefineDomain, 'config.hybrid.network "hybrid"')
      machine.data_dir.join('hybrid.json').write('{')
      run(:DefineDomain, '')
      expect(domain.entries).to eq([])
    end

    it 'changes nothing of a machine whose memory is saved, and says so' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      domain.saved = true
      domain.calls.clear
      run(:DefineDomain, 'config.hybrid.network "hybrid", ip: "10.0.1.201"')
      expect(domain.calls).to eq([])
      expect(said(:warn)).to include(include('next cold start'))
    end

    it 'leaves guest and message to what is around it, for a new machine' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"', hybrid_new: true)
      expect(ui.lines).to eq([])
    end

    [
      Libvirt::Error, VagrantPlugins::ProviderLibvirt::Errors::DomainStartError
    ].each do |error|
      it "turns the refusal in a #{error} into its words" do
        text = "unexpected exit status 1: hybrid-hook: 10.0.1.200 is taken; hint: another\n"
        app = ->(_env) { raise(error == Libvirt::Error ? error.new(text) : error.new(error_message: text)) }
        expect { run(:DefineDomain, 'config.hybrid.network "hybrid"', app: app) }
          .to raise_error(VagrantPlugins::Hybrid::Errors::Refused, /10\.0\.1\.200 is taken\nhint: another/)
      end
    end

    it "passes on anybody else's error" do
      app = ->(_env) { raise Libvirt::Error, 'no memory' }
      expect { run(:DefineDomain, 'config.hybrid.network "hybrid"', app: app) }
        .to raise_error(Libvirt::Error, 'no memory')
    end

    it 'says why the domain could not be changed' do
      allow(domain).to receive(:attach_device).and_raise(Libvirt::Error, 'read-only')
      expect { run(:DefineDomain, 'config.hybrid.network "hybrid"') }
        .to raise_error(VagrantPlugins::Hybrid::Errors::DomainChange, /read-only/)
      expect(called).to eq([])
    end
  end

  describe 'AddNetworks' do
    it 'adds a network like those of the Vagrantfile, after them' do
      machine = run(:AddNetworks, <<~RUBY)
        config.hybrid.network "hybrid"
        config.vm.network :private_network, ip: "192.168.50.4"
      RUBY
      type, options = machine.config.vm.networks.last
      expect(type).to eq(:public_network)
      expect(options).to include(dev: 'lo', type: 'bridge', mode: 'bridge', mac: /\A52:54:00/)
      expect(options).not_to include(:ip)
    end

    it "adds nothing to a machine that isn't ours" do
      machine = run(:AddNetworks, '')
      expect(machine.config.vm.networks.map(&:first).uniq).to eq([:forwarded_port])
    end

    it 'says that a network is gone since it was validated' do
      FileUtils.rm_r(ENV.fetch('HYBRID_RUN_DIR'))
      expect { run(:AddNetworks, 'config.hybrid.network "hybrid"') }
        .to raise_error(VagrantPlugins::Hybrid::Errors::NotReady, /does not exist/)
    end
  end

  describe 'TellPending' do
    # As Vagrant calls it.
    def run(*arguments, **options)
      super(*arguments, action_name: :machine_action_resume, **options)
    end

    it 'says that a change waits, and changes nothing' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      domain.calls.clear
      run(:TellPending, 'config.hybrid.network "hybrid", hostname: "db"')
      expect([domain.calls, said(:warn)]).to match([[], include(include('next cold start'))])
    end

    it 'says the address alone where there is no change' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      publish(leases: [lease(domain.macs.last, '10.0.1.200')])
      ui.lines.clear
      run(:TellPending, 'config.hybrid.network "hybrid"')
      expect(ui.lines).to eq([[:info, 'Hybrid network "hybrid": 10.0.1.200 (db.hybrid.internal)']])
    end

    it 'resumes also where the network is gone' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      FileUtils.rm_r(ENV.fetch('HYBRID_RUN_DIR'))
      called.clear
      run(:TellPending, 'config.hybrid.network "hybrid"')
      expect(called).to eq([:app])
    end
  end

  describe 'TellPending before a halt' do
    it 'only resumes' do
      run(:DefineDomain, 'config.hybrid.network "hybrid"')
      called.clear
      ui.lines.clear
      run(:TellPending, 'config.hybrid.network "hybrid", hostname: "db"', action_name: :machine_action_reload)
      expect([called, ui.lines]).to eq([[:app], []])
    end
  end

  describe 'TellRestored' do
    before { run(:DefineDomain, 'config.hybrid.network "hybrid"') && ui.lines.clear }

    # Puts the machine back as it was, running or not.
    def restore(state, text, app: ->(_env) { called << :app })
      machine = machine("config.vm.box = nil\n#{text}", domain: domain, cwd: checkout)
      allow(machine).to receive(:state).and_return(double(id: state))
      described_class::TellRestored.new(app, {}).call({ machine: machine, ui: ui })
    end

    it 'says the address that a running machine has again, and what waits' do
      publish(leases: [lease(domain.macs.last, '10.0.1.200')])
      restore(:running, 'config.hybrid.network "hybrid", hostname: "other"')
      expect(ui.lines).to match([[:warn, include('next cold start')], [:info, include('10.0.1.200')]])
    end

    it 'says no address of one that is off' do
      restore(:shutoff, 'config.hybrid.network "hybrid"')
      expect(ui.lines).to eq([])
    end

    it 'turns a refusal into its words' do
      app = ->(_env) { raise Libvirt::Error, 'status 1: hybrid-hook: 10.0.1.200 is held by vm "web" (active)' }
      expect { restore(:running, 'config.hybrid.network "hybrid"', app: app) }
        .to raise_error(VagrantPlugins::Hybrid::Errors::Refused, /held by vm "web"/)
    end
  end

  describe 'AwaitRelease' do
    let(:text) { 'config.hybrid.network "hybrid"' }

    before { run(:DefineDomain, text) && ui.lines.clear }

    it 'says nothing when the service has freed the address' do
      publish(leases: [lease(domain.macs.last, '10.0.1.200', state: 'idle')])
      run(:AwaitRelease, text, app: ->(_env) { publish })
      expect(ui.lines).to eq([])
    end

    it 'warns of an address that is still held' do
      publish(leases: [lease(domain.macs.last, '10.0.1.200', state: 'idle')])
      run(:AwaitRelease, text)
      expect(said(:warn)).to match([include('10.0.1.200 is not free yet')])
    end

    it "waits for nobody else's, nor for what a person keeps" do
      publish(leases: [lease('52:54:00:aa:aa:aa', '10.0.1.201', owner: 'other'),
                       lease(domain.macs.last, '10.0.1.200', reserved: true)])
      run(:AwaitRelease, text)
      expect(ui.lines).to eq([])
    end

    it 'reads no file that a name in the metadata could point to' do
      domain.metadata = [0, '<networks><network name="../../../etc/passwd" mac="52:54:00:00:00:09"/></networks>',
                         'hybrid', 'urn:hybrid-hook:domain:1', 0]
      allow(File).to receive(:read).and_call_original
      expect(File).not_to receive(:read).with(include('passwd'))
      run(:AwaitRelease, '')
      expect(called.last).to eq(:app)
    end
  end

  describe 'WarnProvider' do
    it 'says that nothing is done for another provider' do
      machine = machine('config.hybrid.network "hybrid"')
      allow(machine).to receive(:provider_name).and_return(:docker)
      described_class::WarnProvider.new(->(_env) {}, {}).call(machine: machine, ui: ui)
      expect(said(:warn)).to match([include('those of docker nothing is done')])
      expect(validate(machine, ask_host: true)).to eq([])
    end
  end
end
