#!/bin/bash
# shellcheck disable=SC2317,SC2029,SC2016 # called by name; expanded there
# Vagrant for real, in a lab: what the plugin promises, with machines, containers,
# the hook and the service.
#
#   vagrant-check.sh [--release R] [PART…]      all parts, or some of:
#   example lifecycle project refusal parallel untouched templates gem time
#
# It takes half an hour per release without KVM. The lab is called vagrant-RELEASE
# (HYBRID_LAB_NAME names one that is up and stays up).
set -eu -o pipefail

here=$(dirname "$(readlink -f "$0")")
repo=$(readlink -f "$here/../..")
release=bookworm
[ "${1-}" != --release ] || { release=$2 && shift 2; }
name=${HYBRID_LAB_NAME:-vagrant-$release}
parts=(refusal example lifecycle project parallel untouched templates gem time)
for part in "$@"; do
	[[ " ${parts[*]} " = *" $part "* ]] || {
		echo "error: no part $part" >&2
		echo "hint: ${parts[*]}" >&2
		exit 2
	}
done
[ $# = 0 ] || parts=("$@")
work=$(mktemp -d)
failed=0

lab() {
	"$here/lab" --release "$release" --name "$name" "$@"
}

# Vagrant's own words go to a log, which is shown where something failed.
vagrant() { # DIR ARGS…
	lab vagrant "$@" </dev/null >"$work/log" 2>&1
}

words() {
	tr '\r' '\n' <"$work/log" | grep -v 'Progress:'
}

ssh() { # DIR MACHINE COMMAND
	lab vagrant "$1" ssh "$2" -c "$3" </dev/null 2>/dev/null | tr -d '\r'
}

user() {
	lab run --user vagrant "$@"
}

ok() { # WHAT CMD…
	local what=$1 began=$SECONDS
	shift
	if "$@" >"$work/out" 2>&1; then
		echo "ok    $what ($((SECONDS - began)) s)"
	else
		echo "FAIL  $what"
		{ cat "$work/out" && { [ ! -s "$work/log" ] || words | tail -n 15; }; } | sed 's/^/      | /'
		failed=1
	fi
}

says() { # TEXT: the last vagrant call did
	words | grep -qF -- "$1"
}

fails() { # CMD…
	! "$@"
}

checkout() { # VAGRANTFILE-BODY: prints a new folder
	local dir
	dir=$(mktemp -d "$work/checkout.XXXXXX")
	write "$dir" "$1"
	echo "$dir"
}

# As vagrant-libvirt names it.
domain_of() { # DIR MACHINE
	echo "$(basename "$1" | tr -cd 'A-Za-z0-9_.-')_$2"
}

write() { # DIR BODY
	printf "Vagrant.configure('2') do |config|\n  config.vm.box = 'hybrid-lab'\n%s\nend\n" "$2" >"$1/Vagrantfile"
}

# The container that a machine talks with: $peer, which has the address $container.
neighbour() {
	peer=web
	lab run docker rm -f web >/dev/null 2>&1 || :
	lab run docker run -d --name web --network hybrid-net --label app=shop hybrid-lab httpd -f -h /www >/dev/null
	container=$(lab run docker inspect web -f '{{ (index .NetworkSettings.Networks "hybrid-net").IPAddress }}')
}

pings() { # ADDRESS: the container does
	lab run docker exec "$peer" ping -c 1 -W 5 "$1"
}

both_ways() { # DIR MACHINE ADDRESS
	pings "$3" && ssh "$1" "$2" "ping -c 1 -W 5 $container" >/dev/null &&
		[ "$(ssh "$1" "$2" "curl -s -m 10 http://$container/")" = "the tiny container" ] &&
		ssh "$1" "$2" 'sudo busybox httpd -h /etc -p 80 2>/dev/null || :' >/dev/null &&
		lab run docker exec "$peer" wget -qO- "http://$3/hostname"
}

leases() {
	lab run hybrid-hook leases --network hybrid --json
}

holds() { # DOMAIN ADDRESS STATE
	leases | jq -e --arg d "$1" --arg a "$2" --arg s "$3" \
		'any(.[]; .owner_name == $d and .address == $a and .state == $s)'
}

# A domain's XML without what is another at each start.
dumpxml() { # DOMAIN
	lab run virsh dumpxml --inactive "$1" | sed -E "/<(uuid|mac )/d; s/ portid='[^']*'//; s/vnet[0-9]+//; s#/tmp/[^<]*checkout[^<]*##"
}

# The example as it is, beside the Compose file as it is; the environment says which box and images.
example() {
	local dir images
	lab run docker rm -f web >/dev/null 2>&1 || :
	images=(HYBRID_IMAGE=hybrid-lab "HYBRID_COMMAND=httpd -f -h /www"
		HYBRID_CACHE_IMAGE=hybrid-lab "HYBRID_CACHE_COMMAND=sleep 100000")
	compose() { lab run env "${images[@]}" docker-compose -p shop -f /opt/hybrid-hook/templates/compose.hybrid.yml "$@"; }
	ok "the Compose file" compose up -d
	peer=$(lab run docker ps -q -f label=com.docker.compose.service=web | tr -d '\r')
	container=$(lab run docker inspect "$peer" -f '{{ (index .NetworkSettings.Networks "hybrid-net").IPAddress }}')
	dir=$(mktemp -d "$work/checkout.XXXXXX")
	cp "$repo/Vagrantfile.example" "$dir/Vagrantfile"
	ok "validate" vagrant "$dir" validate
	ok "up" vagrant "$dir" up
	ok "ping and HTTP both ways" both_ways "$dir" db 10.0.1.200
	ok "the services' names in the machine" ssh "$dir" db 'getent hosts web.hybrid.internal && getent hosts redis'
	ok "the machine's name in a service" lab run docker exec "$peer" ping -c 1 -W 5 pg.hybrid.internal
	ok "destroy" vagrant "$dir" destroy -f
	ok "the Compose project goes, the network stays" compose down
	nothing_left db
	neighbour
}

lifecycle() {
	local dir domain line="  config.vm.define('db') { |db| db.hybrid.network 'hybrid', ip: '10.0.1.200', hostname: 'db', aliases: ['pg'], containers: 'label=app=shop' }"
	neighbour
	dir=$(checkout "$line")
	domain=$(domain_of "$dir" db)
	ok "up" vagrant "$dir" up
	ok "says its address" says 'Hybrid network "hybrid": 10.0.1.200 (db.hybrid.internal)'
	ok "ping and HTTP both ways" both_ways "$dir" db 10.0.1.200
	ok "names resolve in the guest" ssh "$dir" db 'getent hosts db.hybrid.internal && getent hosts pg && getent hosts web.hybrid.internal'
	ok "no default route by the hybrid NIC" fails ssh "$dir" db 'ip route show default | grep eth1'
	ok "status says reachable" bash -c "'$here/lab' --name '$name' vagrant '$dir' hybrid status --json | jq -e '.[0].networks[0] | .reachable and .address == \"10.0.1.200\"'"
	ok "halt" vagrant "$dir" halt
	ok "keeps the lease, idle" holds "$domain" 10.0.1.200 idle
	ok "up again" vagrant "$dir" up
	ok "the same address and traffic" both_ways "$dir" db 10.0.1.200
	ok "suspend" vagrant "$dir" suspend
	ok "resume" vagrant "$dir" resume
	ok "the same address and traffic" both_ways "$dir" db 10.0.1.200
	write "$dir" "${line/10.0.1.200/10.0.1.201}"
	ok "suspend, with another address asked for" vagrant "$dir" suspend
	ok "resume" vagrant "$dir" resume
	ok "says that the change waits" says "wait for the machine's next cold start"
	ok "reload moves it" vagrant "$dir" reload
	ok "says its new address" says '10.0.1.201 (db.hybrid.internal)'
	ok "ping and HTTP both ways at the new address" both_ways "$dir" db 10.0.1.201
	ok "nobody at the old one" fails pings 10.0.1.200
	write "$dir" "  config.vm.define('db')"
	ok "reload without our lines" vagrant "$dir" reload
	ok "no NIC, no metadata" fails bash -c "'$here/lab' --name '$name' run virsh dumpxml '$domain' | grep -e hybrid: -e hybr0"
	ok "nothing of ours in the guest" ssh "$dir" db '! grep hybrid /etc/resolv.conf && [ ! -e /etc/hybrid-resolver ] && [ ! -e /usr/local/sbin/hybrid-resolver ] && ! grep eth1 /etc/network/interfaces'
	write "$dir" "$line"
	ok "reload with them again" vagrant "$dir" reload
	ok "ping and HTTP both ways" both_ways "$dir" db 10.0.1.200
	ok "halt" vagrant "$dir" halt
	ok "destroy of the halted machine" vagrant "$dir" destroy -f
	ok "says nothing of an address that is kept" fails says "is not free yet"
	nothing_left "$domain"
}

nothing_left() { # DOMAIN
	ok "no lease" bash -c "'$here/lab' --name '$name' run hybrid-hook leases --network hybrid --json | jq -e --arg d '$1' 'all(.[]; .owner_name != \$d)'"
	ok "no record" fails bash -c "'$here/lab' --name '$name' run nslookup db.hybrid.internal 10.0.1.1 | grep -q 10.0.1.20"
	ok "no port but containers'" fails bash -c "'$here/lab' --name '$name' run ls /sys/class/net/hybr0/brif | grep vnet"
	ok "the libvirt network and the bridge are there" lab run sh -c 'virsh net-info hybrid-net | grep "Active: *yes" && ip link show hybr0 up'
}

# A machine on a Docker network that somebody else made, a Compose project's say.
project() {
	local dir address domain
	lab run docker rm -f shop-web-1 >/dev/null 2>&1 || :
	lab run docker network rm shop_default >/dev/null 2>&1 || :
	lab run docker network create --subnet 172.31.0.0/24 --ip-range 172.31.0.0/25 shop_default >/dev/null
	peer=shop-web-1
	lab run docker run -d --name "$peer" --network shop_default --network-alias web hybrid-lab httpd -f -h /www >/dev/null
	container=$(lab run docker inspect "$peer" -f '{{ .NetworkSettings.Networks.shop_default.IPAddress }}')
	dir=$(checkout "  config.vm.define('db') { |db| db.hybrid.docker_network 'shop_default', hostname: 'db' }")
	domain=$(domain_of "$dir" db)
	ok "up before the network is followed is refused" fails vagrant "$dir" up
	ok "with what to do" says 'hybrid-hook network follow shop_default'
	ok "nothing was created" fails lab run virsh dominfo "$domain"
	ok "network follow" lab run hybrid-hook network follow shop_default
	ok "up" vagrant "$dir" up
	address=$(lab run hybrid-hook leases --network shop-default --json | jq -r '.[] | select(.hostname == "db").address') || :
	ok "says its address" says "Hybrid network \"shop-default\": $address (db.shop-default.internal)"
	ok "outside Docker's range" [ "${address##*.}" -ge 128 ]
	ok "ping and HTTP both ways" both_ways "$dir" db "$address"
	ok "the project's service by its name" bash -c "[ \"\$('$here/lab' --name '$name' vagrant '$dir' ssh db -c 'curl -s -m 10 http://web/' </dev/null 2>/dev/null)\" = 'the tiny container' ]"
	ok "destroy" vagrant "$dir" destroy -f
	ok "no lease" bash -c "'$here/lab' --name '$name' run hybrid-hook leases --network shop-default --json | jq -e 'all(.[]; .hostname != \"db\")'"
	lab run docker rm -f "$peer" >/dev/null || :
	ok "Docker's network goes" lab run docker network rm shop_default
	ok "and ours with it" lab run sh -c 'for i in 1 2 3 4 5; do hybrid-hook network show shop-default >/dev/null 2>&1 || exit 0; sleep 1; done; exit 1'
	neighbour
}

refusal() {
	local dir domain
	dir=$(checkout "  config.hybrid.network 'hybrid', ip: '10.0.1.222'")
	lab run hybrid-hook claim --network hybrid --owner 11111111-2222-3333-4444-555555555555 \
		--mac 52:54:00:11:22:33 --ip 10.0.1.222 --no-probe >/dev/null
	ok "an address that is another's stops the start" fails vagrant "$dir" up
	ok "in hybrid-hook's words" says '10.0.1.222 is held by'
	ok "with a hint" says 'hint: '
	ok "and in no others" fails says 'virDomainCreate'
	domain=$(domain_of "$dir" default)
	ok "nothing is left of the machine" fails lab run virsh dominfo "$domain"
	lab run hybrid-hook release --network hybrid --owner 11111111-2222-3333-4444-555555555555 \
		--mac 52:54:00:11:22:33 >/dev/null
	write "$dir" "  config.hybrid.network 'nowhere'"
	ok "a network that doesn't exist stops it before anything is created" fails vagrant "$dir" up
	ok "in one line" says 'network "nowhere": does not exist'
	ok "nothing was created" fails lab run virsh dominfo "$domain"
}

parallel() {
	local dir body=''
	neighbour
	for machine in a b; do
		body+="  config.vm.define('$machine') { |m| m.hybrid.network 'hybrid', hostname: '$machine' }"$'\n'
	done
	dir=$(checkout "$body")
	ok "two machines up in parallel" vagrant "$dir" up --parallel
	ok "each with an address of its own" bash -c "'$here/lab' --name '$name' vagrant '$dir' hybrid status --json | jq -e '[.[].networks[0] | select(.reachable).address] | unique | length == 2'"
	ok "one reaches the other by name" ssh "$dir" a 'ping -c 1 -W 5 b.hybrid.internal'
	ok "destroy of running machines" vagrant "$dir" destroy -f
	ok "no lease" bash -c "'$here/lab' --name '$name' run hybrid-hook leases --network hybrid --json | jq -e 'all(.[]; .hostname != \"a\" and .hostname != \"b\")'"
}

untouched() {
	local dir domain with without
	dir=$(checkout "  config.vm.network :private_network, ip: '192.168.77.10'")
	domain=$(domain_of "$dir" default)
	ok "up of a Vagrantfile without our lines" vagrant "$dir" up
	with=$(dumpxml "$domain")
	ok "destroy" vagrant "$dir" destroy -f
	ok "the plugin is taken out" user /opt/hybrid-hook/vagrant-plugin/install --remove
	ok "up without the plugin" vagrant "$dir" up
	without=$(dumpxml "$domain")
	ok "the same domain" diff <(echo "$with") <(echo "$without")
	ok "destroy" vagrant "$dir" destroy -f
	ok "the plugin is put in" user /opt/hybrid-hook/vagrant-plugin/install
}

make_in() { # TARGET VARIABLE=VALUE…
	user env HYBRID_BOX=hybrid-lab make -s -f /opt/hybrid-hook/vagrant-plugin/vagrant.mk "$@" </dev/null
}

inside() { # NAME COMMAND
	user sh -c 'cd ~/.local/share/hybrid-hook/machines/"$1" && vagrant ssh -c "$2"' sh "$1" "$2" </dev/null
}

templates() {
	local address
	neighbour
	ok "a name that is none is refused" fails make_in hybrid-base 'NAME=a b; touch /tmp/pwned'
	ok "make hybrid-docker" make_in hybrid-docker NAME=a
	ok "the same name again is refused" fails make_in hybrid-docker NAME=a
	ok "another role of that name is refused" fails make_in hybrid-base NAME=a
	ok "a block of eight is claimed" bash -c "'$here/lab' --name '$name' run hybrid-hook leases --network hybrid --json | jq -e '[.[] | select(.owner_name == \"hybrid-a\")] | length == 9'"
	inside a 'sudo docker import /usr/local/share/hybrid-lab/image.tar inner && sudo docker run -d --name inner --network hybrid inner httpd -f -h /www' >/dev/null 2>&1
	address=$(inside a "sudo docker inspect inner -f '{{ .NetworkSettings.Networks.hybrid.IPAddress }}'" 2>/dev/null | tr -d '\r')
	echo "      the inner container: $address; the outer one: $container"
	ok "a container on the host reaches the inner one" pings "$address"
	ok "also by HTTP" lab run docker exec web wget -qO- "http://$address/"
	ok "and back" inside a "sudo docker exec inner ping -c 1 -W 5 $container"
	ok "also by HTTP" inside a "sudo docker exec inner wget -qO- http://$container/"
	ok "make halt" make_in halt NAME=a
	# vagrant-libvirt 0.11 defines a domain that is still on its way down by what it runs with, and libvirt refuses that.
	ok "is off" off hybrid-a
	ok "make up" make_in up NAME=a
	ok "the same block" inside a "grep -q ' .*/2[0-9]$' /etc/hybrid-block && sudo docker start inner && sudo docker exec inner ping -c 1 -W 5 $container"
	ok "at the same address" pings "$address"
	ok "make hybrid-observer" make_in hybrid-observer NAME=eye
	ok "with the tools" inside eye 'command -v tcpdump iperf3 dig curl'
	ok "which sees others' traffic where it is asked to" mirrored
	ok "make hybrid-base" make_in hybrid-base NAME=web2 IP=10.0.1.20
	ok "at its address" pings 10.0.1.20
	ok "make list" bash -c "'$here/lab' --name '$name' run --user vagrant make -s -f /opt/hybrid-hook/vagrant-plugin/vagrant.mk list | grep 10.0.1.20"
	for machine in a eye web2; do
		ok "make destroy NAME=$machine" make_in destroy "NAME=$machine"
	done
	ok "no lease of theirs" bash -c "'$here/lab' --name '$name' run hybrid-hook leases --network hybrid --json | jq -e 'all(.[]; (.owner_name // \"\") | startswith(\"hybrid-\") | not)'"
}

off() { # DOMAIN
	for _ in {1..60}; do
		[ "$(lab run virsh domstate "$1" | head -n 1)" != "shut off" ] || return 0
		sleep 1
	done
	return 1
}

# A container pings the machine; the observer hears it only while the mirror is on.
mirrored() {
	lab run /opt/hybrid-hook/templates/mirror on eye
	inside eye 'sudo timeout 20 tcpdump -ni eth1 -c 2 icmp' >"$work/dump" 2>&1 &
	for _ in {1..15}; do
		lab run docker exec web ping -c 1 -W 1 10.0.1.1 >/dev/null
		sleep 1
	done
	wait $! || :
	lab run /opt/hybrid-hook/templates/mirror off
	cat "$work/dump"
	grep -q "$container > 10.0.1.1" "$work/dump"
}

gem() {
	ok "builds" user sh -c '/opt/hybrid-hook/vagrant-plugin/install --build ~/pkg && ls ~/pkg/vagrant-hybrid-*.gem'
	ok "uninstalls" user /opt/hybrid-hook/vagrant-plugin/install --remove
	ok "is gone" fails user sh -c 'vagrant plugin list | grep vagrant-hybrid'
	ok "installs by vagrant plugin install, offline" user sh -ec '
		mkdir -p ~/index/gems && cp ~/pkg/*.gem ~/index/gems/ && /opt/hybrid-hook/vagrant-plugin/index ~/index
		vagrant plugin install --plugin-clean-sources --plugin-source "file://$HOME/index" ~/index/gems/*.gem'
	ok "uninstalls" user make -s -f /opt/hybrid-hook/vagrant-plugin/vagrant.mk plugin-uninstall
	ok "installs by make" user make -s -f /opt/hybrid-hook/vagrant-plugin/vagrant.mk plugin-install
	ok "is there" user sh -c 'vagrant plugin list | grep vagrant-hybrid'
	ok "RuboCop and RSpec, with this release's Vagrant" user sh -c 'cp -r /opt/hybrid-hook/vagrant-plugin ~/plugin && cd ~/plugin && rspec 2>&1; code=$?; rm -rf ~/plugin; exit $code'
}

# `up` of one machine with our line, and of the same with its NIC written out by hand, in turns; and, as a guest's boot
# is never twice the same, how long the plugin's own actions take in an `up`.
time_it() {
	local -A dirs
	local round way began took own rounds=${ROUNDS:-5}
	[ "$release" != trixie ] || {
		echo "skipped: vagrant-libvirt 0.12 makes no such NIC by hand where libvirt lists no interfaces of the host"
		return
	}
	dirs[hand]=$(checkout "  config.vm.network :public_network, dev: 'hybr0', type: 'bridge', mode: 'bridge'")
	dirs[plugin]=$(checkout "  config.hybrid.network 'hybrid'")
	: >"$work/times"
	for ((round = 1; round <= rounds; round++)); do
		for way in hand plugin; do
			began=$EPOCHREALTIME
			VAGRANT_LOG=info lab vagrant "${dirs[$way]}" up </dev/null 2> >(stamped >"$work/actions") >"$work/log" || failed=1
			took=$(since "$began")
			wait $! || :
			own=$(own_time "$work/actions")
			echo "$round $way $took s, actions of the plugin $own s" | tee -a "$work/times"
			vagrant "${dirs[$way]}" destroy -f || failed=1
		done
	done
	sort -k2,2 -k3,3n "$work/times" | awk '
		{ n[$2]++; v[$2, n[$2]] = $3; own[$2] += $9; all[$2] += $3 }
		END {
			middle = int((n["hand"] + 1) / 2)
			h = v["hand", middle]; p = v["plugin", middle]
			printf "median by hand %.2f s, with the plugin %.2f s: %+.1f %%\n", h, p, (p / h - 1) * 100
			# The round that other work on the machine disturbed least.
			h = v["hand", 1]; p = v["plugin", 1]
			printf "lowest by hand %.2f s, with the plugin %.2f s: %+.1f %%\n", h, p, (p / h - 1) * 100
			printf "the plugin\x27s own actions: %.2f s of %.2f s an up: %.2f %% (by hand %.2f s)\n",
				own["plugin"] / n["plugin"], all["plugin"] / n["plugin"], own["plugin"] / all["plugin"] * 100, own["hand"]
		}'
}

since() { # BEGAN
	echo "$EPOCHREALTIME $1" | awk '{ printf "%.2f", $1 - $2 }'
}

# Vagrant's log, of it what tells when an action begins or ends, each line with its time before it.
stamped() {
	local line
	while IFS= read -r line; do
		case $line in *"warden: Calling "*) echo "$EPOCHREALTIME $line" ;; esac
	done
}

# How long the plugin's actions took themselves, without those that they call in turn.
own_time() { # FILE
	awk '
		{ if (depth && open[depth]) own += $1 - last; last = $1 }
		/Calling IN action:/ { open[++depth] = /VagrantPlugins::Hybrid::/ }
		/Calling OUT action:/ { depth-- }
		END { printf "%.2f", own }' "$1"
}

finish() {
	[ -n "${HYBRID_LAB_NAME-}" ] || lab down || :
	rm -rf "$work"
}
trap finish EXIT

if [ -z "${HYBRID_LAB_NAME-}" ]; then
	lab up --vagrant
	lab run hybrid-hook network create
fi
cd "$repo"
for part in "${parts[@]}"; do
	echo "== $part ($release)"
	case $part in
	time) time_it ;;
	*) "$part" ;;
	esac
done
exit "$failed"
