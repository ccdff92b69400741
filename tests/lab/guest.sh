# shellcheck shell=bash
# The tiny guest: the kernel that lies in a root, and an initramfs of busybox
# and guest/, made with that root's own static busybox. A guest that is asked for
# DHCPv6 takes busybox's client; where that has none (bookworm's), Debian's
# dhclient, in an initramfs of its own, so that other guests load nothing more.

GUEST_MODULES="virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
failover net_failover virtio_net evdev button"

guest_path() { # ROOT
	local key
	key=$({ basename "$1" && cat "$LAB_HERE"/guest/* "$LAB_HERE/guest.sh"; } | sha256sum)
	echo "$LAB_CACHE/guests/${key:0:16}"
}

# Prints the folder with the guest's vmlinuz and initrd.img for ROOT.
guest_ensure() { # ROOT
	local path new
	path=$(guest_path "$1")
	if [ ! -d "$path" ]; then
		mkdir -p "$LAB_CACHE/guests"
		new=$(mktemp -d "$path.XXXXXX")
		guest_make "$1" "$new" || return
		# Of two that made it at once, one is enough.
		mv -T "$new" "$path" 2>/dev/null || rm -rf "$new"
	fi
	touch "$path"
	echo "$path"
}

guest_make() { # ROOT FOLDER
	local kernel=$1/var/lib/hybrid-lab/kernel tree=$2/tree module
	local busybox=$1/usr/bin/busybox
	mkdir -p "$tree"/{bin,dev,proc,sys,tmp,nics,modules,etc/acpi/PWRF,www/cgi-bin}
	cp "$busybox" "$tree/bin/busybox"
	cp "$LAB_HERE/guest/init" "$tree/init"
	cp "$LAB_HERE/guest/udhcpc" "$tree/etc/udhcpc"
	cp "$LAB_HERE/guest/dhcp6" "$tree/etc/dhcp6"
	cp "$LAB_HERE/guest/run" "$tree/www/cgi-bin/run"
	printf '#!/bin/sh\nexec /bin/cat >/dev/null\n' >"$tree/bin/sink"
	printf '#!/bin/sh\n/bin/poweroff -f\n' >"$tree/etc/acpi/PWRF/00000080"
	chmod 755 "$tree"/{init,etc/udhcpc,etc/dhcp6,www/cgi-bin/run,bin/sink,etc/acpi/PWRF/00000080}
	for module in $GUEST_MODULES; do
		echo "$module" >>"$tree/modules/order"
		if [ -e "$kernel/modules/$module.ko" ]; then
			cp "$kernel/modules/$module.ko" "$tree/modules/"
		elif [ -e "$kernel/modules/$module.ko.xz" ]; then
			"$busybox" unxz -c "$kernel/modules/$module.ko.xz" >"$tree/modules/$module.ko"
		fi
	done
	guest_pack "$busybox" "$tree" >"$2/initrd.img"
	if ! "$busybox" --list | grep -qx udhcpc6; then
		rm -rf "$tree"
		guest_dhclient "$1" "$tree"
		# The kernel unpacks one archive after the other.
		{ cat "$2/initrd.img" && guest_pack "$busybox" "$tree"; } >"$2/initrd-dhcp6.img"
	fi
	cp "$kernel/vmlinuz" "$2/vmlinuz"
	chmod 755 "$2"
	chmod 644 "$2"/{vmlinuz,initrd*.img}
	rm -rf "$tree"
}

guest_pack() { # BUSYBOX TREE
	(cd "$2" && find . | "$1" cpio -o -H newc 2>/dev/null | gzip -9)
}

# dhclient and the libraries that it loads, at the places where it looks.
guest_dhclient() { # ROOT TREE
	local file
	mkdir -p "$2/bin"
	cp "$1/sbin/dhclient" "$2/bin/dhclient"
	for file in $(chroot "$1" ldd /sbin/dhclient | grep -o '/[^ ]*'); do
		mkdir -p "$2${file%/*}"
		cp -L "$1$file" "$2$file"
	done
}
