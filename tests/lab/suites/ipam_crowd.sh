#!/bin/bash
# ipam = "hybrid" under a crowd that asks at once.
# shellcheck source=SCRIPTDIR/lib_ipam.sh
. "$(dirname "$0")/lib_ipam.sh"

# 200 containers take minutes on two cores.
LIMIT=900

so_many_active() { # COUNT
	same "$(leases asked | jq '[.[] | select(.state == "active")] | length')" "$1" leases
}

test_200_containers_and_20_vms_at_once() {
	local n
	hybrid-hook network create asked --ipam hybrid --subnet 10.67.0.0/22
	for n in 1 2 3; do domain "vm$n"; done
	for n in {1..200}; do
		{ box "c$n" 2>&1 || echo "c$n failed"; } >"$T/c$n" &
	done
	for n in 1 2 3; do virsh -q start --paused "vm$n" & done
	for n in {1..17}; do
		hybrid-hook claim --network asked --owner "$(printf '%032x' "$n")" --mac "$(printf '52:54:00:00:07:%02x' "$n")" \
			--json >"$T/v$n" &
	done
	wait
	cat "$T"/c*
	same "$(docker ps -q | wc -l)" 200 containers
	for n in {1..17}; do jq -e .address "$T/v$n" >/dev/null; done
	for n in 1 2 3; do address "vm$n" asked; done
	eventually 60 agrees
	so_many_active 220
	docker ps -q | xargs docker rm -f >/dev/null
	eventually 60 so_many_active 20
}

suite "$@"
