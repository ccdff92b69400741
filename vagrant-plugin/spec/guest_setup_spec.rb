# frozen_string_literal: true

require 'vagrant-hybrid/guest_setup'

# What is asked of a guest that has started; the guest's own answers are doubles.
RSpec.describe VagrantPlugins::Hybrid::GuestSetup do
  let(:ui) { FakeMachine::Recorder.new }
  let(:domain) { FakeDomain.new(devices: <<~XML) }
    <interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='lo'/></interface>
  XML
  let(:asked) { [] }

  before { publish }

  # A guest with these capabilities; each is noted when it is asked for.
  def guest(**capabilities)
    double(capability?: false).tap do |guest|
      allow(guest).to receive(:capability?) { |name| capabilities.key?(name) }
      allow(guest).to receive(:capability) do |name, *arguments|
        asked << [name, *arguments]
        capabilities.fetch(name)
      end
    end
  end

  def set_up(text, guest)
    machine = machine(text, domain: domain)
    allow(machine).to receive(:guest).and_return(guest)
    nics = VagrantPlugins::Hybrid::Nic.all(machine)
    described_class.new(machine, ui).run(nics)
    [machine, nics]
  end

  it 'leaves a guest alone that is no Linux, and asks no more the next time' do
    machine, nics = set_up('config.hybrid.network "hybrid", mac: "52:54:00:00:00:02", block: 4',
                           guest(configure_networks: nil))
    expect(asked).to eq([])
    expect(ui.lines.map(&:first).uniq).to eq([:warn])
    ui.lines.clear
    described_class.new(machine, ui).run(nics)
    expect(ui.lines.map(&:last).grep(/configure networks/)).to eq([])
  end

  [true, false].each do |management|
    it "never touches the NIC that Vagrant comes by, management NIC #{management}" do
      interfaces = { '52:54:00:00:00:01' => 'eth0', '52:54:00:00:00:02' => 'eth1' }
      linux = guest(configure_networks: nil, hybrid_interfaces: interfaces, hybrid_resolver: nil,
                    network_interfaces: interfaces.values)
      set_up(<<~RUBY, linux)
        config.vm.provider(:libvirt) { |lv| lv.mgmt_attach = #{management} }
        #{'config.vm.network :public_network, dev: "br0", mac: "52:54:00:00:00:01"' unless management}
        config.hybrid.network "hybrid", mac: "52:54:00:00:00:02"
      RUBY
      expect(asked.assoc(:configure_networks).last)
        .to match([include(interface: 1, mac_address: '52:54:00:00:00:02', type: :dhcp)])
    end
  end
end
