# frozen_string_literal: true

RSpec.describe VagrantPlugins::Hybrid::Host do
  def problems(text)
    validate(machine(text), ask_host: true)
  end

  before { install_hybrid_hook }

  it 'finds nothing wrong with a network that is up' do
    publish
    expect(problems('config.hybrid.network "hybrid", ip: "10.0.1.200"')).to eq([])
  end

  it 'says that hybrid-hook is not installed' do
    publish
    allow(described_class).to receive(:executable).and_return(nil)
    expect(problems('config.hybrid.network "hybrid"')).to match([include('hybrid-hook is not installed')])
  end

  it 'names the command that creates a network, and the nearest one' do
    expect(problems('config.hybrid.network "hybrd"'))
      .to eq(['network "hybrd": does not exist; create it: sudo hybrid-hook network create hybrd'])
    publish
    expect(problems('config.hybrid.network "hybrd"')).to match([include('did you mean hybrid?')])
  end

  it 'tells a network that is down from one that does not exist' do
    FileUtils.mkdir_p("#{ENV.fetch('HYBRID_CONFIG_DIR')}/networks")
    File.write("#{ENV.fetch('HYBRID_CONFIG_DIR')}/networks/hybrid.toml", '')
    expect(problems('config.hybrid.network "hybrid"')).to match([include('is down; bring it up')])
    publish(up: false)
    expect(problems('config.hybrid.network "hybrid"')).to match([include('is down; bring it up')])
  end

  it 'says that the bridge is gone' do
    publish(bridge: 'no-such-bridge')
    expect(problems('config.hybrid.network "hybrid"')).to match([include('sudo hybrid-hook apply')])
  end

  {
    '10.0.2.1' => 'is outside the subnet 10.0.1.0/24',
    '10.0.1.1' => 'is the gateway', '10.0.1.0' => 'is the network address', '10.0.1.255' => 'is the broadcast address',
    '10.0.1.64' => 'is in the container pool', '10.0.1.127' => 'is in the container pool',
    'fd00::5' => "is of a family that the network doesn't have"
  }.each do |ip, message|
    it "refuses #{ip}" do
      publish
      expect(problems("config.hybrid.network \"hybrid\", ip: \"#{ip}\"")).to match([include(message)])
    end
  end

  it 'lets a machine into the pool of containers where the registry gives out both' do
    publish(ipam: 'hybrid')
    expect(problems('config.hybrid.network "hybrid", ip: "10.0.1.70"')).to eq([])
  end

  it 'takes IPv4 alone on a network of both families: the other goes with it' do
    publish(families: FakeHost::SNAPSHOT['families'] + [{ 'subnet' => 'fd00:9::/64', 'gateway' => 'fd00:9::1' }])
    {
      'fd00:9::c9' => 'goes with the IPv4 address 10.0.1.201 on', 'fd00:9::1' => 'is the gateway',
      'fd00:9::1:0' => 'goes with no IPv4 address of 10.0.1.0/24', 'fd00::5' => 'is outside the subnet fd00:9::/64'
    }.each do |ip, message|
      expect(problems("config.hybrid.network \"hybrid\", ip: \"#{ip}\"")).to match([include(message)])
    end
    expect(problems('config.hybrid.network "hybrid", ip: "10.0.1.201"')).to eq([])
  end

  it "reads a guest's name in any language, whatever the caller's locale" do
    publish(leases: [lease('52:54:00:00:00:02', '10.0.1.130', owner_name: 'Büro')])
    before = Encoding.default_external
    begin
      silently { Encoding.default_external = Encoding::US_ASCII }
      expect(VagrantPlugins::Hybrid::Snapshot.read('hybrid').leases.first['owner_name']).to eq('Büro')
    ensure
      silently { Encoding.default_external = before }
    end
  end

  # Ruby warns of a new default encoding.
  def silently
    before = $VERBOSE
    $VERBOSE = nil
    yield
  ensure
    $VERBOSE = before
  end

  it 'reads pools in both spellings, and IPv6' do
    publish(families: [{ 'subnet' => 'fd00::/64', 'gateway' => 'fd00::1', 'vm_pool' => 'fd00::8000-fd00::fffe',
                         'container_pool' => 'fd00::4000-fd00::7fff' }])
    expect(problems('config.hybrid.network "hybrid", ip: "fd00::5"')).to eq([])
    expect(problems('config.hybrid.network "hybrid", ip: "fd00::4001"')).to match([include('container pool')])
  end

  ['', '{', '[]', '{"format":1}', '{"format":1,"network":"hybrid","up":true,"bridge":"lo","zone":"z",' \
                                  '"families":[{"subnet":"x","gateway":"y"}],"leases":[]}'].each do |text|
    it "says that #{text.inspect} is no snapshot" do
      publish
      File.write("#{ENV.fetch('HYBRID_RUN_DIR')}/leases/hybrid.json", text)
      expect(problems('config.hybrid.network "hybrid"')).to match([include("hybrid.json can't be read")])
    end
  end

  it 'refuses a newer format' do
    publish(format: 2)
    expect(problems('config.hybrid.network "hybrid"')).to match([include('in format 2')])
  end

  {
    'lv.qemu_use_session = true' => 'qemu_use_session',
    'lv.uri = "qemu+ssh://root@example.org/system"' => 'is another host',
    'lv.mgmt_attach = false' => 'mgmt_attach is false'
  }.each do |setting, message|
    it "refuses #{setting}" do
      publish
      expect(problems("config.vm.provider(:libvirt) { |lv| #{setting} }; config.hybrid.network 'hybrid'"))
        .to match([include(message)])
    end
  end

  it 'says all of it at once, beside what is wrong in itself' do
    publish
    expect(problems('config.hybrid.network "hybrid", ip: "10.0.2.1"; config.hybrid.network "hybrd"; ' \
                    'config.hybrid.network "other", ip: 1').size).to eq(3)
  end

  it 'asks nothing of the host unless told to' do
    expect(validate(machine('config.hybrid.network "nowhere"'))).to eq([])
  end
end
