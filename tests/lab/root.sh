# shellcheck shell=bash
# The cached Debian root of a release, which labs use as the lower layer of
# their overlay. Made outside the lab, with the machine's network; never
# changed once it is in its place.

# Raise this when the way of making a root changes (not its package list,
# which counts by itself).
ROOT_RECIPE=1

# The release's list, and what HYBRID_LAB_PACKAGES adds for this once.
root_packages() { # RELEASE
	{ sed 's/#.*//' "$LAB_HERE/packages/$1" && echo "${HYBRID_LAB_PACKAGES-}"; } | xargs -n 1
}

root_path() { # RELEASE
	local key
	key=$({ echo "$ROOT_RECIPE $1" && root_packages "$1"; } | sha256sum)
	echo "$LAB_CACHE/roots/$1-${key:0:16}"
}

# Prints the path of RELEASE's root, after making it if need be.
root_ensure() { # RELEASE
	local root lock
	root=$(root_path "$1")
	if [ ! -d "$root" ]; then
		mkdir -p "$LAB_CACHE/roots" "$LAB_CACHE/locks"
		exec {lock}>"$LAB_CACHE/locks/root-$1"
		flock -n "$lock" || {
			note "waiting for another lab that is making the $1 root"
			flock "$lock" || return
		}
		[ -d "$root" ] || root_make "$1" "$root" || return
		exec {lock}>&-
	fi
	touch "$root"
	echo "$root"
}

root_make() { # RELEASE ROOT
	local release=$1 root=$2 began=$SECONDS mirror new="$2.new"
	root_need_debootstrap
	mirror=$(root_mirror "$release") || return
	note "making the $release root: some minutes, once, about 1 GB in $LAB_CACHE"
	root_remove "$new"
	# Its own mount and process namespaces: whatever happens in there,
	# no mount and no process stays behind. It holds the lock too, so that
	# nobody starts afresh beside a builder whose caller was killed.
	if ! LAB_MIRROR=$mirror unshare --mount --propagation private --pid --fork --kill-child \
		"$BASH" "$LAB_HERE/root.sh" build "$release" "$new" 3>&2 >"$new.log" 2>&1; then
		note "making the $release root failed; the end of $new.log:"
		tail -n 15 "$new.log" >&2
		root_remove "$new"
		[ "$release" != forky ] || {
			note "forky moves, and its root can't be made today: skip what needs it"
			return 75
		}
		return 1
	fi
	rm -f "$new.log"
	root_drop_old
	mv "$new" "$root"
	note "made the $release root in $((SECONDS - began)) s ($(du -sh "$root" | cut -f1))"
}

# Roots and guests that no lab stands on and nobody asked for in a day are of
# no more use.
root_drop_old() {
	local old
	find "$LAB_CACHE/roots" "$LAB_CACHE/guests" -mindepth 1 -maxdepth 1 -type d -mmin +1440 2>/dev/null |
		while read -r old; do
			grep -qsxF "$old" "$LAB_CACHE"/labs/*/{root,guest} || root_remove "$old"
		done
}

root_remove() { # FOLDER
	[ ! -e "$1" ] || rm -rf --one-file-system -- "$1"
}

root_need_debootstrap() {
	command -v debootstrap >/dev/null && return
	if command -v apt-get >/dev/null; then
		note "installing debootstrap"
		{ apt-get install -y --no-install-recommends debootstrap ||
			{ apt-get update && apt-get install -y --no-install-recommends debootstrap; }; } \
			</dev/null >&2 && return
	fi
	die 4 "debootstrap is not there" "install it (Debian's package debootstrap) and try again"
}

# The mirror that this machine's own apt takes Debian from.
root_mirror() { # RELEASE
	local mirror=${HYBRID_LAB_MIRROR:-}
	# shellcheck disable=SC2016 # the $( ) are apt's
	[ -n "$mirror" ] || mirror=$(
		apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
			awk '$2 ~ /^(bookworm|trixie|forky|sid|stable|testing|unstable)$/ && $3 == "main" { print $1; exit }'
	)
	[ -n "$mirror" ] || die 4 "no Debian mirror in this machine's apt sources" \
		"name one: HYBRID_LAB_MIRROR=URL"
	echo "$mirror"
}

# --- From here on inside the builder's namespaces -------------------------

say() { # TEXT: what a person watching the build sees
	echo "lab: $*" >&3
}

root_build() { # RELEASE FOLDER
	local release=$1 new=$2 script='' scripts=/usr/share/debootstrap/scripts
	[ -e "$scripts/$release" ] || script=$scripts/sid
	say "$release root: debootstrap"
	# shellcheck disable=SC2086 # no script: no argument
	debootstrap --variant=minbase "$release" "$new" "$LAB_MIRROR" $script
	mount -t proc proc "$new/proc"
	printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
	chmod 755 "$new/usr/sbin/policy-rc.d"
	printf 'path-exclude=%s/*\n' /usr/share/doc /usr/share/man /usr/share/locale \
		>"$new/etc/dpkg/dpkg.cfg.d/lab"
	say "$release root: the guest's kernel"
	root_kernel "$new"
	say "$release root: packages"
	root_packages "$release" | root_in "$new" xargs apt-get install -y --no-install-recommends
	say "$release root: last touches"
	root_finish "$new"
	umount "$new/proc"
}

root_in() { # ROOT CMD…
	local root=$1 proxy=''
	shift
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
		DEBIAN_FRONTEND=noninteractive ${proxy:+http_proxy="$proxy"} chroot "$root" "$@"
}

# Kernel and modules for the tiny guest, of one version, taken out of
# Debian's packages and not installed: the root itself needs no kernel.
root_kernel() { # ROOT
	local root=$1 at=/var/lib/hybrid-lab/kernel module file
	mkdir -p "$root$at/modules" "$root"/tmp/kernel/debs/partial
	root_in "$root" apt-get install -y --no-install-recommends --download-only \
		-o Dir::Cache::archives=/tmp/kernel/debs linux-image-cloud-amd64
	# shellcheck disable=SC2016 # expanded in the root
	root_in "$root" sh -c 'for deb in /tmp/kernel/debs/linux-*.deb; do dpkg-deb -x "$deb" /tmp/kernel; done'
	find "$root/tmp/kernel" -name 'vmlinuz*' -type f -exec cp {} "$root$at/vmlinuz" \; -quit
	[ -s "$root$at/vmlinuz" ]
	for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci \
		failover net_failover virtio_net evdev button; do
		# One that is missing is built into this kernel.
		file=$(find "$root/tmp/kernel" -name "$module.ko*" -print -quit)
		[ -z "$file" ] || cp "$file" "$root$at/modules/"
	done
	rm -rf "$root/tmp/kernel"
}

root_finish() { # ROOT
	local root=$1
	rm -f "$root/usr/sbin/policy-rc.d"
	# Nothing in a lab can be updated from outside.
	root_in "$root" apt-get clean
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/log/*.log \
		"$root"/var/log/apt/* "$root"/usr/share/doc/* "$root"/usr/share/man/* "${root:?}"/dev/*
	root_in "$root" systemctl disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer || true
	# Each lab gets these of its own.
	rm -f "$root/etc/machine-id" "$root/etc/hostname" "$root/var/lib/dbus/machine-id"
	ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
	[ "${1-}" = build ] || exit 2
	set -eu -o pipefail
	LAB_HERE=$(dirname "$(readlink -f "$0")")
	root_build "$2" "$3"
fi
