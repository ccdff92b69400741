# shellcheck shell=bash
# The tiny container image, hybrid-lab:latest: a busybox tree, imported into
# the lab's Docker. No registry is asked.

image_tree() { # ROOT FOLDER
	local root=$1 tree=$2 applet
	mkdir -p "$tree"/{bin,etc,tmp,proc,sys,dev,root,www}
	chmod 1777 "$tree/tmp"
	cp "$root/usr/bin/busybox" "$tree/bin/busybox"
	for applet in $("$root/usr/bin/busybox" --list); do
		[ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\n' >"$tree/etc/passwd"
	printf 'root:x:0:\n' >"$tree/etc/group"
	printf 'the tiny container\n' >"$tree/www/index.html"
}

# Puts the image into a running lab whose Docker has none of this making.
image_ensure() { # NAME ROOT
	local key tree
	key=$({ basename "$2" && cat "$LAB_HERE/image.sh"; } | sha256sum)
	key=${key:0:16}
	[ "$(lab_run "$1" docker images -q "hybrid-lab:$key" </dev/null)" = "" ] || return 0
	tree=$(mktemp -d "$(lab_dir "$1")/image.XXXXXX")
	image_tree "$2" "$tree"
	tar -C "$tree" --owner=0 --group=0 -c . |
		lab_run "$1" docker import -c 'CMD ["sleep", "infinity"]' - "hybrid-lab:$key" >/dev/null || return
	rm -rf "$tree"
	lab_run "$1" docker tag "hybrid-lab:$key" hybrid-lab:latest </dev/null
}
