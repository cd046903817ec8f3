# shellcheck shell=bash
# Processes that outlive this command. One is known by its pid, the time it started and the boot of the machine,
# so that a pid which the system has given to somebody else since is never signalled.

# process_start PID answers in REPLY with the start time in ticks since boot; fails for a dead process or a zombie.
process_start() {
    local line
    { IFS= read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    line=${line##*) } # the program's name may hold anything
    # shellcheck disable=SC2086
    set -- $line
    [[ $1 != [ZXx] ]] || return 1
    REPLY=${20}
}

# spawn NAME COMMAND… starts it in a session of its own, in the state folder, with its output appended to its log
# and with as many file descriptors as the system allows. The array ENVIRONMENT holds NAME=VALUE words for it.
spawn() {
    local name=$1 pid boot inherited descriptor
    shift
    (
        # A pipe of the caller's that stayed open here would keep the caller waiting for its end.
        for descriptor in /proc/"$BASHPID"/fd/*; do
            descriptor=${descriptor##*/}
            if [[ $descriptor -gt 2 ]]; then exec {descriptor}>&-; fi
        done
        cd "$STATE" || exit
        raise_descriptor_limit
        for inherited in "${!CARILLON_@}"; do unset "$inherited"; done
        [[ ${#ENVIRONMENT[@]} -eq 0 ]] || export "${ENVIRONMENT[@]}"
        exec setsid "$@"
    ) </dev/null >>"$STATE/logs/$name.log" 2>&1 &
    pid=$!
    disown "$pid"
    REPLY=0
    process_start "$pid" || true
    read -r boot </proc/sys/kernel/random/boot_id
    printf '%s %s %s\n' "$pid" "$REPLY" "$boot" >"$STATE/run/$name"
}

# More than a million descriptors would only make HAProxy and Redis reserve memory for them.
descriptor_limit() {
    REPLY=$(ulimit -Hn)
    if [[ $REPLY == unlimited || $REPLY -gt 1048576 ]]; then REPLY=1048576; fi
}

raise_descriptor_limit() {
    descriptor_limit
    ulimit -Sn "$REPLY"
}

# running_pid NAME answers in REPLY with the pid if the very process that was started still runs.
running_pid() {
    local pid start boot now
    { read -r pid start boot <"$STATE/run/$1"; } 2>/dev/null || return 1
    read -r now </proc/sys/kernel/random/boot_id
    if [[ $boot != "$now" ]] || ! process_start "$pid" || [[ $REPLY != "$start" ]]; then return 1; fi
    REPLY=$pid
}

is_running() { running_pid "$1"; }

# signal_name SIGNAL NAME: no error if it does not run.
signal_name() {
    if running_pid "$2"; then kill "-$1" "$REPLY" 2>/dev/null || true; fi
}

# wait_gone SECONDS NAME: true once it does not run.
wait_gone() {
    local deadline=$((SECONDS + $1))
    while is_running "$2"; do
        [[ $SECONDS -lt $deadline ]] || return 1
        sleep 0.05
    done
}

# children PID prints "pid start" of each child. Postgres' backends are found this way: each is in a session of its own.
children() {
    local parent=$1 file line pid
    for file in /proc/[0-9]*/stat; do
        { IFS= read -r line <"$file"; } 2>/dev/null || continue
        pid=${line%% *}
        line=${line##*) }
        # shellcheck disable=SC2086
        set -- $line
        if [[ $2 == "$parent" && $1 != [ZXx] ]]; then printf '%s %s\n' "$pid" "${20}"; fi
    done
}

# end_orphans SECONDS "pid start"…: waits for processes that should end by themselves, and ends those that do not.
end_orphans() {
    local deadline=$((SECONDS + $1)) entry left
    shift
    while true; do
        left=0
        for entry in "$@"; do
            if ! process_start "${entry% *}" || [[ $REPLY != "${entry#* }" ]]; then continue; fi
            left=1
            if [[ $SECONDS -ge $deadline ]]; then kill -KILL "${entry% *}" 2>/dev/null || true; fi
        done
        [[ $left == 1 ]] || return 0
        sleep 0.05
    done
}
