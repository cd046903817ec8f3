# shellcheck shell=bash
# A private Redis that keeps nothing: what it loses, the nodes bring back from Postgres.

start_redis() {
    port_of redis
    ENVIRONMENT=()
    spawn redis redis-server --port "$REPLY" --bind 127.0.0.1 --dir "$STATE/redis" --daemonize no \
        --save '' --appendonly no --maxmemory-policy noeviction --client-output-buffer-limit 'pubsub 256mb 64mb 60'
}

redis_url() {
    port_of redis
    REPLY=redis://127.0.0.1:$REPLY
}

ready_redis() {
    port_of redis
    [[ $(timeout 2 redis-cli -h 127.0.0.1 -p "$REPLY" ping 2>/dev/null </dev/null) == PONG ]]
}
