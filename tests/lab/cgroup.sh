# shellcheck shell=bash
# A lab's own cgroup (version 2), just below the machine's root. The lab sees
# it as its root, so systemd in there makes its whole tree below it.

# Runs CMD with CGROUPS set to a mounted cgroup2 tree. The machine's own mount
# is used where there is one: mounting it again would reset its options.
cgroup_with() { # CMD…
	CGROUPS=$(awk '{ for (i = 7; i <= NF; i++) if ($i == "-") break }
		$(i + 1) == "cgroup2" && $4 == "/" { print $5; exit }' /proc/self/mountinfo)
	if [ -n "$CGROUPS" ]; then
		"$@"
	else
		CGROUPS=/sys/fs/cgroup
		mount -t tmpfs -o mode=755 cgroups "$CGROUPS" 2>/dev/null || return
		mount -t cgroup2 cgroup2 "$CGROUPS" || return
		"$@"
	fi
}

# Moves this shell into the cgroup NAME.
cgroup_join() { # NAME
	mkdir -p "$CGROUPS/$1" && echo 0 >"$CGROUPS/$1/cgroup.procs"
}

# Ends what still runs in the cgroup NAME, removes it and all below it.
cgroup_remove() { # NAME
	local dir=$CGROUPS/$1 try
	[ -d "$dir" ] || return 0
	echo 1 2>/dev/null >"$dir/cgroup.kill" || true
	for try in {1..100}; do
		find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
		[ -d "$dir" ] || return 0
		[ "$try" -lt 3 ] || sleep 0.1
	done
	return 1
}

# As `cgroup.sh remove NAME`, to be run in a mount namespace of its own.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	[ "${1-}" = remove ] || exit 2
	cgroup_with cgroup_remove "$2"
fi
