# frozen_string_literal: true

require 'vagrant-hybrid/mac'

RSpec.describe VagrantPlugins::Hybrid::Mac do
  it "is QEMU's prefix and the last three bytes of FNV-1a" do
    # FNV-1a of "a" is e40c292c (the reference vectors of the FNV draft, appendix C).
    expect(described_class.send(:fnv1a, 'a')).to eq(0xe40c292c)
    expect(described_class.send(:fnv1a, 'foobar')).to eq(0xbf9cf968)
    expect(described_class.of('hybrid', '/srv/shop/db')).to match(/\A52:54:00(:\h\h){3}\z/)
  end

  it 'is the same each time, and another in another network, machine or checkout' do
    text = 'config.vm.define("a"); config.vm.define("b")'
    here = environment(text)
    there = environment(text)
    macs = [[here, :a], [here, :b], [there, :a]].flat_map do |env, name|
      identity = described_class.identity(env.machine(name, :libvirt))
      %w[hybrid other].map { |network| described_class.of(network, identity) }
    end
    again = Vagrant::Environment.new(cwd: here.cwd, home_path: here.home_path, ui_class: Vagrant::UI::Silent)
    expect(macs.uniq.size).to eq(6)
    expect(described_class.of('hybrid', described_class.identity(again.machine(:a, :libvirt)))).to eq(macs.first)
  end
end
