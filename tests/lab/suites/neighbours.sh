#!/bin/bash
# Others never pay: what is not ours is the same with and without us.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Everything of others that we could touch. Lines that name our own bridge are
# ours, or Docker's about it; they must be gone in the end as well.
others() {
	echo "# forwarding"
	sysctl net.ipv4.ip_forward net.ipv4.conf.{all,default}.forwarding \
		net.ipv6.conf.{all,default}.forwarding net.ipv4.conf.{all,default}.rp_filter 2>&1
	for nic in docker0 eth0 t-lan; do
		sysctl "net.ipv4.conf.$nic.rp_filter" "net.ipv6.conf.$nic.accept_ra" 2>&1
	done
	echo "# FORWARD"
	iptables -S FORWARD | grep -v -- "$OURS"
	ip6tables -S FORWARD | grep -v -- "$OURS"
	echo "# other chains"
	iptables-save | grep -E '^(:(INPUT|OUTPUT|PREROUTING|POSTROUTING|T-)|-A (INPUT|OUTPUT|T-))' |
		sed 's/ \[.*//'
	nft -s list table ip t_other
	echo "# routes"
	ip route | sed "s, linkdown,," | grep -v -- "$OURS"
	ip rule
	for name in $(docker ps --format '{{.Names}}' | sort); do
		echo "$name: $(default_route "$name" 2>&1)"
	done
	echo "# links"
	ip -o link show type bridge | awk '{ print $2, $4, $5 }' | grep -v -- "$OURS"
	ip -o -4 address | awk '{ print $2, $4 }' | grep -v -- "$OURS"
	echo "# networks"
	docker network ls --format '{{.Name}} {{.ID}}' | grep -v '^\(hybrid\|two\)-net ' | sort
	virsh -q net-list --all | tr -s ' ' | grep -v 'hybrid-net\|two-net' | sort
	echo "# hooks and files"
	find /etc/libvirt /etc/docker /etc/systemd/system /etc/sysctl.d /etc/sysctl.conf /etc/NetworkManager \
		-not -path '*hybrid*' -not -path '/etc/libvirt/hooks' -not -path '/etc/libvirt/hooks/*.d' \
		-not -path '/etc/libvirt/qemu*' -type f -exec sha256sum {} + 2>/dev/null | sort -k 2
	echo "# resolver"
	# While the network is up its zone is known and searched.
	if [ "$OURS" = nothing-is-ours ]; then
		cat /etc/resolv.conf /run/systemd/resolve/resolv.conf
	else
		grep '^nameserver' /etc/resolv.conf
	fi
}

others_whole() {
	local OURS=nothing-is-ours
	others
}

OURS='hybr0\|hyb-two'

same_others() { # WHEN
	others >"$T/now" 2>&1 || true
	diff "$T/others" "$T/now" || {
		echo "this changed: $1"
		return 1
	}
}

# A host that already has much of its own.
neighbourhood() {
	foreign_bridge lan 10.99.0.1/24
	iptables -N T-OWN
	iptables -A T-OWN -s 203.0.113.0/24 -j RETURN
	iptables -I FORWARD -i t-lan -o eth0 -j T-OWN
	nft add table ip t_other
	nft add chain ip t_other in '{ type filter hook input priority 10; }'
	nft add rule ip t_other in tcp dport 4711 drop
	mkdir -p /etc/libvirt/hooks/qemu.d /etc/libvirt/hooks/network.d
	# shellcheck disable=SC2016 # expanded by that script
	printf '#!/bin/sh\necho "$1 $2" >>/run/t-hooks\n' >/etc/libvirt/hooks/qemu.d/10-other
	cp /etc/libvirt/hooks/qemu.d/10-other /etc/libvirt/hooks/qemu
	cp /etc/libvirt/hooks/qemu.d/10-other /etc/libvirt/hooks/network.d/90-other
	chmod 755 /etc/libvirt/hooks/qemu /etc/libvirt/hooks/qemu.d/10-other /etc/libvirt/hooks/network.d/90-other
	docker network create aa-shop >/dev/null
	docker network create zz-shop >/dev/null
	container first --network aa-shop --label app=shop
	container last --network zz-shop --label app=shop
	container alone --network bridge
	docker network connect aa-shop last
	systemctl kill -s HUP libvirtd
	eventually 10 virsh -q list
}

neighbours_leave() {
	rm -f /etc/libvirt/hooks/qemu /etc/libvirt/hooks/*.d/*-other /run/t-hooks
	iptables -D FORWARD -i t-lan -o eth0 -j T-OWN
	iptables -F T-OWN
	iptables -X T-OWN
	nft delete table ip t_other
	systemctl kill -s HUP libvirtd
}

# libvirt's hooks: whose, and what is in them. A folder's time is of no interest: ours came and went.
hooks() {
	find /etc/libvirt/hooks -printf '%p %M %u:%g %l\n' | sort
	find /etc/libvirt/hooks -type f -exec sha256sum {} + | sort
}

test_nothing_of_others_changes_from_install_to_uninstall() {
	dirty
	# A host without us.
	hybrid-hook network delete --force hybrid
	hybrid-hook uninstall
	not test -e /etc/libvirt/hooks/qemu.d/50-hybrid-hook
	neighbourhood
	trap 'neighbours_leave; hybrid-hook install >/dev/null 2>&1; suite_end_jobs; rm -rf "$T"' EXIT
	others >"$T/others" 2>&1 || true
	others_whole >"$T/others.whole" 2>&1 || true
	hooks >"$T/hooks"

	hybrid-hook install
	same_others install
	hybrid-hook network create hybrid
	same_others "network create"
	vm db --meta 'ip="10.0.1.200" containers="label=app=shop"'
	vm_paused theirs --no-meta --bridge t-lan
	booted db
	eventually 3 on last
	same_others "VM start and attach of containers"
	hybrid-hook attach theirs --ip 10.0.1.201
	same_others "attach of a domain"
	hybrid-hook apply
	systemctl restart hybrid-hook
	sleep 1
	same_others apply
	# Their hook ran for both, and ours beside it.
	holds /run/t-hooks "db prepare" "theirs prepare" "db started"
	hybrid-hook detach theirs
	virsh -q destroy db
	virsh -q destroy theirs
	eventually 5 off last
	same_others "VM stop"
	hybrid-hook network delete hybrid
	hybrid-hook uninstall
	OURS=nothing-is-ours
	cp "$T/others.whole" "$T/others"
	same_others uninstall
	hooks >"$T/hooks.now"
	diff "$T/hooks" "$T/hooks.now"
	not systemctl cat hybrid-hook
	not pgrep -f 'hybrid-hook watch'
	# Without us theirs go on.
	virsh -q start --paused theirs
	same "$(grep -c 'theirs prepare' /run/t-hooks)" 4 "calls of their hook"
}

test_install_is_repeatable_and_says_so() {
	hybrid-hook install >"$T/out" 2>&1
	hybrid-hook install >"$T/again" 2>&1
	cat "$T/again"
	not grep -qE '^(linked|wrote|made|enabled)' "$T/again"
	vm_paused db --no-meta
	address db
}

test_containers_keep_their_default_route() {
	local name before=()
	docker network create aa-shop >/dev/null
	docker network create zz-shop >/dev/null
	docker network create --internal inner >/dev/null
	container aa --network aa-shop --label app=shop
	container zz --network zz-shop --label app=shop
	container ii --network inner --label app=shop
	for name in aa zz ii; do before+=("$(default_route "$name")"); done
	vm_paused db --meta 'containers="label=app=shop"'
	for name in aa zz ii; do eventually 3 on "$name"; done
	for name in aa zz ii; do
		same "$(default_route "$name")" "${before[0]}" "default route of $name"
		before=("${before[@]:1}")
	done
	docker exec zz timeout 5 wget -qO- http://192.0.2.1/ | has outside
	# They reach the network by the NIC that is on it.
	docker exec zz ip route get 10.0.1.200 | has 'src 10.0.1'
}

test_a_foreign_domain_is_not_touched() {
	local tap before
	foreign_bridge lan 10.99.0.1/24
	define theirs --no-meta --bridge t-lan --cmdline 'address=10.99.0.7/24'
	before=$(virsh dumpxml --inactive theirs)
	# Our registry and our service are no part of it: broken, locked or gone.
	systemctl stop hybrid-hook
	virsh -q start theirs
	tap=$(virsh -q domiflist theirs | awk '{ print $1 }')
	same "$(virsh dumpxml --inactive theirs)" "$before"
	ip -o link show "$tap" | has 'master t-lan'
	# No port setting of ours on it.
	same "$(bridge -d link show dev "$tap" | grep -o 'learning o[nf]*' | head -c 11)" "learning on"
	eventually 60 serves 10.99.0.7 theirs
	same "$(leases | jq length)" 0 leases
	hybrid-hook apply
	hybrid-hook gc
	running theirs
	serves 10.99.0.7 theirs
}

test_two_networks_at_once() {
	hybrid-hook network create two --subnet 10.66.0.0/24
	vm both --bridge hybr0 --no-meta --also bridge:hyb-two
	vm_paused only --bridge hyb-two --meta-network two --meta 'ip="10.66.0.200"'
	container web
	container shop --network two-net
	booted both
	same "$(address only two)" 10.66.0.200
	guest "$ADDRESS" ip address show eth1 | has "inet $(address both two)/24 "
	guest "$ADDRESS" ping -c 1 -W 2 "$(container_address shop two-net)" >/dev/null
	guest "$ADDRESS" ping -c 1 -W 2 "$(container_address web)" >/dev/null
	# The same MAC holds a lease on each; one name's zone is not the other's.
	same "$(nslookup only.two.internal 10.66.0.1 | awk '/^Address/ { a = $NF } END { print a }')" 10.66.0.200
	# One goes and leaves the other as it is.
	hybrid-hook network delete --force two
	serves "$ADDRESS" both
	both_ways "$ADDRESS" both web
	nft list table inet hybrid_hook | has 10.0.1.0/24
	hybrid-hook apply | has 'everything is as it should be'
}

test_a_second_service_harms_nothing() {
	refused 3 "runs already" -- hybrid-hook watch
	systemctl is-active -q hybrid-hook
	vm_paused db --no-meta
	address db
}

suite "$@"
