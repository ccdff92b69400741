#!/bin/bash
# A network's file that was edited: apply puts it in force, or says who is in the
# way; and until then what was applied last counts.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

test_edited_pool() {
	dirty
	vm_paused db --no-meta
	without_service
	sed -i 's/^vm_pool = .*/vm_pool = "10.0.1.20-10.0.1.22"/' "$FILE"
	hybrid-hook apply
	# Who has an address keeps it; the next one comes from the new pool.
	same "$(address db)" 10.0.1.128
	vm_paused next --no-meta
	address next | has -x '10.0.1.2[0-2]'
}

test_edited_subnet() {
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	vm_paused other --no-meta
	without_service
	cp "$FILE" "$T/file"
	sed -i 's/10\.0\.1\./10.0.9./g' "$FILE"
	refused 3 '"db"' '"other"' 10.0.1.200 -- hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	# What is in force is repaired, and the file is still refused.
	ip link delete hybr0
	refused 3 '"db"' 10.0.1.200 -- hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	# It stays so for everybody: the next guest, names and reservations, the rules of all networks.
	hybrid-hook network show hybrid | has 'edited; hybrid-hook apply'
	vm_paused late --no-meta
	same "$(address late)" 10.0.1.129
	hybrid-hook network create two --subnet 10.0.2.0/24
	nft list table inet hybrid_hook >"$T/table"
	holds "$T/table" 10.0.1.0/24 10.0.2.0/24
	not grep -q 10.0.9. "$T/table"
	eventually 5 grep -rqF 10.0.1.129 /run/hybrid-hook/dnsmasq/hybrid
	grep -rqF 10.0.1.200 /run/hybrid-hook/dnsmasq/hybrid
	hybrid-hook network delete two
	gone late
	# Back, and nothing happened.
	cp "$T/file" "$FILE"
	hybrid-hook apply
	# With nobody in the way it is done.
	gone db
	gone other
	hybrid-hook gc
	sed -i 's/10\.0\.1\./10.0.9./g' "$FILE"
	hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.9.1/24 '
	not eval 'ip address show hybr0 | has 10.0.1.1/'
	docker network inspect hybrid-net | has 10.0.9.0/24
	container web
	vm db --meta 'ip="10.0.9.200"'
	booted db
	both_ways 10.0.9.200 db web
}

# A network that is down follows its file; killed at any moment, the next apply goes on.
test_edited_while_it_is_down() {
	local applied=/var/lib/hybrid-hook/networks/hybrid/applied.toml delay
	dirty
	without_service
	[ -e "$applied" ]
	vm_paused idle --meta 'ip="10.0.1.210"'
	virsh -q destroy idle
	eventually 5 has_state idle idle
	hybrid-hook network down hybrid
	not ls "$applied"
	# Who is idle keeps a fixed address: the hint's command frees it.
	cp "$FILE" "$T/file"
	sed -i 's/10\.0\.1\./10.0.9./g' "$FILE"
	refused 3 '"idle"' 10.0.1.210 '--forget' -- hybrid-hook network up hybrid
	not ip link show hybr0
	sed -n 's/^hint: .*kept: \(.*\); or edit the file back$/\1/p' "$T/refused" >"$T/way"
	[ -s "$T/way" ]
	bash -eu "$T/way"
	hybrid-hook network up hybrid
	ip address show hybr0 | has 'inet 10.0.9.1/24 '
	settled
	hybrid-hook network down hybrid
	cp "$T/file" "$FILE"
	sed -i 's/^bridge = .*/bridge = "hybr7"/' "$FILE"
	hybrid-hook network up hybrid
	cmp "$FILE" "$applied"
	not ip link show hybr0
	for delay in 0.01 0.03 0.06 0.1 0.2 0.4; do
		if grep -q hybr7 "$FILE"; then
			sed -i 's/^bridge = .*/bridge = "hybr0"/' "$FILE"
		else
			sed -i 's/^bridge = .*/bridge = "hybr7"/' "$FILE"
		fi
		timeout -s KILL "$delay" hybrid-hook apply || true
	done
	sed -i 's/^bridge = .*/bridge = "hybr0"/' "$FILE"
	hybrid-hook apply
	settled
	cmp "$FILE" "$applied"
	not ip link show hybr7
	container web
	vm db --meta 'ip="10.0.1.200"'
	booted db
	both_ways 10.0.1.200 db web
}

test_edited_mtu() {
	dirty
	without_service
	if grep -q '^mtu' "$FILE"; then
		sed -i 's/^mtu = .*/mtu = 1400/' "$FILE"
	else
		sed -i '1a mtu = 1400' "$FILE"
	fi
	hybrid-hook apply
	ip link show hybr0 | has 'mtu 1400 '
	container web
	docker exec web ip link show eth0 | has 'mtu 1400 '
	vm db --meta 'ip="10.0.1.200"'
	booted db
	guest 10.0.1.200 ip link show eth0 | has 'mtu 1400 '
	both_ways 10.0.1.200 db web
}

test_edited_into_nonsense() {
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	without_service
	cp "$FILE" "$T/file"
	sed -i 's/^vm_pool = .*/vm_pool = "10.7.0.1-10.7.0.9"/' "$FILE"
	refused 1 "$FILE" 10.7.0.1 -- hybrid-hook apply
	echo 'colour = "red"' >"$FILE"
	refused 1 "$FILE" 'format = 1' -- hybrid-hook apply
	same "$(grep -c "$FILE" "$T/refused")" 1 "times said"
	# What was applied last counts on, for hooks, boots and repairs; and whoever looks is told.
	vm_paused other
	has_state other active
	hybrid-hook inspect >"$T/out"
	holds "$T/out" "$FILE can't be used"
	ip link delete hybr0
	exits 1 hybrid-hook apply 2>"$T/err"
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	foreign_bridge lan
	vm_paused theirs --no-meta --bridge t-lan
	cp "$T/file" "$FILE"
	hybrid-hook apply
	settled
}

test_edited_to_a_bridge_of_somebody_else() {
	dirty
	without_service
	foreign_bridge lan
	cp "$FILE" "$T/file"
	sed -i 's/^bridge = .*/bridge = "t-lan"/' "$FILE"
	refused 3 t-lan -- hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	ip address show t-lan >"$T/lan"
	not grep 10.0.1.1 "$T/lan"
	cp "$T/file" "$FILE"
	hybrid-hook apply
	settled
}

test_edited_to_have_anothers_zone() {
	local other=/etc/hybrid-hook/networks/two.toml
	hybrid-hook network create two --subnet 10.0.2.0/24
	without_service
	cp "$other" "$T/other"
	sed -i '/^zone/d; s/^format = 1/format = 1\nzone = "hybrid.internal"/' "$other"
	refused 3 'network two' 'zone hybrid.internal' 'network hybrid' -- hybrid-hook apply
	# The other one goes on.
	ip link delete hybr0
	exits 3 hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	cp "$T/other" "$other"
	hybrid-hook apply
}

suite "$@"
