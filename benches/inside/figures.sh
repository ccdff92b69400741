# shellcheck shell=bash
# Sourced by the parts, in the lab: lines for benches/table.awk, and the VM that they share.

row() { # WHAT OURS BASELINE UNIT GOAL LIMIT
	local IFS='|'
	echo "$*"
}

# Microseconds as milliseconds.
ms() { # MICROSECONDS
	awk -v us="$1" 'BEGIN { printf "%.4f", us / 1000 }'
}

median() { # NUMBERS on standard input
	sort -g | awk '{ n[NR] = $1 } END { print n[int((NR + 1) / 2)] }'
}

# Somebody else's domain, as libvirt hands it to a hook: nothing of ours in it.
foreign_domain() {
	hybrid-lab-domain foreign --no-meta --network default --uuid 11111111-2222-4333-8444-555555555555
}

network_up() {
	hybrid-hook network show hybrid >/dev/null 2>&1 || hybrid-hook network create hybrid >&2
}

# An empty hook, as a baseline.
empty_hook() { # PATH
	printf '#!/bin/sh\nexit 0\n' >"$1"
	chmod 755 "$1"
}

# Before everything else on the machine, where that is allowed: a process of a millisecond would
# else be measured by what other work it has to wait for.
first=(chrt -r 10)
"${first[@]}" true 2>/dev/null || first=()
