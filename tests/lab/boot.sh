# shellcheck shell=bash
# A lab's life: its folder, its process 1, entering it, ending it.
#
# labs/NAME/ holds what a lab is: name, release, root, guest, repo, cgroup and
# since, one word each; pid, "PID START" of its process 1; upper and work, its
# changes to the root; docker and containerd; exchange, seen in it as
# /exchange; console.log, what its process 1 printed.

lab_dir() { # NAME
	echo "$LAB_CACHE/labs/$1"
}

# Prints the pid of NAME's process 1, on the machine; fails where it is not up.
lab_pid() { # NAME
	local pid start stat
	read -r pid start 2>/dev/null <"$(lab_dir "$1")/pid" || return
	stat=$(cat "/proc/$pid/stat" 2>/dev/null) || return
	# A number used again by another process has another start time.
	read -ra stat <<<"${stat##*) }"
	[ "${stat[19]}" = "$start" ] && [ "${stat[0]}" != Z ] || return
	echo "$pid"
}

lab_lock() { # NAME
	mkdir -p "$LAB_CACHE/locks" "$LAB_CACHE/labs"
	exec {LAB_LOCK}>"$LAB_CACHE/locks/lab-$1"
	flock -w 600 "$LAB_LOCK" || die 1 "lab $1 is being worked on by another command for ten minutes"
}

lab_create() { # NAME RELEASE
	local dir root guest
	dir=$(lab_dir "$1")
	root=$(root_ensure "$2") || return
	guest=$(guest_ensure "$root") || return
	mkdir -p "$dir"/{upper,work,merged,docker,containerd,exchange} || return
	chmod 711 "$dir/docker"
	echo "$1" >"$dir/name"
	echo "$2" >"$dir/release"
	echo "$root" >"$dir/root"
	echo "$guest" >"$dir/guest"
	echo "$LAB_REPO" >"$dir/repo"
	echo "hybrid-lab.$1.$(echo "$LAB_CACHE" | sha256sum | cut -c 1-8)" >"$dir/cgroup"
}

lab_boot() { # NAME
	local dir pid named began=$SECONDS
	dir=$(lab_dir "$1")
	date +%s >"$dir/since"
	rm -f "$dir/pid"
	(
		# Locks are this command's, not the lab's.
		exec {LAB_LOCK}>&- </dev/null >>"$dir/console.log" 2>&1
		exec setsid unshare --net --mount --propagation private --uts --ipc --pid --fork --kill-child \
			"$BASH" "$LAB_HERE/holder" "$dir"
	) &
	disown
	for _ in {1..600}; do
		# Looked at first: what comes between the two looks has not died.
		named=
		[ ! -e "$dir/pid" ] || named=1
		if pid=$(lab_pid "$1"); then
			lab_answers "$pid" && break
		elif [ -n "$named" ]; then
			note "lab $1 died as it booted; the end of its console:"
			tail -n 15 "$dir/console.log" >&2
			return 1
		fi
		sleep 0.2
	done
	lab_wait_services "$1" $((began + 180)) || return
	note "lab $1 ($(<"$dir/release")) is up after $((SECONDS - began)) s"
}

# Whether systemd has replaced the holder and can be asked.
lab_answers() { # PID
	[ "$(cat "/proc/$1/comm" 2>/dev/null)" = systemd ] && [ -S "/proc/$1/root/run/systemd/private" ]
}

lab_wait_services() { # NAME DEADLINE
	local state what missing
	while [ "$SECONDS" -lt "$2" ]; do
		lab_pid "$1" >/dev/null || {
			note "lab $1 died while its services started"
			return 1
		}
		missing=''
		state=$(lab_run "$1" systemctl is-system-running </dev/null 2>/dev/null)
		case $state in
		running | degraded) ;;
		*) missing="systemd ($state)" ;;
		esac
		for what in "docker version" "virsh list"; do
			# shellcheck disable=SC2086 # two words
			[ -n "$missing" ] || lab_run "$1" timeout 20 $what </dev/null >/dev/null 2>&1 || missing=${what% *}
		done
		if [ -z "$missing" ]; then
			[ "$state" = running ] || {
				note "lab $1: units that failed:"
				lab_run "$1" systemctl list-units --failed --plain --no-legend </dev/null >&2
			}
			return 0
		fi
		sleep 0.3
	done
	note "lab $1 is not ready in time: $missing does not answer"
	lab_run "$1" systemctl list-jobs </dev/null >&2
	return 1
}

# Becomes CMD in the lab, as its user LAB_USER if that is set: argument vector,
# input, output and exit code as they are; a clean environment.
lab_enter() { # NAME CMD…
	local pid own home=/root gid user=()
	pid=$(lab_pid "$1") || die 4 "lab $1 is not up" "lab --name $1 up"
	shift
	if [ -n "${LAB_USER-}" ]; then
		IFS=: read -r _ _ _ gid _ home _ < <(grep "^$LAB_USER:" "/proc/$pid/root/etc/passwd") ||
			die 4 "the lab has no user $LAB_USER"
		user=(--reuid "$LAB_USER" --regid "$gid" --init-groups)
	fi
	# What runs in the lab is counted with the lab, so that ending it finds it.
	own=/proc/$pid/root/sys/fs/cgroup/lab-run
	[ -d "$own" ] || mkdir "$own" 2>/dev/null || true
	{ echo 0 >"$own/cgroup.procs"; } 2>/dev/null || true
	[ -z "${LAB_LOCK-}" ] || exec {LAB_LOCK}>&-
	# It also ends with its caller.
	# shellcheck disable=SC2016 # expanded in the lab
	exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		TERM="${TERM:-dumb}" HOME="$home" LC_ALL=C.UTF-8 \
		nsenter -t "$pid" --all -- setpriv "${user[@]}" --pdeathsig TERM \
		sh -c 'cd "$HOME" 2>/dev/null || cd /; exec "$@"' sh "$@"
}

lab_run() { # NAME CMD…
	(lab_enter "$@")
}

# Ends the lab's processes: asked to shut down, or at once.
lab_stop() { # NAME clean|kill
	local pid
	pid=$(lab_pid "$1") || return 0
	if [ "$2" = clean ]; then
		lab_run "$1" systemctl reboot --no-wall </dev/null || true
		lab_gone "$1" 120 && return
		note "lab $1 did not shut down in 120 s; it is ended now"
	fi
	kill -KILL "$pid" 2>/dev/null || true
	lab_gone "$1" 30
}

lab_gone() { # NAME SECONDS
	local end=$((SECONDS + $2))
	while lab_pid "$1" >/dev/null; do
		[ "$SECONDS" -lt "$end" ] || return
		sleep 0.1
	done
	# The last of its processes can outlive process 1 by a moment.
	lab_end_cgroup "$1"
}

lab_end_cgroup() { # NAME
	unshare --mount --propagation private \
		"$BASH" "$LAB_HERE/cgroup.sh" remove "$(<"$(lab_dir "$1")/cgroup")"
}

# Removes all that is left of the lab, dead or alive, crashed half-way or not.
lab_remove() { # NAME
	local dir
	dir=$(lab_dir "$1")
	[ -d "$dir" ] || return 0
	lab_stop "$1" kill || true
	[ ! -s "$dir/cgroup" ] || lab_end_cgroup "$1" ||
		die 1 "processes of lab $1 can't be ended"
	rm -rf --one-file-system -- "$dir"
	rmdir --ignore-fail-on-non-empty "$LAB_CACHE/labs"
}

lab_names() {
	local dir
	for dir in "$LAB_CACHE"/labs/*/; do
		[ ! -s "$dir/name" ] || cat "$dir/name"
	done
}

lab_status() { # [json]
	local name dir pid state since first=1
	[ -z "$1" ] || printf '['
	[ -n "$1" ] || printf '%-16s %-10s %-6s %-8s %s\n' NAME RELEASE STATE PID 'UP SINCE'
	for name in $(lab_names); do
		dir=$(lab_dir "$name")
		state=up
		pid=$(lab_pid "$name") || state=dead pid=''
		since=$(cat "$dir/since" 2>/dev/null || echo 0)
		if [ -n "$1" ]; then
			[ "$first" ] || printf ','
			first=''
			printf '{"name":"%s","release":"%s","state":"%s","pid":%s,"since":%s,"exchange":"%s"}' \
				"$name" "$(<"$dir/release")" "$state" "${pid:-null}" "$since" "$dir/exchange"
		else
			printf '%-16s %-10s %-6s %-8s %s\n' "$name" "$(<"$dir/release")" "$state" "${pid:--}" \
				"$(date -d "@$since" '+%Y-%m-%d %H:%M:%S')"
		fi
	done
	[ -z "$1" ] || printf ']\n'
}
