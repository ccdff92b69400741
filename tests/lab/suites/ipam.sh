#!/bin/bash
# Docker asks the registry for the addresses of containers: ipam = "hybrid".
# shellcheck source=SCRIPTDIR/lib_ipam.sh
. "$(dirname "$0")/lib_ipam.sh"

SOCKET=/run/docker/plugins/hybrid.sock

plugin() { # QUESTION BODY
	curl -s -m 10 --unix-socket "$SOCKET" -X POST -d "$2" "http://x/$1"
}

test_addresses_come_from_the_container_pool_and_have_names() {
	asked
	docker network inspect asked-net | jq -e '.[0].IPAM | .Driver == "hybrid" and .Options.network == "asked"' >/dev/null
	box web
	box api
	same "$(ip_of web) $(ip_of api)" "10.67.0.64 10.67.0.65"
	eventually 3 agrees
	eventually 3 active api web
	same "$(dig +short @10.67.0.1 web.asked.internal)" 10.67.0.64
	docker rm -f web >/dev/null
	eventually 2 active api
	eventually 2 no_name web
	# Traffic, and the container's default route through us.
	domain db 'ip="10.67.0.200"'
	virsh -q start db
	booted db asked
	docker exec api wget -qO- http://10.67.0.200/ | grep -qx db
	docker exec api ip route | grep -q 'default via 10.67.0.1 '
}

no_name() { # NAME
	same "$(dig +short @10.67.0.1 "$1.asked.internal")" "" "address of $1"
}

test_an_address_asked_for_is_granted_where_it_is_free() {
	asked
	box low --ip 10.67.0.7
	box high --ip 10.67.0.201
	same "$(ip_of low) $(ip_of high)" "10.67.0.7 10.67.0.201"
	eventually 3 agrees
	exits 125 box twice --ip 10.67.0.7 2>"$T/out"
	holds "$T/out" '10.67.0.7 is held by container "low" (active)'
	for address in 10.67.0.1 10.67.0.255; do
		exits 125 box no --ip "$address" 2>"$T/out"
		docker rm no >/dev/null
	done
}

test_a_vms_address_is_no_containers_stopped_or_not() {
	asked
	domain fixed 'ip="10.67.0.200"'
	domain dynamic
	virsh -q start --paused fixed
	virsh -q start --paused dynamic
	local address state
	address=$(address dynamic asked)
	for state in active idle; do
		exits 125 box no --ip 10.67.0.200 2>"$T/out"
		holds "$T/out" "10.67.0.200 is held by vm \"fixed\" ($state)"
		docker rm no >/dev/null
		exits 125 box no --ip "$address" 2>"$T/out"
		holds "$T/out" "$address is held by vm \"dynamic\" ($state)"
		docker rm no >/dev/null
		[ "$state" = idle ] || { virsh -q destroy fixed && virsh -q destroy dynamic; }
	done
	# A VM that is gone for good is in nobody's way.
	virsh -q undefine fixed
	eventually 5 no_lease fixed asked
	box yes --ip 10.67.0.200
}

test_a_containers_address_is_no_vms() {
	asked
	box web --ip 10.67.0.40
	box any
	domain db 'ip="10.67.0.40"'
	start_refused_on asked db '10.67.0.40 is held by '
	# Where the registry counts, a VM may have an address of the container pool.
	domain pool 'ip="10.67.0.65"'
	virsh -q start --paused pool
	same "$(address pool asked)" 10.67.0.65
	box more
	same "$(ip_of more)" 10.67.0.66
	# Stopped, it keeps what it asked for. Removed, it does not.
	docker stop -t 0 web >/dev/null
	start_refused_on asked db '10.67.0.40 is held by container "web" (idle)'
	docker rm web >/dev/null
	eventually 3 no_lease web asked
	virsh -q start --paused db
	same "$(address db asked)" 10.67.0.40
}

start_refused_on() { # NETWORK NAME TEXT…
	local network=$1 name=$2
	shift 2
	exits 1 virsh -q start --paused "$name" >"$T/start" 2>&1
	holds "$T/start" "hybrid-hook: " "$@"
	same "$(lease "$name" .state "$network")" ""
}

test_restarts_keep_an_address_that_was_asked_for() {
	local n
	asked
	box web --ip 10.67.0.40
	box any
	# At once, again and again: no look at Docker in between may be in the way.
	for n in {1..12}; do
		docker restart -t 0 web any >/dev/null
		same "$(ip_of web)" 10.67.0.40
	done
	eventually 3 agrees
	eventually 3 active any web
}

test_without_the_service_that_follows_docker() {
	asked
	systemctl stop hybrid-hook
	box web
	box gone
	docker rm -f gone >/dev/null
	# Nobody said yet whose it is; it is nobody else's all the same.
	leases asked | jq -e --arg a "$(ip_of web)" 'any(.address == $a and .state == "active")' >/dev/null
	domain db "ip=\"$(ip_of web)\""
	start_refused_on asked db 'a container that is starting'
	systemctl start hybrid-hook
	eventually 5 active web
	eventually 3 agrees
}

test_what_vanished_while_nobody_answered_is_reclaimed() {
	asked
	box web --ip 10.67.0.40
	eventually 3 active web
	systemctl stop hybrid-hook hybrid-hook-ipam.socket hybrid-hook-ipam.service
	# Docker can't give it back.
	timeout 120 docker rm -f web >/dev/null
	systemctl start hybrid-hook-ipam.socket
	has_state web active asked
	systemctl start hybrid-hook
	eventually 5 no_lease web asked
}

test_dockerd_restarted() {
	asked
	box always --restart=always --ip 10.67.0.40
	box pool --restart=always
	box once
	eventually 3 active always once pool
	timed systemctl restart docker
	[ "$MS" -lt 60000 ]
	eventually 30 docker exec always true
	eventually 30 docker exec pool true
	same "$(ip_of always)" 10.67.0.40
	eventually 5 active always pool
	eventually 3 agrees
	hybrid-hook apply | grep -q 'everything is as it should be'
}

test_dockerd_killed_in_the_middle() {
	local n
	asked
	box always --restart=always
	for n in {1..8}; do box "c$n" >/dev/null 2>&1 & done
	sleep 1
	systemctl kill -s KILL --kill-whom=main docker.service
	wait
	eventually 60 docker exec always true
	eventually 10 agrees
	for n in {1..8}; do docker rm -f "c$n" >/dev/null 2>&1 || true; done
	for n in {1..8}; do box "d$n"; done
	eventually 10 agrees
}

test_the_ipam_service_killed_in_the_middle() {
	local n
	asked
	for n in {1..16}; do
		box "c$n" >"$T/c$n" 2>&1 &
	done
	for n in {1..20}; do
		systemctl kill -s KILL hybrid-hook-ipam.service 2>/dev/null || true
		sleep 0.15
	done
	wait
	# Docker asks again without saying what. Such a container can be started again.
	for n in {1..16}; do
		docker exec "c$n" true 2>/dev/null || { holds "$T/c$n" 'the answer to it was cut off' && docker start "c$n"; }
	done
	same "$(docker ps -q | wc -l)" 16 containers
	eventually 10 agrees
	docker ps -q | xargs docker rm -f >/dev/null
	# Docker gives nothing back of which it never heard: that is freed after five minutes.
	eventually 5 left_unanswered "$(cat "$T"/c* | awk '/was cut off/ { n++ } END { print n + 0 }')"
}

# Nothing is active but what no container came for, and no more than MOST of it.
left_unanswered() { # MOST
	leases asked | jq -e --argjson most "$1" '[.[] | select(.state == "active")] |
		length <= $most and all(.[]; .owner | test("^0{52}"))' >/dev/null || {
		leases asked
		return 1
	}
}

# Bytes that are no HTTP.
noise() {
	python3 -c 'import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(os.urandom(4000))
s.recv(4000)' "$SOCKET" 2>/dev/null
}

# shellcheck disable=SC2016 # nothing is to be expanded
test_garbage_on_the_socket() {
	local n question restarts
	asked
	restarts=$(systemctl show -P NRestarts hybrid-hook-ipam)
	for question in RequestPool RequestAddress ReleaseAddress ReleasePool; do
		for body in '' '{' '[]' 'null' '{"PoolID":7}' '{"PoolID":"../../etc@10.67.0.0/24","Address":"10.67.0.64"}' \
			'{"PoolID":"asked@10.67.0.0/24","Address":"$(reboot)"}' "$(printf '[%.0s' {1..20000})"; do
			plugin "IpamDriver.$question" "$body" | jq -e . >/dev/null
		done
	done
	head -c 100000 /dev/urandom >"$T/noise"
	plugin IpamDriver.RequestAddress "@$T/noise" | jq -e .Err >/dev/null
	for n in {1..20}; do noise || true; done
	# Another network, another subnet, the gateway, no MAC.
	plugin IpamDriver.RequestAddress '{"PoolID":"hybrid@10.0.1.0/24","Address":""}' | jq -e .Error >/dev/null
	plugin IpamDriver.RequestAddress '{"PoolID":"asked@10.67.0.0/25","Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:42:00:00:00:01"}}' |
		jq -e '.Error | contains("not 10.67.0.0/25")' >/dev/null
	same "$(leases asked | jq length)" 0 leases
	same "$(systemctl show -P NRestarts hybrid-hook-ipam)" "$restarts" restarts
	# An ordinary user has no question.
	not setpriv --reuid 65534 --regid 65534 --clear-groups curl -s -m 5 --unix-socket "$SOCKET" -X POST http://x/Plugin.Activate
	box web
	eventually 3 agrees
}

# As two containers with one --mac-address ask, before the first is seen to run.
test_a_mac_that_is_in_use_gets_no_second_address() {
	local wish options='"Options":{"com.docker.network.endpoint.macaddress":"02:42:00:00:00:01"}'
	asked
	for wish in 10.67.0.9 10.67.0.9; do
		plugin IpamDriver.RequestAddress "{\"PoolID\":\"asked@10.67.0.0/24\",\"Address\":\"$wish\",$options}" |
			jq -e '.Address == "10.67.0.9/24"' >/dev/null
	done
	for wish in 10.67.0.10 ''; do
		plugin IpamDriver.RequestAddress "{\"PoolID\":\"asked@10.67.0.0/24\",\"Address\":\"$wish\",$options}" |
			jq -e '.Error | contains("is in use by a container that is starting")' >/dev/null
	done
	same "$(leases asked | jq -r '.[].address')" 10.67.0.9
	plugin IpamDriver.ReleaseAddress '{"PoolID":"asked@10.67.0.0/24","Address":"10.67.0.9"}' >/dev/null
}

test_it_is_refused_where_nobody_would_answer() {
	systemctl stop hybrid-hook-ipam.socket hybrid-hook-ipam.service
	refused 4 'nobody listens on' 'hybrid-hook install' -- hybrid-hook network create asked --ipam hybrid --subnet 10.67.0.0/24
	not hybrid-hook network show asked
	systemctl start hybrid-hook-ipam.socket
	asked
	systemctl stop hybrid-hook-ipam.socket hybrid-hook-ipam.service
	hybrid-hook inspect --json >"$T/out" || true
	holds "$T/out" 'nobody listens on' 'systemctl start hybrid-hook-ipam.socket'
	timed not hybrid-hook apply asked
	[ "$MS" -lt 10000 ]
	hybrid-hook install
	hybrid-hook apply asked
	box web
}

test_a_network_changes_its_mode() {
	asked
	box web
	sed -i 's/^ipam = .*/ipam = "range"/' /etc/hybrid-hook/networks/asked.toml
	# Not under its guests.
	exits 3 hybrid-hook apply asked 2>"$T/out" || exits 1 hybrid-hook apply asked 2>"$T/out"
	holds "$T/out" 'IPAM driver is hybrid, not default'
	docker rm -f web >/dev/null
	hybrid-hook apply asked
	same "$(docker network inspect asked-net | jq -r '.[0].IPAM.Driver')" default
	sed -i 's/^ipam = .*/ipam = "hybrid"/' /etc/hybrid-hook/networks/asked.toml
	hybrid-hook apply asked
	same "$(docker network inspect asked-net | jq -r '.[0].IPAM.Driver')" hybrid
	box web
	eventually 3 agrees
}

off_asked() { # CONTAINER
	same "$(ip_of "$1")" "" "address of $1"
}

test_labels_and_vms_that_want_containers() {
	asked
	docker network create t-shop >/dev/null
	container shop --network t-shop --label app=shop
	container lone --network bridge --label hybrid.network=asked --label hybrid.ip=10.67.0.30
	eventually 5 has_state lone active asked
	same "$(ip_of lone)" 10.67.0.30
	define db --bridge hyb-asked --meta-network asked --meta 'containers="label=app=shop"'
	virsh -q start --paused db
	eventually 3 has_state shop active asked
	virsh -q destroy db
	eventually 15 off_asked shop
	docker restart -t 0 lone >/dev/null
	same "$(ip_of lone)" 10.67.0.30
	eventually 5 agrees
}

test_a_label_that_asks_for_a_stopped_vms_address_is_not_followed() {
	local at
	asked
	domain db 'ip="10.67.0.200"'
	virsh -q start --paused db
	virsh -q destroy db
	eventually 5 has_state db idle asked
	container web --network bridge --label hybrid.network=asked --label hybrid.ip=10.67.0.200
	sleep 2
	same "$(network_events 3 asked-net)" 0 "events of asked-net"
	off_asked web
	at=$(lease db .address asked)
	same "$at" 10.67.0.200
	docker restart -t 0 web >/dev/null
}

suite "$@"
