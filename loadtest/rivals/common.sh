# shellcheck shell=bash
# shellcheck disable=SC2154  # folder: set by the script that reads this one
# What the scripts of the rivals share. Each keeps its servers in a folder of its own: pids in NAME.pid, what they print in NAME.log.

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

need() {
    local program
    for program in "$@"; do
        type -P "$program" >/dev/null || die "$program is missing: apt-get install nginx libnginx-mod-nchan redis-server pushpin"
    done
}

# Debian keeps servers where an ordinary user's PATH does not look.
PATH=$PATH:/usr/sbin:/sbin

# free_ports N: so many ports of 127.0.0.1 at which nobody listens, and which the kernel gives to no outgoing connection.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
first = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
found = []
while len(found) < int(sys.argv[1]):
    port = random.randrange(10000, max(12000, min(first, 32768)))
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            continue
    if port not in found:
        found.append(port)
print(*found)
PYTHON
}

# launch NAME COMMAND…: in the background, in the state folder, until it is stopped.
launch() {
    local name=$1
    shift
    (cd "$folder" && exec setsid "$@" </dev/null >"$folder/$name.log" 2>&1) &
    echo $! >"$folder/$name.pid"
    disown
}

# wait_port NAME PORT
wait_port() {
    local turn
    for ((turn = 0; turn < 200; turn++)); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return 0; fi
        kill -0 "$(<"$folder/$1.pid")" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 20 "$folder/$1.log" >&2
    die "$1 does not listen on port $2"
}

stop_all() {
    local file pid turn
    for file in "$folder"/*.pid; do
        [[ -s $file ]] || continue
        pid=$(<"$file")
        kill "$pid" 2>/dev/null || true
        for ((turn = 0; turn < 100; turn++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
        if kill -0 "$pid" 2>/dev/null; then kill -KILL "$pid" || true; fi
        rm -f -- "$file"
    done
}

# start_redis PORT: memory only, as the rival's own examples have it.
start_redis() {
    launch redis redis-server --bind 127.0.0.1 --port "$1" --save "" --appendonly no --dir "$folder"
    wait_port redis "$1"
}

version_of() { dpkg-query -W -f='${Package} ${Version}' "$1" 2>/dev/null || echo "$1, not Debian's"; }
