#!/bin/bash
# ipam = "hybrid" across a clean reboot and a power cut. The runner reboots the lab between the phases.
# shellcheck source=SCRIPTDIR/lib_ipam.sh
. "$(dirname "$0")/lib_ipam.sh"

phases() {
	# The first one: Docker 20.10 does not always forget endpoints of the suites before.
	cat <<-END
		lab reboot
		run before
		lab reboot
		run reboot
		lab reboot --power-cut
		run powercut
	END
}

running_is() { # CONTAINER true|false
	same "$(docker inspect -f '{{.State.Running}}' "$1")" "$2" "$1 runs"
}

before_all_is_set_up() {
	clean
	asked
	docker run -d --name fixed --network asked-net --ip 10.67.0.40 --restart=always hybrid-lab:latest
	docker run -d --name pool --network asked-net --restart=always hybrid-lab:latest
	docker run -d --name once --network asked-net --ip 10.67.0.41 hybrid-lab:latest
	define auto --bridge hyb-asked --meta-network asked --meta 'ip="10.67.0.65"'
	virsh -q autostart auto
	virsh -q start --paused auto
	eventually 5 active auto fixed once pool
}

all_is_back() {
	eventually 30 running_is fixed true
	eventually 30 running_is pool true
	running_is once false
	same "$(ip_of fixed)" 10.67.0.40
	same "$(address auto asked)" 10.67.0.65
	eventually 10 active auto fixed pool
	no_address_twice asked
	# It waits for its container, and no VM gets it.
	has_state once idle asked
	exits 3 hybrid-hook claim --network asked --owner 11111111-1111-1111-1111-111111111111 --mac 52:54:00:00:00:09 --ip 10.67.0.41
	hybrid-hook apply | grep -q 'everything is as it should be'
	# dockerd did not have to look for us.
	not grep -q 'Unable to locate plugin' <(journalctl --no-pager _PID="$(systemctl show -P MainPID docker)")
}

# How long docker.service took to start, in seconds.
docker_start_seconds() {
	local began ended
	began=$(systemctl show -P ExecMainStartTimestampMonotonic docker)
	ended=$(systemctl show -P ActiveEnterTimestampMonotonic docker)
	echo $(((ended - began) / 1000000))
}

reboot_brings_all_back() {
	all_is_back
	[ "$(docker_start_seconds)" -lt 12 ] || {
		echo "docker took $(docker_start_seconds) s to start"
		return 1
	}
	docker start once
	same "$(ip_of once)" 10.67.0.41
	eventually 5 active auto fixed once pool
}

powercut_brings_all_back() {
	all_is_back
	docker rm -f once
	eventually 5 no_lease once asked
	clean
}

suite "$@"
