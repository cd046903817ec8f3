# shellcheck shell=bash
# The programs: built from this checkout, or given by CARILLON_BIN.

require_swift() {
    type -P swift >/dev/null || die "there is no \"swift\" in PATH; install a Swift 6.3 toolchain from https://www.swift.org/install and try again"
}

# build_programs answers with the path of carillon in BINARY, and keeps it in the state folder for the other verbs.
build_programs() {
    local configuration=${CARILLON_BUILD:-release} folder product
    if [[ -n ${CARILLON_BIN:-} ]]; then
        BINARY=$(readlink -f -- "$CARILLON_BIN") || true
        [[ -f $BINARY && -x $BINARY ]] || die "CARILLON_BIN: $CARILLON_BIN is not a program"
    else
        [[ $configuration == debug || $configuration == release ]] || die "CARILLON_BUILD is debug or release, not \"$configuration\""
        require_swift
        install_packages "${PACKAGES_TO_BUILD[@]}"
        for product in carillon carillon-loadtest; do
            say "building $product ($configuration)"
            swift build --package-path "$ROOT" -c "$configuration" --product "$product" >&2 9>&- || die "$product does not build"
        done
        folder=$(swift build --package-path "$ROOT" -c "$configuration" --show-bin-path 2>/dev/null) || die "swift does not say where it built"
        BINARY=$folder/carillon
    fi
    printf '%s\n' "$BINARY" >"$STATE/binary"
}

# use_binary sets BINARY without building anything.
use_binary() {
    if [[ -n ${CARILLON_BIN:-} ]]; then
        BINARY=$(readlink -f -- "$CARILLON_BIN")
    elif [[ -s $STATE/binary ]]; then
        BINARY=$(<"$STATE/binary")
    fi
    [[ -x ${BINARY:-} ]] || die "there is no program to run; \"deploy/local up\" builds it"
}
