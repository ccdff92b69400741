#!/bin/bash
# Whatever went missing: apply makes it right. And what can't work is refused in
# one line, changing nothing.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# The links, addresses, rules, networks and files that there are.
world() {
	ip -o link | sed 's/^[0-9]*: //; s/@.*//' | awk '{ print $1 }' | sort
	ip -o -4 address | awk '{ print $2, $4 }'
	ip route
	nft list ruleset | grep -v counter
	docker network ls --format '{{.Name}}' | sort
	virsh -q net-list --all --name | sort
	find /etc/hybrid-hook /var/lib/hybrid-hook/networks -mindepth 1 | sort
}

unchanged_world() {
	world >"$T/world.now"
	diff "$T/world" "$T/world.now"
}

test_bridge_deleted_with_guests_on_it() {
	dirty
	container web
	vm db --meta 'ip="10.0.1.200"'
	vm linked --network hybrid-net --no-meta
	booted db
	booted linked
	without_service
	ip link delete hybr0
	hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	eventually 5 serves 10.0.1.200 db
	serves "$ADDRESS" linked
	both_ways 10.0.1.200 db web
	both_ways "$ADDRESS" linked web
	guest 10.0.1.200 ping -c 1 -W 2 192.0.2.1
	guest 10.0.1.200 wget -qO- http://192.0.2.1/ | has outside
	# Who comes now gets an address as well.
	vm late --meta 'ip="10.0.1.202"'
	booted late
	settled
}

test_bridge_deleted_and_the_service_alone_repairs() {
	dirty
	vm db --meta 'ip="10.0.1.200"'
	booted db
	ip link delete hybr0
	eventually 75 serves 10.0.1.200 db
}

test_port_taken_off_the_bridge() {
	vm db --meta 'ip="10.0.1.200"'
	booted db
	without_service
	ip link set "$(lease db .tap)" nomaster
	not serves 10.0.1.200 db
	hybrid-hook apply
	eventually 5 serves 10.0.1.200 db
	settled
}

test_address_and_state_of_the_bridge_gone() {
	without_service
	ip address flush dev hybr0
	ip link set hybr0 down
	hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	ip link show hybr0 | has '[<,]UP[,>]'
	settled
	ip address add 10.0.1.9/24 dev hybr0
	hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
}

test_table_flushed() {
	vm db --meta 'ip="10.0.1.200"'
	booted db
	without_service
	nft delete table inet hybrid_hook
	not guest 10.0.1.200 ping -c 1 -W 2 192.0.2.1
	hybrid-hook apply
	guest 10.0.1.200 ping -c 1 -W 2 192.0.2.1
	guest 10.0.1.200 wget -qO- http://192.0.2.1/ | has outside
	nft flush table inet hybrid_hook
	hybrid-hook apply
	guest 10.0.1.200 wget -qO- http://192.0.2.1/cgi-bin/who | has 192.0.2.2
	settled
}

# The network's two dnsmasqs: one for names, one for addresses.
DNSMASQS=(hybrid-hook-dnsmasq@hybrid hybrid-hook-dhcp@hybrid)

main_pid() { # UNIT
	systemctl show -P MainPID "$1"
}

new_dnsmasq() { # UNIT OLD-PID
	local pid
	pid=$(main_pid "$1")
	[ "$pid" -gt 1 ] && [ "$pid" != "$2" ] && systemctl is-active -q "$1"
}

test_dnsmasq_killed() {
	local unit pid
	for unit in "${DNSMASQS[@]}"; do
		pid=$(main_pid "$unit")
		kill -KILL "$pid"
		eventually 10 new_dnsmasq "$unit" "$pid"
	done
	without_service
	systemctl stop "${DNSMASQS[@]}"
	hybrid-hook apply
	for unit in "${DNSMASQS[@]}"; do systemctl is-active -q "$unit"; done
	vm db --meta 'ip="10.0.1.200"'
	booted db
}

test_a_changed_reservation_leaves_names_alone() {
	local names addresses
	vm_paused db --meta 'ip="10.0.1.200" hostname="db"'
	names=$(main_pid "${DNSMASQS[0]}")
	addresses=$(main_pid "${DNSMASQS[1]}")
	virsh -q destroy db
	virsh dumpxml --inactive db | sed 's/10\.0\.1\.200/10.0.1.201/' >"$T/moved.xml"
	virsh -q define "$T/moved.xml"
	virsh -q start --paused db
	eventually 5 new_dnsmasq "${DNSMASQS[1]}" "$addresses"
	same "$(main_pid "${DNSMASQS[0]}")" "$names" "the one for names"
	eventually 5 eval 'nslookup db.hybrid.internal 10.0.1.1 | has 10.0.1.201'
}

test_dnsmasq_files_lost() {
	local folder
	vm_paused db --meta 'ip="10.0.1.200" hostname="db"'
	without_service
	rm -rf /run/hybrid-hook/dnsmasq/hybrid
	hybrid-hook apply
	eventually 5 eval 'nslookup db.hybrid.internal 10.0.1.1 | has 10.0.1.200'
	# One folder alone: who follows it must not go on with the one that is gone.
	for folder in hosts.d dhcp-hosts.d; do
		rm -r "/run/hybrid-hook/dnsmasq/hybrid/$folder"
		hybrid-hook apply
	done
	eventually 5 eval 'nslookup db.hybrid.internal 10.0.1.1 | has 10.0.1.200'
	vm_paused later --meta 'hostname="later"'
	eventually 5 eval 'nslookup later.hybrid.internal 10.0.1.1 | has 10.0.1.'
	virsh -q resume later
	booted later
	virsh -q resume db
	booted db
	same "$ADDRESS" 10.0.1.200
}

test_run_folder_lost() {
	dirty
	vm db --meta 'ip="10.0.1.200"'
	booted db
	without_service
	find /run/hybrid-hook -mindepth 1 -delete
	hybrid-hook apply
	vm_paused other --no-meta
	no_address_twice hybrid
	settled
	jq -e '.leases | length == 2' /run/hybrid-hook/leases/hybrid.json >/dev/null
}

test_libvirt_network_removed() {
	without_service
	virsh -q net-destroy hybrid-net
	virsh -q net-undefine hybrid-net
	hybrid-hook apply
	vm_paused linked --network hybrid-net
	address linked
	settled
}

nft_back() {
	[ ! -e /usr/sbin/nft.away ] || mv /usr/sbin/nft.away /usr/sbin/nft
}

test_created_again_after_its_file_was_lost() {
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	vm_paused off --no-meta
	virsh -q destroy off
	eventually 5 has_state off idle
	without_service
	container web --network hybrid-net
	cp "$FILE" "$T/file"
	rm "$FILE"
	refused 3 'its MTU is 1500, not 1400' -- hybrid-hook network create hybrid --mtu 1400
	# It fails after it has begun, and takes nobody's lease along.
	mv /usr/sbin/nft /usr/sbin/nft.away
	at_end nft_back
	exits 4 hybrid-hook network create hybrid >"$T/out" 2>&1
	holds "$T/out" "nft is not installed"
	nft_back
	[ ! -e "$FILE" ]
	cp "$T/file" "$FILE"
	hybrid-hook apply
	has_state db active
	has_state off idle
	settled
}

test_a_bridge_that_docker_made_in_the_place_of_ours() {
	dirty
	without_service
	container web
	systemctl stop docker.socket docker
	ip link delete hybr0
	systemctl start docker.socket docker
	eventually 5 ip link show hybr0
	hybrid-hook apply
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	settled
}

test_deleted_after_a_down_that_was_cut_off() {
	dirty
	without_service
	world >"$T/world"
	hybrid-hook network create two --subnet 10.0.2.0/24
	# As it is when it is killed after its first step.
	sed -i 's/^up = true/up = false/' /var/lib/hybrid-hook/networks/two/status.toml
	hybrid-hook network delete two
	unchanged_world
}

test_adopt_a_bridge_with_its_address() {
	foreign_bridge lan 10.77.0.1/24
	hybrid-hook network create lan --adopt --bridge t-lan
	vm db --bridge t-lan --meta-network lan
	booted db lan
	container web --network lan-net
	guest "$ADDRESS" ping -c 1 -W 2 "$(container_address web lan-net)" >/dev/null
	gone db
	docker rm -f web >/dev/null
	hybrid-hook network delete lan
	# It was there before us and still is, with its address.
	ip address show t-lan | has 'inet 10.77.0.1/24 '
}

test_adopt_a_bridge_without_an_address() {
	# A LAN whose gateway is another router: no NAT, and no address of ours.
	foreign_bridge lan
	stranger router t-lan 10.78.0.1/24
	hybrid-hook network create lan --adopt --bridge t-lan --subnet 10.78.0.0/24 --gateway 10.78.0.1
	same "$(ip -o -4 address show t-lan)" "" "addresses of the bridge"
	not eval 'nft list table inet hybrid_hook | has 10.78.0'
	define db --bridge t-lan --meta-network lan
	virsh -q start --paused db
	address db lan
	container web --network lan-net
	docker exec web ping -c 1 -W 2 10.78.0.1 >/dev/null
	gone db
	docker rm -f web >/dev/null
	hybrid-hook network delete lan
	same "$(ip -o -4 address show t-lan)" "" "addresses of the bridge"
	ip netns exec t-router true
	ip link show t-lan >/dev/null
}

test_adopt_what_is_not_there() {
	world >"$T/world"
	refused 4 t-nothing -- hybrid-hook network create lan --adopt --bridge t-nothing
	unchanged_world
}

test_overlaps_are_refused() {
	local free
	foreign_bridge lan 10.55.0.1/24
	docker network create --subnet 10.56.0.0/16 t-docker >/dev/null
	cat >"$T/net.xml" <<-END
		<network><name>t-virt</name><forward mode='nat'/><bridge name='t-virt'/>
		<ip address='10.57.0.1' netmask='255.255.255.0'/></network>
	END
	virsh -q net-define "$T/net.xml"
	ip route replace 10.58.0.0/16 via 192.0.2.1
	world >"$T/world"
	refused 3 10.55.0.0/24 t-lan "--subnet" -- hybrid-hook network create new --subnet 10.55.0.0/24
	refused 3 10.56.0.0/16 t-docker "--subnet" -- hybrid-hook network create new --subnet 10.56.3.0/24
	refused 3 10.57.0.0/24 t-virt -- hybrid-hook network create new --subnet 10.57.0.0/25
	refused 3 10.58.0.0/16 -- hybrid-hook network create new --subnet 10.58.1.0/24
	refused 3 10.0.1.0/24 hybrid -- hybrid-hook network create new --subnet 10.0.0.0/16
	unchanged_world
	# The range that it calls free is free.
	free=$(sed -n 's/^hint: .*--subnet \([0-9./]*\).*/\1/p' "$T/refused")
	hybrid-hook network create new --subnet "$free"
	ip route delete 10.58.0.0/16 via 192.0.2.1
}

test_subnets_that_hold_nobody() {
	local subnet
	world >"$T/world"
	for subnet in 10.66.0.0/30 10.66.0.0/31 10.66.0.1/32 10.66.0.5/24 0.0.0.0/0 224.0.0.0/24 127.5.0.0/24; do
		refused 2 "$subnet" -- hybrid-hook network create new --subnet "$subnet"
	done
	refused 2 gateway -- hybrid-hook network create new --subnet 10.66.0.0/24 --gateway 10.67.0.1
	refused 2 pool -- hybrid-hook network create new --subnet 10.66.0.0/24 --vm-pool 10.66.0.10-10.66.0.100 \
		--container-pool 10.66.0.64/26
	refused 2 MTU -- hybrid-hook network create new --subnet 10.66.0.0/24 --mtu 12
	unchanged_world
}

test_again_changes_nothing() {
	world >"$T/world"
	hybrid-hook network create hybrid >"$T/out" 2>&1
	holds "$T/out" "exists already"
	refused 3 "exists and" 10.0.1.0/24 -- hybrid-hook network create hybrid --subnet 10.44.0.0/24
	hybrid-hook network up hybrid
	settled
	unchanged_world
}

test_delete_and_down_refuse_while_guests_are_on_it() {
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	container web
	refused 3 '"db"' '"web"' "--force" -- hybrid-hook network down hybrid
	refused 3 '"db"' '"web"' "--force" -- hybrid-hook network delete hybrid
	ip link show hybr0 >/dev/null
	hybrid-hook network down hybrid --force
	not ip link show hybr0
	hybrid-hook network up hybrid
	same "$(lease db .address)" 10.0.1.200
}

test_delete_leaves_nothing() {
	dirty
	vm_paused db --no-meta
	gone db
	hybrid-hook network delete --force hybrid
	world >"$T/world"
	hybrid-hook network create hybrid
	not unchanged_world >/dev/null
	hybrid-hook network delete hybrid
	unchanged_world
	not pgrep -f 'dnsmasq.*hybrid-hook'
}

test_deleted_while_docker_is_stopped() {
	hybrid-hook network create two --subnet 10.0.2.0/24
	docker network inspect two-net >/dev/null
	without_service
	systemctl stop docker.socket docker
	hybrid-hook network delete two >"$T/out" 2>&1
	holds "$T/out" "network two is deleted" \
		"warning: Docker network two-net may be left: " "docker network rm two-net; ip link delete hyb-two"
	not grep -q 'makes up for it' "$T/out"
	systemctl start docker.socket docker
	docker network rm two-net
	ip link delete hyb-two
	# The same of a network that goes down; and with Docker there nothing is left to be told.
	hybrid-hook network create two --subnet 10.0.2.0/24
	systemctl stop docker.socket docker
	hybrid-hook network down two >"$T/out" 2>&1
	holds "$T/out" "docker network rm two-net"
	systemctl start docker.socket docker
	docker network rm two-net
	ip link delete hyb-two
	hybrid-hook network up two
	hybrid-hook network delete two >"$T/out" 2>&1
	not grep -q warning "$T/out"
	not docker network inspect two-net 2>/dev/null
}

test_create_fails_half_way_and_is_undone() {
	dirty
	hybrid-hook network delete --force hybrid
	# Somebody else's Docker network of that name, elsewhere.
	docker network create --subnet 10.56.0.0/16 t-taken >/dev/null
	world >"$T/world"
	refused 3 t-taken -- hybrid-hook network create new --docker-network t-taken
	unchanged_world
	# A link of that name that is no bridge.
	ip link add t-dummy type veth peer name t-peer
	world >"$T/world"
	exits 3 hybrid-hook network create new --bridge t-dummy >"$T/out" 2>&1 ||
		exits 1 hybrid-hook network create new --bridge t-dummy >"$T/out" 2>&1
	holds "$T/out" "error: " t-dummy
	unchanged_world
}

test_nft_missing() {
	local code=0
	dirty
	without_service
	mv /usr/sbin/nft /usr/sbin/nft.away
	nft_missing || code=$?
	nft_back
	[ "$code" = 0 ]
	hybrid-hook network up hybrid
}

nft_missing() (
	set -e
	exits 4 hybrid-hook network create new --subnet 10.66.0.0/24 >"$T/out" 2>&1 ||
		exits 1 hybrid-hook network create new --subnet 10.66.0.0/24 >"$T/out" 2>&1
	holds "$T/out" "nft is not installed" "hint: "
	not ip link show hyb-new
	not ls /etc/hybrid-hook/networks/new.toml
	# VMs start all the same.
	vm_paused db --no-meta
	exits 1 hybrid-hook apply >"$T/out" 2>&1 || exits 4 hybrid-hook apply >"$T/out" 2>&1
	holds "$T/out" "nft is not installed"
	# Without one that has NAT, networks come and go.
	gone db
	hybrid-hook network down hybrid
	hybrid-hook network create closed --no-nat --subnet 10.66.0.0/24
	hybrid-hook network down closed
	hybrid-hook network up closed
	hybrid-hook network delete closed
	not ip link show hyb-closed
)

user() { # CMD… as an ordinary user
	setpriv --reuid nobody --regid nogroup --clear-groups "$@"
}

test_without_root() {
	vm_paused db --meta 'ip="10.0.1.200"'
	eventually 5 grep -q 10.0.1.200 /run/hybrid-hook/leases/hybrid.json
	chmod 755 "$T"
	# What anyone may see.
	same "$(user hybrid-hook leases --json | jq -r '.[0].address')" 10.0.1.200
	user hybrid-hook network list | has hybr0
	user hybrid-hook network show hybrid >/dev/null
	# What needs root says so, and changes nothing.
	world >"$T/world"
	refused 1 "hint: " root -- user hybrid-hook network create new --subnet 10.66.0.0/24
	refused 1 "hint: " root -- user hybrid-hook network delete --force hybrid
	refused 1 "hint: " root -- user hybrid-hook claim --owner "$(uuid db)" --mac 52:54:00:00:00:01
	refused 1 root -- user hybrid-hook apply
	refused 1 root -- user hybrid-hook watch
	unchanged_world
	# With folders of their own the file can be written.
	# shellcheck disable=SC2016 # expanded by that shell
	user sh -c 'd=$(mktemp -d) && hybrid-hook --config-dir "$d/c" --state-dir "$d/s" --run-dir "$d/r" \
		network create mine --subnet 10.70.0.0/24 --offline && rm -rf "$d"' >/dev/null
}

hold_lock() { # FILE
	python3 - "$1" <<-'END' &
		import fcntl, os, sys, time
		f = open(sys.argv[1], "r+" if os.path.exists(sys.argv[1]) else "w+")
		fcntl.flock(f, fcntl.LOCK_EX)
		f.write("%-10d\n" % os.getpid())
		f.flush()
		time.sleep(60)
	END
	HOLDER=$!
	eventually 5 grep -q "^$HOLDER " "$1"
}

test_lock_held() {
	local file=/var/lib/hybrid-hook/networks/hybrid/lock
	vm_paused db --no-meta
	hold_lock "$file"
	timed refused 1 "process $HOLDER" "hint: " -- \
		hybrid-hook claim --owner "$(uuid db)" --mac 52:54:00:00:00:01 --no-probe
	[ "$MS" -ge 4000 ] && [ "$MS" -le 8000 ]
	# Who only reads does not wait.
	timed leases
	[ "$MS" -lt 1000 ]
	define other --no-meta
	exits 1 virsh -q start --paused other >"$T/start" 2>&1
	holds "$T/start" "hybrid-hook: " "process $HOLDER"
	# A stop goes through, and is made up for.
	virsh -q destroy db
	same "$(virsh domstate db)" "shut off"
	kill "$HOLDER"
	wait "$HOLDER" || true
	hybrid-hook apply
	eventually 75 has_state db idle
	virsh -q start --paused other
	same "$(stat -c '%a' "$file" /var/lib/hybrid-hook | tr '\n' ' ')" "600 700 " modes
}

test_registry_damaged() {
	local file
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	without_service
	file=/var/lib/hybrid-hook/networks/hybrid/leases/10.0.1.192.toml
	cp "$file" "$T/good"
	foreign_bridge lan
	define other --meta 'ip="10.0.1.201"'
	define theirs --no-meta --bridge t-lan
	local damage
	for damage in 'truncate -s 40' 'truncate -s 0' 'sed -i s/^format.*/format=9/' 'sed -i s/^mac.*/mac=7/'; do
		cp "$T/good" "$file"
		# shellcheck disable=SC2086 # words are wanted
		$damage "$file"
		cp "$file" "$T/damaged"
		exits 1 virsh -q start --paused other >"$T/start" 2>&1
		holds "$T/start" "hybrid-hook: " "$file"
		virsh -q start --paused theirs
		virsh -q destroy theirs
		refused 1 "$file" -- hybrid-hook leases
		refused 1 "$file" -- hybrid-hook claim --owner "$(uuid other)" --mac 52:54:00:00:00:01 --no-probe
		# What can't be read is never written over.
		cmp "$file" "$T/damaged"
	done
	cp "$T/good" "$file"
	virsh -q start --paused other
	same "$(address db)" 10.0.1.200
}

test_disk_full() {
	local state=/var/lib/hybrid-hook
	dirty
	vm_paused db --meta 'ip="10.0.1.200"'
	without_service
	foreign_bridge lan
	define other --meta 'ip="10.0.1.20"'
	define theirs --no-meta --bridge t-lan
	cp -a "$state" "$T/state"
	mount -t tmpfs -o size=512k,mode=700 full "$state"
	cp -a "$T/state/." "$state/"
	disk_full || {
		umount -l "$state"
		return 1
	}
	umount -l "$state"
}

disk_full() (
	set -e
	dd if=/dev/zero of="$state/fill" bs=4k 2>/dev/null || true
	exits 1 virsh -q start --paused other >"$T/start" 2>&1
	holds "$T/start" "hybrid-hook: " "$state" "free some space"
	virsh -q start --paused theirs
	refused 1 "$state" "free some space" -- \
		hybrid-hook claim --owner "$(uuid other)" --mac 52:54:00:00:00:01 --no-probe
	# A stop is never held up.
	virsh -q destroy db
	same "$(find "$state" -name '.new-*')" "" "files left"
	rm "$state/fill"
	same "$(lease db .address)" 10.0.1.200
	virsh -q start --paused other
	same "$(address other)" 10.0.1.20
)

suite "$@"
