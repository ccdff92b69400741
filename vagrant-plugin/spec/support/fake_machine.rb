# frozen_string_literal: true

require 'libvirt'

# What ruby-libvirt's domain does with its definition, in memory.
class FakeDomain
  UUID = 'c7a5fdbd-edaf-9455-926a-d65c16db1809'

  attr_accessor :saved
  attr_reader :xml, :calls

  def initialize(devices: '', metadata: nil)
    @saved = false
    @calls = []
    @xml = Nokogiri::XML(<<~XML)
      <domain type='qemu'>
        <name>shop_db</name>
        <uuid>#{UUID}</uuid>
        #{"<metadata>#{metadata}</metadata>" if metadata}
        <devices>
          <interface type='network'>
            <mac address='52:54:00:00:00:01'/><source network='vagrant-libvirt'/><model type='virtio'/>
            <alias name='ua-net-0'/>
          </interface>
          #{devices}
        </devices>
      </domain>
    XML
  end

  def xml_desc(_flags = 0)
    @xml.to_xml
  end

  def has_managed_save?
    @saved
  end

  def attach_device(xml, _flags = 0)
    @calls << :attach
    name = Nokogiri::XML(xml).at_xpath('//alias/@name').to_s
    raise Libvirt::Error, 'non unique alias detected' if @xml.xpath('//alias/@name').any? { |other| other.to_s == name }

    @xml.at_xpath('/domain/devices').add_child(Nokogiri::XML(xml).root)
  end

  def detach_device(xml, _flags = 0)
    @calls << :detach
    mac = Nokogiri::XML(xml).at_xpath('//mac/@address').to_s
    interface = @xml.xpath('//interface').find { |node| node.at_xpath('mac/@address').to_s == mac }
    raise ::Libvirt::Error, 'no such device' unless interface

    interface.unlink
  end

  def metadata=(arguments)
    @calls << :metadata
    _type, text, key, uri, _flags = arguments
    @xml.at_xpath('/domain/metadata/h:networks', 'h' => uri)&.unlink
    return if text.nil?

    parent = @xml.at_xpath('/domain/metadata') || @xml.root.add_child('<metadata/>').first
    parent.add_child(self.class.inject(text, key, uri))
  end

  # libvirt puts the element into the namespace itself, and refuses one that declares it already.
  def self.inject(text, key, uri)
    root = Nokogiri::XML(text, &:strict).root
    raise ::Libvirt::Error, 'failed to create a new XML namespace' if root.namespaces.key?("xmlns:#{key}")

    namespace = root.add_namespace_definition(key, uri)
    root.traverse { |node| node.namespace = namespace if node.element? && node.namespace.nil? }
    root
  end

  # Our entries, as the hook reads them.
  def entries
    Nokogiri::XML(xml_desc, &:strict)
            .xpath('/domain/metadata/h:networks/h:network', 'h' => 'urn:hybrid-hook:domain:1')
            .map { |node| node.to_h.transform_values(&:to_s) }
  end

  def macs
    @xml.xpath('//interface/mac/@address').map(&:to_s)
  end
end

# Machines of a Vagrantfile, with Vagrant's and vagrant-libvirt's own configuration classes.
module FakeMachine
  class Recorder
    attr_reader :lines

    def initialize
      @lines = []
    end

    %i[info warn error success detail output].each do |level|
      define_method(level) { |text, *| @lines << [level, text] }
    end
  end

  # @param text [String] the inside of a Vagrantfile
  def environment(text, cwd: Dir.mktmpdir('checkout', ENV.fetch('HYBRID_RUN_DIR').delete_suffix('/run')))
    File.write("#{cwd}/Vagrantfile", <<~RUBY)
      Vagrant.configure('2') do |config|
        config.vm.box = 'x'
        #{text}
      end
    RUBY
    Vagrant::Environment.new(cwd: cwd, home_path: "#{cwd}/home", local_data_path: "#{cwd}/.vagrant",
                             ui_class: Vagrant::UI::Silent)
  end

  def machine(text, name: :default, domain: nil, **options)
    environment(text, **options).machine(name, :libvirt).tap { |machine| attach(machine, domain) if domain }
  end

  def attach(machine, domain)
    allow(machine).to receive(:id).and_return(FakeDomain::UUID)
    driver = instance_double(VagrantPlugins::ProviderLibvirt::Driver)
    client = double(lookup_domain_by_uuid: domain)
    allow(driver).to receive(:connection).and_return(double(client: client))
    allow(machine.provider).to receive(:driver).and_return(driver)
  end

  def validate(machine, ask_host: false)
    machine.config.hybrid.ask_host = ask_host
    machine.config.hybrid.validate(machine).fetch('hybrid')
  end
end
