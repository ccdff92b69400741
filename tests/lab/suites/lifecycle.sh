#!/bin/bash
# A domain's life on a network of ours: its address from definition to end.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

test_metadata_on_a_bridge_nic() {
	container web
	vm db --meta 'ip="10.0.1.200" hostname="db" aliases="pg"'
	booted db
	same "$ADDRESS" 10.0.1.200
	same "$(lease db .owner)" "$(uuid db)" owner
	guest 10.0.1.200 ip address show eth0 | has 'inet 10.0.1.200/24 '
	# Its only NIC is ours: route and resolver come with the address.
	guest 10.0.1.200 ip route | has '^default via 10.0.1.1 '
	guest 10.0.1.200 cat /etc/resolv.conf | has '^nameserver 10.0.1.1$'
	both_ways 10.0.1.200 db web
}

test_metadata_on_a_network_nic() {
	container web
	vm api --network hybrid-net --meta 'ip="10.0.1.17" hostname="api"'
	booted api
	same "$ADDRESS" 10.0.1.17
	both_ways 10.0.1.17 api web
}

test_no_metadata_gets_a_dynamic_address() {
	vm_paused plain --no-meta
	vm_paused plainer --no-meta --network hybrid-net
	local name
	for name in plain plainer; do
		address "$name" | has -E '^10\.0\.1\.(12[89]|1[3-9][0-9]|2[0-4][0-9]|25[0-4])$'
		same "$(lease "$name" .fixed)" false
	done
	no_address_twice hybrid
}

test_rewrite_and_its_way_back() {
	foreign_bridge lan
	hybrid-lab-domain two --no-meta --bridge t-lan >"$T/before.xml"
	hybrid-hook rewrite --ip 10.0.1.33 --hostname two <"$T/before.xml" >"$T/after.xml"
	hybrid-hook rewrite --ip 10.0.1.33 --hostname two <"$T/after.xml" >"$T/twice.xml"
	cmp "$T/twice.xml" "$T/after.xml"
	hybrid-hook rewrite --remove <"$T/after.xml" | cmp - "$T/before.xml"
	virsh -q define "$T/after.xml" >/dev/null
	virsh -q start two
	booted two
	same "$ADDRESS" 10.0.1.33
	# It has a NIC that is not ours: from us it gets neither route nor resolver.
	not eval 'guest 10.0.1.33 ip route | grep default'
	not guest 10.0.1.33 cat /etc/resolv.conf
	# libvirt's own form of it can be taken back as well.
	gone two
	virsh -q define "$T/before.xml" >/dev/null
	virsh dumpxml --inactive two >"$T/before.xml"
	hybrid-hook rewrite <"$T/before.xml" >"$T/after.xml"
	not cmp -s "$T/before.xml" "$T/after.xml"
	hybrid-hook rewrite --remove <"$T/after.xml" | cmp - "$T/before.xml"
}

test_ten_starts_keep_the_address() {
	local address generation turn
	vm_paused first --no-meta
	vm_paused second --no-meta --network hybrid-net
	address=$(address first) generation=$(lease first .generation)
	for turn in {1..10}; do
		virsh -q destroy first
		has_state first idle
		# Whoever comes meanwhile gets another one.
		[ $((turn % 4)) != 1 ] || vm_paused "other$turn" --no-meta
		virsh -q start --paused first
		same "$(address first)" "$address" "after start $turn"
	done
	same "$(lease first .generation)" "$generation" generation
	no_address_twice hybrid
	address=$(address second)
	virsh -q destroy second
	virsh -q start second
	booted second
	same "$ADDRESS" "$address"
}

test_managed_save_and_restore() {
	local name address boot
	container web
	vm saved --no-meta
	vm stored --network hybrid-net --meta 'hostname="stored"'
	for name in saved stored; do booted "$name"; done
	boot=$(guest "$(address saved)" cat /proc/sys/kernel/random/boot_id)
	virsh -q managedsave saved >/dev/null
	virsh -q managedsave stored >/dev/null
	has_state saved idle
	vm_paused other --no-meta
	vm_paused another --no-meta --network hybrid-net
	for name in saved stored; do
		address=$(lease "$name" .address)
		virsh -q start "$name" >/dev/null
		same "$(address "$name")" "$address" "$name"
		eventually 20 serves "$address" "$name"
		both_ways "$address" "$name" web
	done
	no_address_twice hybrid
	# It is the same guest, not one that booted again.
	same "$(guest "$(address saved)" cat /proc/sys/kernel/random/boot_id)" "$boot" "boot"
}

test_libvirtd_restart_kills_no_vm() {
	local before
	foreign_bridge lan
	vm ours --no-meta
	vm_paused linked --network hybrid-net
	vm_paused theirs --no-meta --bridge t-lan
	booted ours
	before=$(pgrep -f 'qemu-system.*guest=' | sort)
	systemctl restart libvirtd
	eventually 20 virsh -q list
	same "$(pgrep -f 'qemu-system.*guest=' | sort)" "$before" "qemu processes"
	always 2 serves "$ADDRESS" ours
	has_state ours active
	has_state linked active
	vm_paused later --no-meta
	no_address_twice hybrid
	# Its end is still heard.
	virsh -q destroy ours
	has_state ours idle
}

test_destroy_and_undefine_frees() {
	vm_paused short --meta 'ip="10.0.1.40"'
	virsh -q destroy short
	has_state short idle
	virsh -q undefine short
	eventually 5 no_lease short
	# An undefine while it runs frees nothing before its end.
	vm_paused longer --no-meta
	virsh -q undefine longer
	sleep 1
	has_state longer active
	virsh -q destroy longer
	eventually 5 no_lease longer
}

test_a_transient_domain() {
	hybrid-lab-domain passing --meta 'ip="10.0.1.41"' >"$T/x.xml"
	virsh -q create "$T/x.xml" >/dev/null
	booted passing
	same "$ADDRESS" 10.0.1.41
	virsh -q destroy passing
	eventually 5 no_lease passing
}

test_an_address_moves_to_a_new_mac_at_its_first_boot() {
	vm old --meta 'ip="10.0.1.200"'
	booted old
	gone old
	eventually 5 no_lease old
	vm new --meta 'ip="10.0.1.200"'
	booted new
	same "$ADDRESS" 10.0.1.200
}

test_an_address_moves_when_nobody_heard_that_its_vm_went() {
	vm old --meta 'ip="10.0.1.200"'
	booted old
	# Nothing of ours runs while the domain is destroyed and undefined.
	systemctl stop hybrid-hook
	gone old
	define new --meta 'ip="10.0.1.200"'
	start_refused new 10.0.1.200 '"old"' 'hybrid-hook gc'
	hybrid-hook gc
	no_lease old
	virsh -q start new
	booted new
	same "$ADDRESS" 10.0.1.200
	systemctl start hybrid-hook
}

test_a_fixed_address_beats_an_idle_dynamic_one() {
	local address
	vm dynamic --no-meta
	booted dynamic
	address=$ADDRESS
	define wants --meta "ip=\"$address\""
	start_refused wants "$address" '"dynamic"'
	virsh -q destroy dynamic
	virsh -q start wants
	booted wants
	same "$ADDRESS" "$address"
	virsh -q start --paused dynamic
	not same "$(address dynamic)" "$address"
	no_address_twice hybrid
}

test_one_mac_in_two_domains() {
	local address
	vm_paused one --no-meta --mac 52:54:00:00:00:77
	address=$(address one)
	define two --no-meta --mac 52:54:00:00:00:77
	start_refused two 52:54:00:00:00:77 '"one"'
	has_state one active
	virsh -q destroy one
	virsh -q start --paused two
	same "$(address two)" "$address"
	same "$(lease two .generation)" 2 generation
}

test_twenty_at_once_get_twenty_addresses() {
	local n pids=() taken
	for n in {1..20}; do
		if [ $((n % 2)) = 0 ]; then
			define "many$n" --no-meta --memory 80
		else
			define "many$n" --network hybrid-net --memory 80
		fi
	done
	for n in {1..20}; do
		virsh -q start "many$n" &
		pids+=($!)
	done
	for n in "${pids[@]}"; do wait "$n"; done
	same "$(leases | jq '[.[] | select(.state == "active") | .address] | unique | length')" 20 addresses
	# Most wait, or emulated processors take minutes to boot them all.
	for n in {5..20}; do virsh -q suspend "many$n"; done
	for n in {1..4}; do booted "many$n"; done
	# Nobody's neighbour has the same one.
	taken=$(for n in {1..4}; do guest "$(address "many$n")" ip -o -4 address show eth0 | awk '{ print $4 }'; done)
	same "$(sort -u <<<"$taken" | wc -l)" 4 "addresses in guests"
}

test_an_address_of_a_live_stranger_is_not_given_out() {
	local next mac
	vm_paused probe --no-meta
	next=$(address probe)
	gone probe
	eventually 5 no_lease probe
	stranger host hybr0 "$next/24"
	vm_paused dynamic --no-meta
	not same "$(address dynamic)" "$next"
	vm_paused linked --network hybrid-net
	not same "$(address linked)" "$next"
	no_address_twice hybrid
	# One that is asked for is refused, and its user named.
	mac=$(ip -n t-host -j link show eth0 | jq -r '.[0].address')
	define wants --meta "ip=\"$next\""
	start_refused wants "$next" "$mac"
	define linked2 --network hybrid-net --meta "ip=\"$next\""
	start_refused linked2 "$next" "$mac"
	# When it has left, the address can be had.
	ip netns delete t-host
	virsh -q start --paused wants
	same "$(address wants)" "$next"
}

test_attach_and_detach_a_running_domain() {
	local before
	container web
	foreign_bridge lan
	define plug --no-meta --bridge t-lan
	before=$(virsh dumpxml --inactive plug)
	virsh -q start plug
	eventually 60 grep -q 'lab guest\|udhcpc' /var/log/hybrid-lab/plug.console
	hybrid-hook attach plug --ip 10.0.1.55 --hostname plug
	booted plug
	same "$ADDRESS" 10.0.1.55
	both_ways 10.0.1.55 plug web
	# Again is nothing new.
	hybrid-hook attach plug --ip 10.0.1.55 --hostname plug | has 'nothing was changed'
	same "$(virsh -q domiflist plug | grep -c hybr0)" 1 "NICs on hybr0"
	# Another address waits for the next start: nobody tells the guest of it.
	hybrid-hook attach plug --ip 10.0.1.60 | has '10.0.1.55, and with 10.0.1.60 from its next start'
	same "$(address plug)" 10.0.1.55
	virsh dumpxml --inactive plug | has 10.0.1.60
	both_ways 10.0.1.55 plug web
	# A saved guest has the one that it had: its memory knows no other.
	virsh -q managedsave plug >/dev/null
	virsh -q start plug >/dev/null
	same "$(address plug)" 10.0.1.55 "after managed save"
	eventually 20 serves 10.0.1.55 plug
	hybrid-hook detach plug
	eventually 10 eval '! virsh -q domiflist plug | has hybr0'
	not has_state plug active
	same "$(virsh dumpxml --inactive plug)" "$before" "the definition"
	same "$(virsh domstate plug | sed '/^$/d')" running
	hybrid-hook detach plug | has 'nothing was changed'
}

test_a_nic_that_the_guest_keeps_is_not_off() {
	foreign_bridge lan
	vm keeper --no-meta --bridge t-lan
	eventually 60 grep -q 'lab guest\|udhcpc' /var/log/hybrid-lab/keeper.console
	hybrid-hook attach keeper --ip 10.0.1.58
	virsh -q suspend keeper
	hybrid-hook detach keeper 2>&1 | has 'has not let go of its NIC'
	has_state keeper active
	virsh -q domiflist keeper | has hybr0
	virsh -q resume keeper
	eventually 20 eval 'hybrid-hook detach keeper && ! has_state keeper active'
	not eval 'virsh -q domiflist keeper | has hybr0'
}

test_attach_a_domain_that_is_off() {
	local before
	foreign_bridge lan
	define off --no-meta --bridge t-lan
	before=$(virsh dumpxml --inactive off)
	hybrid-hook attach off --ip 10.0.1.56
	no_lease off
	virsh -q start --paused off
	same "$(address off)" 10.0.1.56
	virsh -q destroy off
	hybrid-hook detach off
	same "$(virsh dumpxml --inactive off)" "$before" "the definition"
}

test_attach_to_a_second_network() {
	hybrid-hook network create two --subnet 10.0.2.0/24
	vm both --meta 'ip="10.0.1.57"'
	booted both
	hybrid-hook attach both --network two --ip 10.0.2.57
	same "$(address both two) $(address both)" "10.0.2.57 10.0.1.57"
	virsh -q domiflist both | has hyb-two
	virsh dumpxml --inactive both | has 10.0.2.57
	hybrid-hook detach both --network two
	eventually 10 eval '! virsh -q domiflist both | has hyb-two'
	not has_state both active two
	same "$(address both)" 10.0.1.57
	# Off, and from the one that it was made with.
	virsh -q destroy both
	hybrid-hook attach both --network two --ip 10.0.2.58
	hybrid-hook detach both
	virsh -q start --paused both
	same "$(address both two)" 10.0.2.58
}

test_a_reserved_address_of_a_live_stranger_is_refused() {
	local mac
	hybrid-hook reserve --ip 10.0.1.150 --hostname db
	stranger host hybr0 10.0.1.150/24
	mac=$(ip -n t-host -j link show eth0 | jq -r '.[0].address')
	define vm1 --meta 'hostname="db"'
	start_refused vm1 10.0.1.150 "$mac"
	same "$(leases | jq -r '.[] | select(.address == "10.0.1.150") | .state')" reserved
	ip netns delete t-host
	virsh -q start --paused vm1
	same "$(address vm1)" 10.0.1.150
}

reserved() { # ADDRESS
	same "$(leases | jq -r --arg address "$1" '.[] | select(.address == $address) | .state')" reserved
}

test_a_reservation_by_name_outlives_its_guest() {
	local turn
	hybrid-hook reserve --ip 10.0.1.150 --hostname anew
	for turn in 1 2; do
		# Another UUID and another MAC each time, as vagrant has it.
		define anew --meta 'hostname="anew"'
		sed -i -e '/<uuid>/d' -e "s/<mac address='[^']*'/<mac address='52:54:00:0a:0b:0$turn'/" "$T/anew.xml"
		virsh -q undefine anew
		virsh -q define "$T/anew.xml" >/dev/null
		virsh -q start --paused anew
		same "$(address anew)" 10.0.1.150 "guest $turn"
		gone anew
		eventually 5 no_lease anew
		reserved 10.0.1.150
	done
}

test_a_saved_guest_comes_back_to_the_reservation_of_its_name() {
	hybrid-hook reserve --ip 10.0.1.151 --hostname kept
	vm_paused kept --meta 'ip="10.0.1.151" hostname="kept"'
	virsh -q save kept "$T/kept.save" >/dev/null
	virsh -q undefine kept
	eventually 10 reserved 10.0.1.151
	virsh -q restore --paused "$T/kept.save" >/dev/null
	same "$(address kept)" 10.0.1.151
	has_state kept active
}

test_a_block_goes_when_it_is_no_longer_asked_for() {
	vm_paused inner --meta 'block="8"'
	same "$(leases | jq length)" 9 "leases with a block"
	virsh -q destroy inner
	virsh dumpxml --inactive inner | sed "s/ block=['\"]8['\"]//" >"$T/inner.xml"
	virsh -q define "$T/inner.xml" >/dev/null
	virsh -q start --paused inner
	same "$(leases | jq length)" 1 "leases without"
}

test_a_nic_hotplugged_by_virsh() {
	foreign_bridge lan
	stranger host hybr0 10.0.1.128/24
	vm hot --no-meta --bridge t-lan
	# It gives up a NIC only once its kernel runs.
	eventually 60 grep -q 'lab guest\|udhcpc' /var/log/hybrid-lab/hot.console
	# A libvirt network tells us of it by its port; a bare bridge can't.
	virsh -q attach-interface hot network hybrid-net --mac 52:54:00:00:00:99 --model virtio --live
	eventually 5 has_state hot active
	not same "$(address hot)" 10.0.1.128
	# To libvirt it is a NIC on a bridge by now.
	virsh -q detach-interface hot bridge --mac 52:54:00:00:00:99 --live
	eventually 10 not has_state hot active
	# The same NIC again: its lease was waiting for it.
	local address
	address=$(lease hot .address)
	virsh -q attach-interface hot network hybrid-net --mac 52:54:00:00:00:99 --model virtio --live
	eventually 5 has_state hot active
	same "$(address hot)" "$address"
}

test_a_nic_that_is_changed_keeps_its_lease() {
	vm_paused changed --no-meta --network hybrid-net
	virsh dumpxml changed | sed -n '/<interface/,/<\/interface>/p' >"$T/nic.xml"
	# A new port for the same tap: libvirt deletes the old one.
	sed -i -e "s/ type='bridge'/ type='network'/" -e "s/<source .*/<source network='hybrid-net'\/>/" \
		-e "s/<\/interface>/<link state='down'\/><\/interface>/" "$T/nic.xml"
	virsh -q update-device changed "$T/nic.xml" --live >/dev/null
	always 2 has_state changed active
}

test_metadata_that_can_not_be_served() {
	foreign_bridge lan
	vm_paused holder --meta 'ip="10.0.1.50"'
	define outside --meta 'ip="10.0.2.5"'
	start_refused outside 10.0.2.5 10.0.1.0/24
	define gateway --meta 'ip="10.0.1.1"'
	start_refused gateway 10.0.1.1 gateway
	define broadcast --meta 'ip="10.0.1.255"'
	start_refused broadcast 10.0.1.255 broadcast
	define zero --meta 'ip="10.0.1.0"'
	start_refused zero 10.0.1.0
	define pool --meta 'ip="10.0.1.70"'
	start_refused pool 10.0.1.70 10.0.1.64/26
	define six --meta 'ip="fd00::1"'
	start_refused six fd00::1
	define word --meta 'ip="ten"'
	start_refused word ten
	define held --meta 'ip="10.0.1.50"'
	start_refused held 10.0.1.50 '"holder"'
	define nowhere --bridge t-lan --meta 'ip="10.0.1.51"'
	start_refused nowhere 'hybrid-hook attach'
	define unknown --meta-network elsewhere
	start_refused unknown elsewhere 'network list'
	define typo --meta 'adress="10.0.1.52"'
	start_refused typo adress
	define stray --meta 'mac="52:54:00:00:00:01"'
	start_refused stray 52:54:00:00:00:01
	# None of it left anything behind, and nobody else is harmed.
	same "$(leases | jq length)" 1 leases
	vm_paused theirs --no-meta --bridge t-lan
	running theirs
}

test_a_network_that_is_down() {
	hybrid-hook network create other --subnet 10.66.0.0/24
	define waits --bridge hyb-other --meta-network other
	hybrid-hook network down other
	# libvirt itself stops at the missing bridge; hooks.sh has what our hook says.
	exits 1 virsh -q start --paused waits
	no_lease waits other
	hybrid-hook network up other
	virsh -q start --paused waits
	address waits other
}

suite "$@"
