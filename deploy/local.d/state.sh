# shellcheck shell=bash
# The state folder holds one cluster: its shape, ports, secrets, data, logs and the processes that it started.
#
#   shape            how many nodes, and the load balancer's port        ports/NAME   the port of each, chosen once
#   settings         NAME=VALUE lines that the nodes get                 run/NAME     pid, start time and boot of each process
#   overrides/NAME   the same for one node alone
#   secrets/         JWT key, database password, API key …               logs/NAME.log
#   postgres/ redis/ mail/                                               haproxy.cfg  binary  lock

# use_state DIR sets STATE; it creates nothing, so that asking about a cluster that never was leaves no trace.
use_state() {
    STATE=$(readlink -m -- "$1")
    SHAPE_APIS=2 SHAPE_EDGES=2 SHAPE_WORKERS=1 SHAPE_PORT=8080
    local line
    if [[ -f $STATE/shape ]]; then
        while IFS= read -r line; do
            [[ $line =~ ^(APIS|EDGES|WORKERS|PORT)=([0-9]+)$ ]] && printf -v "SHAPE_${BASH_REMATCH[1]}" %s "${BASH_REMATCH[2]}"
        done <"$STATE/shape"
    fi
}

create_state() {
    if [[ ! -d $STATE ]]; then
        mkdir -p "$STATE" || die "cannot create $STATE"
        # Others may pass through, for the database's own user does, but list nothing.
        chmod 0711 "$STATE"
    fi
    mkdir -p "$STATE"/{ports,run,logs,secrets,redis,mail}
    chmod 0700 "$STATE"/{ports,run,logs,secrets,redis,mail}
}

require_state() { [[ -f $STATE/shape ]] || die "there is no cluster in $STATE; \"deploy/local up\" makes one"; }

save_shape() {
    printf 'APIS=%s\nEDGES=%s\nWORKERS=%s\nPORT=%s\n' "$SHAPE_APIS" "$SHAPE_EDGES" "$SHAPE_WORKERS" "$SHAPE_PORT" >"$STATE/shape"
}

# lock_state makes two `up` or `down` of one cluster follow each other. Descriptor 9 is closed in everything that is started.
lock_state() {
    exec 9>"$STATE/lock"
    flock -w 1800 9 || die "another deploy/local has been busy with $STATE for half an hour"
}

# secret NAME BYTES answers in REPLY with the random hexadecimal secret of that name, made at first use.
secret() {
    local file=$STATE/secrets/$1
    if [[ ! -s $file ]]; then
        (umask 077 && od -An -N "$2" -tx1 /dev/urandom | tr -d ' \n' >"$file.new" && mv "$file.new" "$file")
    fi
    REPLY=$(<"$file")
}

# The names of the cluster in the order in which they start.
names() {
    local i
    printf '%s\n' postgres redis
    for ((i = 1; i <= SHAPE_APIS; i++)); do printf 'api-%d\n' "$i"; done
    for ((i = 1; i <= SHAPE_EDGES; i++)); do printf 'edge-%d\n' "$i"; done
    for ((i = 1; i <= SHAPE_WORKERS; i++)); do printf 'worker-%d\n' "$i"; done
    printf '%s\n' haproxy
}

is_node() { [[ $1 == api-* || $1 == edge-* || $1 == worker-* ]]; }

# Names with a process on record that the shape no longer has.
surplus_names() {
    local file name
    for file in "$STATE"/run/*; do
        [[ -f $file ]] || continue
        name=${file##*/}
        grep -xF -- "$name" < <(names) >/dev/null || printf '%s\n' "$name"
    done
}

require_name() {
    [[ -n ${1:-} ]] || die "which one? $(names | tr '\n' ' ')"
    grep -xF -- "$1" < <(names; surplus_names) >/dev/null || die "there is no \"$1\" here; there are: $(names | tr '\n' ' ')"
}
