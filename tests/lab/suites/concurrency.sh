#!/bin/bash
# Much at once: no deadlock, no lock time-out, nothing given twice.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Nobody had to give up waiting for a lock since the test began.
no_lock_timeout() {
	not grep -rhE 'locked by|did not let go|not done in time' "$T"
	journalctl -q --no-pager -o cat --since "@$BEGAN" -t hybrid-hook >"$T/journal"
	not grep -E 'locked by|did not let go|not done in time' "$T/journal"
}

# CMD, its words in $T/NAME and its exit code in $T/NAME.code, on its own.
beside() { # NAME CMD…
	local name=$1
	shift
	{
		code=0
		timeout 60 "$@" >"$T/$name" 2>&1 || code=$?
		echo "$code" >"$T/$name.code"
	} &
}

codes() { # NAME…
	local name
	for name; do cat "$T/$name.code"; done | sort | tr '\n' ' '
}

test_the_same_network_created_by_four_at_once() {
	BEGAN=$(date +%s)
	local n
	for n in 1 2 3 4; do beside "c$n" hybrid-hook network create two --subnet 10.66.0.0/24; done
	wait
	same "$(codes c1 c2 c3 c4)" "0 0 0 0 "
	ip address show hyb-two | has 10.66.0.1/24
	docker network inspect two-net >/dev/null
	no_lock_timeout
}

test_different_networks_created_at_once() {
	BEGAN=$(date +%s)
	local n
	for n in 1 2 3; do beside "c$n" hybrid-hook network create "net$n" --subnet "10.66.$n.0/24"; done
	wait
	same "$(codes c1 c2 c3)" "0 0 0 "
	for n in 1 2 3; do ip address show "hyb-net$n" | has "10.66.$n.1/24"; done
	for n in 1 2 3; do nft list table inet hybrid_hook | has "10.66.$n.0/24"; done
	hybrid-hook apply | has 'everything is as it should be'
	no_lock_timeout
}

test_overlapping_networks_created_at_once() {
	BEGAN=$(date +%s)
	beside a hybrid-hook network create one --subnet 10.66.0.0/24
	beside b hybrid-hook network create two --subnet 10.66.0.0/23
	wait
	same "$(codes a b)" "0 3 "
	same "$(hybrid-hook network list --json | jq 'map(select(.name != "hybrid")) | length')" 1 networks
	no_lock_timeout
}

test_create_and_delete_at_once() {
	BEGAN=$(date +%s)
	local n
	for n in 1 2 3; do
		beside "c$n" hybrid-hook network create two --subnet 10.66.0.0/24
		beside "d$n" hybrid-hook network delete two
	done
	wait
	# Whoever was last: all of it is there, or none.
	if hybrid-hook network show two >/dev/null 2>&1; then
		ip link show hyb-two >/dev/null
		docker network inspect two-net >/dev/null
	else
		not ip link show hyb-two
		not docker network inspect two-net
	fi
	no_lock_timeout
}

test_create_while_a_vm_starts_on_it() {
	BEGAN=$(date +%s)
	local n
	define eager --bridge hyb-two --meta-network two
	define linked --network two-net --meta-network two
	beside create hybrid-hook network create two --subnet 10.66.0.0/24
	for n in {1..40}; do
		virsh -q start --paused eager >/dev/null 2>&1 && break
		sleep 0.1
	done
	wait
	same "$(codes create)" "0 "
	running eager || virsh -q start --paused eager
	virsh -q start --paused linked
	address eager two
	address linked two
	no_address_twice two
	no_lock_timeout
}

test_apply_while_vms_start_and_stop() {
	BEGAN=$(date +%s)
	local n
	for n in 1 2 3 4; do define "vm$n" --no-meta --network hybrid-net; done
	{ for _ in {1..6}; do hybrid-hook apply; done; } >"$T/apply" 2>&1 &
	for n in 1 2 3 4; do
		{ for _ in 1 2 3; do
			virsh -q start --paused "vm$n" && virsh -q destroy "vm$n"
		done && virsh -q start --paused "vm$n"; } >"$T/vm$n" 2>&1 &
	done
	wait
	for n in 1 2 3 4; do address "vm$n"; done
	not grep -i error "$T/apply"
	no_address_twice hybrid
	no_lock_timeout
}

test_while_the_libvirt_networks_own_hook_fires() {
	BEGAN=$(date +%s)
	dirty
	{ for _ in {1..5}; do
		virsh -q net-destroy hybrid-net
		virsh -q net-start hybrid-net
	done; } >"$T/net" 2>&1 &
	{ for _ in {1..5}; do hybrid-hook apply; done; } >"$T/apply" 2>&1 &
	beside create hybrid-hook network create two --subnet 10.66.0.0/24
	beside again hybrid-hook network create hybrid
	wait
	same "$(codes create again)" "0 0 "
	hybrid-hook apply
	virsh net-info hybrid-net | has 'Active: *yes'
	vm_paused linked --network hybrid-net
	address linked
	no_lock_timeout
}

test_down_and_up_while_a_vm_starts() {
	BEGAN=$(date +%s)
	hybrid-hook network create two --subnet 10.66.0.0/24
	define eager --bridge hyb-two --meta-network two
	{ for _ in {1..4}; do
		hybrid-hook network down two --force
		hybrid-hook network up two
	done; } >"$T/updown" 2>&1 &
	for _ in {1..8}; do
		virsh -q start --paused eager >/dev/null 2>&1 || true
		virsh -q destroy eager >/dev/null 2>&1 || true
	done
	wait
	virsh -q start --paused eager
	address eager two
	no_lock_timeout
}

suite "$@"
