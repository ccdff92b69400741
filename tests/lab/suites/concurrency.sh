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
	ip address show hyb-two | grep -q 10.66.0.1/24
	docker network inspect two-net >/dev/null
	no_lock_timeout
}

test_different_networks_created_at_once() {
	BEGAN=$(date +%s)
	local n
	for n in 1 2 3; do beside "c$n" hybrid-hook network create "net$n" --subnet "10.66.$n.0/24"; done
	wait
	same "$(codes c1 c2 c3)" "0 0 0 "
	for n in 1 2 3; do ip address show "hyb-net$n" | grep -q "10.66.$n.1/24"; done
	for n in 1 2 3; do nft list table inet hybrid_hook | grep -q "10.66.$n.0/24"; done
	hybrid-hook apply | grep -q 'everything is as it should be'
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
	local n turn
	for n in 1 2 3 4; do define "vm$n" --no-meta --network hybrid-net; done
	{ for turn in {1..6}; do hybrid-hook apply; done; } >"$T/apply" 2>&1 &
	for n in 1 2 3 4; do
		{ for turn in 1 2 3; do
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
	local turn
	dirty
	{ for turn in {1..5}; do
		virsh -q net-destroy hybrid-net
		virsh -q net-start hybrid-net
	done; } >"$T/net" 2>&1 &
	{ for turn in {1..5}; do hybrid-hook apply; done; } >"$T/apply" 2>&1 &
	beside create hybrid-hook network create two --subnet 10.66.0.0/24
	beside again hybrid-hook network create hybrid
	wait
	same "$(codes create again)" "0 0 "
	hybrid-hook apply
	virsh net-info hybrid-net | grep -q 'Active: *yes'
	vm_paused linked --network hybrid-net
	address linked
	no_lock_timeout
}

test_down_and_up_while_a_vm_starts() {
	BEGAN=$(date +%s)
	local turn
	hybrid-hook network create two --subnet 10.66.0.0/24
	define eager --bridge hyb-two --meta-network two
	{ for turn in {1..4}; do
		hybrid-hook network down two --force
		hybrid-hook network up two
	done; } >"$T/updown" 2>&1 &
	for turn in {1..8}; do
		virsh -q start --paused eager >/dev/null 2>&1 || true
		virsh -q destroy eager >/dev/null 2>&1 || true
	done
	wait
	virsh -q start --paused eager
	address eager two
	no_lock_timeout
}

# The same claims by many hands: each address once, the rest told "pool full".
test_sixty_four_claimers_and_a_full_pool() {
	local hand capacity=$((256 + 254))
	# 10.66.2.0-10.66.3.253, beside what nobody asks for.
	mkdir "$T/claims"
	hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" network create many \
		--subnet 10.66.0.0/22 --vm-pool 10.66.2.0-10.66.3.253 --offline
	for hand in {0..63}; do
		claimer "$hand" $((capacity + 10)) >"$T/claims/$hand" 2>&1 &
	done
	wait
	cat "$T"/claims/* >"$T/all"
	same "$(grep -c '^10\.66\.' "$T/all")" "$capacity" given
	same "$(grep '^10\.66\.' "$T/all" | sort -u | wc -l)" "$capacity" "given once"
	same "$(grep -c '^error: pool full' "$T/all")" 10 refused
	not grep -E 'locked by|panicked' "$T/all"
	same "$(hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" leases --network many --json |
		jq 'map(.address) | unique | length')" "$capacity" "in the registry"
}

claimer() { # HAND OF
	local n
	for ((n = $1; n < $2; n += 64)); do
		hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" claim --network many --no-probe \
			--owner "$(printf '00000000-0000-4000-8000-%012x' "$n")" \
			--mac "$(printf '52:54:00:00:%02x:%02x' $((n / 256)) $((n % 256)))" --json 2>"$T/claims/$1.err" |
			jq -r .address || true
		cat "$T/claims/$1.err"
	done
}

# Killed at any moment: the registry can be read, and no address is given twice.
test_kill_nine_at_random_moments() {
	local turn n pids
	mkdir "$T/claims"
	hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" network create many \
		--subnet 10.66.0.0/22 --vm-pool 10.66.2.0-10.66.3.253 --offline
	for turn in {1..25}; do
		pids=()
		for n in 1 2 3 4; do
			churn "$((turn * 10 + n))" >/dev/null 2>&1 &
			pids+=($!)
		done
		sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
		pkill -KILL -f "state-dir $T/s" || true
		kill "${pids[@]}" 2>/dev/null || true
		wait "${pids[@]}" 2>/dev/null || true
		hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" leases --network many --json >"$T/now"
		jq -e '(map(.address) | unique | length) == length' "$T/now" >/dev/null
		jq -e '(map(.mac) | unique | length) == length' "$T/now" >/dev/null
	done
	# One more claim clears away what was left half-way.
	hybrid-hook --config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r" claim --network many --no-probe \
		--owner 00000000-0000-4000-8000-00000000ffff --mac 52:54:00:ff:ff:ff
	same "$(find "$T/s" -name '.new-*')" "" "files left"
}

churn() { # SEED
	local n owner mac at=(--config-dir "$T/c" --state-dir "$T/s" --run-dir "$T/r")
	for n in {1..50}; do
		owner=$(printf '00000000-0000-4000-8000-%012x' $(($1 * n % 300)))
		mac=$(printf '52:54:00:01:%02x:%02x' $(($1 * n % 300 / 256)) $(($1 * n % 300 % 256)))
		hybrid-hook "${at[@]}" claim --network many --no-probe --owner "$owner" --mac "$mac"
		[ $((n % 3)) != 0 ] || hybrid-hook "${at[@]}" release --network many --owner "$owner" --mac "$mac" --forget
	done
}

suite "$@"
