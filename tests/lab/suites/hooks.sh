#!/bin/bash
# What each hook call ends with: the failure table, operation by operation,
# called as libvirt calls it.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

QEMU=/etc/libvirt/hooks/qemu.d/50-hybrid-hook
NETWORK=/etc/libvirt/hooks/network.d/50-hybrid-hook
ALL="prepare start started stopped release restore migrate reconnect"

# Runs a hook as libvirt does; its code in $CODE, its words in $T/out and
# $T/err. $SET holds more environment.
call() { # HOOK OBJECT OPERATION XML-FILE
	local sub=begin
	[[ $3 != stopped && $3 != release ]] || sub=end
	CODE=0
	# shellcheck disable=SC2086 # words are wanted
	(cd / && timeout -k 1 20 env -i LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin ${SET:-} \
		"$1" "$2" "$3" "$sub" -) <"$4" >"$T/out" 2>"$T/err" || CODE=$?
}

# Whether the last call ended with CODE, so many lines on stderr, none on stdout.
ended() { # CODE LINES
	[ "$CODE $(wc -l <"$T/err") $(wc -c <"$T/out")" = "$1 $2 0" ] || {
		echo "exit code $CODE, stdout and stderr:"
		head -c 500 "$T/out" "$T/err"
		return 1
	}
}

silent() { # HOOK OBJECT OPERATION XML-FILE: 0, and not a word
	call "$@"
	ended 0 0 || {
		echo "so ended $3 of $2"
		return 1
	}
}

refuses() { # OBJECT OPERATION XML-FILE TEXT…: 1, with one line that holds each TEXT
	local name=$1 operation=$2 file=$3
	shift 3
	call "$QEMU" "$name" "$operation" "$file"
	ended 1 1 || {
		echo "so ended $operation of $name"
		return 1
	}
	holds "$T/err" "hybrid-hook: " "$@"
}

# A domain as libvirt would hand it to the hook.
domain() { # NAME FILE [options of hybrid-lab-domain]
	local name=$1 file=$2
	shift 2
	hybrid-lab-domain "$name" --uuid "$(uuid_of "$name")" "$@" >"$file"
}

uuid_of() { # NAME
	sha256sum <<<"$1" | sed -E 's/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*/\1-\2-4\3-8\4-\5/'
}

# Folders of ours that are broken in every way that matters: no call for a
# domain of somebody else may even look.
broken_folders() {
	mkdir -p "$T"/broken/{etc/networks,state,run}
	echo 'format = nonsense [' >"$T/broken/etc/networks/hybrid.toml"
	echo junk >"$T/broken/state/networks"
	SET="HYBRID_CONFIG_DIR=$T/broken/etc HYBRID_STATE_DIR=$T/broken/state HYBRID_RUN_DIR=$T/broken/run"
}

test_a_domain_that_is_not_ours() {
	local operation
	hybrid-lab-domain theirs --no-meta --bridge virbr0 >"$T/x"
	for operation in $ALL; do silent "$QEMU" theirs "$operation" "$T/x"; done
	broken_folders
	for operation in $ALL; do silent "$QEMU" theirs "$operation" "$T/x"; done
	SET="HYBRID_CONFIG_DIR=/proc/self/mem HYBRID_STATE_DIR=/dev/null HYBRID_RUN_DIR=/dev/null"
	for operation in $ALL; do silent "$QEMU" theirs "$operation" "$T/x"; done
}

test_a_domain_that_is_not_ours_takes_no_lock() {
	local operation
	hybrid-lab-domain theirs --no-meta --bridge virbr0 >"$T/x"
	hold_lock /var/lib/hybrid-hook/networks/hybrid/lock
	hold_lock /var/lib/hybrid-hook/networks.lock
	for operation in $ALL; do
		timed silent "$QEMU" theirs "$operation" "$T/x"
		[ "$MS" -lt 1000 ] || return 1
	done
}

test_an_operation_that_nobody_knows() {
	domain ours "$T/x" --meta 'ip="10.0.2.9"'
	local operation
	broken_folders
	for operation in '' unknown PREPARE 'prepare ' --help attach "$(printf 'p%.0s' {1..5000})"; do
		silent "$QEMU" ours "$operation" "$T/x"
		silent "$NETWORK" hybrid-net "$operation" "$T/x"
	done
	# With no words at all as well.
	(cd / && env -i "$QEMU" <"$T/x")
	(cd / && env -i "$NETWORK" <"$T/x")
}

test_an_ordinary_users_session() {
	local operation
	domain ours "$T/x" --meta 'ip="10.0.2.9"'
	chmod 755 "$T"
	for operation in $ALL; do
		exits 0 setpriv --reuid nobody --regid nogroup --clear-groups \
			"$QEMU" ours "$operation" begin - <"$T/x" >"$T/said" 2>&1
		same "$(wc -c <"$T/said")" 0 "bytes said"
	done
	setpriv --reuid nobody --regid nogroup --clear-groups "$NETWORK" hybrid-net port-created begin - <"$T/x"
	same "$(leases | jq length)" 0 leases
}

test_an_ordinary_life() {
	local operation
	domain ours "$T/x" --meta 'ip="10.0.1.90"' && SET=''
	refuses ours prepare "$T/x" 10.0.1.90 10.0.1.64/26
	domain ours "$T/x" --meta 'ip="10.0.1.200"'
	for operation in prepare start started; do silent "$QEMU" ours "$operation" "$T/x"; done
	has_state ours active
	# Each again, and in no good order: nothing new.
	for operation in started prepare reconnect start; do silent "$QEMU" ours "$operation" "$T/x"; done
	same "$(lease ours .generation)" 1
	for operation in stopped release release stopped; do silent "$QEMU" ours "$operation" "$T/x"; done
	has_state ours idle
	same "$(lease ours .address)" 10.0.1.200
}

test_start_claims_where_prepare_did_not() {
	domain late "$T/x" --no-meta
	silent "$QEMU" late start "$T/x"
	has_state late active
	domain late2 "$T/x" --meta "ip=\"$(lease late .address)\""
	refuses late2 start "$T/x" '"late"'
}

test_prepare_refuses_in_one_line() {
	domain holder "$T/x" --meta 'ip="10.0.1.210"'
	silent "$QEMU" holder prepare "$T/x"
	domain ours "$T/x" --meta 'ip="10.0.1.210"'
	refuses ours prepare "$T/x" 10.0.1.210 '"holder"' hint
	domain ours "$T/x" --meta 'ip="10.0.2.9"'
	refuses ours prepare "$T/x" 10.0.2.9 10.0.1.0/24 hint
	domain ours "$T/x" --meta-network elsewhere
	refuses ours prepare "$T/x" elsewhere hint
	domain ours "$T/x" --bridge br9
	refuses ours prepare "$T/x" '"ours"' 'hybrid-hook attach'
	domain ours "$T/x" --meta 'ip="10.0.1.300"'
	refuses ours prepare "$T/x" 10.0.1.300
	domain ours "$T/x" --meta 'hostname="-bad-"'
	refuses ours prepare "$T/x" bad
	domain ours "$T/x" --meta 'containers="app=shop"'
	refuses ours prepare "$T/x" label=
}

test_prepare_with_a_full_pool() {
	local n
	hybrid-hook network create small --subnet 10.66.0.0/29
	for n in 1 2 3; do
		domain "small$n" "$T/x" --bridge hyb-small --meta-network small
		silent "$QEMU" "small$n" prepare "$T/x"
	done
	domain small4 "$T/x" --bridge hyb-small --meta-network small
	refuses small4 prepare "$T/x" "pool full" small hint
	# An idle one gives way.
	domain small2 "$T/y" --bridge hyb-small --meta-network small
	silent "$QEMU" small2 release "$T/y"
	silent "$QEMU" small4 prepare "$T/x"
}

test_prepare_on_a_network_that_is_down() {
	hybrid-hook network create small --subnet 10.66.0.0/29
	hybrid-hook network down small
	domain ours "$T/x" --bridge hyb-small --meta-network small
	refuses ours prepare "$T/x" small 'hybrid-hook network up'
}

# Holds a lock as another process of ours would, until the test ends.
hold_lock() { # FILE
	python3 - "$1" <<-'END' &
		import fcntl, os, sys, time
		f = open(sys.argv[1], "r+" if os.path.exists(sys.argv[1]) else "w+")
		fcntl.flock(f, fcntl.LOCK_EX)
		f.write("%-10d\n" % os.getpid())
		f.flush()
		time.sleep(60)
	END
	HOLDER=$!
	eventually 5 grep -q "^$HOLDER " "$1"
}

test_a_lock_that_is_held() {
	local operation
	domain ours "$T/x" --meta 'ip="10.0.1.200"'
	silent "$QEMU" ours prepare "$T/x"
	hold_lock /var/lib/hybrid-hook/networks/hybrid/lock
	domain other "$T/y" --no-meta
	timed refuses other prepare "$T/y" "process $HOLDER" hybrid
	[ "$MS" -lt 8500 ] || return 1
	# What may stop nothing comes back in time all the same.
	SET=HYBRID_HOOK_TIMEOUT=1
	for operation in started stopped release reconnect restore; do
		timed silent "$QEMU" ours "$operation" "$T/x"
		[ "$MS" -lt 2500 ] || return 1
	done
	timed refuses other start "$T/y"
	[ "$MS" -lt 2500 ] || return 1
}

test_trouble_of_others_stops_nothing() {
	dirty
	systemctl stop hybrid-hook docker.socket docker
	systemctl stop hybrid-hook-{dnsmasq,dhcp}@hybrid
	mv /usr/sbin/nft /usr/sbin/nft.away
	domain ours "$T/x" --meta 'ip="10.0.1.200" containers="label=app"'
	local operation code=0
	for operation in prepare start started release; do
		silent "$QEMU" ours "$operation" "$T/x" || code=1
	done
	mv /usr/sbin/nft.away /usr/sbin/nft
	return "$code"
}

test_a_registry_that_can_not_be_read() {
	local operation file
	dirty
	domain ours "$T/x" --meta 'ip="10.0.1.200"'
	silent "$QEMU" ours prepare "$T/x"
	systemctl stop hybrid-hook
	file=$(ls /var/lib/hybrid-hook/networks/hybrid/leases/*.toml)
	cp "$file" "$T/good"
	domain other "$T/y" --meta 'ip="10.0.1.201"'
	hybrid-lab-domain theirs --no-meta --bridge virbr0 >"$T/z"

	head -c 100 "$T/good" >"$file"
	refuses other prepare "$T/y" "$file"
	: >"$file"
	refuses other prepare "$T/y" "$file" 'cut off or empty'
	head -n 1 "$T/good" >"$file"
	refuses other prepare "$T/y" "$file" 'cut off'
	sed 's/^format = 2/format = 3/' "$T/good" >"$file"
	refuses other prepare "$T/y" "$file" 'format 3'
	sed 's/^format = 2/format = 2\nfuture = 1/' "$T/good" >"$file"
	refuses other prepare "$T/y" "$file" future
	head -c 3000 /dev/urandom >"$file"
	refuses other prepare "$T/y" "$file"
	for operation in started stopped release reconnect; do silent "$QEMU" ours "$operation" "$T/x"; done
	silent "$QEMU" ours restore "$T/x"
	silent "$QEMU" theirs prepare "$T/z"
	rm "$file" && mkdir "$file"
	refuses other prepare "$T/y" "$file"
	rmdir "$file"
	# None of it was written over: with the file back all is well.
	cp "$T/good" "$file"
	silent "$QEMU" other prepare "$T/y"
	same "$(lease ours .address)" 10.0.1.200
}

test_restore_is_a_filter() {
	dirty
	domain ours "$T/x" --meta 'ip="10.0.1.200" mac="52:54:00:01:02:03"' --mac 52:54:00:01:02:03
	silent "$QEMU" ours restore "$T/x"
	silent "$QEMU" ours migrate "$T/x"
	# From a host where the bridge had another name: that alone changes.
	sed "s/bridge='hybr0'/bridge='oldbr7'/" "$T/x" >"$T/old"
	local operation
	for operation in restore migrate; do
		call "$QEMU" ours "$operation" "$T/old"
		same "$CODE" 0 "exit code"
		cmp "$T/out" "$T/x"
	done
	# Only an address that is another's by now stops it.
	domain other "$T/y" --meta 'ip="10.0.1.200"'
	silent "$QEMU" other prepare "$T/y"
	for operation in restore migrate; do refuses ours "$operation" "$T/x" 10.0.1.200 '"other"'; done
	# Also where the bridge has to be put right first.
	for operation in restore migrate; do refuses ours "$operation" "$T/old" 10.0.1.200 '"other"'; done
	silent "$QEMU" other release "$T/y"
	# And an address that it had from the pool, which another asked for since.
	domain dynamic "$T/z" --no-meta --mac 52:54:00:01:02:04
	silent "$QEMU" dynamic prepare "$T/z"
	silent "$QEMU" dynamic release "$T/z"
	silent "$QEMU" dynamic restore "$T/z"
	hybrid-hook claim --owner "$(uuid_of taker)" --mac 52:54:00:01:02:05 --ip "$(lease dynamic .address)" --no-probe
	for operation in restore migrate; do refuses dynamic "$operation" "$T/z" "held by"; done
	# Nothing else does.
	domain odd "$T/x" --meta 'ip="10.9.9.9"'
	silent "$QEMU" odd restore "$T/x"
	domain odd "$T/x" --meta-network elsewhere
	silent "$QEMU" odd migrate "$T/x"
	head -c 700 "$T/x" >"$T/cut"
	silent "$QEMU" odd restore "$T/cut"
}

test_a_network_hook_never_stops_anything() {
	local operation
	port 52:54:00:00:00:42 >"$T/p"
	for operation in start started updated; do silent "$NETWORK" hybrid-net "$operation" "$T/p"; done
	silent "$NETWORK" hybrid-net port-created "$T/p"
	silent "$NETWORK" hybrid-net port-created "$T/p"
	has_state ported active
	same "$(lease ported .generation)" 1
	silent "$NETWORK" hybrid-net port-deleted "$T/p"
	has_state ported idle
	silent "$NETWORK" hybrid-net stopped "$T/p"
	SET=HYBRID_HOOK_TIMEOUT=1
	hold_lock /var/lib/hybrid-hook/networks/hybrid/lock
	for operation in port-created port-deleted started; do
		timed silent "$NETWORK" hybrid-net "$operation" "$T/p"
		[ "$MS" -lt 2500 ] || return 1
	done
	broken_folders
	: >"$T/empty"
	head -c 100 "$T/p" >"$T/cut"
	for operation in start started updated stopped port-created port-deleted plugged; do
		silent "$NETWORK" hybrid-net "$operation" "$T/p"
		silent "$NETWORK" hybrid-net "$operation" "$T/empty"
		silent "$NETWORK" hybrid-net "$operation" "$T/cut"
	done
}

port() { # MAC
	cat <<-END
		<hookData><network connections='1'><name>hybrid-net</name>
		<uuid>$(virsh net-uuid hybrid-net | sed '/^$/d')</uuid>
		<forward mode='bridge'/><bridge name='hybr0'/></network>
		<networkport><uuid>$(uuid_of port)</uuid>
		<owner><name>ported</name><uuid>$(uuid_of ported)</uuid></owner>
		<mac address='$1'/><plug type='bridge' bridge='hybr0'/></networkport></hookData>
	END
}

# Names as anybody may choose them: in the call, in the XML, and in the metadata.
test_hostile_names() {
	local name n=0
	touch "$T/mark"
	while IFS= read -r name; do
		n=$((n + 1))
		domain "n$n" "$T/x" --no-meta
		python3 - "$T/x" "$name" <<-'END'
			import sys
			text, name = open(sys.argv[1]).read(), sys.argv[2]
			for plain, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
			    name = name.replace(plain, safe)
			start, end = text.index("<name>") + 6, text.index("</name>")
			open(sys.argv[1], "w").write(text[:start] + name + text[end:])
		END
		silent "$QEMU" "$name" prepare "$T/x"
		silent "$QEMU" "$name" started "$T/x"
	done <<-END
		../../x
		\$(reboot)
		\`reboot\`; reboot
		-rf
		$(printf 'x%.0s' {1..300})
		größe-ßtraße-日本
		a'"&<>b
		..
		hybrid 10.0.1.1 gateway
		\\n\\t%s%n
	END
	same "$(leases | jq '[.[] | select(.state == "active")] | length')" "$n" leases
	leases | jq -e 'all(.[]; .hostname == null or (.hostname | test("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")))' >/dev/null
	# No file of ours has such a name, and none is elsewhere.
	eventually 3 eval 'ls /run/hybrid-hook/dnsmasq/hybrid/hosts.d >/dev/null'
	find /run/hybrid-hook /var/lib/hybrid-hook -newer "$T/mark" >"$T/files"
	not grep -E 'reboot|xxxx|\.\./|größe' "$T/files"
	not ls -d /x /etc/x /var/x /run/x
	# A person's terminal sees no control characters, and the table has a line each.
	hybrid-hook leases >"$T/table"
	same "$(wc -l <"$T/table")" "$((n + 1))" lines
}

test_a_name_that_libvirt_takes() {
	# With libvirt itself: what it takes as a name starts, and resolves as a label.
	# shellcheck disable=SC2016 # a name, not to be expanded
	hybrid-lab-domain x --no-meta |
		sed 's|<name>x</name>|<name>Gr\&#xF6;\&#xDF;e \&amp; $(reboot)</name>|' >"$T/x.xml"
	virsh -q define "$T/x.xml"
	local name
	name=$(virsh -q list --all --name | sed '/^$/d')
	virsh -q start --paused "$name"
	same "$(leases | jq -r '.[0].state')" active
	leases | jq -e '.[0].hostname | test("^[a-z0-9-]+$")' >/dev/null
}

test_bad_xml() {
	local file name operation
	: >"$T/empty"
	silent "$QEMU" x prepare "$T/empty"
	for file in /opt/hybrid-hook/tests/corpus/domain/bad/*; do
		name=$(basename "$file")
		call "$QEMU" x prepare "$file"
		if grep -qa 'urn:hybrid-hook:domain:1\|hybr0\|hybrid-net' "$file"; then
			ended 1 1 || ended 0 0 || {
				echo "so ended prepare of $name"
				return 1
			}
		else
			silent "$QEMU" x prepare "$file"
		fi
		same "$(wc -c <"$T/out")" 0 "bytes of $name"
		for operation in started stopped release reconnect restore migrate; do
			silent "$QEMU" x "$operation" "$file"
		done
	done
	same "$(leases | jq length)" 0 leases
}

test_huge_xml() {
	local operation
	domain ours "$T/x" --meta 'ip="10.0.1.200"'
	{ cat "$T/x" && head -c 100000000 /dev/zero | tr '\0' ' ' && echo '<more/>'; } >"$T/huge"
	timed refuses ours prepare "$T/huge"
	[ "$MS" -lt 8500 ] || return 1
	for operation in started release restore; do silent "$QEMU" ours "$operation" "$T/huge"; done
	# A domain of others is waved through, however large.
	hybrid-lab-domain theirs --no-meta --bridge virbr0 |
		sed "s|</name>|</name><description>$(head -c 60000 /dev/zero | tr '\0' x)</description>|" >"$T/x"
	{ cat "$T/x" && head -c 100000000 /dev/zero | tr '\0' ' '; } >"$T/huge"
	timed silent "$QEMU" theirs prepare "$T/huge"
	[ "$MS" -lt 5000 ] || return 1
	rm "$T/huge"
}

test_endlessly_nested_xml() {
	python3 -c 'print("<domain><metadata xmlns:h=\"urn:hybrid-hook:domain:1\">" + "<a>" * 300000)' >"$T/deep"
	timed refuses deep prepare "$T/deep"
	[ "$MS" -lt 8500 ] || return 1
	silent "$QEMU" deep restore "$T/deep"
	python3 -c 'print("<domain>" + "<a>" * 300000 + "</a>" * 300000 + "</domain>")' >"$T/deep"
	silent "$QEMU" deep prepare "$T/deep"
	{ echo '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">' &&
		for n in {1..12}; do echo "<!ENTITY a$n \"&a$((n - 1));&a$((n - 1));&a$((n - 1));&a$((n - 1));\">"; done &&
		echo ']><domain xmlns:h="urn:hybrid-hook:domain:1">&a12;</domain>'; } >"$T/bomb"
	timed refuses bomb prepare "$T/bomb"
	[ "$MS" -lt 2000 ] || return 1
}

test_a_stdin_that_never_ends() {
	# libvirt would wait for ever; the call has a bound of its own.
	CODE=0
	(sleep 30) | timeout 20 env -i LC_ALL=C PATH=/usr/sbin:/usr/bin "$QEMU" x prepare begin - >"$T/out" 2>&1 || CODE=$?
	echo "exit code $CODE"
	cat "$T/out"
	[ "$CODE" != 124 ]
}

test_called_by_hand() {
	domain ours "$T/x" --meta 'ip="10.0.2.9"'
	exits 1 hybrid-hook hook qemu ours prepare begin - <"$T/x" >"$T/out" 2>"$T/err"
	holds "$T/err" "hybrid-hook: " 10.0.2.9
	exits 0 hybrid-hook hook network hybrid-net started begin - <"$T/x"
	exits 2 hybrid-hook hook lxc ours prepare begin - <"$T/x" 2>"$T/err"
	# By its own name too, in whatever folder.
	ln -s /usr/bin/hybrid-hook "$T/qemu"
	exits 1 "$T/qemu" ours prepare begin - <"$T/x" 2>"$T/err"
	holds "$T/err" 10.0.2.9
}

suite "$@"
