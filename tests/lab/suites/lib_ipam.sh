# shellcheck shell=bash
# What the suites of ipam = "hybrid" share.
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "$0")/lib.sh"

# A network whose containers Docker asks us for.
asked() {
	hybrid-hook network create asked --ipam hybrid --subnet 10.67.0.0/24
}

box() { # NAME [options of docker run]
	local name=$1
	shift
	docker run -d --name "$name" --network asked-net "$@" hybrid-lab:latest >/dev/null
}

# A domain with metadata of that network, defined.
domain() { # NAME [META]
	define "$1" --bridge hyb-asked --meta-network asked --meta "${2:-}"
}

ip_of() { # CONTAINER
	container_address "$1" asked-net
}

# Every running container's address is its own in the registry, and nobody has one twice.
agrees() {
	local id address
	no_address_twice asked
	while read -r id; do
		address=$(docker inspect -f '{{with index .NetworkSettings.Networks "asked-net"}}{{.IPAddress}}{{end}}' "$id")
		[ -n "$address" ] || continue
		same "$(leases asked | jq -r --arg a "$address" '.[] | select(.address == $a) | "\(.owner) \(.state)"')" \
			"$id active" "$address"
	done < <(docker ps -q --no-trunc)
	docker ps -q | xargs -r docker inspect \
		-f '{{with index .NetworkSettings.Networks "asked-net"}}{{.IPAddress}}{{end}}' | sed '/^$/d' | sort | uniq -d |
		not grep .
}

# Nobody but these is active.
active() { # NAME…
	same "$(leases asked | jq -r '[.[] | select(.state == "active") | .owner_name // .owner] | sort | join(" ")')" "$*" active
}
