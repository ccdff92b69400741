#!/bin/bash
# Much, and for long: thousands of events, a service that is killed again and
# again, a crowd that starts at once, a Docker that misbehaves meanwhile. What is
# there at the end is what Docker and libvirt say. `tests/lab/run --long` takes
# the large counts.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Random starts, stops, renames and removals.
CHURN=$(so_many "${CHURN-}" 120 1000)
# So often the service is killed.
KILLS=$(so_many "${KILLS-}" 12 100)
LIMIT=$(so_many "" 240 3000)

# Docker's API itself: its command would cost more than the event. Prints the HTTP status.
docker_api() { # METHOD PATH [JSON]
	curl -s -m 120 -o "${T:-/tmp}/api.$BASHPID" -w '%{http_code}' --unix-socket /run/docker.sock \
		-X "$1" -H 'Content-Type: application/json' ${3+-d "$3"} "http://docker/$2" || true
}

# A container that sleeps, made and started.
sleeper() { # NAME [DOCKER NETWORK]
	local config='{"Image":"hybrid-lab:latest","Cmd":["sleep","100000"],"StopSignal":"SIGKILL"'
	config+=',"HostConfig":{"NetworkMode":"'${2:-hybrid-net}'"}}'
	same "$(docker_api POST "containers/create?name=$1" "$config")" 201 "create $1"
	same "$(docker_api POST "containers/$1/start")" 204 "start $1"
}

remove_containers() {
	docker ps -aq | xargs -r -P 4 -n 25 docker rm -f >/dev/null
}

# --- Load -------------------------------------------------------------------

# One worker: makes, stops, starts, renames and removes containers of its own at random, until so many
# events have happened or the file $T/enough is there. Every name it ever used goes into $T/used.WORKER.
churn() { # WORKER TIMES
	local done=0 next=0 i name names=() status
	while [ "$done" -lt "$2" ] && [ ! -e "$T/enough" ]; do
		i=0 status=0
		[ ${#names[@]} = 0 ] || i=$((RANDOM % ${#names[@]})) name=${names[i]}
		case $((${#names[@]} < 3 ? 0 : ${#names[@]} > 15 ? 7 : RANDOM % 8)) in
		0 | 1)
			next=$((next + 1)) name=c$1-$next
			names+=("$name")
			echo "$name" >>"$T/used.$1"
			sleeper "$name" && status=204
			;;
		2 | 3) status=$(docker_api POST "containers/$name/stop?t=0") ;;
		4 | 5) status=$(docker_api POST "containers/$name/start") ;;
		6)
			next=$((next + 1))
			echo "r$1-$next" >>"$T/used.$1"
			status=$(docker_api POST "containers/$name/rename?name=r$1-$next")
			[ "$status" != 204 ] || names[i]=r$1-$next
			;;
		7)
			status=$(docker_api DELETE "containers/$name?force=1")
			[[ $status != 204 && $status != 404 ]] || unset "names[i]"
			names=("${names[@]}")
			;;
		esac
		# 304: it was stopped, or ran, already.
		if [ "$status" = 204 ]; then done=$((done + 1)); fi
	done
	echo "$done" >"$T/done.$1"
}

# The same with VMs v1 to v3, each with an address of its own: paused starts, stops, undefined and
# defined again, renamed.
churn_vms() { # TIMES
	local done=0 names=('' v1 v2 v3) i name
	for i in 1 2 3; do churn_vm "$i" v$i; done
	while [ "$done" -lt "$1" ] && [ ! -e "$T/enough" ]; do
		i=$((RANDOM % 3 + 1)) name=${names[i]}
		case $((RANDOM % 4)) in
		0 | 1) if running "$name"; then virsh -q destroy "$name"; else virsh -q start --paused "$name"; fi || continue ;;
		2)
			! running "$name" || continue
			virsh -q domrename "$name" "v$i-$done" || continue
			names[i]=v$i-$done
			echo "v$i-$done" >>"$T/used.vms"
			;;
		3)
			! running "$name" || continue
			virsh -q undefine "$name" || continue
			churn_vm "$i" "$name"
			;;
		esac
		done=$((done + 1))
	done
	echo "$done" >"$T/done.vms"
}

churn_vm() { # NUMBER NAME
	echo "$2" >>"$T/used.vms"
	define "$2" --meta "ip=\"10.0.1.$((200 + $1))\"" --mac "52:54:00:00:0c:0$1"
}

# So many events, a tenth of them of VMs, by several at once; in the background: PIDs are in $LOAD.
load() { # EVENTS
	local worker
	LOAD=()
	for worker in 1 2 3; do
		churn "$worker" $((($1 - $1 / 10) / 3)) >"$T/churn.$worker" 2>&1 &
		LOAD+=($!)
	done
	churn_vms $(($1 / 10)) >"$T/churn.vms" 2>&1 &
	LOAD+=($!)
}

# --- What must be at the end ------------------------------------------------

# What Docker and libvirt say runs: NAME ADDRESS, a line each, sorted.
said() { # NETWORK
	local name
	{
		docker ps -q | xargs -r docker inspect -f \
			"{{slice .Name 1}} {{with index .NetworkSettings.Networks \"$1-net\"}}{{.IPAddress}}{{end}}"
		virsh -q list --name | sed '/^$/d' | while read -r name; do
			echo "$name $(virsh dumpxml "$name" | grep -oE ' ip=.[0-9.]+' | tr -d "\"'" | cut -d = -f 2)"
		done
	} | sort
}

# What our resolver answers for each name in FILE, and for each address of its own: NAME ADDRESS, sorted.
resolved() { # FILE NETWORK SERVER
	sed "s/\$/.$2.internal A/" "$1" | dig "@$3" +noall +answer +time=2 +tries=3 -f /dev/stdin |
		awk -v zone=".$2.internal." '$4 == "A" { sub(zone "$", "", $1); print $1, $5 } /timed out/' | sort
}

named_back() { # PREFIX ZONE SERVER: of PREFIX.1 to PREFIX.254
	local n
	for n in {1..254}; do echo "-x $1.$n"; done | dig "@$3" +noall +answer +time=2 +tries=3 -f /dev/stdin |
		awk -v zone=".$2.internal." '$4 == "PTR" { sub(zone "$", "", $5); split($1, p, ".")
			print $5, p[4] "." p[3] "." p[2] "." p[1] } /timed out/' | grep -v '^host ' | sort
}

# DNS, both ways, the leases and dnsmasq's files know those that Docker and libvirt say, and nobody else:
# none of the names that were used and are no more.
nothing_stale() {
	said hybrid >"$T/said"
	{ cut -d ' ' -f 1 "$T/said" && cat "$T"/used.*; } | sort -u >"$T/names"
	{
		diff "$T/said" <(resolved "$T/names" hybrid 10.0.1.1) &&
			diff "$T/said" <(named_back 10.0.1 hybrid 10.0.1.1) &&
			diff "$T/said" <(leases | jq -r '.[] | select(.state == "active") | "\(.owner_name) \(.address)"' | sort)
	} || return 1
	same "$(find /run/hybrid-hook/dnsmasq/hybrid/hosts.d -type f | wc -l)" "$(wc -l <"$T/said")" "named guests"
}

test_nothing_stale_after_random_starts_stops_and_renames() {
	load "$CHURN"
	wait "${LOAD[@]}"
	tail -qn 3 "$T"/churn.*
	same "$(cat "$T"/done.* | awk '{ n += $1 } END { print n }')" $(((CHURN - CHURN / 10) / 3 * 3 + CHURN / 10)) events
	echo "$(docker ps -q | wc -l) containers run, $(docker ps -aq | wc -l) are there, $(cat "$T"/used.* | wc -l) names were used"
	eventually 4 nothing_stale
	remove_containers
	eventually 4 nothing_stale
}

# --- The service killed -----------------------------------------------------

# All that was rendered from the registry, and the registry.
state() { # FILE
	{
		leases
		# Not dnsmasq's own files: its pid, what DHCP gave to whom.
		(cd /run/hybrid-hook/dnsmasq/hybrid && find . -type f ! -name '*.pid' ! -name leases | sort | xargs tail -n +1)
		jq -S . /run/hybrid-hook/leases/hybrid.json
		docker network inspect hybrid-net | jq -S '.[0] | {Name, Id, IPAM, Options, Containers}'
		nft list table inet hybrid_hook
		ip -o address show dev hybr0
		find /sys/class/net/hybr0/brif/ -mindepth 1 | sort
	} >"$1"
}

main_pid() { # UNIT
	systemctl show -P MainPID "$1"
}

main_is_not() { # UNIT PID
	not same "$(main_pid "$1")" "$2"
}

# Ends the service and starts it at once, or so many seconds later.
kill_service() { # [SECONDS]
	local pid
	pid=$(main_pid hybrid-hook)
	kill -KILL "$pid"
	# Before systemd knows, its start would do nothing.
	eventually 5 main_is_not hybrid-hook "$pid"
	sleep "${1:-0}"
	systemctl start hybrid-hook
}

test_the_service_killed_at_any_instant_under_load() {
	local n
	load 1000000
	for ((n = 0; n < KILLS; n++)); do
		sleep "0.$((RANDOM % 9))$((RANDOM % 10))"
		# Sometimes much happens before it is back.
		kill_service $((RANDOM % 4 == 0))
	done
	: >"$T/enough"
	wait "${LOAD[@]}"
	tail -qn 3 "$T"/churn.*
	echo "$(cat "$T"/done.* | awk '{ n += $1 } END { print n }') events meanwhile"
	# The last one was killed once more and not told of anything since.
	kill_service
	eventually 5 nothing_stale
	# What a fresh render makes of the same registry.
	systemctl stop hybrid-hook
	state "$T/after"
	hybrid-hook apply | has 'everything is as it should be'
	state "$T/applied"
	diff "$T/after" "$T/applied"
	rm -rf /run/hybrid-hook/dnsmasq/hybrid /run/hybrid-hook/leases /run/hybrid-hook/index
	nft delete table inet hybrid_hook
	hybrid-hook apply
	state "$T/fresh"
	diff "$T/after" "$T/fresh"
	eventually 3 nothing_stale
	systemctl start hybrid-hook
}

suite "$@"
