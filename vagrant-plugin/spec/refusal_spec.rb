# frozen_string_literal: true

require 'vagrant-hybrid/refusal'

RSpec.describe VagrantPlugins::Hybrid::Refusal do
  # As libvirt 9.0 and vagrant-libvirt 0.11.2 pass it on.
  let(:text) do
    'Call to virDomainCreateWithFlags failed: Hook script execution failed: internal error: Child process (LC_ALL=C ' \
      'PATH=/usr/bin HOME=/root /etc/libvirt/hooks/qemu.d/50-hybrid-hook shop_db prepare begin -) unexpected exit ' \
      "status 1: hybrid-hook: 10.0.1.200 is held by vm \"web\" (active); hint: hybrid-hook leases shows all\n"
  end

  it 'is the one useful line and the hint' do
    refusal = described_class.in(text)
    expect([refusal.message, refusal.hint])
      .to eq(['10.0.1.200 is held by vm "web" (active)', 'hybrid-hook leases shows all'])
  end

  it 'has no hint where the hook gave none' do
    refusal = described_class.in('… unexpected exit status 1: hybrid-hook: the registry is locked')
    expect([refusal.message, refusal.hint]).to eq(['the registry is locked', nil])
  end

  it "is found whatever language the daemon's words are in" do
    ['Interner Fehler: Untergeordneter Prozess (/etc/libvirt/hooks/qemu) unerwartet Ende Status 1: ',
     '内部エラー: 子プロセス (/etc/libvirt/hooks/qemu) 終了ステータス 1：'].each do |words|
      expect(described_class.in("#{words}hybrid-hook: network two is down; hint: bring it up\n"))
        .to have_attributes(message: 'network two is down', hint: 'bring it up')
    end
  end

  it "is nothing in anybody else's error" do
    [nil, '', "Cannot access storage file '/x'", 'Child process (/etc/libvirt/hooks/qemu.d/50-hybrid-hook) ' \
                                                 'unexpected exit status 126: error : cannot execute'].each do |other|
      expect(described_class.in(other)).to be_nil
    end
  end

  it 'becomes an error that a person reads' do
    error = described_class.in(text).error(machine('', name: :default))
    expect(error.message).to eq(<<~TEXT.chomp)
      hybrid-hook refused to start machine "default":

        10.0.1.200 is held by vm "web" (active)
      hint: hybrid-hook leases shows all
    TEXT
  end
end
