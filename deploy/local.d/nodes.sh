# shellcheck shell=bash
# Carillon's own processes.

# What a cluster decides itself, and what `env` prints for others: neither is ever taken from the environment of `up`.
readonly OWN_SETTINGS=" CARILLON_PUBLIC_URL CARILLON_PORT CARILLON_HOST CARILLON_ROLES CARILLON_NODE_NAME CARILLON_DATABASE_URL CARILLON_REDIS_URL \
CARILLON_URL CARILLON_API_URLS CARILLON_EDGE_URLS CARILLON_API_KEY CARILLON_PIDS CARILLON_BIN CARILLON_BUILD CARILLON_LOCAL CARILLON_LOCAL_STATE "

# keep_setting NAME=VALUE: a setting for all nodes, kept so that a node started later gets it too.
keep_setting() {
    local name=${1%%=*}
    [[ $1 == *=* && $name =~ ^CARILLON_[A-Z0-9_]+$ && $1 != *$'\n'* ]] || die "a setting is CARILLON_NAME=VALUE, on one line: $1"
    [[ $OWN_SETTINGS != *" $name "* ]] || die "$name is the cluster's own and cannot be set"
    touch "$STATE/settings"
    { grep -v "^$name=" "$STATE/settings" || true; printf '%s\n' "$1"; } >"$STATE/settings.new"
    chmod 0600 "$STATE/settings.new"
    mv "$STATE/settings.new" "$STATE/settings"
}

keep_settings_of_environment() {
    local name
    for name in "${!CARILLON_@}"; do
        [[ $OWN_SETTINGS == *" $name "* || $name == CARILLON_TEST_* ]] || keep_setting "$name=${!name}"
    done
}

# keep_override NODE NAME=VALUE: a setting for one node alone, over what all get, until it is taken back. Where a node finds its database and its Redis
# may be set this way, so that a proxy can stand between.
keep_override() {
    local file=$STATE/overrides/$1 name=${2%%=*}
    is_node "$1" || die "only nodes have settings; $1 is a server"
    [[ $2 == *=* && $name =~ ^CARILLON_[A-Z0-9_]+$ && $2 != *$'\n'* ]] || die "a setting is CARILLON_NAME=VALUE, on one line: $2"
    case $name in
        CARILLON_DATABASE_URL | CARILLON_REDIS_URL) ;;
        *) [[ $OWN_SETTINGS != *" $name "* ]] || die "$name is the cluster's own and cannot be set" ;;
    esac
    drop_override "$1" "$name"
    mkdir -p "$STATE/overrides"
    (umask 077 && printf '%s\n' "$2" >>"$file")
}

# drop_override NODE NAME takes one back; no error if there is none.
drop_override() {
    local file=$STATE/overrides/$1
    [[ $2 =~ ^CARILLON_[A-Z0-9_]+$ ]] || die "\"$2\" is no name of a setting"
    [[ -f $file ]] || return 0
    (umask 077 && { grep -v "^$2=" "$file" || true; } >"$file.new")
    mv "$file.new" "$file"
    [[ -s $file ]] || rm -f "$file"
}

# node_environment sets ENVIRONMENT to what every node and every command of the program gets.
node_environment() {
    local -a kept=()
    ENVIRONMENT=(
        CARILLON_HOST=127.0.0.1
        "CARILLON_CORS_ORIGINS=http://localhost:*,http://127.0.0.1:*"
        CARILLON_DEMO=on
        "CARILLON_WEBHOOK_ALLOWED_CIDRS=127.0.0.0/8,::1/128"
        CARILLON_LOG_LEVEL=info
        CARILLON_RATE_LIMIT_KEY=off
        "CARILLON_SMTP_URL=file://$STATE/mail"
        "CARILLON_PUBLIC_URL=http://127.0.0.1:$SHAPE_PORT"
    )
    database_url
    ENVIRONMENT+=("CARILLON_DATABASE_URL=$REPLY")
    redis_url
    ENVIRONMENT+=("CARILLON_REDIS_URL=$REPLY")
    secret jwt 32
    ENVIRONMENT+=("CARILLON_JWT_SECRET=$REPLY")
    secret webhooks 32
    ENVIRONMENT+=("CARILLON_SECRETS_KEY=$REPLY")
    if [[ -s $STATE/settings ]]; then mapfile -t kept <"$STATE/settings"; fi
    ENVIRONMENT+=(${kept[@]+"${kept[@]}"})
}

# carillon ARGUMENTS… runs the program in the cluster's environment.
carillon() (
    local inherited
    node_environment
    for inherited in "${!CARILLON_@}"; do unset "$inherited"; done
    export "${ENVIRONMENT[@]}"
    cd "$STATE" || exit
    exec "$BINARY" "$@" 8>&- 9>&-
)

start_node() {
    local -a own=()
    use_binary
    node_environment
    # Over those of `env`: a node has no more rights than its role needs.
    node_database_url
    ENVIRONMENT+=("CARILLON_DATABASE_URL=$REPLY")
    redis_url_of "${1%-*}"
    ENVIRONMENT+=("CARILLON_REDIS_URL=$REPLY")
    port_of "$1"
    ENVIRONMENT+=("CARILLON_NODE_NAME=$1" "CARILLON_PORT=$REPLY")
    if [[ -s $STATE/overrides/$1 ]]; then mapfile -t own <"$STATE/overrides/$1"; fi
    ENVIRONMENT+=(${own[@]+"${own[@]}"})
    spawn "$1" "$BINARY" serve --roles "${1%-*}"
}

ready_node() {
    url_of "$1"
    [[ $(curl -s -o /dev/null -m 2 -w '%{http_code}' "$REPLY/health/ready") == 200 ]]
}

# create_api_key makes the cluster's key once. It is shown only when it is made, so it is kept here.
create_api_key() {
    local key
    [[ ! -s $STATE/secrets/api-key ]] || return 0
    key=$(carillon apikey create --name local --scopes notify,direct,webhooks,contacts,admin 2>>"$STATE/logs/setup.log") || setup_failed "apikey create"
    [[ $key == ck_* && $key != *$'\n'* ]] || die "\"carillon apikey create\" printed something else than one key"
    (umask 077 && printf '%s\n' "$key" >"$STATE/secrets/api-key")
}

migrate() { carillon migrate >>"$STATE/logs/setup.log" 2>&1 || setup_failed migrate; }

setup_failed() {
    tail -n 20 "$STATE/logs/setup.log" >&2
    die "\"carillon $1\" failed; the lines above are the end of $STATE/logs/setup.log"
}
