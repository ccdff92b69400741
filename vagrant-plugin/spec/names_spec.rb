# frozen_string_literal: true

require 'vagrant-hybrid/cap/blocks'
require 'vagrant-hybrid/cap/resolver'
require 'vagrant-hybrid/nic'
require 'vagrant-hybrid/resolver_lines'

RSpec.describe VagrantPlugins::Hybrid::ResolverLines do
  def lines(text = 'config.hybrid.network "hybrid"')
    described_class.of(VagrantPlugins::Hybrid::Nic.all(machine(text)))
  end

  it 'names MAC, resolver, zone and reverse zone' do
    publish(bridge: 'nobr0')
    expect(lines).to match([/\A52:54:00:\S+ 10\.0\.1\.1 hybrid\.internal 1\.0\.10\.in-addr\.arpa\z/])
  end

  {
    '10.0.0.0/16' => '0.10.in-addr.arpa',
    '10.4.0.0/22' => '4.10.in-addr.arpa',
    '10.0.1.128/25' => '1.0.10.in-addr.arpa',
    'fd00:1:2:3::/64' => '3.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa'
  }.each do |subnet, zone|
    it "knows the reverse zone of #{subnet}" do
      host = subnet[%r{\A[^/]*}]
      publish(bridge: 'nobr0', families: [{ 'subnet' => subnet, 'gateway' => host, 'address' => host }])
      expect(lines.first.split.last).to eq(zone)
    end
  end

  it 'asks nobody on a bridge on which the host has no address' do
    publish(families: [{ 'subnet' => '10.0.1.0/24', 'gateway' => '10.0.1.1', 'address' => nil }])
    expect(lines).to eq([])
  end

  it 'passes on nothing that a shell would read' do
    publish(bridge: 'nobr0', zone: "x\nHYBRID-RESOLVER-END\nreboot")
    expect(lines).to eq([])
    publish(bridge: 'nobr0', zone: 'x;reboot')
    expect(lines).to eq([])
  end

  it 'goes to the guest in one command, and is undone in one' do
    publish(bridge: 'nobr0')
    commands = []
    guest = double(communicate: double)
    allow(guest.communicate).to receive(:sudo) { |command| commands << command }
    resolver = VagrantPlugins::Hybrid::Cap::Resolver
    resolver.hybrid_resolver(guest, lines)
    resolver.hybrid_resolver(guest, [])
    expect(commands).to match([include("hybrid.internal 1.0.10.in-addr.arpa\nHYBRID-RESOLVER-END\n"),
                               end_with("'/usr/local/sbin/hybrid-resolver' remove")])
    expect(IO.popen(['sh', '-n'], 'w') { |sh| sh.write(commands.first) }).to be_truthy
  end
end

RSpec.describe VagrantPlugins::Hybrid::Nic do
  let(:nic) { described_class.all(machine('config.hybrid.network "hybrid", block: 4')).first }

  def block(*addresses)
    own = lease(nic.mac, '10.0.1.200')
    publish(leases: [own] + addresses.map { |address| lease("02:64:00:00:00:#{address[-2..]}", address) })
    nic.block(FakeDomain::UUID, [nic.mac, '52:54:00:00:00:99'])
  end

  before { publish }

  it 'finds the block beside its own address' do
    expect(block('10.0.1.242', '10.0.1.240', '10.0.1.243', '10.0.1.241')).to eq('10.0.1.240/30')
  end

  it "does not count what another of the machine's NICs has" do
    four = (240..243).map { |n| lease("02:64:00:00:00:#{n}", "10.0.1.#{n}") }
    publish(leases: four + [lease('52:54:00:00:00:99', '10.0.1.150')])
    expect(nic.block(FakeDomain::UUID, [nic.mac, '52:54:00:00:00:99'])).to eq('10.0.1.240/30')
  end

  it 'takes nothing for a block that is none' do
    expect(block('10.0.1.240', '10.0.1.241', '10.0.1.242')).to be_nil
    expect(block('10.0.1.241', '10.0.1.242', '10.0.1.243', '10.0.1.244')).to be_nil
    expect(block).to be_nil
  end

  it 'tells the guest, in plain characters only' do
    commands = []
    guest = double(communicate: double)
    allow(guest.communicate).to receive(:sudo) { |command| commands << command }
    blocks = VagrantPlugins::Hybrid::Cap::Blocks
    blocks.hybrid_blocks(guest, ['52:54:00:00:00:01 10.0.1.0/24 10.0.1.1 10.0.1.240/30', "x' y"])
    blocks.hybrid_blocks(guest, [])
    expect(commands).to eq(
      ["printf '%s\\n' '52:54:00:00:00:01 10.0.1.0/24 10.0.1.1 10.0.1.240/30' >'/etc/hybrid-block'",
       "rm -f '/etc/hybrid-block'"]
    )
  end
end
