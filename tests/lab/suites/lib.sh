# shellcheck shell=bash
# What the suites share. A suite sources this, defines functions test_*, and
# ends with `suite "$@"`. It runs inside a lab that has our build installed:
#
#   SUITE.sh [run PREFIX [PATTERN]]   all its tests, or those of one phase
#   SUITE.sh one FUNCTION             one test, with no clean-up after it
#   SUITE.sh phases                   what the runner is to do with it, in lines:
#                                     `run PREFIX` or `lab COMMAND…`
#
# Each test is a bash of its own (set -e) with a time limit and a folder $T that
# goes with it. It prints `ok NAME (secs)`, `not ok NAME` with the end of what
# it printed, or `skipped NAME: why`. Everything that it left (domains,
# containers, networks, links named t-*, leases) is taken away after it, so the
# order of tests doesn't matter; the network `hybrid` is shared.

SUITE=$(basename "$0" .sh)
SUITE_FILE=$(readlink -f "$0")
SUITE_STATE=/run/hybrid-suites
# What a test may take, in seconds; LIMIT=… before a suite's `suite` changes it.
LIMIT=${LIMIT:-180}
export LC_ALL=C.UTF-8

suite() {
	case ${1:-run} in
	phases)
		if declare -F phases >/dev/null; then phases; else echo "run test"; fi
		;;
	one) suite_one "$2" ;;
	run)
		suite_copy "$@"
		suite_run "${2:-test}" "${3:-}"
		;;
	*)
		echo "usage: $0 [run PREFIX [PATTERN] | one FUNCTION | phases]" >&2
		return 2
		;;
	esac
}

# Goes on as a copy: bash reads a script as it runs, and this one may be edited.
suite_copy() {
	local copy=$SUITE_STATE/suites
	[ "$SUITE_FILE" != "$copy/$SUITE.sh" ] || return 0
	rm -rf "$copy"
	mkdir -p "$SUITE_STATE"
	cp -r "$(dirname "$SUITE_FILE")" "$copy"
	exec "$BASH" "$copy/$SUITE.sh" "$@"
}

suite_one() { # FUNCTION
	set -eEu -o pipefail
	T=$(mktemp -d)
	# shellcheck disable=SC2154 # set by the trap itself
	trap 'code=$?; suite_end_jobs; rm -rf "$T"; exit $code' EXIT
	trap 'echo "failed: ${FUNCNAME[0]:-} line $LINENO: $BASH_COMMAND"' ERR
	"$1"
}

# Something to be undone however the test ends.
ENDINGS=()
at_end() { # CMD…
	ENDINGS=("$*" "${ENDINGS[@]}")
	# shellcheck disable=SC2154 # set by the trap itself
	trap 'code=$?; for ending in "${ENDINGS[@]}"; do $ending || true; done; suite_end_jobs; rm -rf "$T"; exit $code' EXIT
}

suite_end_jobs() {
	local jobs
	jobs=$(jobs -p)
	# shellcheck disable=SC2086 # one word a process
	[ -z "$jobs" ] || kill $jobs 2>/dev/null || true
}

suite_run() { # PREFIX PATTERN
	local test tests name began code again failed=0 phased=''
	! declare -F phases >/dev/null || phased=1
	[ -n "$phased" ] || clean
	# In the order of the file: the tests of a phase may build on each other.
	mapfile -t tests < <(grep -oE "^$1_[a-z0-9_]+" "$SUITE_FILE")
	for test in "${tests[@]}"; do
		name=${test#"$1"_}
		[ -z "$2" ] || [[ "$SUITE $name" =~ $2 ]] || continue
		[ "$1" = test ] || name=$1_$name
		began=$EPOCHREALTIME code=0 again=''
		suite_timed "$test" >"$SUITE_STATE/out" 2>&1 </dev/null || code=$?
		# Real daemons on a busy machine: what fails is tried once more, and both are said.
		if [ "$code" != 0 ] && [ "$code" != 77 ] && [ -z "$phased" ]; then
			echo "# $SUITE $name failed at the first try"
			suite_tell "${began%.*}"
			clean
			began=$EPOCHREALTIME code=0 again=', at the second try'
			suite_timed "$test" >"$SUITE_STATE/out" 2>&1 </dev/null || code=$?
		fi
		case $code in
		0)
			echo "ok $SUITE $name ($(suite_seconds "$began")$again)"
			sed -n 's/^figure: /# /p' "$SUITE_STATE/out"
			;;
		77) echo "skipped $SUITE $name: $(tail -n 1 "$SUITE_STATE/out")" ;;
		*)
			failed=1
			echo "not ok $SUITE $name ($(suite_seconds "$began"))"
			[ "$code" != 124 ] || echo "it took longer than $LIMIT s" >>"$SUITE_STATE/out"
			suite_tell "${began%.*}"
			;;
		esac
		[ -n "$phased" ] || clean
	done
	echo "end $SUITE $1"
	return "$failed"
}

suite_timed() { # TEST
	timeout -k 5 "$LIMIT" "$BASH" "$SUITE_FILE" one "$1"
}

suite_seconds() { # BEGAN
	local took=$((${EPOCHREALTIME/./} - ${1/./}))
	printf '%d.%d s' $((took / 1000000)) $((took / 100000 % 10))
}

# Why a test failed: the end of its output, and what we logged meanwhile.
suite_tell() { # SINCE
	tail -n 25 "$SUITE_STATE/out" | cut -c 1-400 | sed 's/^/  | /'
	journalctl -q --no-pager -o cat --since "@$1" -t hybrid-hook -t dnsmasq -p warning 2>/dev/null |
		grep -v '^duplicate dhcp-host' | tail -n 12 | cut -c 1-300 | sed 's/^/  journal: /'
}

# A count: the one that was asked for, else the usual one, else, for `run --long`, the large one.
so_many() { # ASKED USUAL LONG
	if [ -n "$1" ]; then echo "$1"; elif [ -n "${LONG-}" ]; then echo "$3"; else echo "$2"; fi
}

# Something measured, shown also where the test passes.
figure() { # TEXT
	echo "figure: $*"
}

skip() { # WHY
	echo "$*"
	exit 77
}

# --- What must hold ---------------------------------------------------------

not() { # CMD…
	if "$@"; then
		echo "this must fail, and did not: $*"
		return 1
	fi
}

exits() { # CODE CMD…
	local want=$1 got=0
	shift
	"$@" || got=$?
	[ "$got" = "$want" ] || {
		echo "exit code $got, not $want: $*"
		return 1
	}
}

same() { # IS WANTED [WHAT]
	[ "$1" = "$2" ] || {
		printf '%sis:     %s\nwanted: %s\n' "${3:+$3 }" "$1" "$2"
		return 1
	}
}

# Standard input, or a file, holds each of these texts.
holds() { # FILE TEXT…
	local file=$1 text
	shift
	for text; do
		grep -qF -e "$text" "$file" || {
			echo "this is not in it: $text"
			tail -n 20 "$file"
			return 1
		}
	done
}

# What is piped in holds a line that matches. It reads to the end: whoever pipes
# would be ended by the signal of a closed pipe.
has() { # [options of grep] PATTERN
	local text
	text=$(cat)
	grep -q "$@" <<<"$text" || {
		echo "no line matches ${*: -1}:"
		tail -n 15 <<<"$text"
		return 1
	}
}

# CMD must come true within so many seconds. Its last words are shown if not.
eventually() { # SECONDS CMD…
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000)) out
	shift
	until out=$("$@" 2>&1); do
		[ "${EPOCHREALTIME/./}" -lt "$end" ] || {
			echo "$out"
			echo "this did not come true: $*"
			return 1
		}
		sleep 0.1
	done
}

# CMD must hold all the time for so many seconds.
always() { # SECONDS CMD…
	local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
	shift
	while [ "${EPOCHREALTIME/./}" -lt "$end" ]; do
		"$@" || {
			echo "this did not stay true: $*"
			return 1
		}
		sleep 0.2
	done
}

# How long CMD takes, in milliseconds, in $MS.
timed() { # CMD…
	local began=${EPOCHREALTIME/./}
	"$@"
	# shellcheck disable=SC2034 # for the suites
	MS=$(((${EPOCHREALTIME/./} - began) / 1000))
}

# A command of ours that must be refused with exit code CODE and one line
# `error: …` that holds each TEXT (hints count as well).
refused() { # CODE TEXT… -- CMD…
	local code=$1 texts=()
	shift
	while [ "$1" != -- ]; do
		texts+=("$1")
		shift
	done
	shift
	exits "$code" "$@" >"$T/refused" 2>&1 || {
		cat "$T/refused"
		return 1
	}
	holds "$T/refused" "error: " "${texts[@]}"
	same "$(grep -c '^error: ' "$T/refused")" 1 "lines of error"
	not grep -qE 'panicked|RUST_BACKTRACE' "$T/refused"
}

# --- Domains ----------------------------------------------------------------

define() { # NAME [options of hybrid-lab-domain]
	hybrid-lab-domain "$@" >"$T/$1.xml"
	virsh -q define "$T/$1.xml" >/dev/null
}

# Defines and starts a domain.
vm() { # NAME [options of hybrid-lab-domain]
	define "$@"
	virsh -q start "$1"
}

# As vm, but its processor does not run: quick, and enough where only hooks matter.
vm_paused() { # NAME [options of hybrid-lab-domain]
	define "$@"
	virsh -q start --paused "$1"
}

uuid() { # NAME
	virsh domuuid "$1" | sed '/^$/d'
}

running() { # NAME
	local state
	state=$(virsh domstate "$1") && [[ $state = running || $state = paused ]]
}

gone() { # NAME
	virsh -q destroy "$1" 2>/dev/null || true
	virsh -q undefine --managed-save "$1" >/dev/null
}

# A start that must fail because of our hook: with one line of ours that holds
# each TEXT. Nothing may be left of it.
start_refused() { # NAME TEXT…
	local name=$1
	shift
	exits 1 virsh -q start --paused "$name" >"$T/start" 2>&1
	holds "$T/start" "hybrid-hook: " "$@"
	same "$(grep -c 'hybrid-hook: ' "$T/start")" 1 "lines of ours"
	same "$(virsh domstate "$name")" "shut off"
	# A registry that can't be read has none.
	same "$(lease "$name" .state 2>/dev/null || true)" ""
}

# --- The network ------------------------------------------------------------

# Its file, as a person edits it.
# shellcheck disable=SC2034 # the suites use it
FILE=/etc/hybrid-hook/networks/hybrid.toml

# The service would repair as well, so it is stopped where `apply` is tested.
without_service() {
	systemctl stop hybrid-hook
}

# Nothing is left for `apply` to do.
settled() {
	hybrid-hook apply >"$T/apply" 2>&1 || {
		cat "$T/apply"
		return 1
	}
	grep -q 'everything is as it should be' "$T/apply" || {
		cat "$T/apply"
		return 1
	}
}

# --- Leases -----------------------------------------------------------------

leases() { # [NETWORK]
	hybrid-hook leases --network "${1:-hybrid}" --json
}

# A field of the lease whose owner has this name; nothing where there is none.
lease() { # NAME FIELD [NETWORK]
	leases "${3:-hybrid}" | jq -r --arg name "$1" ".[] | select(.owner_name == \$name) | $2"
}

address() { # NAME [NETWORK]
	local address
	address=$(lease "$1" 'select(.state == "active") | .address' "${2:-hybrid}")
	[ -n "$address" ] || {
		echo "$1 holds no active lease" >&2
		return 1
	}
	echo "$address"
}

has_state() { # NAME STATE [NETWORK]
	same "$(lease "$1" .state "${3:-hybrid}")" "$2" "lease of $1"
}

no_lease() { # NAME [NETWORK]
	same "$(lease "$1" .address "${2:-hybrid}")" "" "lease of $1"
}

no_address_twice() { # NETWORK
	leases "$1" | jq -e '(map(.address) | unique | length) == length' >/dev/null
}

# --- Traffic ----------------------------------------------------------------

# An address as a URL takes it.
in_brackets() { # ADDRESS
	case $1 in
	*:*) echo "[$1]" ;;
	*) echo "$1" ;;
	esac
}

# The guest that serves its name at ADDRESS is NAME.
serves() { # ADDRESS NAME
	same "$(curl -s -g -m 2 "http://$(in_brackets "$1")/")" "$2" "$1 serves"
}

# NAME is up, at the address that the registry says. Its address is in $ADDRESS.
booted() { # NAME [NETWORK]
	ADDRESS=$(address "$@")
	eventually 120 serves "$ADDRESS" "$1" || {
		echo "$1 is $(virsh domstate "$1" | head -n 1); the end of its console, and what it asked by DHCP:"
		tail -n 5 "/var/log/hybrid-lab/$1.console"
		journalctl -q --no-pager -o short-precise -t dnsmasq-dhcp -n 200 | grep -F "$(lease "$1" .mac "${2:-hybrid}")" | tail -n 5 || true
		return 1
	}
}

guest() { # ADDRESS CMD…
	hybrid-lab-guest "$@"
}

# How often Docker tells that something came on a network or left it, while we look.
network_events() { # SECONDS DOCKER NETWORK
	{ timeout "$1" docker events --filter type=network --filter network="$2" --format '{{.Action}}' || [ $? = 124 ]; } |
		wc -l
}

# A container that serves a page, on our Docker network unless other options of
# `docker run` say otherwise.
container() { # NAME [options of docker run]
	local name=$1
	shift
	[ $# -gt 0 ] || set -- --network hybrid-net
	# It ends at once when it is told to.
	docker run -d --stop-signal KILL --name "$name" "$@" hybrid-lab:latest httpd -f -p 80 -h /www >/dev/null
}

container_address() { # NAME [DOCKER NETWORK]
	docker inspect -f "{{with index .NetworkSettings.Networks \"${2:-hybrid-net}\"}}{{.IPAddress}}{{end}}" "$1"
}

# The container is on our Docker network.
on() { # CONTAINER
	[ -n "$(container_address "$1")" ] || {
		echo "$1 is not on hybrid-net"
		return 1
	}
}

off() { # CONTAINER
	same "$(container_address "$1")" "" "address of $1"
}

# The gateway of a container's default route: Docker may number its NICs anew.
default_route() { # CONTAINER
	docker exec "$1" ip route | awk '$1 == "default" { print $3 }'
}

# Ping and HTTP both ways between the guest at ADDRESS named NAME and CONTAINER.
both_ways() { # ADDRESS NAME CONTAINER
	local other
	other=$(container_address "$3")
	guest "$1" ping -c 1 -W 2 "$other" >/dev/null
	docker exec "$3" ping -c 1 -W 2 "$1" >/dev/null
	same "$(guest "$1" wget -qO- "http://$other/")" "the tiny container" "guest fetches"
	same "$(docker exec "$3" wget -qO- "http://$1/")" "$2" "container fetches"
}

# A host that no registry knows: a network namespace on a bridge, at ADDRESS.
stranger() { # NAME BRIDGE ADDRESS/PREFIX
	ip netns add "t-$1"
	ip link add "t-$1" type veth peer name eth0 netns "t-$1"
	ip link set "t-$1" master "$2" up
	ip -n "t-$1" link set lo up
	ip -n "t-$1" link set eth0 up
	ip -n "t-$1" address add "$3" dev eth0
}

# A bridge that is not ours.
foreign_bridge() { # NAME [ADDRESS/PREFIX]
	ip link add "t-$1" type bridge
	[ -z "${2:-}" ] || ip address add "$2" dev "t-$1"
	ip link set "t-$1" up
}

# --- Clean-up ---------------------------------------------------------------

# The test changes what is shared; the network is made anew after it.
dirty() {
	: >"$SUITE_STATE/dirty"
}

clean() {
	{ clean_daemons && clean_guests && clean_networks && clean_links && clean_leases; } \
		>"$SUITE_STATE/clean" 2>&1 || {
		# What can't be cleaned is told by the test that trips over it.
		echo "# clean-up after a test of $SUITE failed:"
		tail -n 5 "$SUITE_STATE/clean" | sed 's/^/  | /'
	}
}

clean_daemons() {
	local unit
	for unit in docker.service containerd.service; do
		systemctl kill -s CONT --kill-whom=main "$unit" 2>/dev/null || true
	done
	# Their restarts are many, and are counted.
	systemctl reset-failed
	for unit in hybrid-hook-ipam.socket libvirtd docker hybrid-hook; do
		systemctl is-active -q "$unit" || systemctl restart "$unit"
	done
	if mountpoint -q /var/lib/hybrid-hook; then umount -l /var/lib/hybrid-hook; fi
}

clean_guests() {
	local name names
	mapfile -t names < <(virsh -q list --all --name | sed '/^$/d')
	for name in "${names[@]}"; do
		virsh -q destroy "$name" 2>/dev/null || true
		virsh -q undefine --managed-save "$name" 2>/dev/null || true
	done
	mapfile -t names < <(docker ps -aq)
	[ ${#names[@]} = 0 ] || docker rm -f "${names[@]}"
}

clean_networks() {
	local name
	for name in $(hybrid-hook network list --json | jq -r '.[].name'); do
		[ "$name" = hybrid ] || hybrid-hook network delete --force "$name"
	done
	for name in $(docker network ls -q --filter type=custom --format '{{.Name}}'); do
		[ "$name" = hybrid-net ] || docker network rm "$name"
	done
	# Docker 20.10 forgets no endpoint that ended in a crowd: such a network goes only after dockerd's next
	# start, which makes its bridge once more, and that one stays.
	for name in $(ip -o link show type bridge | sed -n 's/^[0-9]*: \(hyb-[^@:]*\).*/\1/p'); do
		hybrid-hook network list --json | jq -e --arg b "$name" 'any(.[]; .bridge == $b)' >/dev/null ||
			ip link delete "$name"
	done
	for name in $(virsh -q net-list --all --name); do
		[[ $name != t-* ]] || virsh -q net-destroy "$name" || true
		[[ $name != t-* ]] || virsh -q net-undefine "$name" || true
	done
	clean_hybrid && return
	hybrid-hook network delete --force hybrid || true
	rm -rf /etc/hybrid-hook/networks/* /var/lib/hybrid-hook/networks/*
	docker network rm hybrid-net || true
	ip link delete hybr0 || true
	hybrid-hook network create hybrid
	cp /etc/hybrid-hook/networks/hybrid.toml "$SUITE_STATE/hybrid.toml"
	rm -f "$SUITE_STATE/dirty"
}

# Whether the shared network is as it was made.
clean_hybrid() {
	[ ! -e "$SUITE_STATE/dirty" ] &&
		cmp -s /etc/hybrid-hook/networks/hybrid.toml "$SUITE_STATE/hybrid.toml" &&
		hybrid-hook network list --json | jq -e '.[] | select(.name == "hybrid").up' >/dev/null &&
		ip link show hybr0 >/dev/null && docker network inspect hybrid-net >/dev/null
}

clean_links() {
	local name
	for name in $(ip netns list | awk '$1 ~ /^t-/ { print $1 }'); do
		ip netns delete "$name"
	done
	for name in $(ip -o link | sed -n 's/^[0-9]*: \(t-[^@:]*\).*/\1/p'); do
		ip link delete "$name" 2>/dev/null || true
	done
}

clean_leases() {
	local address mac owner reserved
	leases | jq -r '.[] | [.address, .mac // "-", .owner // "-", .reserved] | @tsv' |
		while IFS=$'\t' read -r address mac owner reserved; do
			if [ "$reserved" = true ]; then hybrid-hook reserve --ip "$address" --remove || true; fi
			[ "$owner" = - ] || hybrid-hook release --owner "$owner" --mac "$mac" --forget || true
		done
}
