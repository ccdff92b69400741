# frozen_string_literal: true

require 'vagrant-hybrid/metadata'
require 'vagrant-hybrid/wish'

RSpec.describe VagrantPlugins::Hybrid::Metadata do
  let(:mac) { '52:54:00:00:00:02' }

  # What becomes of what we hand to libvirt.
  def stored(text)
    FakeDomain.inject(text, described_class::PREFIX, described_class::NAMESPACE).to_xml
  end

  def parse(xml)
    Nokogiri::XML("<domain><metadata>#{xml}</metadata></domain>", &:strict).at_xpath('//metadata').elements.first
  end

  def entries(xml)
    described_class.new(parse(xml)).entries
  end

  it 'is the element of the documented form' do
    wish = VagrantPlugins::Hybrid::Wish.new('hybrid', ip: '10.0.1.200', hostname: 'db', aliases: %w[pg sql],
                                                      groups: ['backend'], containers: ['label=app=shop', 'name=web'])
    xml = described_class.new.replace([mac], [wish.attributes(mac)])
    expect(stored(xml).gsub(/\n */, '')).to eq(
      '<hybrid:networks xmlns:hybrid="urn:hybrid-hook:domain:1">' \
      '<hybrid:network name="hybrid" mac="52:54:00:00:00:02" ip="10.0.1.200" hostname="db" aliases="pg sql" ' \
      'groups="backend" containers="label=app=shop name=web"/></hybrid:networks>'
    )
  end

  [
    'label=a="><x/y=', "label=a='/><y/>", 'label=a=&amp;&lt;&#60;&nbsp;', 'label=a=]]><![CDATA[',
    'label=a=<!--', 'label=a=%s$x\\', 'label=a=🐳é', "label=a\tname=b"
  ].each do |hostile|
    it "keeps #{hostile.inspect} a value" do
      wish = VagrantPlugins::Hybrid::Wish.new('hybrid', containers: hostile)
      expect(wish.problems).to eq([])
      xml = described_class.new.replace([], [wish.attributes(mac)])
      xml = stored(xml)
      expect(entries(xml)).to eq([{ 'name' => 'hybrid', 'mac' => mac, 'containers' => hostile.split.join(' ') }])
      expect(parse(xml).xpath('.//*').size).to eq(1)
    end
  end

  it "keeps other people's entries, notes and prefixes" do
    present = '<h:networks xmlns:h="urn:hybrid-hook:domain:1" before="metadata=none">' \
              '<h:network name="lab" mac="52:54:00:99:99:99" made="nic"/>' \
              '<h:network name="hybrid" mac="52:54:00:00:00:02" ip="10.0.1.9"/></h:networks>'
    metadata = described_class.new(parse(present))
    xml = metadata.replace([mac], [{ 'name' => 'hybrid', 'mac' => mac }])
    expect(xml).to include('before="metadata=none"')
    expect(entries(stored(xml))).to eq([{ 'name' => 'hybrid', 'mac' => mac },
                                        { 'name' => 'lab', 'mac' => '52:54:00:99:99:99', 'made' => 'nic' }])
    expect(xml).not_to include('10.0.1.9')
  end

  it 'is nothing when nothing is left' do
    present = "<h:networks xmlns:h='urn:hybrid-hook:domain:1'> <h:network name='hybrid' mac='#{mac}'/> </h:networks>"
    expect(described_class.new(parse(present)).replace([mac], [])).to be_nil
  end

  it 'takes over an entry without a MAC' do
    present = '<h:networks xmlns:h="urn:hybrid-hook:domain:1"><h:network name="hybrid"/></h:networks>'
    xml = described_class.new(parse(present)).replace([], [{ 'name' => 'hybrid', 'mac' => mac }])
    expect(entries(stored(xml))).to eq([{ 'name' => 'hybrid', 'mac' => mac }])
  end
end
