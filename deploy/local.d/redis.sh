# shellcheck shell=bash
# A private Redis that keeps nothing: what it loses, the nodes bring back from Postgres.

start_redis() {
    local role
    for role in api edge worker; do secret "redis-$role" 16; done
    # Each node has a user with the least rights; the user "default", which `env` names, is for whoever looks on.
    (umask 077 && "$HERE/render-redis-users" --api "$STATE/secrets/redis-api" --edge "$STATE/secrets/redis-edge" --worker "$STATE/secrets/redis-worker" \
        >"$STATE/redis/users.acl")
    port_of redis
    ENVIRONMENT=()
    spawn redis redis-server --port "$REPLY" --bind 127.0.0.1 --dir "$STATE/redis" --aclfile "$STATE/redis/users.acl" --daemonize no \
        --save '' --appendonly no --maxmemory-policy noeviction --client-output-buffer-limit 'pubsub 256mb 64mb 60'
}

redis_url() {
    port_of redis
    REPLY=redis://127.0.0.1:$REPLY
}

# redis_url_of ROLE: as the user of that role's nodes.
redis_url_of() {
    local password
    secret "redis-$1" 16
    password=$REPLY
    port_of redis
    REPLY=redis://carillon-$1:$password@127.0.0.1:$REPLY
}

ready_redis() {
    port_of redis
    [[ $(timeout 2 redis-cli -h 127.0.0.1 -p "$REPLY" ping 2>/dev/null </dev/null) == PONG ]]
}
