#!/bin/bash
# Containers beside VMs, and a Docker that is slow, absent, hung or restarted.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Its default route, its other networks and their endpoints.
standing() { # CONTAINER
	default_route "$1"
	docker inspect "$1" | jq -c '.[0].NetworkSettings.Networks | del(.["hybrid-net"]) | map_values([.EndpointID, .IPAddress])'
}

frozen() { # CMD…: while dockerd is stopped by a signal
	local code=0
	systemctl kill -s STOP --kill-whom=main docker.service
	"$@" || code=$?
	systemctl kill -s CONT --kill-whom=main docker.service
	return "$code"
}

# Milliseconds of the middle one of three starts of NAME, in $MS.
start_takes() { # NAME
	local all=() n
	for n in 1 2 3; do
		timed virsh -q start --paused "$1"
		all+=("$MS")
		virsh -q destroy "$1"
	done
	MS=$(printf '%s\n' "${all[@]}" | sort -n | sed -n 2p)
	echo "starts of $1: ${all[*]} ms" >&2
}

test_a_matching_container_is_connected_within_a_second() {
	local before turn best=99999
	docker network create t-shop >/dev/null
	container web --network t-shop --label app=shop
	container cache --network t-shop --label app=shopping
	before=$(standing web)
	define db --meta 'containers="label=app=shop"'
	# The quickest of three counts: the machine may be busy with others.
	for turn in 1 2 3; do
		virsh -q start --paused db
		timed eventually 10 on web
		echo "connected $MS ms after start $turn"
		[ "$MS" -ge "$best" ] || best=$MS
		same "$(standing web)" "$before" "what was there before"
		off cache
		virsh -q destroy db
		timed eventually 10 off web
		echo "let go $MS ms after stop $turn"
		same "$(standing web)" "$before" "what was there before"
	done
	[ "$best" -le 1000 ]
}

test_traffic_between_a_vm_and_the_container_it_asked_for() {
	docker network create t-shop >/dev/null
	container web --network t-shop --label tier=front --label app=shop
	vm db --meta 'ip="10.0.1.201" hostname="db" containers="label=app=shop,label=tier=front"'
	booted db
	on web
	both_ways "$ADDRESS" db web
	# A fresh one that matches is connected as it comes.
	container web2 --network t-shop --label tier=front --label app=shop
	eventually 3 on web2
	both_ways "$ADDRESS" db web2
}

test_selectors_by_name_and_by_either_of_two() {
	container web --network bridge
	container api --network bridge --label app=api
	container half --network bridge --label app=shop
	vm_paused db --meta 'containers="name=web label=app=shop,label=tier=front label=app=api"'
	eventually 2 on web
	eventually 2 on api
	off half
	# A second VM wants one of them too: it stays until both are gone.
	vm_paused db2 --meta 'containers="name=web"'
	virsh -q destroy db
	eventually 5 off api
	always 2 on web
	virsh -q destroy db2
	eventually 5 off web
}

test_by_its_own_label_without_any_vm() {
	container lone --network bridge --label hybrid.network=hybrid --label hybrid.ip=10.0.1.30 --label hybrid.hostname=lone
	eventually 3 on lone
	same "$(container_address lone)" 10.0.1.30
	has_state lone active
	vm db --meta 'ip="10.0.1.31"'
	booted db
	both_ways 10.0.1.31 db lone
	same "$(guest 10.0.1.31 nslookup lone.hybrid.internal | awk '/^Address/ { a = $NF } END { print a }')" 10.0.1.30
	docker rm -f lone >/dev/null
	eventually 5 no_lease lone
}

test_an_address_that_docker_leaves_out_is_not_asked_for() {
	hybrid-hook network create odd --subnet 10.66.0.0/24 --container-pool 10.66.0.10-10.66.0.50
	container web --network bridge --label hybrid.network=odd --label hybrid.ip=10.66.0.5
	eventually 5 eval 'journalctl -q -u hybrid-hook --since -1min | has "10.66.0.5, which it asks for, can.t be given"'
	same "$(network_events 3 odd-net)" 0 "events of odd-net"
	same "$(container_address web odd-net)" "" "address of web"
	docker restart -t 0 web >/dev/null
}

test_a_label_that_comes_too_late_is_told_of() {
	local since
	since=$(date '+%F %T')
	log() { journalctl -q -u hybrid-hook --since "$since"; }
	container web --network hybrid-net --label hybrid.ip=10.0.1.30 --label hybrid.hostname=--
	eventually 5 eval 'log | has "hybrid.ip: it came on network hybrid with"'
	eventually 5 eval 'log | has "hybrid.hostname: .* holds no letter"'
	# Once, whatever happens beside it.
	container other --network hybrid-net
	docker rm -f other >/dev/null
	sleep 2
	same "$(log | grep -c "web.*hybrid.ip: it came on")" 1
	# A person is told as well; nothing failed.
	hybrid-hook apply >"$T/out" 2>&1 || {
		cat "$T/out"
		return 1
	}
	holds "$T/out" 'warning: container "web": label hybrid.ip: it came on'
}

test_one_connected_by_hand_is_never_touched() {
	local endpoint
	container hand --network bridge --label app=shop
	docker network connect hybrid-net hand
	endpoint=$(docker inspect -f '{{(index .NetworkSettings.Networks "hybrid-net").EndpointID}}' hand)
	vm_paused db --meta 'containers="label=app=shop"'
	sleep 1
	virsh -q destroy db
	virsh -q undefine db
	hybrid-hook apply
	always 3 on hand
	same "$(docker inspect -f '{{(index .NetworkSettings.Networks "hybrid-net").EndpointID}}' hand)" "$endpoint"
	# One that was started on it belongs to its owner as well.
	container own --network hybrid-net --label app=shop
	vm_paused db --meta 'containers="label=app=shop"'
	sleep 1
	virsh -q destroy db
	always 3 on own
}

test_without_the_service() {
	systemctl stop hybrid-hook
	container web --network bridge --label app=shop
	vm_paused db --meta 'containers="label=app=shop"'
	eventually 2 on web
	virsh -q destroy db
	eventually 5 off web
	# The child that did it ends, and libvirt did not wait for it.
	eventually 10 eval '! pgrep -f "hybrid-hook settle"'
	systemctl start hybrid-hook
}

test_a_restarted_container_keeps_its_default_route() {
	local before
	docker network create zz-shop >/dev/null
	container web --network zz-shop --label app=shop
	before=$(default_route web)
	vm_paused db --meta 'containers="label=app=shop"'
	eventually 2 on web
	docker restart -t 0 web >/dev/null
	eventually 5 on web
	eventually 5 same_route web "$before"
}

same_route() { # CONTAINER ROUTE
	same "$(default_route "$1")" "$2" "default route of $1"
}

test_docker_hung_slows_no_start() {
	local ours theirs
	foreign_bridge lan
	define ours --meta 'containers="label=app=shop"'
	define theirs --no-meta --bridge t-lan
	start_takes ours && ours=$MS
	start_takes theirs && theirs=$MS
	frozen start_takes ours
	[ "$MS" -lt $((ours * 3 / 2 + 150)) ] || return 1
	frozen start_takes theirs
	[ "$MS" -lt $((theirs * 3 / 2 + 150)) ] || return 1
}

test_docker_hung_is_made_up_for() {
	container web --network bridge --label app=shop
	frozen vm_paused db --meta 'containers="label=app=shop"'
	# As soon as it runs again.
	eventually 25 on web
	# A command that needs Docker says so, and does the rest.
	nft delete table inet hybrid_hook
	timed frozen timeout 60 hybrid-hook apply >"$T/out" 2>&1 || true
	echo "apply took $MS ms and said:"
	cat "$T/out"
	holds "$T/out" Docker
	[ "$MS" -lt 30000 ]
	nft list table inet hybrid_hook >/dev/null
}

test_dockerd_restarted() {
	container web --network bridge --restart=always --label app=shop
	vm db --meta 'ip="10.0.1.202" containers="label=app=shop"'
	booted db
	on web
	systemctl restart docker
	eventually 20 docker exec web true
	eventually 20 on web
	eventually 10 both_ways "$ADDRESS" db web
	hybrid-hook apply | has 'everything is as it should be'
}

test_dockerd_restarted_half_way() {
	local n
	container web --network bridge --restart=always --label app=shop
	systemctl restart docker &
	for n in 1 2 3; do
		vm_paused "db$n" --meta 'containers="label=app=shop"'
	done
	wait
	eventually 30 on web
	for n in 1 2 3; do virsh -q destroy "db$n"; done
	eventually 30 off web
}

test_docker_absent_at_create_is_made_up_by_apply() {
	dirty
	hybrid-hook network delete --force hybrid
	systemctl stop docker.socket docker
	hybrid-hook network create hybrid >"$T/out" 2>&1
	holds "$T/out" "warning: " Docker apply "is up on bridge hybr0"
	vm db --no-meta
	booted db
	hybrid-hook apply >"$T/out" 2>&1
	holds "$T/out" Docker
	systemctl start docker
	hybrid-hook apply
	docker network inspect hybrid-net >/dev/null
	container web
	both_ways "$ADDRESS" db web
}

test_docker_started_later_is_noticed_by_the_service() {
	dirty
	hybrid-hook network delete --force hybrid
	systemctl stop docker.socket docker
	hybrid-hook network create hybrid >"$T/out" 2>&1
	systemctl start docker
	eventually 20 docker network inspect hybrid-net
}

test_docker_network_removed() {
	dirty
	# The service hears of it.
	docker network rm hybrid-net >/dev/null
	eventually 10 docker network inspect hybrid-net
	container web --network bridge --label app=shop
	vm_paused db --meta 'containers="label=app=shop"'
	eventually 5 on web
	# It finds it as well when it comes back.
	systemctl stop hybrid-hook
	docker network disconnect -f hybrid-net web
	docker network rm hybrid-net >/dev/null
	systemctl start hybrid-hook
	eventually 10 docker network inspect hybrid-net
	eventually 10 on web
	# So does a person's apply.
	systemctl stop hybrid-hook
	docker network disconnect -f hybrid-net web
	docker network rm hybrid-net >/dev/null
	hybrid-hook apply
	docker network inspect hybrid-net >/dev/null
	on web
	systemctl start hybrid-hook
}

test_docker_gives_out_no_address_of_ours() {
	local n
	vm_paused db --meta 'ip="10.0.1.60"'
	for n in {1..5}; do container "c$n" --network hybrid-net; done
	for n in {1..5}; do
		container_address "c$n" | has -E '^10\.0\.1\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])$'
	done
}

# In front of Docker's socket from now on: what passes is slowed, spoiled or kept back, as $T/mode says.
in_front_of_docker() {
	at_end mv /run/docker.real /run/docker.sock
	mv /run/docker.sock /run/docker.real
	# What asks here asks the real one.
	export DOCKER_HOST=unix:///run/docker.real
	echo good >"$T/mode"
	python3 - "$T/mode" <<-'END' &
		import os, socket, sys, threading, time
		wrong = [b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n", b"\0\xff" * 3000, b"",
		    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"Id\":[7}",
		    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n[{\"Id\":\"ab",
		    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n[",
		    b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200000]
		asked = 0
		def mode():
		    return open(sys.argv[1]).read().strip()
		def copy(source, to, slow):
		    try:
		        while data := source.recv(65536):
		            if slow and mode() == "slow":
		                time.sleep(0.7)
		            if mode() in ("good", "slow"):
		                to.sendall(data)
		            else:
		                break
		    except OSError:
		        pass
		    for end in (source, to):
		        try:
		            end.shutdown(socket.SHUT_RDWR)
		        except OSError:
		            pass
		def serve(client):
		    global asked
		    how = mode()
		    if how == "silent":
		        time.sleep(30)
		    elif how == "wrong":
		        asked += 1
		        client.recv(65536)
		        client.sendall(wrong[asked % len(wrong)])
		    else:
		        real = socket.socket(socket.AF_UNIX)
		        real.connect("/run/docker.real")
		        threading.Thread(target=copy, args=(client, real, False), daemon=True).start()
		        copy(real, client, True)
		    client.close()
		def guarded(client):
		    try:
		        serve(client)
		    except OSError:
		        pass
		server = socket.socket(socket.AF_UNIX)
		server.bind("/run/docker.sock")
		server.listen(100)
		while True:
		    threading.Thread(target=guarded, args=(server.accept()[0],), daemon=True).start()
	END
	eventually 5 test -S /run/docker.sock
	systemctl restart hybrid-hook
}

test_a_socket_that_is_slow_wrong_or_silent() {
	local mode pid
	container before
	eventually 3 named before
	in_front_of_docker
	pid=$(systemctl show -P MainPID hybrid-hook)
	echo slow >"$T/mode"
	container later
	eventually 20 named later
	named before
	for mode in wrong silent; do
		echo "$mode" >"$T/mode"
		container "$mode"
		# VMs have nothing to do with it.
		timed vm_paused "vm-$mode" --meta "hostname=\"vm-$mode\""
		[ "$MS" -lt 5000 ]
		eventually 1 eval "dig +short @10.0.1.1 vm-$mode.hybrid.internal | has ."
		timed exits 1 timeout 60 env -u DOCKER_HOST hybrid-hook apply >"$T/out" 2>&1
		echo "apply, $mode: $MS ms: $(cat "$T/out")"
		holds "$T/out" "error: " Docker
		[ "$MS" -lt 30000 ]
		# What it does not know it does not take away.
		always 5 named before
		named later
		virsh -q destroy "vm-$mode"
	done
	echo good >"$T/mode"
	eventually 30 named wrong
	eventually 30 named silent
	for mode in before later; do named "$mode"; done
	same "$(systemctl show -P MainPID hybrid-hook)" "$pid" "the service"
}

named() { # CONTAINER
	same "$(dig +short "@10.0.1.1" "$1.hybrid.internal")" "$(container_address "$1")" "$1" && on "$1"
}

suite "$@"
