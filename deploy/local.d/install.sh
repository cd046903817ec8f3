# shellcheck shell=bash
# What a fresh Debian machine lacks. Nothing is asked of apt when nothing is missing.

# The programs only: the services which Debian would start for them are neither wanted nor used.
PACKAGES_TO_RUN=(postgresql redis-server haproxy curl ca-certificates)
PACKAGES_TO_BUILD=(libpq-dev libhiredis-dev libcurl4-openssl-dev zlib1g-dev)
# The compiler is for the benchmarks' pieces in C; the last three are the rivals that the load generator is tried on.
PACKAGES_TO_TEST=(python3 python3-venv shellcheck gcc libc6-dev nginx libnginx-mod-nchan pushpin)

# has_package NAME: by what it is needed for, so that a machine that got it another way is left alone.
has_package() {
    case $1 in
        postgresql) find_postgres_programs ;;
        redis-server | haproxy | curl | shellcheck | python3 | gcc) type -P "$1" >/dev/null ;;
        python3-venv) type -P python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        libpq-dev) [[ -f /usr/include/postgresql/libpq-fe.h ]] ;;
        libhiredis-dev) [[ -f /usr/include/hiredis/hiredis.h ]] ;;
        libcurl4-openssl-dev) [[ -f /usr/include/curl/curl.h || -f /usr/include/$(uname -m)-linux-gnu/curl/curl.h ]] ;;
        zlib1g-dev) [[ -f /usr/include/zlib.h ]] ;;
        ca-certificates) [[ -s /etc/ssl/certs/ca-certificates.crt ]] ;;
        *) [[ $(dpkg-query -W -f='${Status}' "$1" 2>/dev/null) == "install ok installed" ]] ;;
    esac
}

install_packages() {
    local package log
    local -a missing=() become=()
    for package in "$@"; do has_package "$package" || missing+=("$package"); done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    type -P apt-get >/dev/null || die "missing: ${missing[*]}. This is no Debian, so install what provides them and try again"
    if [[ $EUID -ne 0 ]]; then
        type -P sudo >/dev/null || die "missing: ${missing[*]}. Install them as root: apt-get install ${missing[*]}"
        become=(sudo)
    fi
    say "installing ${missing[*]}"
    log=$(mktemp)
    if ! ${become[@]+"${become[@]}"} bash -s -- "${missing[@]}" >"$log" 2>&1 9>&- <<'SCRIPT'; then
set -e
export DEBIAN_FRONTEND=noninteractive
# Debian asks this file whether a newly installed service may start. One that exists already is the machine's own decision.
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod +x /usr/sbin/policy-rc.d
fi
wait_for_others="-o DPkg::Lock::Timeout=300"
apt-get $wait_for_others -q update </dev/null
apt-get $wait_for_others -q install -y --no-install-recommends "$@" </dev/null
SCRIPT
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install ${missing[*]}"
    fi
    rm -f "$log"
    hash -r
    for package in "${missing[@]}"; do has_package "$package" || die "$package is installed and yet not to be found"; done
}

# Debian keeps HAProxy where an ordinary user's PATH does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
