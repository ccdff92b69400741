# frozen_string_literal: true

require 'open3'

# share/hybrid-resolver as it runs in a guest, in a mount namespace of its own: /etc, /run,
# /usr/local/sbin and /sys/class/net are empty folders there, and `resolvectl` notes what it is told.
RSpec.describe 'hybrid-resolver' do
  mac = '52:54:00:00:00:02'
  line = "#{mac} 10.0.1.1 hybrid.internal 1.0.10.in-addr.arpa"
  script = File.expand_path('../share/hybrid-resolver', __dir__)
  namespace = %w[unshare --user --map-root-user --mount]
  before_all = <<~SHELL
    set -eu
    cp #{script} /tmp/hybrid-resolver-$$
    for folder in /etc /run /usr/local/sbin /sys/class/net; do mount -t tmpfs none $folder; done
    mkdir -p /sys/class/net/eth1/device /etc/network/if-up.d /etc/dhcp/dhclient-exit-hooks.d
    echo #{mac} >/sys/class/net/eth1/address
    mv /tmp/hybrid-resolver-$$ /usr/local/sbin/hybrid-resolver
    printf 'domain lan\\nsearch vagrant lan\\nnameserver 192.168.121.1\\n' >/etc/resolv.conf
    cp /etc/resolv.conf /run/before
    export PATH=/usr/local/sbin:$PATH
    chmod 755 /usr/local/sbin/hybrid-resolver
    set_it() { echo '#{line}' | hybrid-resolver set; }
  SHELL

  # What the guest looks like to who asks. A guest is no place for a test that fails half-way.
  define_method(:guest) do |commands|
    out, status = Open3.capture2e(*namespace, 'sh', '-c', before_all + commands)
    raise "failed: #{out}" unless status.success?

    out
  end

  before do
    skip 'no mount namespace can be made here' unless system(*namespace, 'true', out: File::NULL, err: File::NULL)
  end

  it 'comes first in resolv.conf, and keeps the search domains' do
    expect(guest('set_it; cat /etc/resolv.conf')).to eq(<<~CONF)
      # hybrid-resolver begin
      nameserver 10.0.1.1
      # hybrid-resolver end
      domain lan
      search vagrant lan
      nameserver 192.168.121.1
      # hybrid-resolver begin
      search hybrid.internal vagrant lan
      # hybrid-resolver end
    CONF
  end

  it 'does it once, however often it is told, and again when something else wrote the file' do
    again = 'set_it; set_it; /etc/network/if-up.d/hybrid-resolver'
    expect(guest("#{again}; grep -c 10.0.1.1 /etc/resolv.conf")).to eq("1\n")
    expect(guest('set_it; cp /run/before /etc/resolv.conf; . /etc/dhcp/dhclient-exit-hooks.d/hybrid-resolver; ' \
                 'head -n 2 /etc/resolv.conf; echo goes on')).to end_with("nameserver 10.0.1.1\ngoes on\n")
  end

  it 'takes all of it back' do
    expect(guest('set_it; hybrid-resolver remove; cmp /etc/resolv.conf /run/before; ' \
                 'find /etc /usr/local/sbin -name "*hybrid*"')).to eq('')
  end

  it 'leaves the file as it was when the interface is gone' do
    gone = 'set_it; rm -r /sys/class/net/eth1; hybrid-resolver apply'
    expect(guest("#{gone}; cmp /etc/resolv.conf /run/before")).to eq('')
  end

  describe 'with systemd-resolved' do
    resolved = <<~SHELL
      mkdir -p /run/systemd/resolve
      echo 'nameserver 127.0.0.53' >/etc/resolv.conf
      printf '#!/bin/sh\\necho "$@"\\n' >/usr/local/sbin/resolvectl
      chmod 755 /usr/local/sbin/resolvectl
    SHELL

    it 'has the interface asked for the zone, and for nothing else' do
      expect(guest("#{resolved}set_it; cat /etc/resolv.conf")).to eq(<<~CALLS)
        dns eth1 10.0.1.1
        domain eth1 hybrid.internal ~1.0.10.in-addr.arpa
        default-route eth1 no
        nameserver 127.0.0.53
      CALLS
    end

    it 'takes it back' do
      expect(guest("#{resolved}set_it >/dev/null; hybrid-resolver remove")).to eq("revert eth1\n")
    end
  end

  it 'is set up at boot where systemd is' do
    expect(guest('mkdir -p /run/systemd/system; set_it; cat /etc/systemd/system/multi-user.target.wants/*'))
      .to include('ExecStart=/usr/local/sbin/hybrid-resolver apply')
  end

  it "takes Vagrant's files of interfaces that are gone" do
    expect(guest(<<~SHELL)).to eq("/etc/systemd/network/50-vagrant-eth1.network\n")
      mkdir -p /etc/systemd/network /etc/sysconfig/network-scripts
      touch /etc/systemd/network/50-vagrant-eth1.network /etc/systemd/network/50-vagrant-eth2.network
      echo '#VAGRANT-BEGIN' >/etc/sysconfig/network-scripts/ifcfg-eth3
      set_it
      find /etc/systemd/network /etc/sysconfig -type f
    SHELL
  end
end
