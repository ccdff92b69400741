#!/bin/bash
# A clean reboot and a power cut. The runner reboots the lab between the phases.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

phases() {
	cat <<-END
		run before
		lab reboot
		run reboot
		lab reboot --power-cut
		run powercut
	END
}

restarts() { # CONTAINER
	same "$(docker inspect -f '{{.State.Running}}' "$1")" true "$1 runs"
}

before_all_is_set_up() {
	clean
	docker network create t-shop >/dev/null
	container web --network hybrid-net --restart=always
	container shop --network t-shop --restart=always --label app=shop
	container once --network t-shop
	define auto --meta 'ip="10.0.1.200" hostname="auto" containers="label=app=shop"'
	define linked --network hybrid-net --no-meta
	virsh -q autostart auto
	virsh -q autostart linked
	vm_paused manual --no-meta
	virsh -q start auto
	virsh -q start linked
	booted auto
	booted linked
	both_ways 10.0.1.200 auto web
	hybrid-hook claim --owner 11111111-1111-1111-1111-111111111111 --mac 52:54:00:aa:00:01 --ip 10.0.1.20
	lease linked .address >"/var/lib/hybrid-suites-linked"
	lease manual .address >"/var/lib/hybrid-suites-manual"
}

# What holds after either of them.
all_is_back() {
	ip address show hybr0 | has 'inet 10.0.1.1/24 '
	same "$(ip -j link show hybr0 | jq -r '.[0].operstate')" UP "hybr0"
	nft list ruleset | has hybrid
	systemctl is-active -q hybrid-hook-dnsmasq@hybrid
	# It is started again for each reservation that the first minute takes away.
	eventually 10 systemctl is-active -q hybrid-hook-dhcp@hybrid
	docker network inspect hybrid-net >/dev/null
	virsh net-info hybrid-net | has 'Active: *yes'
	eventually 30 restarts web
	eventually 30 restarts shop
	booted auto
	same "$ADDRESS" 10.0.1.200
	booted linked
	same "$ADDRESS" "$(cat /var/lib/hybrid-suites-linked)"
	eventually 10 both_ways 10.0.1.200 auto web
	eventually 10 both_ways 10.0.1.200 auto shop
	# Who runs is active, and nobody else; a claim by hand stays.
	same "$(leases | jq -r '[.[] | select(.state == "active") | .owner_name // .owner] | sort | join(" ")')" \
		"11111111-1111-1111-1111-111111111111 auto linked shop web" "active"
	has_state manual idle
	same "$(lease manual .address)" "$(cat /var/lib/hybrid-suites-manual)"
	no_address_twice hybrid
	hybrid-hook apply | has 'everything is as it should be'
}

reboot_brings_all_back() {
	all_is_back
}

reboot_leaves_foreign_containers_alone() {
	same "$(docker inspect -f '{{.State.Running}}' once)" false "a container without restart"
}

# Before the power goes: more that runs, and so is active.
reboot_more_is_started() {
	virsh -q start --paused manual
	has_state manual active
	vm_paused doomed --no-meta
	virsh -q undefine doomed
	has_state doomed active
}

powercut_brings_all_back() {
	all_is_back
}

# A transient domain is gone with the power: so is its lease, once asked.
powercut_frees_what_is_gone() {
	eventually 10 no_lease doomed
}

powercut_leaves_no_half_written_file() {
	same "$(find /var/lib/hybrid-hook /etc/hybrid-hook -name '.new-*')" "" "files"
	clean
	rm -f /var/lib/hybrid-suites-*
}

suite "$@"
