# shellcheck shell=bash
# Root's rights, for the parts that need them.

as_root() { # CMD…
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		# The lab's settings pass; the rest of the environment is root's own.
		sudo env ${HYBRID_LAB_CACHE:+HYBRID_LAB_CACHE="$HYBRID_LAB_CACHE"} \
			${HYBRID_LAB_MIRROR:+HYBRID_LAB_MIRROR="$HYBRID_LAB_MIRROR"} \
			${HYBRID_BUILD_DIR:+HYBRID_BUILD_DIR="$HYBRID_BUILD_DIR"} "$@"
	else
		echo "error: this needs root, and there is no sudo" >&2
		echo "hint: run it as root" >&2
		return 1
	fi
}
