# frozen_string_literal: true

# A host with hybrid-hook and its published networks, in the example's own folder.
module FakeHost
  SNAPSHOT = {
    'format' => 1, 'network' => 'hybrid', 'up' => true, 'bridge' => 'lo', 'zone' => 'hybrid.internal',
    'docker_network' => 'hybrid-net', 'libvirt_network' => 'hybrid-net', 'mtu' => 1500,
    'families' => [{ 'subnet' => '10.0.1.0/24', 'gateway' => '10.0.1.1', 'address' => '10.0.1.1',
                     'vm_pool' => '10.0.1.128-10.0.1.254',
                     'container_pool' => '10.0.1.64/26' }],
    'leases' => []
  }.freeze

  def publish(network = 'hybrid', **changes)
    folder = File.join(ENV.fetch('HYBRID_RUN_DIR'), 'leases')
    FileUtils.mkdir_p(folder)
    data = SNAPSHOT.merge('network' => network).merge(changes.transform_keys(&:to_s))
    File.write(File.join(folder, "#{network}.json"), JSON.generate(data))
  end

  # A lease as hybrid-hook publishes it.
  def lease(mac, address, **changes)
    { 'network' => 'hybrid', 'address' => address, 'mac' => mac, 'owner' => FakeDomain::UUID, 'owner_name' => 'shop_db',
      'origin' => 'domain', 'state' => 'active', 'generation' => 1, 'hostname' => 'db',
      'fqdn' => 'db.hybrid.internal' }.merge(changes.transform_keys(&:to_s))
  end

  def install_hybrid_hook(script = 'exit 0')
    bin = ENV.fetch('PATH').split(':').first
    FileUtils.mkdir_p(bin)
    File.write("#{bin}/hybrid-hook", "#!/bin/sh\n#{script}\n")
    File.chmod(0o755, "#{bin}/hybrid-hook")
  end
end
