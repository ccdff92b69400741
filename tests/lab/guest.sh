# shellcheck shell=bash
# The tiny guest: the kernel that lies in a root, and an initramfs of busybox
# and guest/, made with that root's own static busybox.

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
	cp "$LAB_HERE/guest/run" "$tree/www/cgi-bin/run"
	printf '#!/bin/sh\nexec /bin/cat >/dev/null\n' >"$tree/bin/sink"
	printf '#!/bin/sh\n/bin/poweroff -f\n' >"$tree/etc/acpi/PWRF/00000080"
	chmod 755 "$tree"/{init,etc/udhcpc,www/cgi-bin/run,bin/sink,etc/acpi/PWRF/00000080}
	for module in $GUEST_MODULES; do
		echo "$module" >>"$tree/modules/order"
		if [ -e "$kernel/modules/$module.ko" ]; then
			cp "$kernel/modules/$module.ko" "$tree/modules/"
		elif [ -e "$kernel/modules/$module.ko.xz" ]; then
			"$busybox" unxz -c "$kernel/modules/$module.ko.xz" >"$tree/modules/$module.ko"
		fi
	done
	(cd "$tree" && find . | "$busybox" cpio -o -H newc 2>/dev/null | gzip -9) >"$2/initrd.img"
	cp "$kernel/vmlinuz" "$2/vmlinuz"
	chmod 755 "$2"
	chmod 644 "$2"/{vmlinuz,initrd.img}
	rm -rf "$tree"
}
