# shellcheck shell=bash
# Ports are chosen once for a state folder and kept, so that a node returns where its clients look for it.

# port_listening PORT: somebody listens there, on any address.
port_listening() {
    local hex
    printf -v hex ':%04X' "$1"
    awk -v port="$hex" 'FNR > 1 && $4 == "0A" && substr($2, length($2) - 4) == port { found = 1; exit } END { exit !found }' /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

wait_port_free() {
    local deadline=$((SECONDS + 10))
    while port_listening "$1"; do
        [[ $SECONDS -lt $deadline ]] || return 1
        sleep 0.05
    done
}

# free_port answers in REPLY. Ports that the system gives to outgoing connections are left out: one of those could
# take a node's port while the node is down.
free_port() {
    local first=10000 last ignored
    read -r last ignored </proc/sys/net/ipv4/ip_local_port_range
    if [[ $last -lt 12000 || $last -gt 32768 ]]; then last=32768; fi
    for ((ignored = 0; ignored < 200; ignored++)); do
        REPLY=$((first + (RANDOM * 32768 + RANDOM) % (last - first)))
        if ! port_listening "$REPLY" && ! grep -qxF "$REPLY" "$STATE"/ports/* 2>/dev/null; then return 0; fi
    done
    die "found no free port between $first and $last"
}

# port_of NAME answers in REPLY.
port_of() {
    if [[ $1 == haproxy ]]; then
        REPLY=$SHAPE_PORT
    elif [[ -s $STATE/ports/$1 ]]; then
        REPLY=$(<"$STATE/ports/$1")
    else
        free_port
        printf '%s\n' "$REPLY" >"$STATE/ports/$1"
    fi
}

url_of() {
    port_of "$1"
    REPLY=http://127.0.0.1:$REPLY
}

# require_port_free NAME: before it is started.
require_port_free() {
    local hint=
    [[ $1 != haproxy ]] || hint="; choose another with --port"
    port_of "$1"
    port_listening "$REPLY" || return 0
    die "$1 needs port $REPLY of 127.0.0.1, where another program listens$hint"
}
