# shellcheck shell=bash
# The load balancer, from the template in deploy/haproxy.

server_lines() { # KIND COUNT OPTIONS, in which NAME stands for the node's name
    local i name
    for ((i = 1; i <= $2; i++)); do
        name=$1-$i
        port_of "$name"
        printf '    server %s 127.0.0.1:%s %s\n' "$name" "$REPLY" "${3//NAME/$name}"
    done
}

# session_lines: which edge a session of Socket.IO is on, by its id.
session_lines() {
    local i
    for ((i = 1; i <= SHAPE_EDGES; i++)); do printf '    use-server edge-%s if { urlp(sid),regsub([.][0-9a-z]*$,) -m str edge-%s }\n' "$i" "$i"; done
}

# haproxy_configuration prints the configuration of this cluster.
haproxy_configuration() {
    local text connections
    text=$(<"$ROOT/deploy/haproxy/haproxy.cfg.template")
    descriptor_limit
    # Two for each connection; the reserve is for listeners, health checks and idle connections to the nodes.
    connections=$(((REPLY - 300) / 2))
    [[ $connections -ge 50 ]] || die "the limit of $REPLY file descriptors is too low for a load balancer"
    text=${text//@BIND@/"127.0.0.1:$SHAPE_PORT"}
    text=${text//@MAXCONN@/$connections}
    # Relative to the state folder, in which it runs: the path of a socket must not be longer than 107 bytes.
    text=${text//@STATS_SOCKET@/unix@run/haproxy.sock}
    text=${text//@CHECK_API@/"$(server_lines api "$SHAPE_APIS" check)"}
    text=${text//@CHECK_EDGE@/"$(server_lines edge "$SHAPE_EDGES" check)"}
    text=${text//@EDGE_REQUESTS@/"$(server_lines edge "$SHAPE_EDGES" "track streams/NAME")"}
    text=${text//@EDGE_OF_SESSION@/"$(session_lines)"}
    text=${text//@EDGE_SESSIONS@/"$(server_lines edge "$SHAPE_EDGES" "track streams/NAME cookie NAME")"}
    # The first comment explains the placeholders, which are gone.
    printf '%s\n' "# Made from deploy/haproxy/haproxy.cfg.template; changes here are lost with the next start." "global${text#*$'\n'global}"
}

start_haproxy() {
    haproxy_configuration >"$STATE/haproxy.cfg"
    haproxy -c -q -f "$STATE/haproxy.cfg" >>"$STATE/logs/haproxy.log" 2>&1 || die "HAProxy refuses $STATE/haproxy.cfg; see $STATE/logs/haproxy.log"
    ENVIRONMENT=()
    spawn haproxy haproxy -db -f "$STATE/haproxy.cfg"
}

ready_haproxy() {
    url_of haproxy
    [[ $(curl -s -o /dev/null -m 2 -w '%{http_code}' "$REPLY/balancer/ready") == 200 ]]
}

# stop_haproxy: no new connections first; what is open then are streams, which would never end by themselves.
stop_haproxy() {
    signal_name USR1 haproxy
    wait_gone 2 haproxy || signal_name TERM haproxy
}
