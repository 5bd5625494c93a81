# shellcheck shell=bash
# What the parts of run share: messages, processes, namespaces and their cleaning up. Sourced.

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
warn() { printf '\nWARNING: %s\n\n' "$*" >&2; }
die() { printf 'benches/peers/run: %s\n' "$*" >&2; exit 3; }

# wait_for WHAT COMMAND...: tries the command for ten seconds.
wait_for() {
    local what=$1 try
    shift
    for ((try = 0; try < 200; try++)); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    die "$what: not after ten seconds"
}

# background COMMAND...: starts a process that ends with the turn. Its id is in $!.
background() { background_to "$TMP/background.log" "$@"; }
background_to() {
    local output=$1
    shift
    "$@" </dev/null >"$output" 2>>"$TMP/background.log" &
    STARTED+=("$!")
}
STARTED=()

# stop PID...: ends processes of this shell and waits for them.
stop() {
    local pid try
    for pid in "$@"; do kill "$pid" 2>/dev/null; done
    for pid in "$@"; do
        for ((try = 0; try < 60; try++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    return 0
}

# namespace NAME...: makes network namespaces of this run. IPv6 is off, so that nothing but the measured frames is in them.
namespace() {
    local name
    for name in "$@"; do
        remove_namespace "$NS-$name"
        ip netns add "$NS-$name"
        ip -n "$NS-$name" link set lo up
        ip netns exec "$NS-$name" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
    done
}
inside() { local name=$1; shift; ip netns exec "$NS-$name" "$@"; }

# remove_namespace NAME: and what runs in it, which can only have been started here.
remove_namespace() {
    [ -e "/run/netns/$1" ] || return 0
    local pid
    for pid in $(ip netns pids "$1" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns del "$1" 2>/dev/null || true
}

# What a run that was killed has left behind: its namespaces and its directory have its process id in their names.
remove_leftovers() {
    local path name owner
    for path in /run/netns/tierlab-peers-* /tmp/tierlab-peers-*; do
        [ -e "$path" ] || continue
        name=${path##*/}
        owner=${name#tierlab-peers-}
        owner=${owner%%-*}
        if kill -0 "$owner" 2>/dev/null || ! [ -O "$path" ]; then continue; fi
        say "removing $path, which a run that was killed has left behind"
        case $path in
            /tmp/*) rm -rf "$path" ;;
            *) remove_namespace "$name" ;;
        esac
    done
}

# Whatever happens, nothing that was started runs on.
end_turn() {
    trap '' INT TERM
    set +e
    stop "${STARTED[@]}"
    remove_namespaces
}
remove_namespaces() {
    local path
    for path in /run/netns/"$NS"-*; do
        if [ -e "$path" ]; then remove_namespace "${path##*/}"; fi
    done
}
