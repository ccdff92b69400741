#!/bin/bash
# IPv6 beside IPv4: DHCPv6 and router advertisements in a guest, and VM,
# container and host reaching each other by both families and by name.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# A network of both families, on the bridge hyb-dual.
dual() {
	hybrid-hook network create dual --subnet 10.0.9.0/24 --subnet fd00:9::/64
}

# A guest on it that asks for both its addresses.
guest_of_both() { # NAME [options of hybrid-lab-domain]
	vm "$@" --bridge hyb-dual --meta-network dual --dhcp6
}

# The addresses of a guest's NIC that reach beyond its link, with what they are not yet.
global_of() { # ADDRESS
	guest "$1" ip -6 address show dev eth0 scope global |
		awk '$1 == "inet6" { print $2 (/tentative/ ? " (tentative)" : "") }'
}

# The guest that serves at ADDRESS has WANTED and no other of IPv6.
has_global() { # ADDRESS WANTED
	same "$(global_of "$1" | paste -sd ' ')" "$2/128" "IPv6 of the guest at $1"
}

# What somebody fetches; WHO is host, a container or the address of a guest.
fetches() { # WHO ADDRESS|NAME WANTED
	local got url
	url=http://$(in_brackets "$2")/
	case $1 in
	host) got=$(curl -s -g -m 3 "$url") ;;
	*[.:]*) got=$(guest "$1" wget -qO- "$url") ;;
	*) got=$(docker exec "$1" wget -qO- "$url") ;;
	esac
	same "$got" "$3" "$1 fetches $2"
}

pings() { # WHO ADDRESS
	case $1 in
	host) ping -c 1 -W 2 "$2" >/dev/null ;;
	*[.:]*) guest "$1" ping -c 1 -W 2 "$2" >/dev/null ;;
	*) docker exec "$1" ping -c 1 -W 2 "$2" >/dev/null ;;
	esac || {
		echo "$1 gets no answer from $2"
		return 1
	}
}

looks_up() { # WHO NAME|ADDRESS
	case $1 in
	host) dig +time=2 +tries=2 +short @10.0.9.1 "$2" A "$2" AAAA -x "$2" ;;
	*[.:]*) guest "$1" nslookup "$2" ;;
	*) docker exec "$1" nslookup "$2" ;;
	esac 2>&1
}

# Both addresses by the name, and the name by each address.
knows() { # WHO NAME IPV4 IPV6
	local address
	looks_up "$1" "$2" >"$T/found" || true
	holds "$T/found" "$3" "$4"
	for address in "$3" "$4"; do
		looks_up "$1" "$address" >"$T/found" || true
		holds "$T/found" "$2"
	done
}

without_name() { # WHO NAME ADDRESS
	local found
	found=$(looks_up "$1" "$2")
	[[ $found != *"$3"* ]]
}

container6_address() { # NAME DOCKER NETWORK
	docker inspect -f "{{with index .NetworkSettings.Networks \"$2\"}}{{.GlobalIPv6Address}}{{end}}" "$1"
}

test_a_guest_has_its_own_address_by_dhcpv6_and_the_route_from_us() {
	local router
	dual
	guest_of_both db --meta 'ip="10.0.9.201" hostname="db"'
	booted db dual
	same "$(lease db .address6 dual)" fd00:9::c9
	eventually 30 has_global 10.0.9.201 fd00:9::c9
	serves fd00:9::c9 db
	# By the bridge, whose link-local address is what a router advertises itself with.
	router=$(guest 10.0.9.201 ip -6 route | awk '$1 == "default" { print $3 }')
	ip -6 -o address show dev hyb-dual scope link | has -F " $router/64 "
	# Another has another.
	guest_of_both other
	booted other dual
	eventually 30 has_global "$ADDRESS" "$(lease other .address6 dual)"
}

test_ping_http_and_names_both_ways_in_both_families() {
	local web4 web6 who
	dual
	container web --network dual-net
	web4=$(container_address web dual-net) web6=$(container6_address web dual-net)
	guest_of_both db --meta 'ip="10.0.9.201" hostname="db"'
	booted db dual
	eventually 30 has_global 10.0.9.201 fd00:9::c9
	for who in host web; do
		for address in 10.0.9.201 fd00:9::c9; do
			pings "$who" "$address"
			fetches "$who" "$address" db
		done
		knows "$who" db.dual.internal 10.0.9.201 fd00:9::c9
	done
	for who in host 10.0.9.201; do
		for address in "$web4" "$web6"; do
			pings "$who" "$address"
			fetches "$who" "$address" "the tiny container"
		done
		eventually 5 knows "$who" web.dual.internal "$web4" "$web6"
	done
	for address in 10.0.9.1 fd00:9::1; do
		pings web "$address"
		pings 10.0.9.201 "$address"
	done
	knows 10.0.9.201 host.dual.internal 10.0.9.1 fd00:9::1
	# A program of the host finds it by its resolver.
	eventually 5 eval 'getent ahostsv6 db.dual.internal | has "^fd00:9::c9 "'
	# In full: without a resolver outside, a bare name is found or not by which other networks are in use
	# (docs/reference/names.md, Limits).
	fetches web db.dual.internal db
	fetches 10.0.9.201 web "the tiny container"
	# The names go with the guest.
	virsh -q destroy db
	eventually 3 without_name host db.dual.internal fd00:9::c9
}

test_guests_reach_the_world_with_the_hosts_address() {
	local who="http://[2001:db8:2::1]/cgi-bin/who"
	dual
	container web --network dual-net
	guest_of_both db --meta 'ip="10.0.9.201"'
	booted db dual
	eventually 30 has_global 10.0.9.201 fd00:9::c9
	same "$(guest 10.0.9.201 wget -qO- "$who")" 2001:db8:2::2
	same "$(docker exec web wget -qO- "$who")" 2001:db8:2::2
	hybrid-hook doctor --json | jq -e '.checks[] | select(.id == "ipv6").status == "ok"' >/dev/null
}

# --- An uplink that lives by router advertisements -------------------------------

# A router outside advertises itself for 45 s, every 20 s at the latest (dnsmasq,
# in its first minute; one that is lost does no harm); the host has no other default route, and forwards nothing.
router_outside() {
	sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.default.forwarding=0
	ip -6 route del default dev eth0
	at_end router_end
	ip netns exec outside dnsmasq --port=0 --interface=lab --bind-interfaces --enable-ra \
		--dhcp-range=2001:db8:2::,ra-only,64 --ra-param=lab,4,45 --pid-file="$SUITE_STATE/router.pid"
}

router_end() {
	kill "$(<"$SUITE_STATE/router.pid")" || true
	ip -6 route flush default
	# The address that it made itself of what was advertised.
	ip -6 address flush dev eth0 scope global dynamic
	ip -6 route add default via 2001:db8:2::1 dev eth0
	sysctl -qw net.ipv6.conf.eth0.accept_ra=1
}

# A list of routes that change while it is made may lack one (ip says "Dump was interrupted"): so two looks.
# The monitor, which has each change, must agree.
has_advertised_route() {
	advertised_route || { sleep 0.2 && advertised_route; }
}

advertised_route() {
	ip -6 route show default proto ra | has " dev eth0 "
}

# So many seconds; else the monitor tells whether it was the route or the list that failed.
keeps_advertised_route() { # SECONDS
	always "$1" has_advertised_route || { tail -n 40 "$T/monitor" && date && return 1; }
}

setting() { # NAME
	sysctl -n "net.ipv6.conf.$1"
}

test_an_uplink_keeps_the_route_that_a_router_advertised() {
	router_outside
	eventually 22 has_advertised_route
	same "$(setting eth0.accept_ra) $(setting eth0.forwarding)" "1 0"
	ip -timestamp -6 monitor route >"$T/monitor" &
	dual
	hybrid-hook network create dual2 --subnet 10.0.10.0/24 --subnet fd00:10::/64
	not grep "^Deleted default" "$T/monitor"
	same "$(setting eth0.accept_ra)" 2 "accept_ra"
	# Docker's doing; without that this test would prove less.
	same "$(setting all.forwarding)" 1 "all.forwarding"
	hybrid-hook apply | has 'everything is as it should be'
	# Longer than it was advertised for.
	keeps_advertised_route 47
	not grep "^Deleted default" "$T/monitor"
	# The other network still needs it.
	hybrid-hook network delete dual
	same "$(setting eth0.accept_ra)" 2 "accept_ra"
	keeps_advertised_route 2
	hybrid-hook network delete dual2
	same "$(setting eth0.accept_ra) $(setting eth0.forwarding)" "1 0"
	keeps_advertised_route 47
	not grep "^Deleted default" "$T/monitor"
}

# --- Addresses that somebody unknown has -------------------------------------------

# A host that no registry knows, with this IPv6 address, and its MAC in $MAC.
stranger6() { # NAME ADDRESS
	stranger "$1" hyb-dual "$2/64"
	# It answers once its own duplicate detection is done.
	eventually 5 answers_itself "$1" "$2"
	MAC=$(ip -n "t-$1" -br link show dev eth0 | awk '{ print $3 }')
}

answers_itself() { # NAME ADDRESS
	! ip -n "t-$1" -6 -o address show dev eth0 to "$2" | has tentative >/dev/null
}

test_an_ipv6_address_that_answers_is_given_to_nobody() {
	dual
	# The companion of the pool's first.
	stranger6 first fd00:9::80
	vm_paused auto --bridge hyb-dual --meta-network dual
	same "$(address auto dual)" 10.0.9.129
	stranger6 asked fd00:9::c9
	define fixed --bridge hyb-dual --meta-network dual --meta 'ip="10.0.9.201"'
	start_refused fixed fd00:9::c9 10.0.9.201 "$MAC"
	# Free again: it is given.
	ip netns delete t-asked
	eventually 10 virsh -q start --paused fixed
	same "$(address fixed dual)" 10.0.9.201
	# Both families are asked at once.
	timed hybrid-hook claim --network dual --owner 11111111-1111-1111-1111-111111111111 \
		--mac 52:54:00:00:00:11 --ip 10.0.9.210
	echo "a claim with both probes took $MS ms"
	[ "$MS" -lt 600 ]
}

# --- IPv6 alone ----------------------------------------------------------------------

test_a_network_of_ipv6_alone() {
	local web
	if [ "$(docker version -f '{{.Server.Version}}' | cut -d . -f 1)" -lt 28 ]; then
		refused 4 'IPv6 alone' 'Docker' 28 -- hybrid-hook network create six --subnet fd00:6::/64
		not ip link show hyb-six
		same "$(hybrid-hook network list --json | jq -r '.[].name')" hybrid
		return
	fi
	hybrid-hook network create six --subnet fd00:6::/64
	container web --network six-net
	web=$(container6_address web six-net)
	vm db --bridge hyb-six --meta-network six --dhcp6 --meta 'hostname="db"'
	booted db six
	same "$ADDRESS" fd00:6::8000
	for who in host web; do
		pings "$who" "$ADDRESS"
		fetches "$who" "$ADDRESS" db
	done
	for who in host "$ADDRESS"; do
		pings "$who" "$web"
		fetches "$who" "$web" "the tiny container"
	done
	fetches "$ADDRESS" web "the tiny container"
	fetches web db db
	same "$(guest "$ADDRESS" wget -qO- "http://[2001:db8:2::1]/cgi-bin/who")" 2001:db8:2::2
	# An address that a label asks for waits for its container, as one of IPv4 does.
	container fixed --network bridge --label hybrid.network=six --label hybrid.ip=fd00:6::30
	eventually 5 has_state fixed active six
	same "$(container6_address fixed six-net)" fd00:6::30
	docker stop -t 0 fixed >/dev/null
	eventually 5 has_state fixed idle six
	docker start fixed >/dev/null
	eventually 5 has_state fixed active six
	same "$(container6_address fixed six-net)" fd00:6::30
	hybrid-hook apply | has 'everything is as it should be'
}

suite "$@"
