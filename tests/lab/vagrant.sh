# shellcheck shell=bash
# Vagrant in a lab: `up --vagrant` and `vagrant DIR ARGS…`. README.md tells what is there.

# What a lab with Vagrant has besides the others' packages; so its root is another one.
# shellcheck disable=SC2034 # `lab` uses it
VAGRANT_PACKAGES="vagrant vagrant-libvirt openssh-client make sudo ruby-rspec rubocop"
VAGRANT_USER=vagrant

box_path() { # RELEASE
	local key
	key=$({ cat "$LAB_HERE"/box/{build,packages,Vagrantfile} && echo "$1"; } | sha256sum)
	echo "$LAB_CACHE/boxes/$1-${key:0:16}"
}

# Prints the folder of the box, after making it if need be. It is the same in labs of every release.
box_ensure() { # ROOT
	local path lock key
	path=$(box_path bookworm)
	mkdir -p "$LAB_CACHE/boxes" "$LAB_CACHE/locks"
	if [ ! -d "$path" ]; then
		exec {lock}>"$LAB_CACHE/locks/box"
		flock -n "$lock" || {
			note "waiting for another lab that is making the box"
			flock "$lock" || return
		}
		if [ ! -d "$path" ]; then
			note "making the Vagrant box: some minutes, once"
			find "$LAB_CACHE/boxes" -mindepth 1 -maxdepth 1 -mmin +1440 -exec rm -rf --one-file-system {} +
			key=$(find "$1/usr" -path '*/vagrant-*/keys/vagrant.pub' -print -quit)
			"$LAB_HERE/box/build" --release bookworm --mirror "$(root_mirror bookworm)" \
				--key "$key" --tools "$1" "$path" >&2 || return
		fi
		exec {lock}>&-
	fi
	touch "$path"
	echo "$path"
}

# The user, the box and this gem in a lab that is up.
vagrant_setup() { # NAME
	local root box had
	root=$(<"$(lab_dir "$1")/root")
	[ -x "$root/usr/bin/vagrant" ] || die 3 "lab $1 is up without Vagrant" \
		"lab --name $1 down, then up --vagrant"
	lab_run "$1" sh -ec "id $VAGRANT_USER >/dev/null 2>&1 || useradd -m -K HOME_MODE=0755 -s /bin/bash -G libvirt,docker $VAGRANT_USER" \
		</dev/null
	box=$(box_ensure "$root") || die 1 "the Vagrant box could not be made"
	had=$(vagrant_run "$1" cat .vagrant.d/hybrid-lab.key 2>/dev/null </dev/null) || true
	if [ "$had" != "${box##*/}" ]; then
		note "adding the box hybrid-lab"
		# Not the folder itself: another lab touches it.
		(cd "$box" && tar -cf - -- *) | vagrant_run "$1" sh -ec "
			cat >hybrid-lab.box
			vagrant box add --force --name hybrid-lab hybrid-lab.box >/dev/null
			rm hybrid-lab.box
			echo '${box##*/}' >.vagrant.d/hybrid-lab.key" || die 1 "the box could not be added in lab $1"
	fi
	vagrant_run "$1" /opt/hybrid-hook/vagrant-plugin/install </dev/null >&2 ||
		die 1 "the Vagrant plugin could not be installed in lab $1"
}

# Runs CMD in the lab as its unprivileged user.
vagrant_run() { # NAME CMD…
	(LAB_USER=$VAGRANT_USER && lab_enter "$@")
}

# Runs vagrant in DIR, a folder of the machine, as the lab's unprivileged user.
vagrant_in() { # NAME DIR ARGS…
	local name=$1 dir pid user variable environment=(HYBRID_BOX=hybrid-lab)
	[ -d "$2" ] || die 4 "no folder $2"
	dir=$(readlink -e "$2")
	shift 2
	pid=$(lab_pid "$name") || die 4 "lab $name is not up" "lab --name $name up --vagrant"
	user=$(lab_run "$name" id -u $VAGRANT_USER 2>/dev/null </dev/null) ||
		die 4 "lab $name is up without Vagrant" "lab --name $name down, then up --vagrant"
	"$LAB_HERE/folder" "$pid" "$dir" "$user" || die 1 "$dir can't be shown in lab $name"
	# What a Vagrantfile is told by the environment is told there, too.
	for variable in $(compgen -e); do
		case $variable in
		HYBRID_LAB_* | HYBRID_BUILD_DIR) ;;
		HYBRID_* | VAGRANT_*) environment+=("$variable=${!variable}") ;;
		esac
	done
	# shellcheck disable=SC2034 # lab_enter uses it
	LAB_USER=$VAGRANT_USER
	# shellcheck disable=SC2016 # expanded in the lab
	lab_enter "$name" env "${environment[@]}" sh -c 'cd "$1" && shift && exec vagrant "$@"' sh "$dir" "$@"
}
