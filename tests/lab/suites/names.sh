#!/bin/bash
# Names: VMs, containers and the host find each other, whoever asks. That nothing
# stale is left, after many events, is with the suite endurance.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# What a resolver answers: the records, or its code where there are none.
ask() { # NAME TYPE [SERVER]
	local out
	# No answer at all is an empty one.
	out=$(dig +time=1 +tries=2 +noall +comments +answer "@${3:-10.0.1.1}" -t "$2" "$1") || out=''
	awk -v type="$2" '$4 == type { print $5; found = 1 }
		/status: / { code = $6 } END { if (!found) print code }' <<<"$out" | tr -d ',' | sort | paste -sd ' '
}

answers() { # NAME TYPE WANTED [SERVER]
	same "$(ask "$1" "$2" "${4-}")" "$3" "$1 $2"
}

# What a program of the host finds.
host_finds() { # NAME ADDRESS
	same "$(timeout 1 getent ahosts "$1" | awk 'NR == 1 { print $1 }')" "$2" "the host asks for $1"
}

# What nslookup finds in a container, or in the guest at an address.
finds() { # CONTAINER|ADDRESS NAME ADDRESS
	local out
	case $1 in
	*.*.*.*) out=$(guest "$1" nslookup "$2" 2>&1) || true ;;
	*) out=$(docker exec "$1" nslookup "$2" 2>&1) || true ;;
	esac
	# The first address is the server's.
	awk '/^Name:/ { named = 1 } named && /^Address/ { print $NF }' <<<"$out" | grep -qxF "$3" || {
		echo "$1 asks for $2: no $3 in:"
		echo "$out"
		return 1
	}
}

named_back() { # CONTAINER|ADDRESS ADDRESS NAME
	local out
	case $1 in
	*.*.*.*) out=$(guest "$1" nslookup "$2" 2>&1) || true ;;
	*) out=$(docker exec "$1" nslookup "$2" 2>&1) || true ;;
	esac
	grep -qF "name = $3" <<<"$out" || {
		echo "$1 asks for the name of $2: no $3 in:"
		echo "$out"
		return 1
	}
}

UPSTREAM=$SUITE_STATE/upstream.pid

# A resolver outside, which the host asks, and which knows outside.example.
upstream() { # [plain]
	upstream_end
	ip netns exec outside dnsmasq --no-resolv --no-hosts --listen-address=192.0.2.1 --bind-interfaces \
		--address=/outside.example/192.0.2.77 --address=/inward.example/10.9.9.9 --address=/public.example/9.9.9.9 --local=/example/ \
		--local=/internal/ --local=// --pid-file="$UPSTREAM"
	at_end upstream_end
	[ -n "${1-}" ] || resolvectl dns eth0 192.0.2.1
}

upstream_end() {
	[ ! -e "$UPSTREAM" ] || kill "$(<"$UPSTREAM")" 2>/dev/null || true
	rm -f "$UPSTREAM"
	resolvectl dns eth0 '' 2>/dev/null || true
}

# A host without systemd-resolved: a plain /etc/resolv.conf that names the one outside.
plain() {
	upstream plain
	at_end plain_end
	# Whoever asks it by D-Bus at this moment has it started again.
	eventually 5 systemctl stop systemd-resolved
	rm -f /etc/resolv.conf
	printf 'search corp.example\nnameserver 192.0.2.1\n' >/etc/resolv.conf
	cp /etc/resolv.conf "$T/resolv.conf"
	hybrid-hook apply
}

plain_end() {
	ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
	systemctl start systemd-resolved
	hybrid-hook apply
}

docker_major() {
	docker version -f '{{.Server.Version}}' | cut -d . -f 1
}

test_a_vm_a_container_and_the_host_find_each_other() {
	local web db=10.0.1.201
	upstream
	container web
	web=$(container_address web)
	vm db --meta 'ip="10.0.1.201" hostname="db" aliases="pg"'
	vm other --meta 'ip="10.0.1.202" hostname="other"'
	booted db
	booted other
	for name in web web.hybrid.internal; do
		eventually 3 finds "$db" "$name" "$web"
		host_finds "$name" "$web"
	done
	for name in db db.hybrid.internal pg pg.hybrid.internal; do
		finds web "$name" "$db"
		finds 10.0.1.202 "$name" "$db"
		host_finds "$name" "$db"
	done
	for name in host gateway host.hybrid.internal; do
		finds web "$name" 10.0.1.1
		finds "$db" "$name" 10.0.1.1
		host_finds "$name" 10.0.1.1
	done
	named_back web "$db" db.hybrid.internal
	named_back "$db" "$web" web.hybrid.internal
	same "$(getent hosts "$db" | awk '{ print $2 }')" db.hybrid.internal
	# By name, for real.
	same "$(docker exec web wget -qO- http://db/)" db
	same "$(guest "$db" wget -qO- http://web/)" "the tiny container"
	# Names outside go on to the host's resolvers.
	for who in web "$db"; do finds "$who" outside.example 192.0.2.77; done
	host_finds outside.example 192.0.2.77
	# A stopped guest has no name.
	virsh -q destroy db
	eventually 2 answers db.hybrid.internal A NXDOMAIN
	exits 4 hybrid-hook resolve db >"$T/out" 2>&1
	holds "$T/out" "does not run"
}

test_containers_of_two_networks_find_each_other() {
	local web api
	hybrid-hook network create two
	container web
	container api --network two-net
	web=$(container_address web) api=$(container_address api two-net)
	for name in api.two.internal api; do eventually 3 finds web "$name" "$api"; done
	for name in web.hybrid.internal web; do finds api "$name" "$web"; done
	named_back web "$api" api.two.internal
	docker network create t-shop >/dev/null
	container shop --network t-shop
	for name in web web.hybrid.internal; do finds shop "$name" "$web"; done
	# From the second's resolver, too: it asks what the host asks.
	answers web.hybrid.internal A "$web" "$(ip -4 -o address show hyb-two | awk '{ sub("/.*", "", $4); print $4 }')"
	refused 3 "zone hybrid.internal" -- hybrid-hook network create three --zone hybrid.internal
}

# The resolver outside knows nothing of our zones, and says that there are none.
test_networks_know_each_others_names_whatever_the_host_asks() {
	local api inner
	dirty
	plain
	hybrid-hook network create two
	hybrid-hook network create nested --zone dev.hybrid.internal
	container api --network two-net
	container inner --network nested-net
	api=$(container_address api two-net) inner=$(container_address inner nested-net)
	eventually 3 answers api.two.internal A "$api"
	answers "$(awk -F. '{ print $4 "." $3 "." $2 "." $1 }' <<<"$api").in-addr.arpa" PTR api.two.internal.
	eventually 3 answers inner.dev.hybrid.internal A "$inner"
	answers nosuch.two.internal A NXDOMAIN
	answers outside.example A 192.0.2.77
	hybrid-hook apply >"$T/out" 2>&1
	not grep -q 'made right' "$T/out"
	# Nobody is asked who is not there.
	docker rm -f api >/dev/null
	hybrid-hook network down two
	not grep -q two.internal /run/hybrid-hook/dnsmasq/hybrid/dnsmasq.conf
	answers inner.dev.hybrid.internal A "$inner"
}

test_a_name_without_ipv6_is_no_data_of_any_type() {
	container web
	eventually 3 answers web A "$(container_address web)"
	for name in web web.hybrid.internal host host.hybrid.internal; do
		for type in AAAA HTTPS TXT MX; do answers "$name" "$type" NOERROR; done
	done
	for name in nosuch nosuch.hybrid.internal; do
		for type in A AAAA HTTPS; do answers "$name" "$type" NXDOMAIN; done
	done
}

test_service_names_aliases_and_labels_of_docker() {
	local first second
	container shop-app-1 --network hybrid-net --network-alias front --label com.docker.compose.service=app
	container shop-app-2 --network hybrid-net --network-alias front --label com.docker.compose.service=app
	container extra --network hybrid-net --label hybrid.hostname='My_Host!' --label hybrid.aliases='a1, a2'
	first=$(container_address shop-app-1) second=$(container_address shop-app-2)
	for name in app front; do eventually 3 answers "$name.hybrid.internal" A "$first $second"; done
	answers shop-app-2.hybrid.internal A "$second"
	for name in my-host a1 a2; do answers "$name.hybrid.internal" A "$(container_address extra)"; done
}

test_labels_that_docker_does_not_check() {
	# shellcheck disable=SC2016 # not to be expanded
	container odd --network hybrid-net --label "hybrid.hostname=$(printf 'a\nb../$(reboot)')" \
		--label "hybrid.aliases=$(printf 'x%.0s' {1..300}) ../.. 🦊 xn--p1ai $(printf 'z\n10.0.1.9 evil')"
	eventually 3 answers a-b-reboot A "$(container_address odd)"
	answers xn--p1ai A "$(container_address odd)"
	answers evil A "$(container_address odd)"
	same "$(cat /run/hybrid-hook/dnsmasq/hybrid/hosts.d/* | grep -c .)" 1
}

# Its names stand in another file of dnsmasq's with another MAC. The one before is gone when this one runs, and
# what was heard of both may be written down at once.
test_an_address_keeps_its_name_while_its_mac_changes() {
	local digit
	for digit in 1 7 3 d 2 8; do
		docker rm -f web >/dev/null 2>&1 || true
		container web --network hybrid-net --ip 10.0.1.90 --mac-address "02:42:0a:00:01:1$digit"
		eventually 3 answers web.hybrid.internal A 10.0.1.90
		eventually 3 answers 90.1.0.10.in-addr.arpa PTR web.hybrid.internal.
		# And it stays so: nothing that is late takes it away.
		sleep 0.5
		answers web.hybrid.internal A 10.0.1.90
	done
}

test_a_container_renamed_or_replaced_is_so_in_a_second() {
	local address
	container web
	address=$(container_address web)
	eventually 2 answers web.hybrid.internal A "$address"
	docker rename web shop
	eventually 1 answers shop.hybrid.internal A "$address"
	answers web.hybrid.internal A NXDOMAIN
	host_finds shop "$address"
	# Another one in its place.
	docker rm -f shop >/dev/null
	container keeper
	container shop
	eventually 1 answers shop.hybrid.internal A "$(container_address shop)"
	not same "$(container_address shop)" "$address"
	host_finds shop "$(container_address shop)"
	docker stop -t 0 shop >/dev/null
	eventually 1 answers shop.hybrid.internal A NXDOMAIN
	docker start shop >/dev/null
	eventually 1 answers shop.hybrid.internal A "$(container_address shop)"
}

# Its name of that time is Docker's alias on our network, for as long as it is there.
test_a_container_that_we_connected_leaves_its_old_name() {
	local address
	container web --network bridge --label hybrid.network=hybrid
	eventually 5 on web
	address=$(container_address web)
	eventually 1 answers web.hybrid.internal A "$address"
	docker rename web shop
	eventually 1 answers shop.hybrid.internal A "$address"
	answers web.hybrid.internal A NXDOMAIN
	# Nor does Docker's own resolver know the old one.
	container other --network hybrid-net
	not docker exec other nslookup web
	finds other shop "$address"
}

test_connected_and_disconnected_by_hand() {
	container web --network bridge
	for _ in {1..8}; do
		docker network connect hybrid-net web
		eventually 1 answers web.hybrid.internal A "$(container_address web)"
		docker network disconnect hybrid-net web
		eventually 1 answers web.hybrid.internal A NXDOMAIN
	done
}

test_a_name_asked_before_it_was_there_is_there_at_once() {
	not getent ahosts late
	not getent ahosts late.hybrid.internal
	container first
	not docker exec first nslookup late.hybrid.internal
	container late
	eventually 1 host_finds late.hybrid.internal "$(container_address late)"
	host_finds late "$(container_address late)"
	finds first late.hybrid.internal "$(container_address late)"
}

test_a_name_belongs_to_the_first_and_the_clash_is_shown() {
	container one --network hybrid-net --label hybrid.hostname=db
	eventually 2 answers db.hybrid.internal A "$(container_address one)"
	sleep 1
	container two --network hybrid-net --label hybrid.hostname=db
	eventually 2 has_state two active
	container greedy --network hybrid-net --label hybrid.aliases=gateway
	eventually 2 has_state greedy active
	always 1 answers db.hybrid.internal A "$(container_address one)"
	answers gateway.hybrid.internal A 10.0.1.1
	hybrid-hook resolve db >"$T/out"
	holds "$T/out" "$(container_address two) asked for it too"
	docker rm -f one >/dev/null
	eventually 1 answers db.hybrid.internal A "$(container_address two)"
}

test_no_open_resolver() {
	upstream
	at_end ip netns exec outside ip route del 10.0.1.0/24
	ip netns exec outside ip route add 10.0.1.0/24 via 192.0.2.2
	for transport in +notcp +tcp; do
		for name in host outside.example; do
			not ip netns exec outside dig "$transport" +time=1 +tries=1 @10.0.1.1 "$name" >"$T/out"
			not grep -q 'status:' "$T/out"
			not ip netns exec outside dig "$transport" +time=1 +tries=1 @192.0.2.2 "$name" >"$T/out"
			not grep -q 'status:' "$T/out"
		done
	done
	# Nor for containers of others; who asks is told at once, and goes on to the next server.
	container away --network bridge
	timed not docker exec away nslookup host 10.0.1.1
	[ "$MS" -lt 1500 ]
	# From the bridge and the host it answers, by both.
	answers host A 10.0.1.1
	same "$(dig +tcp +short @10.0.1.1 host)" 10.0.1.1
}

# A LAN's router brings questions of anywhere to the bridge.
test_no_open_resolver_on_a_bridge_into_a_lan() {
	upstream
	foreign_bridge lan 10.77.0.9/24
	hybrid-hook network create lan --adopt --bridge t-lan --subnet 10.77.0.0/24 --gateway 10.77.0.1 \
		--address 10.77.0.9
	stranger far t-lan 198.51.100.7/32
	ip -n t-far route add 10.77.0.0/24 dev eth0
	ip route add 198.51.100.7/32 dev t-lan
	stranger near t-lan 10.77.0.20/24
	# The first neighbours are found.
	ip netns exec t-near ping -c 1 -W 2 10.77.0.9 >/dev/null
	ip netns exec t-far ping -c 1 -W 2 10.77.0.9 >/dev/null
	for transport in +notcp +tcp; do
		for name in host outside.example; do
			not ip netns exec t-far dig "$transport" +time=1 +tries=1 @10.77.0.9 "$name" >"$T/out"
			not grep -q 'status:' "$T/out"
		done
		same "$(ip netns exec t-near dig "$transport" +time=1 +tries=1 +short @10.77.0.9 host)" 10.77.0.9
	done
	# What the host itself asks comes in elsewhere.
	answers host A 10.77.0.9 10.77.0.9
	# The rules are known again: nothing is made right for no cause.
	hybrid-hook apply
	hybrid-hook apply >"$T/out" 2>&1
	not grep -q 'made right' "$T/out"
}

test_a_guest_can_not_name_itself_by_dhcp() {
	local mac=52:54:00:00:aa:01
	hybrid-hook claim --network hybrid --owner 11111111-1111-1111-1111-111111111111 --mac "$mac" --ip 10.0.1.60 \
		--hostname good --no-probe --json >/dev/null
	stranger evil hybr0 192.0.2.200/32
	ip -n t-evil link set eth0 down
	ip -n t-evil link set eth0 address "$mac"
	ip -n t-evil link set eth0 up
	ip netns exec t-evil busybox udhcpc -f -q -n -i eth0 -s /bin/true -x hostname:evil -F evil \
		>"$T/out" 2>&1 || true
	holds "$T/out" 10.0.1.60
	for name in evil evil.hybrid.internal; do answers "$name" A NXDOMAIN; done
	answers good A 10.0.1.60
	named=$(ask 60.1.0.10.in-addr.arpa PTR)
	same "$named" good.hybrid.internal.
}

test_private_answers_from_outside_are_withheld_on_wish() {
	upstream
	eventually 5 answers inward.example A 10.9.9.9
	sed -i 's/^format = 1/format = 1\nstop_rebind = true/' /etc/hybrid-hook/networks/hybrid.toml
	hybrid-hook apply
	not grep -qF 10.9.9.9 <<<"$(ask inward.example A)"
	answers public.example A 9.9.9.9
	answers host A 10.0.1.1
}

test_our_zone_answers_at_once_while_the_host_has_no_resolver() {
	container web
	eventually 2 answers web A "$(container_address web)"
	at_end resolvectl dns eth0 ''
	# Nobody is there.
	resolvectl dns eth0 192.0.2.250
	(dig +time=3 +tries=1 @10.0.1.1 outside.example >/dev/null || true) &
	(getent hosts outside.example || true) &
	sleep 0.2
	for name in web.hybrid.internal web host nosuch.hybrid.internal; do
		timed dig +short @10.0.1.1 "$name"
		[ "$MS" -lt 300 ]
	done
	timed host_finds web.hybrid.internal "$(container_address web)"
	[ "$MS" -lt 500 ]
	timed finds web web.hybrid.internal "$(container_address web)"
	[ "$MS" -lt 1000 ]
}

nobody_asked() {
	same "$(resolvectl dns hybr0 | sed 's/.*:[[:space:]]*//')" "" "asked on hybr0"
}

test_the_hosts_resolver_is_told_and_made_to_forget() {
	local before
	upstream
	same "$(resolvectl domain hybr0 | sed 's/.*: //')" "hybrid.internal ~1.0.10.in-addr.arpa"
	grep -q '^search .*hybrid.internal' /etc/resolv.conf
	not grep -q 10.0.1.1 /run/systemd/resolve/resolv.conf
	# Only while somebody is there.
	nobody_asked
	container web
	# The first guest brings the carrier.
	eventually 2 host_finds web "$(container_address web)"
	not grep -q 10.0.1.1 /run/systemd/resolve/resolv.conf
	# Other links' resolvers change: still nobody is sent to ours for everything.
	resolvectl dns eth0 192.0.2.1 192.0.2.99
	not grep -q 10.0.1.1 /run/systemd/resolve/resolv.conf
	docker rm -f web >/dev/null
	eventually 2 nobody_asked
	resolvectl dns eth0 192.0.2.1
	not grep -q 10.0.1.1 /run/systemd/resolve/resolv.conf
	container web
	# Lost, and told again.
	resolvectl revert hybr0
	hybrid-hook apply
	host_finds web "$(container_address web)"
	systemctl restart systemd-resolved
	eventually 5 host_finds web "$(container_address web)"
	docker rm -f web >/dev/null
	dirty
	before=$(resolvectl dns eth0)
	hybrid-hook network down hybrid
	not grep -q hybrid.internal /etc/resolv.conf
	same "$(resolvectl dns eth0)" "$before"
	hybrid-hook network up hybrid
}

test_a_plain_resolv_conf_left_alone() {
	dirty
	plain
	cmp /etc/resolv.conf "$T/resolv.conf"
	container web
	hybrid-hook claim --network hybrid --owner 11111111-1111-1111-1111-111111111111 --mac 52:54:00:00:aa:01 \
		--ip 10.0.1.60 --hostname db --no-probe --json >/dev/null
	not getent ahosts db.hybrid.internal
	exits 1 hybrid-hook resolve db.hybrid.internal >"$T/out" 2>&1
	holds "$T/out" "host_dns = true in /etc/hybrid-hook/networks/hybrid.toml"
	finds web outside.example 192.0.2.77
	if [ "$(docker_major)" -lt 28 ]; then
		finds web db.hybrid.internal 10.0.1.60
		named_back web 10.0.1.60 db.hybrid.internal
		hybrid-hook resolve db.hybrid.internal --as container:web
	else
		exits 1 hybrid-hook resolve db.hybrid.internal --as container:web >"$T/out" 2>&1
		holds "$T/out" "host_dns = true in /etc/hybrid-hook/networks/hybrid.toml"
	fi
}

test_a_plain_resolv_conf_with_host_dns() {
	dirty
	plain
	sed -i 's/^format = 1/format = 1\nhost_dns = true/' /etc/hybrid-hook/networks/hybrid.toml
	hybrid-hook apply
	hybrid-hook apply >"$T/out" 2>&1
	not grep -q 'made right' "$T/out"
	container web
	docker network create t-shop >/dev/null
	container shop --network t-shop
	for name in web web.hybrid.internal; do
		eventually 2 host_finds "$name" "$(container_address web)"
		finds shop "$name" "$(container_address web)"
	done
	for who in web shop; do finds "$who" outside.example 192.0.2.77; done
	host_finds outside.example 192.0.2.77
	# What a DHCP client writes over it is the new original.
	printf 'nameserver 192.0.2.1\n' >/etc/resolv.conf
	cp /etc/resolv.conf "$T/resolv.conf"
	hybrid-hook apply
	host_finds web "$(container_address web)"
	docker rm -f web shop >/dev/null
	hybrid-hook network down hybrid
	cmp /etc/resolv.conf "$T/resolv.conf"
	hybrid-hook network up hybrid
	not cmp -s /etc/resolv.conf "$T/resolv.conf"
}

test_a_bridge_an_address_or_a_port_gone_is_back_in_a_second() {
	local port
	container web
	eventually 2 answers web A "$(container_address web)"
	ip address del 10.0.1.1/24 dev hybr0
	eventually 1 answers web A "$(container_address web)"
	port=$(basename /sys/class/net/hybr0/brif/*)
	ip link set "$port" nomaster
	eventually 1 test -e "/sys/class/net/hybr0/brif/$port"
	ip link set hybr0 down
	# A ping that is lost takes a second by itself.
	eventually 2 docker exec web ping -c 1 -W 1 10.0.1.1
	ip link delete hybr0
	eventually 2 docker exec web ping -c 1 -W 1 10.0.1.1
	eventually 2 host_finds web "$(container_address web)"
	eventually 5 hybrid-hook inspect
}

suite "$@"
