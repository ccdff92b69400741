#!/bin/bash
# VMs on a Docker network that somebody else made, such as a Compose project's.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# A network as `docker compose up` makes it: its labels and no more.
project() { # NAME [options of docker network create]
	local name=$1
	shift
	docker network create --label "com.docker.compose.project=$name" --label com.docker.compose.network=default \
		"$@" "${name}_default" >/dev/null
}

# A service's container, named as Compose names it.
service() { # PROJECT SERVICE [options of docker run]
	local project=$1 service=$2
	shift 2
	container "$project-$service-1" --network "${project}_default" --network-alias "$service" \
		--label "com.docker.compose.project=$project" --label "com.docker.compose.service=$service" "$@"
}

# Defines a domain without any NIC.
bare() { # NAME
	hybrid-lab-domain "$1" --no-meta | sed '/<interface/,/<\/interface>/d' >"$T/$1.xml"
	virsh -q define "$T/$1.xml"
}

# A domain that is on the project's network from its start.
joined() { # NAME PROJECT [options of attach]
	local name=$1 project=$2
	shift 2
	bare "$name"
	hybrid-hook attach "$name" --docker-network "${project}_default" "$@"
}

# Pings and fetches both ways between the guest at $ADDRESS and a container of a project.
project_both_ways() { # NAME CONTAINER PROJECT
	local other
	other=$(container_address "$2" "$3_default")
	guest "$ADDRESS" ping -c 1 -W 2 "$other" >/dev/null
	docker exec "$2" ping -c 1 -W 2 "$ADDRESS" >/dev/null
	same "$(guest "$ADDRESS" wget -qO- "http://$other/")" "the tiny container" "guest fetches"
	same "$(docker exec "$2" wget -qO- "http://$ADDRESS/")" "$1" "container fetches"
}

# What nslookup finds first in the guest at $ADDRESS, or in a container.
found() { # NAME [CONTAINER]
	local out
	if [ $# = 1 ]; then out=$(guest "$ADDRESS" nslookup "$1" 2>&1) || true; else
		out=$(docker exec "$2" nslookup "$1" 2>&1) || true
	fi
	awk '/^Name:/ { named = 1 } named && /^Address/ { print $NF; exit }' <<<"$out"
}

finds() { # NAME ADDRESS [CONTAINER]
	same "$(found "$1" ${3:+"$3"})" "$2" "${3:-the guest} asks for $1"
}

followed() { # NETWORK
	# What is made last.
	[ -e "/etc/hybrid-hook/networks/$1.toml" ] && virsh -q net-info "$1-net" | has -E 'Active: +yes'
}

# Nothing of ours is left of a network.
unfollowed() { # NETWORK
	local left
	left=$(ls -d "/etc/hybrid-hook/networks/$1.toml" "/run/hybrid-hook/leases/$1.json" "/run/hybrid-hook/dnsmasq/$1" \
		"/var/lib/hybrid-hook/networks/$1" 2>/dev/null) || true
	same "$left" "" "files" && not systemctl is-active -q "hybrid-hook-dnsmasq@$1" &&
		not systemctl is-active -q "hybrid-hook-dhcp@$1" && not virsh -q net-info "$1-net"
}

# How Docker has a network: its settings, and what is on it.
standing() { # NETWORK
	docker network inspect "$1" | jq -S '.[0] | del(.Containers[]?.EndpointID)'
}

# The highest host's address of an IPv4 /16 that Docker chose.
highest() { # NETWORK
	docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' "$1" | sed -n 's|\.0\.0/16$|.255.254|p'
}

said() { # WORDS: by the service, since $SINCE
	journalctl -q --no-pager -o cat -u hybrid-hook --since "@$SINCE" | has "$1"
}

test_a_stopped_vm_joins_a_project() {
	local before
	project shop
	service shop web
	before=$(standing shop_default)
	joined db shop | has 'domain db is on network shop-default from its next start'
	same "$(standing shop_default)" "$before" "Docker's network"
	virsh -q start db
	booted db shop-default
	# Docker gives out the whole subnet, the lowest first: VMs have the highest.
	same "$ADDRESS" "$(highest shop_default)" "address"
	project_both_ways db shop-web-1 shop
	finds web "$(container_address shop-web-1 shop_default)"
	finds shop-web-1 "$(container_address shop-web-1 shop_default)"
	finds web.shop-default.internal "$(container_address shop-web-1 shop_default)"
	# Out by Docker's own NAT.
	same "$(guest "$ADDRESS" wget -qO- http://192.0.2.1/cgi-bin/who)" 192.0.2.2 "outside sees"
	hybrid-hook apply | has 'everything is as it should be'
	hybrid-hook inspect | has 'network shop-default: in order'
}

test_a_running_vm_joins_a_project() {
	local first
	project shop --subnet 172.30.0.0/24 --ip-range 172.30.0.0/25
	service shop web
	vm db --no-meta
	booted db
	first=$ADDRESS
	hybrid-hook attach db --docker-network shop_default --hostname pg | has 'domain db is on network shop-default with 172.30.0.1'
	booted db shop-default
	# Outside Docker's range.
	same "$ADDRESS" 172.30.0.128 "address"
	project_both_ways db shop-web-1 shop
	# It has another NIC, whose resolver and route it keeps; ours answers on the project's bridge.
	same "$(guest "$first" nslookup web.shop-default.internal 172.30.0.1 | awk '/^Name:/ { n = 1 } n && /^Address/ { print $NF; exit }')" \
		"$(container_address shop-web-1 shop_default)" "asked at the project's bridge"
	hybrid-hook detach db --docker-network shop_default | has 'domain db is off network shop-default'
	eventually 10 unfollowed shop-default
	serves "$first" db
	docker network inspect shop_default >/dev/null
}

test_an_internal_network_stays_internal() {
	project shut --internal
	service shut web
	joined db shut
	virsh -q start db
	booted db shut-default
	project_both_ways db shut-web-1 shut
	same "$(found web)" "$(container_address shut-web-1 shut_default)"
	guest "$ADDRESS" ip route >"$T/route"
	not grep ^default "$T/route"
	# Names are no way out either.
	dig +tries=1 +time=2 "@$(hybrid-hook network show shut-default --json | jq -r '.families[0].address')" \
		example.org | has 'status: REFUSED'
}

test_what_is_reserved_there_stays_free() {
	project aux --subnet 172.29.7.0/24 --aux-address gw=172.29.7.254
	joined db aux
	virsh -q start --paused db
	same "$(address db aux-default)" 172.29.7.253
}

test_services_come_and_go() {
	project shop
	service shop web
	joined db shop
	virsh -q start db
	booted db shop-default
	docker rm -f shop-web-1 >/dev/null
	eventually 3 finds web ""
	service shop web
	eventually 3 finds web "$(container_address shop-web-1 shop_default)"
	service shop api
	eventually 3 finds api "$(container_address shop-api-1 shop_default)"
}

test_the_vm_s_name_from_a_container() {
	project shop
	service shop web
	joined db shop --hostname pg
	virsh -q start db
	booted db shop-default
	# Docker's resolver knows containers alone, and asks the host's for the rest: by the full name.
	eventually 3 finds pg.shop-default.internal "$ADDRESS" shop-web-1
	same "$(getent ahosts pg.shop-default.internal | awk 'NR == 1 { print $1 }')" "$ADDRESS" "the host asks"
}

test_the_address_stays() {
	local address
	project shop
	joined db shop
	virsh -q start db
	booted db shop-default
	address=$ADDRESS
	joined other shop
	virsh -q start --paused other
	virsh -q destroy db
	has_state db idle shop-default
	virsh -q start db
	booted db shop-default
	same "$ADDRESS" "$address" "after a restart"
	systemctl restart hybrid-hook docker
	virsh -q destroy db
	virsh -q start --paused db
	same "$(address db shop-default)" "$address" "after the daemons' restart"
	no_address_twice shop-default
}

test_an_address_that_docker_gave_is_a_clash() {
	local address SINCE=$EPOCHSECONDS
	project shop --subnet 172.30.0.0/24 --ip-range 172.30.0.0/25
	joined db shop
	virsh -q start --paused db
	address=$(address db shop-default)
	service shop web --ip "$address"
	eventually 5 said "\"shop-web-1\" on network shop-default has $address, which is held by vm \"db\""
	hybrid-hook inspect >"$T/inspect" || true
	holds "$T/inspect" "address $address is both vm \"db\"'s and container \"shop-web-1\"'s" "mend: stop the VM"
	hybrid-hook doctor >"$T/doctor" 2>&1 || true
	holds "$T/doctor" "address $address is both vm \"db\"'s"
	# The way out that it names.
	virsh -q destroy db
	eventually 5 has_state shop-web-1 active shop-default
	virsh -q start --paused db
	not same "$(address db shop-default)" "$address" >/dev/null
	hybrid-hook inspect | has 'network shop-default: in order'
	# One that a container has is refused, and so is one of Docker's own.
	bare two
	hybrid-hook attach two --docker-network shop_default --ip "$address"
	start_refused_on_project two "$address is held by container \"shop-web-1\""
	refused 3 "172.30.0.9 is in the container pool 172.30.0.0/25" -- \
		hybrid-hook attach two --docker-network shop_default --ip 172.30.0.9
}

start_refused_on_project() { # NAME TEXT
	exits 1 virsh -q start --paused "$1" >"$T/start" 2>&1
	holds "$T/start" "hybrid-hook: " "$2"
}

test_the_network_goes_under_a_running_vm() {
	local SINCE=$EPOCHSECONDS pid
	project shop
	service shop web
	joined db shop
	virsh -q start db
	booted db shop-default
	pid=$(pgrep -f 'guest=db,')
	# As `docker compose down` does.
	docker rm -f shop-web-1 >/dev/null
	docker network rm shop_default >/dev/null
	eventually 5 unfollowed shop-default
	eventually 5 said 'network shop-default is gone with the Docker network shop_default that it followed'
	same "$(pgrep -f 'guest=db,')" "$pid" "the VM's process"
	hybrid-hook inspect >"$T/inspect" || true
	holds "$T/inspect" 'NIC of vm "db" on Docker network shop_default is without a network' 'docker compose up'
	not hybrid-hook doctor >"$T/doctor" 2>&1
	holds "$T/doctor" 'Docker network shop_default'
	virsh -q destroy db
	start_refused_on_project db 'Docker network shop_default, which is gone'
	holds "$T/start" 'docker compose up' 'hybrid-hook detach db --docker-network shop_default'
	# `docker compose up`: another network of the same name, on another bridge.
	project shop
	service shop web
	eventually 5 followed shop-default
	eventually 5 said 'network shop-default follows Docker network shop_default again'
	virsh -q start db
	booted db shop-default
	project_both_ways db shop-web-1 shop
	hybrid-hook inspect | has 'this host: in order'
}

# Compose itself, for the project of $T/compose.yaml.
compose() { # up -d|down|…
	docker-compose -p shop -f "$T/compose.yaml" "$@" >"$T/compose" 2>&1 || {
		cat "$T/compose"
		return 1
	}
}

web_address() {
	docker inspect -f '{{.NetworkSettings.Networks.shop_default.IPAddress}}' "$(docker ps -q --filter label=com.docker.compose.service=web)"
}

test_compose_up_and_down_with_a_vm_there() {
	command -v docker-compose >/dev/null || skip "there is no docker-compose"
	cat >"$T/compose.yaml" <<-'END'
		version: "3"
		services:
		  web:
		    image: hybrid-lab:latest
		    command: httpd -f -p 80 -h /www
		    stop_signal: SIGKILL
		networks:
		  default:
		    ipam:
		      config:
		        - subnet: 172.30.0.0/24
	END
	compose up -d
	joined db shop
	virsh -q start db
	booted db shop-default
	same "$ADDRESS" 172.30.0.254 "address"
	finds web "$(web_address)"
	same "$(guest "$ADDRESS" wget -qO- http://web/)" "the tiny container" "guest fetches"
	# The VM runs on, and Compose neither waits nor complains.
	compose down
	not grep -iE 'error|active endpoints' "$T/compose"
	not docker network inspect shop_default >/dev/null 2>&1
	eventually 5 unfollowed shop-default
	running db
	compose up -d
	eventually 30 followed shop-default
	virsh -q destroy db
	virsh -q start db
	booted db shop-default
	same "$(guest "$ADDRESS" wget -qO- http://web/)" "the tiny container" "guest fetches"
	compose down
}

test_off_a_network_that_is_gone() {
	local before
	project shop
	bare db
	before=$(virsh dumpxml --inactive db)
	hybrid-hook attach db --docker-network shop_default
	docker network rm shop_default >/dev/null
	eventually 5 unfollowed shop-default
	hybrid-hook detach db --docker-network shop_default | has 'domain db is off network shop-default'
	same "$(virsh dumpxml --inactive db)" "$before" "domain"
	hybrid-hook inspect | has 'this host: in order'
	# Nobody asks for it: it is not followed again.
	project shop
	hybrid-hook apply
	always 3 unfollowed shop-default
	same "$(ls /var/lib/hybrid-hook/waiting)" "" "notes"
}

test_without_the_service() {
	project shop
	joined db shop
	virsh -q start --paused db
	virsh -q destroy db
	systemctl stop hybrid-hook
	docker network rm shop_default >/dev/null
	project shop
	# The next command that needs it finds out.
	hybrid-hook attach db --docker-network shop_default
	virsh -q start --paused db
	address db shop-default
	systemctl start hybrid-hook
	always 2 followed shop-default
}

test_the_last_vm_takes_it_along() {
	project shop
	joined db shop
	joined two shop
	hybrid-hook detach db --docker-network shop_default >/dev/null 2>"$T/err"
	followed shop-default
	hybrid-hook detach two --docker-network shop_default
	unfollowed shop-default
	docker network inspect shop_default >/dev/null
	docker network rm shop_default >/dev/null
}

test_followed_by_hand_for_those_who_are_not_root() {
	project shop
	hybrid-hook network follow shop_default | has 'network shop-default follows Docker network shop_default on bridge br-'
	hybrid-hook network follow shop_default | has 'already'
	refused 3 "is followed by network shop-default" -- hybrid-hook network follow shop_default --name other
	project till
	hybrid-hook network follow till_default --name counter --json | jq -e '.docker_network == "till_default" and .up' >/dev/null
	# What it can't do is said, and nothing of Docker's is changed by taking it down.
	hybrid-hook network delete counter
	docker network inspect till_default >/dev/null
	hybrid-hook network create shop-till --offline >/dev/null
	project shop-till
	docker network create shop_till >/dev/null
	refused 3 "network shop-till is there already" "--name" -- hybrid-hook network follow shop_till
}

test_what_can_not_be_followed_is_refused() {
	local name before
	before=$(ls /etc/hybrid-hook/networks)
	bare db
	refused 4 "Docker has no network nothing" -- hybrid-hook attach db --docker-network nothing
	refused 3 "its driver is host" -- hybrid-hook attach db --docker-network host
	refused 3 "its driver is null" -- hybrid-hook attach db --docker-network none
	for name in macvlan ipvlan; do
		# Only where the kernel has it.
		docker network create -d "$name" "t-$name" >/dev/null || continue
		refused 3 "its driver is $name" -- hybrid-hook attach db --docker-network "t-$name"
	done
	refused 3 "it is Docker's own" -- hybrid-hook attach db --docker-network bridge
	refused 3 "is that of network hybrid" "--network hybrid" -- hybrid-hook attach db --docker-network hybrid-net
	# shellcheck disable=SC2016 # meant as it stands
	for name in ../x 'a b' -x '$(id)' '' $'a\nb' "$(printf 'a%.0s' {1..200})"; do
		refused 2 -- hybrid-hook attach db "--docker-network=$name"
	done
	project shop
	refused 3 "its project's to say" -- hybrid-hook attach db --docker-network shop_default --containers label=a
	refused 4 "no domain" -- hybrid-hook attach nobody --docker-network shop_default
	same "$(ls /etc/hybrid-hook/networks)" "$before" "networks' files"
	exits 2 hybrid-hook attach db --docker-network shop_default --network hybrid 2>/dev/null
}

suite "$@"
