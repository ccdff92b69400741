# frozen_string_literal: true

require 'vagrant-hybrid/domain'
require 'vagrant-hybrid/known'
require 'vagrant-hybrid/nic'

RSpec.describe VagrantPlugins::Hybrid::Domain do
  before { publish }

  # What DefineDomain does with a domain, less its messages.
  def start(text, domain, **options)
    machine = machine(text, domain: domain, **options)
    reader = described_class.of(machine)
    nics = VagrantPlugins::Hybrid::Nic.all(machine, reader.entries)
    change = reader.change(nics, VagrantPlugins::Hybrid::Known.macs(machine, reader))
    reader.apply(change)
    [machine, change]
  end

  def checkout
    @checkout ||= Dir.mktmpdir('checkout', ENV.fetch('HYBRID_RUN_DIR').delete_suffix('/run'))
  end

  it 'adds the NIC last, as vagrant-libvirt would, and the metadata' do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid", ip: "10.0.1.200"', domain)
    added = domain.xml.xpath('//interface').last
    expect(added.to_xml.gsub(/\s+/, '')).to eq(
      "<interfacetype=\"bridge\"><aliasname=\"ua-net-1\"/><macaddress=\"#{domain.macs.last}\"/>" \
      '<sourcebridge="lo"/><modeltype="virtio"/></interface>'
    )
    expect(domain.macs.first).to eq('52:54:00:00:00:01')
    expect(domain.entries).to eq([{ 'name' => 'hybrid', 'mac' => domain.macs.last, 'ip' => '10.0.1.200' }])
  end

  it 'changes nothing the second time' do
    domain = FakeDomain.new
    2.times { start('config.hybrid.network "hybrid"', domain, cwd: checkout) }
    expect(domain.calls).to eq(%i[attach metadata])
  end

  it 'leaves a NIC that vagrant-libvirt made alone, and writes its metadata' do
    machine = machine('config.hybrid.network "hybrid"', cwd: checkout)
    mac = VagrantPlugins::Hybrid::Nic.all(machine).first.mac
    domain = FakeDomain.new(devices: <<~XML)
      <interface type='bridge'><mac address='#{mac}'/><source bridge='lo'/></interface>
    XML
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    expect(domain.calls).to eq(%i[metadata])
    expect(domain.entries.first['mac']).to eq(mac)
  end

  it 'follows a change of an address in the metadata alone, with the same MAC' do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid", ip: "10.0.1.200"', domain, cwd: checkout)
    mac = domain.macs.last
    start('config.hybrid.network "hybrid", ip: "10.0.1.201"', domain, cwd: checkout)
    expect(domain.calls).to eq(%i[attach metadata metadata])
    expect(domain.entries).to eq([{ 'name' => 'hybrid', 'mac' => mac, 'ip' => '10.0.1.201' }])
  end

  it 'keeps the MAC of a machine whose folder was renamed' do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid"', domain)
    mac = domain.macs.last
    start('config.hybrid.network "hybrid"', domain)
    expect(domain.macs).to eq(['52:54:00:00:00:01', mac])
  end

  it 'adds two networks at once' do
    publish('other', bridge: 'other0')
    domain = FakeDomain.new
    start("config.hybrid.network 'hybrid'\nconfig.hybrid.network 'other'", domain, cwd: checkout)
    expect(domain.xml.xpath('//interface/alias/@name').map(&:to_s)).to eq(%w[ua-net-0 ua-net-1 ua-net-2])
  end

  it "leaves somebody's second NIC on the same network alone" do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    domain.attach_device("<interface type='bridge'><mac address='52:54:00:99:99:99'/><source bridge='lo'/></interface>")
    entries = domain.xml.at_xpath('//*[local-name()="networks"]')
    entries.add_child(entries.element_children.first.dup).tap { |entry| entry['mac'] = '52:54:00:99:99:99' }
    domain.calls.clear
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    expect([domain.calls, domain.macs.last, domain.entries.size]).to eq([[], '52:54:00:99:99:99', 2])
    start('config.hybrid.network "hybrid", ip: "10.0.1.201"', domain, cwd: checkout)
    expect(domain.entries.map { |entry| entry['mac'] }).to include('52:54:00:99:99:99')
    before = domain.xml.to_xml
    start('config.hybrid.network "hybrid", ip: "10.0.1.201"', domain, cwd: checkout)
    expect(domain.xml.to_xml).to eq(before)
  end

  it 'adds and removes networks, and takes a given MAC' do
    publish('other', bridge: 'other0')
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    start('config.hybrid.network "other", mac: "525400ABCDEF"', domain, cwd: checkout)
    expect(domain.macs).to eq(%w[52:54:00:00:00:01 52:54:00:ab:cd:ef])
    expect(domain.entries).to eq([{ 'name' => 'other', 'mac' => '52:54:00:ab:cd:ef' }])
    expect(domain.xml.xpath('//interface').last.at_xpath('source/@bridge').to_s).to eq('other0')
  end

  it 'takes everything out when our lines are gone' do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    start('', domain, cwd: checkout)
    expect([domain.macs, domain.entries]).to eq([['52:54:00:00:00:01'], []])
    expect(domain.xml.xpath('//metadata/*')).to be_empty
  end

  it 'moves a NIC to the bridge that the network has now' do
    domain = FakeDomain.new
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    publish(bridge: 'hybr9')
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    expect(domain.xml.xpath('//interface').last.at_xpath('source/@bridge').to_s).to eq('hybr9')
    expect(domain.macs.size).to eq(2)
  end

  it "leaves other people's NICs, entries and metadata alone" do
    other = '<x:mine xmlns:x="urn:x">&lt;</x:mine><h:networks xmlns:h="urn:hybrid-hook:domain:1">' \
            '<h:network name="lab" mac="52:54:00:99:99:99" made="nic"/></h:networks>'
    domain = FakeDomain.new(metadata: other, devices: <<~XML)
      <interface type='bridge'><mac address='52:54:00:99:99:99'/><source bridge='lab0'/><alias name='ua-net-2'/></interface>
    XML
    start('config.hybrid.network "hybrid"', domain, cwd: checkout)
    expect(domain.xml.xpath('//interface').last.at_xpath('alias/@name').to_s).to eq('ua-net-3')
    start('', domain, cwd: checkout)
    expect(domain.macs).to eq(%w[52:54:00:00:00:01 52:54:00:99:99:99])
    expect(domain.entries).to eq([{ 'name' => 'lab', 'mac' => '52:54:00:99:99:99', 'made' => 'nic' }])
    expect(domain.xml.at_xpath('//x:mine', 'x' => 'urn:x').text).to eq('<')
  end

  it "goes by the machine's host name where it has no name of its own" do
    domain = FakeDomain.new
    start('config.vm.hostname = "Data.example.com"; config.hybrid.network "hybrid"', domain)
    expect(domain.entries.first['hostname']).to eq('data')
  end
end
