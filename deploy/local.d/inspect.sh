# shellcheck shell=bash
# Verbs that change nothing.

verb_status() {
    local name pid state ready all=0
    [[ $# -eq 0 ]] || die "status does not know \"$1\""
    require_state
    printf '%-12s %8s %6s  %-8s %s\n' NAME PID PORT STATE READY
    while IFS= read -r name; do
        pid=- state=stopped ready=no
        if running_pid "$name"; then
            pid=$REPLY state=running
            if is_ready "$name"; then ready=yes; fi
        fi
        [[ $ready == yes ]] || all=1
        port_of "$name"
        printf '%-12s %8s %6s  %-8s %s\n' "$name" "$pid" "$REPLY" "$state" "$ready"
    done < <(names)
    return "$all"
}

verb_logs() {
    local lines='' name='' file
    local -a options=() files=()
    while [[ $# -gt 0 ]]; do
        case $1 in
            -f) options+=(-F) ;;
            -n) is_number "${2:-}" || die "-n needs a number"; lines=$2; shift ;;
            -*) die "logs does not know \"$1\"" ;;
            *) name=$1 ;;
        esac
        shift
    done
    require_state
    if [[ -n $name ]]; then
        require_name "$name"
        files=("$STATE/logs/$name.log")
        [[ -f ${files[0]} ]] || die "$name has not been started yet"
        exec tail -n "${lines:-+1}" ${options[@]+"${options[@]}"} "${files[0]}"
    fi
    for file in "$STATE"/logs/*.log; do files+=("$file"); done
    exec tail -n "${lines:-50}" ${options[@]+"${options[@]}"} "${files[@]}"
}

# print_export NAME VALUE in a form that every POSIX shell reads back.
print_export() { printf "export %s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

verb_env() {
    local name pids='' apis='' edges=''
    [[ $# -eq 0 ]] || die "env does not know \"$1\""
    require_state
    [[ -s $STATE/secrets/api-key ]] || die "the cluster in $STATE has not been up yet; see \"deploy/local up\""
    while IFS= read -r name; do
        if running_pid "$name"; then pids+=" $name=$REPLY"; fi
        url_of "$name"
        case $name in
            api-*) apis+=" $REPLY" ;;
            edge-*) edges+=" $REPLY" ;;
        esac
    done < <(names)
    url_of haproxy
    print_export CARILLON_URL "$REPLY"
    print_export CARILLON_API_URLS "${apis# }"
    print_export CARILLON_EDGE_URLS "${edges# }"
    print_export CARILLON_API_KEY "$(<"$STATE/secrets/api-key")"
    database_url
    print_export CARILLON_DATABASE_URL "$REPLY"
    redis_url
    print_export CARILLON_REDIS_URL "$REPLY"
    print_export CARILLON_PIDS "${pids# }"
}

verb_token() {
    local -a options=()
    local user=''
    while [[ $# -gt 0 ]]; do
        case $1 in
            --role | --customer | --ttl | --count)
                [[ $# -ge 2 ]] || die "$1 needs a value"
                options+=("$1" "$2")
                shift 2
                ;;
            --) shift; user=${1:-}; [[ $# -eq 0 ]] || shift ;;
            --*) die "token does not know \"$1\"" ;;
            *) [[ -z $user ]] || die "token takes one user"; user=$1; shift ;;
        esac
    done
    [[ -n $user ]] || die "token needs a user"
    require_state
    use_binary
    carillon token --user "$user" ${options[@]+"${options[@]}"}
}
