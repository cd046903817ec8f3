# shellcheck shell=bash
# Starting and stopping: the whole, and one of it.

# How long a graceful stop may take: the drain window is 20 s, an e-mail under way has 40 s, and a database may have much to write at the end.
readonly STOP_SECONDS=90
# How long one may take to be ready. A database may have to replay what it did not write to its files.
readonly READY_SECONDS=90

start_name() {
    # Two that start the same node at once would both find its port free.
    exec 8>"$STATE/run/.$1.lock"
    flock -w 60 8 || die "another deploy/local has been starting $1 for a minute"
    if ! is_running "$1"; then
        if [[ $1 == haproxy ]]; then require_port_free "$1"; else port_of "$1"; wait_port_free "$REPLY" || require_port_free "$1"; fi
        case $1 in
            postgres | redis | haproxy) "start_$1" ;;
            *) start_node "$1" ;;
        esac
    fi
    exec 8>&-
}

is_ready() {
    is_running "$1" || return 1
    case $1 in
        postgres | redis | haproxy) "ready_$1" ;;
        *) ready_node "$1" ;;
    esac
}

# wait_ready NAME…: fails with the end of the log of the first that died or that is not ready in time.
wait_ready() {
    local deadline=$((SECONDS + READY_SECONDS)) name
    local -a waiting
    while true; do
        waiting=()
        for name in "$@"; do
            is_running "$name" || not_ready "$name" "ended"
            is_ready "$name" || waiting+=("$name")
        done
        [[ ${#waiting[@]} -gt 0 ]] || return 0
        [[ $SECONDS -lt $deadline ]] || not_ready "${waiting[0]}" "is not ready after $READY_SECONDS s"
        set -- "${waiting[@]}"
        sleep 0.1
    done
}

not_ready() {
    tail -n 20 "$STATE/logs/$1.log" >&2
    die "$1 $2; the lines above are the end of $STATE/logs/$1.log"
}

# ask_to_stop NAME: the graceful signal. One that is frozen must wake to see it.
ask_to_stop() {
    case $1 in
        postgres) signal_name INT "$1" ;; # "fast": ends sessions, writes everything, leaves nothing to recover
        haproxy) stop_haproxy ;;
        *) signal_name TERM "$1" ;;
    esac
    signal_name CONT "$1"
}

kill_name() {
    if [[ $1 == postgres ]]; then kill_postgres; else signal_name KILL "$1"; fi
    wait_gone 10 "$1" || die "$1 does not end"
    port_of "$1"
    wait_port_free "$REPLY" || die "$1 ended, yet port $REPLY is still taken"
    rm -f "$STATE/run/$1"
}

# stop_all NAME…: asks all of them at once, so that they drain side by side, then ends those that do not end.
stop_all() {
    local deadline name
    for name in "$@"; do ask_to_stop "$name"; done
    deadline=$((SECONDS + STOP_SECONDS))
    for name in "$@"; do
        if ! wait_gone $((deadline > SECONDS ? deadline - SECONDS : 0)) "$name"; then
            say "$name did not end within $STOP_SECONDS s and is killed"
            kill_name "$name"
        fi
        rm -f "$STATE/run/$name"
    done
}

verb_up() {
    local name value
    local -a nodes=() surplus=() settings=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --*=*) value=${1#*=}; name=${1%%=*}; shift; set -- "$name" "$value" "$@" ;;
            --apis | --edges | --workers | --port)
                is_number "${2:-}" || die "$1 needs a number"
                name=${1#--}
                printf -v "SHAPE_${name^^}" %s "$((10#$2))"
                shift 2
                ;;
            --set) settings+=("${2:-}"); shift 2 || die "--set needs NAME=VALUE" ;;
            *) die "up does not know \"$1\"" ;;
        esac
    done
    [[ $SHAPE_APIS -ge 1 && $SHAPE_EDGES -ge 1 ]] || die "a cluster has at least one API node and one edge node"
    [[ $((SHAPE_APIS + SHAPE_EDGES + SHAPE_WORKERS)) -le 100 ]] || die "more than 100 nodes are more than this machine's database serves"
    [[ $SHAPE_PORT -le 65535 ]] || die "--port goes up to 65535"

    create_state
    lock_state
    keep_settings_of_environment
    for value in ${settings[@]+"${settings[@]}"}; do keep_setting "$value"; done
    if [[ $SHAPE_PORT -eq 0 ]]; then free_port; SHAPE_PORT=$REPLY; fi

    install_packages "${PACKAGES_TO_RUN[@]}"
    build_programs
    # Known before anything is started, so that a taken port does not leave half a cluster.
    if ! is_running haproxy; then require_port_free haproxy; fi
    save_shape
    mapfile -t surplus < <(surplus_names)
    mapfile -t nodes < <(names | grep -E '^(api|edge|worker)-')

    say "starting"
    start_name postgres
    start_name redis
    wait_ready postgres redis
    create_database
    migrate
    create_api_key
    for name in "${nodes[@]}"; do start_name "$name"; done
    wait_ready "${nodes[@]}"
    # A load balancer that knows other nodes or another port begins anew; its streams come back by themselves.
    if is_running haproxy && [[ $(haproxy_configuration) != "$(<"$STATE/haproxy.cfg")" ]]; then stop_all haproxy; fi
    start_name haproxy
    wait_ready haproxy
    if [[ ${#surplus[@]} -gt 0 ]]; then stop_all "${surplus[@]}"; fi
    welcome
}

welcome() {
    local url key token
    url_of haproxy
    url=$REPLY
    key=$(<"$STATE/secrets/api-key")
    token=$(carillon token --user alice --ttl 12h) || die "\"carillon token\" failed"
    cat <<TEXT
Carillon is ready: $url

  Demo page   $url/demo

  Listen as the user alice, in one terminal:
    curl -N -H 'Authorization: Bearer $token' '$url/v1/notifications/sse'
  and notify her, in another:
    curl -H 'Authorization: Bearer $key' -H 'Content-Type: application/json' \\
      -d '{"type":"chat","event":"message_received","title":"Hello, Alice","user_ids":["alice"]}' '$url/v1/internal/notify'
TEXT
}

verb_down() {
    local purge=0 name
    local -a running=() nodes=()
    case ${1:-} in
        "") ;;
        --purge) purge=1 ;;
        *) die "down does not know \"$1\"" ;;
    esac
    [[ -d $STATE/run ]] || return 0
    lock_state
    mapfile -t running < <(names; surplus_names)
    for name in "${running[@]}"; do
        if is_node "$name"; then nodes+=("$name"); fi
    done
    # From the outside in, so that nothing is accepted that cannot be stored any more.
    stop_all haproxy
    stop_all ${nodes[@]+"${nodes[@]}"}
    stop_all redis postgres
    rm -rf -- "$STATE/overrides"
    [[ $purge == 0 ]] || purge
}

# purge removes what this command makes, and not whatever else is in a folder that somebody chose.
purge() {
    local folder=
    if [[ -s $STATE/postgres-folder ]]; then folder=$(<"$STATE/postgres-folder"); fi
    case $folder in
        "$STATE/postgres" | /var/tmp/carillon-postgres-????????) rm -rf -- "$folder" ;;
    esac
    rm -rf -- "$STATE"/{postgres,redis,mail,logs,run,ports,secrets,venv,test-output}
    rm -f -- "$STATE"/{shape,settings,binary,postgres-folder,haproxy.cfg,lock}
    rmdir -- "$STATE" 2>/dev/null || say "$STATE holds files of others and stays"
}

verb_start() {
    local wait=1 name='' value
    local -a set=() unset=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            --no-wait) wait=0 ;;
            --set) [[ $# -ge 2 ]] || die "--set needs NAME=VALUE"; set+=("$2"); shift ;;
            --unset) [[ $# -ge 2 ]] || die "--unset needs a name"; unset+=("$2"); shift ;;
            -*) die "start does not know \"$1\"" ;;
            *) name=$1 ;;
        esac
        shift
    done
    require_state
    require_name "$name"
    if [[ ${#set[@]} -gt 0 || ${#unset[@]} -gt 0 ]]; then
        ! is_running "$name" || die "$name runs, and a setting reaches a node when it starts; stop it first"
        for value in ${unset[@]+"${unset[@]}"}; do drop_override "$name" "$value"; done
        for value in ${set[@]+"${set[@]}"}; do keep_override "$name" "$value"; done
    fi
    start_name "$name"
    [[ $wait == 0 ]] || wait_ready "$name"
}

verb_stop() {
    require_state
    require_name "${1:-}"
    ask_to_stop "$1"
    wait_gone "$STOP_SECONDS" "$1" || die "$1 has not ended after $STOP_SECONDS s; \"deploy/local kill $1\" ends it"
    rm -f "$STATE/run/$1"
}

verb_kill() {
    require_state
    require_name "${1:-}"
    kill_name "$1"
}
