#!/bin/bash
# Much, and for long: thousands of events, a service that is killed again and
# again, a crowd that starts at once, a Docker that misbehaves meanwhile. What is
# there at the end is what Docker and libvirt say. `tests/lab/run --long` takes
# the large counts.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# Random starts, stops, renames and removals.
CHURN=$(so_many "${CHURN-}" 100 1000)
# So often the service is killed.
KILLS=$(so_many "${KILLS-}" 10 100)
# Renames of a container, and addresses given and taken back, after which memory is looked at; with the
# large count everything is looked at as often as in a day, once a minute.
EVENTS=$(so_many "${EVENTS-}" 200 14400)
# Containers that are started at once.
CROWD=$(so_many "${CROWD-}" 30 1000)
LIMIT=$(so_many "" 240 3000)

SOCKET=/run/docker/plugins/hybrid.sock

# Docker's API itself: its command would cost more than the event. Prints the HTTP status.
docker_api() { # METHOD PATH [JSON]
	curl -s -m 120 -o "${T:-/tmp}/api.$BASHPID" -w '%{http_code}' --unix-socket /run/docker.sock \
		-X "$1" -H 'Content-Type: application/json' ${3+-d "$3"} "http://docker/$2" || true
}

# A question to Docker, or to our driver, for `curl --config`. Prints the HTTP status.
question() { # SOCKET PATH JSON|""
	printf '%s\n' "url = \"http://x/$2\"" "unix-socket = $1" 'header = "Content-Type: application/json"' \
		"data = \"${3//\"/\\\"}\"" 'output = /dev/null' 'write-out = "%{http_code}\n"' silent 'max-time = 900' next
}

# A container that sleeps, made and started.
sleeper() { # NAME [DOCKER NETWORK]
	local config='{"Image":"hybrid-lab:latest","Cmd":["sleep","100000"],"StopSignal":"SIGKILL"'
	config+=',"HostConfig":{"NetworkMode":"'${2:-hybrid-net}'"}}'
	same "$(docker_api POST "containers/create?name=$1" "$config")" 201 "create $1"
	same "$(docker_api POST "containers/$1/start")" 204 "start $1"
}

# Few at a time: Docker 20.10 locks itself up for good where a hundred containers of one network end at once.
remove_containers() {
	docker ps -aq | xargs -r -P 4 -n 1 docker rm -f >/dev/null
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
		# A dockerd that was killed can leave a container that runs without an address.
	} | awk 'NF == 2' | sort
}

# What our resolver answers for each name in FILE, and for each address of its own: NAME ADDRESS, sorted.
resolved() { # FILE NETWORK SERVER
	sed "s/\$/.$2.internal A/" "$1" | dig "@$3" +noall +answer +time=2 +tries=3 -f /dev/stdin |
		awk -v zone=".$2.internal." '$4 == "A" { sub(zone "$", "", $1); print $1, $5 } /timed out/' | sort
}

named_back() { # ZONE SERVER PREFIX…
	local zone=$1 server=$2 prefix n
	shift 2
	for prefix; do
		for n in {0..255}; do echo "-x $prefix.$n"; done
	done | dig "@$server" +noall +answer +time=2 +tries=3 -f /dev/stdin |
		awk -v zone=".$zone.internal." '$4 == "PTR" { sub(zone "$", "", $5); split($1, p, ".")
			print $5, p[4] "." p[3] "." p[2] "." p[1] } /timed out/' | grep -vE '^(host|gateway) ' | sort
}

# DNS, both ways, the leases and dnsmasq's files know those that Docker and libvirt say, and nobody else:
# none of the names that were used and are no more. Nobody has an address twice.
nothing_stale() { # [NETWORK RESOLVER PREFIX…]: its addresses are PREFIX.0 to PREFIX.255
	local network=${1:-hybrid} server=${2:-10.0.1.1} prefixes=("${@:3}")
	[ ${#prefixes[@]} -gt 0 ] || prefixes=(10.0.1)
	said "$network" >"$T/said"
	{ cut -d ' ' -f 1 "$T/said" && cat "$T"/used.*; } | sort -u >"$T/names"
	same "$(cut -d ' ' -f 2 "$T/said" | sort | uniq -d)" "" "addresses given twice" || return 1
	{
		diff "$T/said" <(resolved "$T/names" "$network" "$server") &&
			diff "$T/said" <(named_back "$network" "$server" "${prefixes[@]}") &&
			diff "$T/said" <(leases "$network" |
				jq -r '.[] | select(.state == "active") | "\(.owner_name) \(.address)"' | sort)
	} || return 1
	same "$(find "/run/hybrid-hook/dnsmasq/$network/hosts.d" -type f -exec cat {} + | wc -l)" "$(wc -l <"$T/said")" "named guests"
}

test_nothing_stale_after_random_starts_stops_and_renames() {
	load "$CHURN"
	wait "${LOAD[@]}"
	tail -qn 3 "$T"/churn.*
	same "$(cat "$T"/done.* | awk '{ n += $1 } END { print n }')" $(((CHURN - CHURN / 10) / 3 * 3 + CHURN / 10)) events
	figure "$(docker ps -q | wc -l) containers run, $(docker ps -aq | wc -l) are there, $(cat "$T"/used.* | wc -l) names were used"
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
	figure "killed $KILLS times, $(cat "$T"/done.* | awk '{ n += $1 } END { print n }') events meanwhile"
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

# --- Memory -----------------------------------------------------------------

# What the service, its listener to libvirt and the driver hold, in words of /proc, a line each: NAME,
# its own memory in KiB, threads, open files. Pages of the executable don't count: they come when they
# are first used, and are not its own.
holdings() {
	local pid
	for pid in "$(main_pid hybrid-hook)" $(pgrep -P "$(main_pid hybrid-hook)") "$(main_pid hybrid-hook-ipam)"; do
		tr '\0' ' ' <"/proc/$pid/cmdline" | awk '{ sub(".*/", "", $1); printf "%s-%s ", $1, $2 }'
		awk '/^RssAnon:|^Threads:/ { printf "%s ", $2 }' "/proc/$pid/status"
		find "/proc/$pid/fd" -mindepth 1 | wc -l
	done
}

# Ten renames of a container, ten addresses asked for and given back.
ten_events() {
	local n pool='"PoolID":"asked@10.67.0.0/24"' mac='"Options":{"com.docker.network.endpoint.macaddress":"02:42:00:00:07'
	for n in 1 2 3 4 5 6 7 8 9 0; do
		question /run/docker.sock "containers/m$(((n + 9) % 10))/rename?name=m$n" ""
		question "$SOCKET" IpamDriver.RequestAddress "{$pool,\"Address\":\"10.67.0.$((20 + n))\",$mac:0$n\"}}"
		question "$SOCKET" IpamDriver.ReleaseAddress "{$pool,\"Address\":\"10.67.0.$((20 + n))\"}"
	done | sed '$d'
}

# Part of a day: looks at everything, as each minute brings one; a container renamed, addresses asked for
# and given back, domains defined and undefined.
part_of_a_day() { # EVENTS
	local n
	for ((n = 0; n < $1; n += 10)); do
		systemctl kill -s HUP --kill-whom=main hybrid-hook
		[ $((n % 40)) -gt 0 ] || { virsh -q define "$T/brief.xml" && virsh -q undefine brief; }
		same "$(curl --config "$T/ten" | sort | uniq -c | xargs)" "20 200 10 204" "answers"
	done
	# Its workers rest.
	eventually 10 eval 'dig +short @10.0.1.1 m0.hybrid.internal | has .'
	sleep 1
}

test_memory_is_flat_after_a_days_events() {
	local name before after
	hybrid-hook network create asked --ipam hybrid --subnet 10.67.0.0/24
	for name in m0 other1 other2; do sleeper "$name"; done
	hybrid-lab-domain brief --no-meta >"$T/brief.xml"
	ten_events >"$T/ten"
	# Caches and the allocator's arenas of each thread fill: that is no growth.
	part_of_a_day $((EVENTS / 4))
	holdings >"$T/before"
	part_of_a_day "$EVENTS"
	holdings >"$T/after"
	paste -d ' ' "$T/before" "$T/after" >"$T/both"
	while read -r name before _ _ _ after _; do
		figure "$name: $before KiB before, $after KiB after $EVENTS events"
	done <"$T/both"
	# 512 KiB: 36 bytes an event of a whole day; of the few, less than one list of containers kept at each.
	# A connection or two may be open just then.
	awk '$6 - $2 > 512 || $7 - $3 > 4 || $8 - $4 > 4 { grown = 1; print "it grew: memory in KiB, threads, files:", $0 }
		END { exit grown }' "$T/both"
}

# --- A crowd ----------------------------------------------------------------

# Docker's pool there is 10.68.4.0/22. One bridge takes 1,023 ports.
crowd_network() {
	hybrid-hook network create crowd --subnet 10.68.0.0/20
}

crowd_is_right() {
	nothing_stale crowd 10.68.0.1 10.68.{4,5,6,7}
}

# Makes so many containers k1, k2, …, which come back with dockerd.
crowd_made() { # COUNT
	local n config='{"Image":"hybrid-lab:latest","Cmd":["sleep","100000"],"StopSignal":"SIGKILL"'
	config+=',"HostConfig":{"NetworkMode":"crowd-net","RestartPolicy":{"Name":"always"}}}'
	for n in $(seq "$1"); do
		question /run/docker.sock "containers/create?name=k$n" "$config" >&3
		question /run/docker.sock "containers/k$n/start" "" >&4
		echo "k$n"
	done 3>"$T/create" 4>"$T/start" >"$T/used.crowd"
	sed -i '$d' "$T/create" "$T/start"
	same "$(at_once 4 "$T/create")" "$1 201"
}

# The questions of FILE, so many at a time. Prints which answers came how often.
at_once() { # COUNT FILE
	curl --no-progress-meter --parallel --parallel-immediate --parallel-max "$1" --config "$2" | sort | uniq -c | xargs
}

# Starts those that don't run, all at once. On a busy machine Docker gives some of them up.
crowd_started() {
	local n
	for n in 1 2 3 4; do
		figure "answers to start: $(at_once 300 "$T/start")"
		[ "$(docker ps -q | wc -l)" -lt "$(wc -l <"$T/used.crowd")" ] || return 0
	done
	return 1
}

test_a_crowd_of_containers_at_once() {
	crowd_network
	crowd_made "$CROWD"
	timed crowd_started
	figure "$CROWD containers run after $MS ms"
	timed eventually 30 crowd_is_right
	figure "and all is right $MS ms later"
	remove_containers
	eventually 30 crowd_is_right
}

so_many_run() { # COUNT
	[ "$(docker ps -q | wc -l)" -ge "$1" ]
}

test_dockerd_killed_while_a_crowd_starts() {
	local crowd=$((CROWD / 2)) starting
	crowd_network
	crowd_made "$crowd"
	at_once 300 "$T/start" &
	starting=$!
	eventually 120 so_many_run $((crowd / 3))
	systemctl kill -s KILL --kill-whom=main docker.service
	wait $starting || true
	eventually 60 docker version
	# It starts those again that ran before.
	crowd_started || echo "Docker can't start some any more"
	so_many_run $((crowd * 3 / 4))
	eventually 30 crowd_is_right
	remove_containers
	eventually 30 crowd_is_right
}

suite "$@"
