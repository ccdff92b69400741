#!/bin/bash
# What breaks is named by `inspect` and `doctor`, with the command that mends
# it; and that command does. Both change nothing and wait for nobody.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Nothing differs on the network; without the service that is the host's only
# difference.
in_order() {
	hybrid-hook inspect --json >"$T/inspect"
	jq -e '.networks | length > 0 and all(.in_order)' "$T/inspect" >/dev/null || {
		hybrid-hook inspect
		return 1
	}
}

# `inspect` names a difference whose "what: is" holds TEXT, mended by a command
# that holds MEND. What mends it is left in $MEND.
names() { # TEXT MEND
	hybrid-hook inspect --json >"$T/inspect"
	MEND=$(jq -r --arg text "$1" --arg mend "$2" '[.networks[], .host] | map(.differences[])
		| map(select("\(.what): \(.is)" | contains($text)) | .mend | select(contains($mend))) | .[0] // ""' \
		"$T/inspect")
	[ -n "$MEND" ] || {
		echo "no difference: $1 ($2)"
		hybrid-hook inspect
		return 1
	}
}

# As names; then runs what mends it, and all is in order again.
names_and_mends() { # TEXT MEND
	names "$@"
	bash -euc "$MEND"
	eventually 5 in_order
}

# A check of the doctor's came out like that, its detail holding each TEXT. Its
# mends are in $T/mend, a line each.
check() { # ID STATUS [TEXT…]
	local id=$1 status=$2
	shift 2
	hybrid-hook doctor --json >"$T/doctor" 2>"$T/doctor.err" || true
	same "$(jq -r --arg id "$id" '.checks[] | select(.id == $id) | .status' "$T/doctor")" "$status" "check $id" || {
		hybrid-hook doctor || true
		return 1
	}
	jq -r --arg id "$id" '.checks[] | select(.id == $id) | .detail' "$T/doctor" >"$T/detail"
	jq -r --arg id "$id" '.checks[] | select(.id == $id) | .mend[]' "$T/doctor" >"$T/mend"
	[ $# = 0 ] || holds "$T/detail" "$@"
}

# Runs what mends the last check that was made.
mend() {
	bash -eux "$T/mend"
}

# The links, addresses, rules, networks, units and files that there are.
world() {
	ip -o link | sed 's/^[0-9]*: //; s/@.*//' | awk '{ print $1 }' | sort
	ip -o -4 address | awk '{ print $2, $4 }'
	ip route
	nft list ruleset | grep -v counter
	docker network ls --format '{{.ID}} {{.Name}}' | sort
	virsh -q net-list --all | sort
	systemctl show -P ActiveEnterTimestampMonotonic hybrid-hook hybrid-hook-{dnsmasq,dhcp}@hybrid
	find /etc/hybrid-hook /etc/libvirt/hooks /var/lib/hybrid-hook/networks -mindepth 1 | sort
	find /run/hybrid-hook -mindepth 1 -printf '%p %T@\n' | sort
}

test_in_order_with_every_guest_named() {
	vm db --meta 'ip="10.0.1.200" hostname="db"'
	container web
	booted db
	docker exec web ping -c 1 -W 2 10.0.1.200 >/dev/null
	# The snapshot follows within a moment.
	eventually 5 hybrid_in_order
	world >"$T/world"
	hybrid-hook inspect >"$T/text"
	same "$(head -n 1 "$T/text")" "network hybrid: in order"
	holds "$T/text" "vm db" "container web" "this host: in order"
	same "$(jq -r '.networks[0].ports | map("\(.guest.kind) \(.guest.name) \(.address)") | sort | .[]' "$T/inspect")" \
		"container web $(container_address web)
vm db 10.0.1.200"
	jq -e '.networks[0].ports | all(.from_guest.packets > 0 and .to_guest.packets > 0)' "$T/inspect"
	jq -e '.networks[0].pools | map(select(.guests == "vms").active, select(.guests == "containers").active)
		== [1, 1]' "$T/inspect"
	hybrid-hook doctor >"$T/text"
	not grep -E '^(FAIL|WARN|skipped)' "$T/text"
	world | diff "$T/world" -
}

hybrid_in_order() {
	hybrid-hook inspect --json >"$T/inspect"
	jq -e .in_order "$T/inspect" >/dev/null || {
		hybrid-hook inspect
		return 1
	}
}

test_the_bridge() {
	dirty
	vm db --meta 'ip="10.0.1.200"'
	container web
	booted db
	without_service
	ip link set hybr0 down
	names "bridge hybr0: down" "hybrid-hook apply"
	check bridge fail "bridge hybr0 is down"
	names_and_mends "bridge hybr0: down" "hybrid-hook apply"
	ip link set hybr0 mtu 1400
	names_and_mends "bridge hybr0 MTU: 1400" "hybrid-hook apply"
	ip link set "$(lease db .tap)" mtu 1400
	names_and_mends "MTU: 1400" "hybrid-hook apply"
	ip address flush dev hybr0
	names_and_mends "bridge hybr0 address: none" "hybrid-hook apply"
	ip address add 10.0.1.9/24 dev hybr0
	names_and_mends "bridge hybr0 address: 10.0.1.9/24" "hybrid-hook apply"
	ip link set hybr0 address 02:00:00:00:00:09
	names_and_mends "bridge hybr0 MAC: 02:00:00:00:00:09" "hybrid-hook apply"
	ip link set hybr0 type bridge forward_delay 1500
	names_and_mends "bridge hybr0 forward delay: 15.00 s" "hybrid-hook apply"
	sysctl -qw net.ipv4.conf.hybr0.forwarding=0
	check routing fail net.ipv4.conf.hybr0.forwarding
	names_and_mends "sysctl net.ipv4.conf.hybr0.forwarding: 0" "hybrid-hook apply"
	ip link delete hybr0
	names "bridge hybr0: not there" "hybrid-hook apply"
	names "port $(lease db .tap) of vm \"db\": on no bridge" "hybrid-hook apply"
	names_and_mends "bridge hybr0: not there" "hybrid-hook apply"
	eventually 5 serves 10.0.1.200 db
	both_ways 10.0.1.200 db web
}

test_ports_off_the_bridge() {
	local tap veth
	vm db --meta 'ip="10.0.1.200"'
	container web
	booted db
	without_service
	eventually 5 in_order
	tap=$(lease db .tap)
	veth=$(jq -r '.networks[0].ports[] | select(.guest.name == "web").device' "$T/inspect")
	ip link set "$tap" nomaster
	names_and_mends "port $tap of vm \"db\": on no bridge" "hybrid-hook apply"
	ip link set "$veth" nomaster
	check guests fail 'container "web"'
	names_and_mends "port of container \"web\": on no bridge of ours" "hybrid-hook apply"
	foreign_bridge lan
	ip link set "$tap" master t-lan
	names_and_mends "port $tap of vm \"db\": on t-lan" "ip link set $tap master hybr0"
	eventually 5 serves 10.0.1.200 db
}

test_the_table() {
	without_service
	nft delete table inet hybrid_hook
	check routing fail "not there"
	names_and_mends "(NAT): not there" "hybrid-hook apply"
	nft flush table inet hybrid_hook
	names_and_mends "(NAT): changed" "hybrid-hook apply"
}

test_dnsmasq() {
	vm_paused db --meta 'ip="10.0.1.200" hostname="db"'
	# The service tells the host's resolver of the first guest.
	eventually 5 in_order
	without_service
	systemctl stop hybrid-hook-dnsmasq@hybrid
	check dnsmasq fail "not running"
	names_and_mends "dnsmasq for DNS: not running" "hybrid-hook apply"
	systemctl stop hybrid-hook-dhcp@hybrid
	check dnsmasq fail "not running"
	names_and_mends "dnsmasq for DHCP: not running" "hybrid-hook apply"
	echo '# edited' >>/run/hybrid-hook/dnsmasq/hybrid/dnsmasq.conf
	names_and_mends "dnsmasq.conf: not as the registry says" "hybrid-hook apply"
	rm /run/hybrid-hook/dnsmasq/hybrid/hosts.d/*
	names_and_mends "hosts.d/" "hybrid-hook apply"
	rm /run/hybrid-hook/leases/hybrid.json
	names_and_mends "leases/hybrid.json: not as the registry says" "hybrid-hook apply"
}

test_the_hosts_names() {
	vm db --meta 'ip="10.0.1.200" hostname="db"'
	booted db
	without_service
	systemctl is-active -q systemd-resolved || skip "systemd-resolved does not run here"
	hybrid-hook apply
	in_order
	resolvectl revert hybr0
	check names fail "not told whom to ask for hybrid.internal"
	names_and_mends "systemd-resolved: not told" "hybrid-hook apply"
}

test_docker_asks_us() {
	without_service
	hybrid-hook network create asks --subnet 10.63.0.0/24 --ipam hybrid >/dev/null 2>&1 ||
		skip "this build has no driver of addresses"
	in_order
	jq -e '.networks[] | select(.name == "asks").docker_network.ipam_driver == "hybrid"' "$T/inspect"
	systemctl stop hybrid-hook-ipam.socket hybrid-hook-ipam.service
	check docker fail "nobody listens"
	names_and_mends "the driver of addresses" "systemctl start hybrid-hook-ipam.socket"
}

test_docker_network() {
	dirty
	without_service
	docker network rm hybrid-net >/dev/null
	check docker fail "not there"
	names_and_mends "Docker network hybrid-net: not there" "hybrid-hook apply"
	docker network rm hybrid-net >/dev/null
	docker network create --subnet 10.56.0.0/16 hybrid-net >/dev/null
	names "that is not ours" "docker network rm hybrid-net"
	docker network rm hybrid-net >/dev/null
	names_and_mends "Docker network hybrid-net: not there" "hybrid-hook apply"
}

test_libvirt_network() {
	without_service
	virsh -q net-destroy hybrid-net
	check libvirt fail "not started"
	names_and_mends "libvirt network hybrid-net: not started" "hybrid-hook apply"
	virsh -q net-autostart --disable hybrid-net
	names_and_mends "not started with libvirt's daemon" "hybrid-hook apply"
	virsh -q net-destroy hybrid-net
	virsh -q net-undefine hybrid-net
	names_and_mends "libvirt network hybrid-net: not there" "hybrid-hook apply"
}

test_input_is_shut() {
	local file
	iptables -I INPUT -p udp --dport 67 -j DROP
	check input fail INPUT DHCP
	mend
	check input ok
	file=$T/mend
	iptables -D INPUT -p udp --dport 67 -j DROP
	iptables -D INPUT -i hybr0 -p udp -m multiport --dports 53,67 -j ACCEPT
	iptables -D INPUT -i hybr0 -p tcp --dport 53 -j ACCEPT
	not test -s "$file"
	nft 'add table inet t_filter'
	nft 'add chain inet t_filter in { type filter hook input priority 10; policy drop; }'
	check input fail t_filter DHCP DNS
	mend
	check input ok
	nft delete table inet t_filter
}

test_forward_is_shut() {
	iptables -I DOCKER-USER -i hybr0 -j DROP 2>/dev/null || skip "this Docker has no DOCKER-USER"
	check forward fail "the way out"
	if [ "$(cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || echo 0)" = 1 ]; then
		check br_netfilter fail "traffic among guests"
	fi
	mend
	check forward ok
	check br_netfilter ok
	iptables -D DOCKER-USER -i hybr0 -j DROP
	iptables -D DOCKER-USER -i hybr0 -j ACCEPT
	iptables -D DOCKER-USER -o hybr0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
}

test_hooks() {
	local hook=/etc/libvirt/hooks/qemu.d/50-hybrid-hook code=0
	hooks || code=$?
	ln -sfn /usr/bin/hybrid-hook "$hook"
	rm -f "$hook-other" /usr/local/bin/hybrid-hook
	hybrid-hook install >/dev/null
	return "$code"
}

hooks() (
	set -e
	rm "$hook"
	check hooks fail "$hook is not there"
	names_and_mends "hook $hook: not there" "hybrid-hook install"
	hybrid_in_order
	ln -sfn /usr/gone/hybrid-hook "$hook"
	names_and_mends "a link to /usr/gone/hybrid-hook, which is not there" "hybrid-hook install"
	hybrid_in_order
	rm "$hook"
	printf '#!/bin/sh\nexit 0\n' >"$hook"
	chmod 755 "$hook"
	names_and_mends "hook $hook: another tool's" "mv "
	hybrid_in_order
	# A place from which AppArmor runs nothing.
	cp /usr/bin/hybrid-hook /usr/local/bin/
	ln -sfn /usr/local/bin/hybrid-hook "$hook"
	check executable fail AppArmor /usr/local/bin/hybrid-hook
	names_and_mends "the hooks' executable" "hybrid-hook install"
	rm /usr/local/bin/hybrid-hook
	hybrid_in_order
)

test_a_daemon_that_was_not_told() {
	local hook=/etc/libvirt/hooks/qemu.d/50-hybrid-hook
	# As by hand: the hook comes later than the daemon, and nobody is told.
	rm /var/lib/hybrid-hook/install.json
	sleep 1.1
	ln -sfn /usr/bin/hybrid-hook "$hook"
	check hooks fail "not told of our hooks"
	names_and_mends "not told of our hooks" "hybrid-hook install"
	check hooks ok
	hybrid_in_order
}

test_the_service() {
	systemctl stop hybrid-hook
	check service fail "not running"
	names_and_mends "the service hybrid-hook watch: not running" "systemctl start hybrid-hook.service"
	check service ok
	systemctl disable -q hybrid-hook
	check service warn "does not start at boot"
	mend
	check service ok
}

test_port_53_is_taken() {
	without_service
	systemctl stop hybrid-hook-dnsmasq@hybrid
	python3 -c 'import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.0.1.1", 53))
time.sleep(60)' &
	eventually 5 eval 'ss -Hlun | has 10.0.1.1:53'
	check ports fail "python3 (pid $!) has port 53 on 10.0.1.1"
	holds "$T/mend" "stop python3 (pid $!)" "hybrid-hook apply"
	kill "$!"
	wait "$!" || true
	hybrid-hook apply
	check ports ok
}

test_overlap() {
	ip route add 10.0.1.192/26 via 192.0.2.1
	check overlap fail "10.0.1.0/24 of network hybrid overlaps 10.0.1.192/26" eth0
	holds "$T/mend" "free subnet"
	ip route delete 10.0.1.192/26 via 192.0.2.1
	# What is created and what is edited is looked at before; what others make afterwards is found.
	docker network create --subnet 10.59.0.0/16 t-docker >/dev/null
	hybrid-hook network create lan --subnet 10.60.0.0/24 >/dev/null 2>&1
	sed -i 's/10\.60\.0\./10.59.7./g' /etc/hybrid-hook/networks/lan.toml
	refused 3 'overlaps 10.59.0.0/16 of Docker network "t-docker"' -- hybrid-hook apply lan
	# Nor does it come with a boot, where nobody can be asked.
	hybrid-hook apply --boot lan
	ip address show dev hyb-lan | has 10.60.0.1/24
	check overlap ok
	sed -i 's/10\.59\.7\./10.60.0./g' /etc/hybrid-hook/networks/lan.toml
	hybrid-hook apply lan
	virsh -q net-define /dev/stdin <<-XML
		<network><name>t-virt</name><bridge name='t-virt'/><ip address='10.60.0.1' netmask='255.255.0.0'/></network>
	XML
	check overlap fail 'libvirt network "t-virt"'
	virsh -q net-undefine t-virt
	check overlap ok
}

test_mtu_of_the_way_out() {
	ip link set eth0 mtu 1400
	check bridge warn "eth0" 1400
	ip link set eth0 mtu 1500
	check bridge ok
}

test_ipv6() {
	hybrid-hook network create six --subnet 10.61.0.0/24 --subnet fd00:61::/64 >/dev/null 2>&1
	eventually 5 in_order
	check dnsmasq ok
	if [ -e /proc/sys/net/ipv6/conf/all/force_forwarding ] ||
		[ "$(cat /proc/sys/net/ipv6/conf/all/forwarding)" = 1 ]; then
		check ipv6 ok
	else
		check ipv6 warn six
	fi
	hybrid-hook inspect six >"$T/text"
	same "$(head -n 1 "$T/text")" "network six: in order"
	not grep -q 'network hybrid' "$T/text"
}

test_an_edited_file() {
	local code=0
	dirty
	cp "$FILE" "$T/file"
	edited_file || code=$?
	cp "$T/file" "$FILE"
	hybrid-hook apply
	return "$code"
}

edited_file() (
	set -e
	vm_paused db --meta 'ip="10.0.1.200"'
	without_service
	sed -i 's/10\.0\.1\./10.0.9./g' "$FILE"
	names 'lease 10.0.1.200 of "db"' "edit $FILE back"
	cp "$T/file" "$FILE"
	in_order
	virsh -q destroy db
	sed -i 's/^bridge = .*/bridge = "hybr7"/' "$FILE"
	names_and_mends "edited and not applied: its bridge is hybr0, not hybr7" "hybrid-hook apply"
	hybrid-hook network create other --subnet 10.62.0.0/24 >/dev/null 2>&1
	sed -i '1a colour = "red"' "$FILE"
	check files fail colour "$FILE"
	names "$FILE: $FILE can't be used" "mend it, then hybrid-hook apply"
	hybrid-hook inspect >"$T/text"
	holds "$T/text" "network other: in order" colour
	# Without what was in force nothing is known of it, and it keeps what stands of it.
	rm /var/lib/hybrid-hook/networks/hybrid/applied.toml
	check files fail colour "$FILE"
	refused 1 colour -- hybrid-hook inspect hybrid
	hybrid-hook inspect >"$T/text"
	holds "$T/text" "network other: in order as far as could be seen" "colour"
	hybrid-hook apply other
	nft list table inet hybrid_hook >"$T/text"
	holds "$T/text" 10.0.1.0/24 10.62.0.0/24
)

test_a_network_that_is_down() {
	dirty
	hybrid-hook network down --force hybrid >/dev/null 2>&1
	hybrid-hook inspect >"$T/text"
	holds "$T/text" "network hybrid (down): in order"
	check bridge skipped "no network is up"
	ip link add hybr0 type bridge
	ip link set hybr0 alias hybrid-hook:hybrid
	names "bridge hybr0: there" "hybrid-hook network down hybrid"
	bash -c "$MEND" >/dev/null 2>&1
	not ip link show hybr0
	hybrid-hook network up hybrid
	refused 4 nothing -- hybrid-hook inspect nothing
}

hung() { # UNIT
	systemctl kill -s STOP --kill-whom=main "$1" 2>/dev/null || systemctl kill -s STOP --kill-who=main "$1"
}

unhung() { # UNIT
	systemctl kill -s CONT --kill-whom=main "$1" 2>/dev/null || systemctl kill -s CONT --kill-who=main "$1"
}

test_docker_hangs() {
	local code=0
	without_service
	hung docker
	docker_hangs || code=$?
	unhung docker
	return "$code"
}

docker_hangs() (
	set -e
	timed hybrid-hook inspect --json >"$T/inspect"
	[ "$MS" -lt 5000 ]
	jq -e '.host.docker.state == "silent" and .networks[0].in_order and .networks[0].docker_network == null' \
		"$T/inspect"
	jq -e '.networks[0].unseen[] | select(.part == "docker").why | contains("did not answer in time")' "$T/inspect"
	timed check docker skipped "did not answer in time"
	[ "$MS" -lt 6000 ]
	check libvirt ok
	# Something differs as well: still in time.
	ip link set hybr0 down
	timed names "bridge hybr0: down" "hybrid-hook apply"
	[ "$MS" -lt 5000 ]
	ip link set hybr0 up
)

test_libvirt_hangs() {
	local code=0
	without_service
	hung libvirtd
	libvirt_hangs || code=$?
	unhung libvirtd
	return "$code"
}

libvirt_hangs() (
	set -e
	timed hybrid-hook inspect --json >"$T/inspect"
	[ "$MS" -lt 5000 ]
	jq -e '.host.libvirt.state == "silent" and .networks[0].in_order' "$T/inspect"
	check libvirt skipped "did not answer in time"
	check docker ok
)

test_docker_stopped() {
	local code=0
	systemctl stop docker.socket docker
	docker_stopped || code=$?
	systemctl start docker.socket docker
	return "$code"
}

docker_stopped() (
	set -e
	hybrid-hook inspect --json >"$T/inspect"
	jq -e '.host.docker.state == "absent" and .networks[0].in_order' "$T/inspect"
	check docker skipped "Docker"
	hybrid-hook doctor >/dev/null
)

user() { # CMD… as an ordinary user
	setpriv --reuid nobody --regid nogroup --clear-groups "$@"
}

test_an_ordinary_user() {
	vm_paused db --meta 'ip="10.0.1.200"'
	eventually 5 grep -q 10.0.1.200 /run/hybrid-hook/leases/hybrid.json
	world >"$T/world"
	user hybrid-hook inspect >"$T/text"
	same "$(head -n 1 "$T/text")" "network hybrid: in order as far as could be seen"
	same "$(grep -c 'only root can see: .*NAT' "$T/text")" 1
	holds "$T/text" "vm db" 10.0.1.200 "hybr0, up"
	user hybrid-hook inspect --json >"$T/inspect"
	jq -e '.in_order and .networks[0].ports[0].guest.name == "db" and .networks[0].nat.table == "unknown"' "$T/inspect"
	user hybrid-hook doctor >"$T/text"
	holds "$T/text" "skipped  NAT and forwarding: only root" "sudo hybrid-hook doctor"
	not grep -E '^(FAIL|WARN)' "$T/text"
	world | diff "$T/world" -
	# What anybody can see is named all the same.
	systemctl stop hybrid-hook
	ip link set hybr0 mtu 1400
	user hybrid-hook inspect >"$T/text"
	holds "$T/text" "bridge hybr0 MTU is 1400, should be 1500" "mend: hybrid-hook apply" "hybrid-hook watch is not running"
	exits 1 user hybrid-hook doctor >/dev/null
	hybrid-hook apply
}

test_schemas() {
	local verb
	for verb in inspect doctor; do
		hybrid-hook "$verb" --schema | diff - "/opt/hybrid-hook/docs/reference/$verb.schema.json"
	done
	exits 2 hybrid-hook inspect --schema --json
}

suite "$@"
