# shellcheck shell=bash
# A private Postgres. Debian's own clusters are neither used nor touched.

# find_postgres_programs answers in REPLY with the folder of the newest version, or of the one that the data was made with.
find_postgres_programs() {
    local folder version=
    local -a folders
    if [[ -n ${1:-} && -r $1/PG_VERSION ]]; then version=$(<"$1/PG_VERSION"); fi
    mapfile -t folders < <(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV)
    if type -P postgres >/dev/null; then folders+=("$(dirname "$(type -P postgres)")"); fi
    for folder in "${folders[@]}"; do
        [[ -x $folder/postgres && -x $folder/initdb && -x $folder/psql ]] || continue
        [[ -z $version || $("$folder/postgres" --version) == *" $version."* ]] || continue
        REPLY=$folder
        return 0
    done
    return 1
}

# Postgres refuses to run as root. AS_POSTGRES is what goes before its commands: nothing, or a change of user.
prepare_postgres_user() {
    local user
    AS_POSTGRES=()
    [[ $EUID -eq 0 ]] || return 0
    for user in postgres nobody; do
        id -u "$user" >/dev/null 2>&1 || continue
        AS_POSTGRES=(setpriv "--reuid=$(id -u "$user")" "--regid=$(id -g "$user")" --clear-groups)
        return 0
    done
    die "Postgres does not run as root, and there is neither a user \"postgres\" nor \"nobody\""
}

# postgres_folder sets POSTGRES_FOLDER, which the database's user must be able to reach; a state folder under /root is not.
postgres_folder() {
    local owner
    if [[ -s $STATE/postgres-folder ]]; then
        POSTGRES_FOLDER=$(<"$STATE/postgres-folder")
        return 0
    fi
    POSTGRES_FOLDER=$STATE/postgres
    mkdir -p "$POSTGRES_FOLDER"
    if [[ ${#AS_POSTGRES[@]} -gt 0 ]]; then
        owner=${AS_POSTGRES[1]#--reuid=}:${AS_POSTGRES[2]#--regid=}
        chown "$owner" "$POSTGRES_FOLDER"
        if ! "${AS_POSTGRES[@]}" test -w "$POSTGRES_FOLDER"; then
            rmdir "$POSTGRES_FOLDER"
            POSTGRES_FOLDER=$(mktemp -d /var/tmp/carillon-postgres-XXXXXXXX)
            chown "$owner" "$POSTGRES_FOLDER"
            say "Postgres' user cannot reach $STATE; its data is in $POSTGRES_FOLDER"
        fi
    fi
    chmod 0700 "$POSTGRES_FOLDER"
    printf '%s\n' "$POSTGRES_FOLDER" >"$STATE/postgres-folder"
}

prepare_postgres() {
    prepare_postgres_user
    postgres_folder
    find_postgres_programs "$POSTGRES_FOLDER/data" || die "no Postgres programs found for the data in $POSTGRES_FOLDER"
    POSTGRES_PROGRAMS=$REPLY
}

initialise_postgres() {
    [[ ! -d $POSTGRES_FOLDER/data ]] || return 0
    say "creating the database in $POSTGRES_FOLDER"
    # An initdb that was interrupted must not pass for a database.
    rm -rf "$POSTGRES_FOLDER/new"
    secret postgres 16
    # shellcheck disable=SC2016 # the inner shell fills these in
    printf '%s\n' "$REPLY" | ${AS_POSTGRES[@]+"${AS_POSTGRES[@]}"} bash -c '
        set -euo pipefail
        cd "$1"
        umask 077
        cat >password
        "$2/initdb" --pgdata=new --username=carillon --pwfile=password --auth=scram-sha-256 --encoding=UTF8 --locale=C
        rm password
    ' initdb "$POSTGRES_FOLDER" "$POSTGRES_PROGRAMS" >>"$STATE/logs/postgres.log" 2>&1 || die "initdb failed; see $STATE/logs/postgres.log"
    mv "$POSTGRES_FOLDER/new" "$POSTGRES_FOLDER/data"
}

start_postgres() {
    local port
    prepare_postgres
    initialise_postgres
    port_of postgres
    port=$REPLY
    ENVIRONMENT=()
    # TCP only: the path of a socket has no room for a long state folder. What makes a commit durable stays on, here as everywhere.
    forget_dead_postmaster
    spawn postgres ${AS_POSTGRES[@]+"${AS_POSTGRES[@]}"} "$POSTGRES_PROGRAMS/postgres" -D "$POSTGRES_FOLDER/data" \
        -c listen_addresses=127.0.0.1 -c "port=$port" -c unix_socket_directories= \
        -c fsync=on -c full_page_writes=on -c synchronous_commit=on \
        -c max_connections=300 -c shared_buffers=1GB -c max_wal_size=4GB \
        -c bgwriter_lru_maxpages=1000 -c autovacuum_vacuum_cost_delay=10ms \
        -c timezone=UTC -c log_timezone=UTC -c 'log_line_prefix=%m [%p] '
}

# A killed postmaster that its parent has not reaped yet still has its pid, and the next one would take it for alive.
forget_dead_postmaster() {
    local lock=$POSTGRES_FOLDER/data/postmaster.pid old line
    [[ -f $lock ]] || return 0
    { IFS= read -r old <"$lock"; } 2>/dev/null || return 0
    { IFS= read -r line <"/proc/$old/stat"; } 2>/dev/null || return 0
    line=${line##*) }
    if [[ $line == Z* ]]; then rm -f -- "$lock"; fi
}

database_url() {
    local password
    secret postgres 16
    password=$REPLY
    port_of postgres
    REPLY=postgres://carillon:$password@127.0.0.1:$REPLY/carillon
}

# node_database_url: as the role of the nodes, which has rights on rows and functions only.
node_database_url() {
    local password
    secret postgres-node 16
    password=$REPLY
    port_of postgres
    REPLY=postgres://carillon_node:$password@127.0.0.1:$REPLY/carillon
}

# run_psql DATABASE ARGUMENT…
run_psql() {
    local password database=$1
    shift
    secret postgres 16
    password=$REPLY
    port_of postgres
    PGPASSWORD=$password PGCONNECT_TIMEOUT=2 "$POSTGRES_PROGRAMS/psql" -X -q -A -t -v ON_ERROR_STOP=1 \
        -h 127.0.0.1 -p "$REPLY" -U carillon -d "$database" "$@" 9>&-
}

# query DATABASE SQL prints the answer.
query() { run_psql "$1" -c "$2"; }

ready_postgres() {
    prepare_postgres
    query postgres 'SELECT 1' >/dev/null 2>&1
}

create_database() {
    prepare_postgres
    if [[ -z $(query postgres "SELECT 1 FROM pg_database WHERE datname = 'carillon'") ]]; then query postgres 'CREATE DATABASE carillon'; fi
    run_psql carillon -v owner=carillon -v node=carillon_node -f "$HERE/postgres/roles.sql"
    secret postgres-node 16
    query postgres "ALTER ROLE carillon_node PASSWORD '$REPLY'"
}

# kill_postgres: its backends end by themselves when they miss the postmaster, and it cannot start again before the last has.
kill_postgres() {
    local pid
    local -a backends=()
    running_pid postgres || return 0
    pid=$REPLY
    # A stopped parent makes no more children, so that the list is complete.
    kill -STOP "$pid"
    mapfile -t backends < <(children "$pid")
    kill -KILL "$pid"
    wait_gone 10 postgres || die "postgres (pid $pid) does not end"
    end_orphans 5 ${backends[@]+"${backends[@]}"}
}
