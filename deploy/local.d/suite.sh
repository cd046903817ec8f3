# shellcheck shell=bash
# `deploy/local test`: everything that the project tests, against servers of its own. Whatever cannot be installed, built or
# started counts as a failure; nothing is skipped.

TEST_PASSED=0
TEST_FAILED=0
TEST_FOLDER=
TEST_FINISHED=no
# What to read first when something failed.
TEST_FAILURES=

verb_test() {
    local long=no name
    case ${1:-} in
        "") ;;
        --long) long=yes ;;
        *) die "test does not know \"$1\"" ;;
    esac
    # Another cluster's addresses and settings must not reach the tests.
    for name in "${!CARILLON_@}"; do unset "$name"; done

    trap finish_test EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    TEST_FOLDER=$(mktemp -d /tmp/carillon-test-XXXXXXXX)
    chmod 0711 "$TEST_FOLDER"
    mkdir "$TEST_FOLDER/out"

    test_prepare
    test_versions
    check "shell scripts (shellcheck)" test_scripts
    check "HAProxy accepts its configuration" test_haproxy
    test_swift
    test_cluster "$long"
    TEST_FINISHED=yes
}

# finish_test runs however the test ends, and makes the last line and the exit status.
finish_test() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    if [[ $TEST_FINISHED == no ]]; then
        say "the test did not come to its end (status $status)"
        TEST_FAILED=$((TEST_FAILED + 1))
    fi
    if [[ -n $TEST_FOLDER ]]; then
        if [[ -d $TEST_FOLDER/cluster ]]; then
            "$HERE/local" down --state "$TEST_FOLDER/cluster" || TEST_FAILED=$((TEST_FAILED + 1))
            mv "$TEST_FOLDER/cluster/logs" "$TEST_FOLDER/out/nodes" 2>/dev/null || true
            "$HERE/local" down --purge --state "$TEST_FOLDER/cluster" || true
        fi
        if [[ $TEST_FAILED -gt 0 ]]; then
            mkdir -p "$STATE"
            rm -rf -- "$STATE/test-output"
            mv "$TEST_FOLDER/out" "$STATE/test-output" && say "what the failed test printed is in $STATE/test-output"
        fi
        rm -rf -- "$TEST_FOLDER"
    fi
    # Once more, where nobody has to look for it.
    if [[ -n $TEST_FAILURES ]]; then say "$TEST_FAILURES"; fi
    printf '%d passed, %d failed\n' "$TEST_PASSED" "$TEST_FAILED"
    [[ $TEST_FAILED -eq 0 ]] || exit 1
    exit "$status"
}

pass() { TEST_PASSED=$((TEST_PASSED + ${1:-1})); }
fail() { TEST_FAILED=$((TEST_FAILED + ${1:-1})); }

# failure TITLE: its report comes on standard input, and again at the end of everything.
failure() { TEST_FAILURES+="FAILED  $1"$'\n'"$(cat)"$'\n\n'; }

# check TITLE COMMAND…: one test that is a command.
check() {
    local title=$1 log=$TEST_FOLDER/out/check.log status=0 began=$SECONDS
    shift
    "$@" >"$log" 2>&1 || status=$?
    cat "$log" >&2
    if [[ $status -eq 0 ]]; then
        pass
        say "ok      $title ($((SECONDS - began)) s)"
    else
        fail
        failure "$title" < <(tail -n 60 "$log")
        say "FAILED  $title"
    fi
}

# The folders of Tests that pytest runs; Conformance is always among them.
pytest_folders() {
    local folder
    printf '%s\n' "$ROOT/Tests/Conformance"
    for folder in "$ROOT"/Tests/*/; do
        folder=${folder%/}
        if [[ $folder != */Conformance ]] && compgen -G "$folder/test_*.py" >/dev/null; then printf '%s\n' "$folder"; fi
    done
}

test_prepare() {
    local folder
    local -a packages=("${PACKAGES_TO_RUN[@]}" "${PACKAGES_TO_BUILD[@]}" "${PACKAGES_TO_TEST[@]}") wanted=()
    require_swift
    while IFS= read -r folder; do
        # A line for each Debian package that a suite drives besides: a browser, another language's client.
        if [[ -f $folder/debian-packages.txt ]]; then
            mapfile -t wanted < <(sed 's/[[:space:]]*#.*//' "$folder/debian-packages.txt" | grep .)
            packages+=(${wanted[@]+"${wanted[@]}"})
        fi
    done < <(pytest_folders)
    install_packages "${packages[@]}"
    prepare_python
}

# prepare_python makes the environment of the Python clients in the state folder, anew when their versions changed.
prepare_python() {
    local sum folder
    local -a files=() arguments=() packages=()
    mapfile -t packages < <(compgen -G "$ROOT/Tests/*/requirements-files.txt")
    mapfile -t files < <(pytest_folders | sed 's/$/\/requirements.txt/')
    for folder in "${files[@]}"; do
        if [[ -f $folder ]]; then arguments+=(-r "$folder"); fi
    done
    [[ ${#arguments[@]} -gt 0 ]] || die "Tests/Conformance/requirements.txt is missing"
    mkdir -p "$STATE"
    sum=$({ python3 --version; for folder in "${arguments[@]}"; do [[ $folder == -r ]] || cat "$folder"; done; cat "${packages[@]}"; } | sha256sum)
    if [[ ! -f $STATE/venv/made-for || $(<"$STATE/venv/made-for") != "$sum" ]]; then
        say "installing the Python clients"
        rm -rf -- "$STATE/venv"
        python3 -m venv "$STATE/venv" >&2 || die "python3 cannot make a virtual environment"
        "$STATE/venv/bin/pip" install --quiet --disable-pip-version-check "${arguments[@]}" >&2 || die "the Python clients cannot be installed"
        for folder in "${packages[@]}"; do
            "$STATE/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$STATE/venv/files" -r "$folder" >&2 || die "what $folder names cannot be installed"
        done
        printf '%s\n' "$sum" >"$STATE/venv/made-for"
    fi
}

test_versions() {
    find_postgres_programs || die "no Postgres programs found"
    # Read to their end: a program whose output is cut off would fail the pipeline.
    swift --version 2>/dev/null | sed -n 1p
    "$REPLY/postgres" --version
    redis-server --version
    pgbouncer --version | sed -n 1p
    haproxy -v | sed -n 1p
    chromium --version 2>/dev/null
    chromedriver --version
    "$STATE/venv/bin/python" --version
    "$STATE/venv/bin/pip" freeze --disable-pip-version-check
}

test_scripts() {
    shellcheck -x -a "$HERE/local" && shellcheck "$HERE/render-proxy" "$HERE/render-redis-users" "$HERE/fuzz" "$HERE/container/collect" && shellcheck "$ROOT/.ci/run" "$ROOT/loadtest/benchmarks/generator" &&
        (cd "$ROOT" && shellcheck -x loadtest/rivals/nchan loadtest/rivals/pushpin loadtest/rivals/compare)
}

# The configuration that this command makes, with nodes that need not exist.
test_haproxy() (
    use_state "$TEST_FOLDER/haproxy"
    create_state
    free_port
    SHAPE_PORT=$REPLY
    haproxy_configuration >"$STATE/haproxy.cfg"
    cd "$STATE" || exit
    haproxy -c -q -f haproxy.cfg
)

# The build and the tests in Swift, without optimisation.
test_swift() {
    local log=$TEST_FOLDER/out/swift-build.log folder
    local -a flags=(--package-path "$ROOT" --explicit-target-dependency-import-check error)
    say "building (debug)"
    if ! swift build "${flags[@]}" >"$log" 2>&1 || ! swift build "${flags[@]}" --build-tests >>"$log" 2>&1; then
        grep -E '(^|: )error: ' "$log" >&2 || tail -n 40 "$log" >&2
        die "the project does not build"
    fi
    pass
    say "ok      builds (debug)"
    check "no warnings in our own sources" no_warnings "$log"

    # Target by target: all at once hold so many sockets that Foundation, which looks through them when it starts a server, reads past their list.
    local target status began
    for folder in "$ROOT"/Tests/*Tests/; do
        target=$(basename "$folder")
        log=$TEST_FOLDER/out/$target.log
        status=0
        began=$SECONDS
        timeout --kill-after=10 900 swift test "${flags[@]}" --skip-build --filter "^$target\\." >"$log" 2>&1 </dev/null || status=$?
        count_swift_tests "$target" "$log" "$status" "$began"
    done

    folder=$(swift build --package-path "$ROOT" --show-bin-path 2>/dev/null)
    TEST_BINARY=$folder/carillon
    TEST_LOADTEST=$folder/carillon-loadtest
}

no_warnings() {
    ! grep -E "^$ROOT/(Sources|Tests|loadtest|Package\.swift).*: warning: |^warning: '$(basename "${ROOT,,}")'" "$1" >&2
}

# count_swift_tests TARGET LOG STATUS BEGAN reads Swift Testing's own lines: one for each test, whatever its number of cases.
count_swift_tests() {
    local passed failed skipped
    passed=$(grep -cE '^[^ ] Test .* passed after [0-9.]+ seconds' <(grep -vE '^[^ ] Test run ' "$2")) || true
    failed=$(grep -cE '^[^ ] Test .* failed after [0-9.]+ seconds' <(grep -vE '^[^ ] Test run ' "$2")) || true
    skipped=$(grep -cE '^➜ Test .* skipped' "$2") || true
    # A run that was cut short, or in which nothing ran, has failed even if no test of it has.
    if [[ $failed -eq 0 && ($3 -ne 0 || $passed -eq 0) ]]; then
        failed=1
        tail -n 60 "$2" >&2
        failure "$1 (exit status $3)" < <(tail -n 60 "$2")
    elif [[ $((failed + skipped)) -gt 0 ]]; then
        grep -E '^✘|^➜ Test .* skipped' "$2" >&2 || true
        failure "$1" < <(grep -E -A 4 '^✘|^➜ Test .* skipped' "$2" | head -n 200)
    fi
    say "$1: $passed passed, $((failed + skipped)) failed (exit status $3, $((SECONDS - $4)) s)"
    pass "$passed"
    fail $((failed + skipped))
}

# The same program in a cluster, driven by clients of other people and by the load generator.
test_cluster() {
    local folder
    local -a load=(--connections 200 --users 100 --rate 100 --duration 10) chaos=(--connections 200 --rate 100 --duration 120)
    export CARILLON_BIN=$TEST_BINARY CARILLON_LOCAL=$HERE/local CARILLON_LOCAL_STATE=$TEST_FOLDER/cluster
    if [[ $1 == yes ]]; then
        export CARILLON_TEST_LONG=1
        load=(--connections 2000 --users 1000 --rate 300 --duration 60)
        chaos=(--connections 2000 --rate 500 --duration 600)
    fi
    say "starting a cluster"
    # There is nobody whom a large job should spare.
    "$HERE/local" up --port 0 --state "$CARILLON_LOCAL_STATE" --set CARILLON_JOB_REST=0 >"$TEST_FOLDER/out/up.log" || die "the cluster does not start"
    pass
    eval "$("$HERE/local" env --state "$CARILLON_LOCAL_STATE")"
    find_postgres_programs
    "$REPLY/psql" -X -A -t -F ' ' -d "$CARILLON_DATABASE_URL" -c "
        SELECT 'postgres', name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"

    while IFS= read -r folder; do run_pytest "$folder"; done < <(pytest_folders)

    # The tests kill and start nodes; the load generator is to find all of them.
    "$HERE/local" up --state "$CARILLON_LOCAL_STATE" >>"$TEST_FOLDER/out/up.log" || die "the cluster does not come back"
    "$HERE/local" token load- --count 1000 --state "$CARILLON_LOCAL_STATE" >"$TEST_FOLDER/tokens" || die "no tokens"
    check "load generator (${load[*]})" run_load "${load[@]}"
    test_scenarios
    check "chaos (${chaos[*]})" run_chaos --html "$TEST_FOLDER/out/chaos.html" --json "$TEST_FOLDER/out/chaos.json" "${chaos[@]}"
    check "no secret is in any log" no_secret_in_logs "$CARILLON_LOCAL_STATE"
}

# no_secret_in_logs STATE: what all of the above had every node and server log, searched for the cluster's own secrets, and for what
# looks like a token, an API key, a webhook's secret, a ticket, or a password.
no_secret_in_logs() {
    local file secret wrong=0
    local pattern='eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.|(^|[^A-Za-z0-9_])ck_[A-Za-z0-9_-]{43}|whsec_[A-Za-z0-9/+=_-]{16,}'
    pattern+='|[?&](ticket|token)=[^-&[:space:]"]|(Bearer|Basic) [A-Za-z0-9._-]{8,}|://[^:/@[:space:]"]*:[^@/[:space:]"]+@'
    [[ -n $(find "$1/logs" -name 'api-1*' -size +0) ]] || { say "there is no log to search"; return 1; }
    # Where, not what.
    if grep -rnaoE -- "$pattern" "$1/logs" | cut -d: -f1,2 | uniq | sed -n 1,5p | grep . >&2; then wrong=1; fi
    for file in "$1"/secrets/*; do
        secret=$(<"$file")
        if [[ ${#secret} -ge 16 ]] && grep -rqaF -- "$secret" "$1/logs"; then
            say "the secret ${file##*/} is in a log"
            wrong=1
        fi
    done
    return "$wrong"
}

# Every scenario and way to publish of the load generator, for a few seconds; all that it counts as wrong must be 0.
test_scenarios() {
    local name
    local -a few=(--connections 100 --users 50 --rate 50 --duration 3 --warm-up 1)
    for name in trigger direct broadcast; do check "load generator: publishes by $name" run_load "${few[@]}" --publish "$name"; done
    for name in reconnect-storm slow-readers; do check "load generator: $name" run_load "${few[@]}" --scenario "$name"; done
    check "load generator: ramp" run_load "${few[@]}" --duration 2 --scenario ramp --ramp-factor 2
    check "load generator: two processes, several addresses" run_load "${few[@]}" --processes 2 --sources 127.0.0.2-127.0.0.3
    cat >"$TEST_FOLDER/scenario.yaml" <<'YAML'
phases:
  - {name: few, connections: 20, duration: 2, mix: 0.5}
  - {name: more, connections: 120, duration: 2, rate: 80, publish: trigger}
  - {name: fewer, connections: 60, duration: 2, group: 5}
YAML
    check "load generator: a file of phases" run_load "${few[@]}" --scenario "$TEST_FOLDER/scenario.yaml" --html "$TEST_FOLDER/run.html"
    for name in nchan pushpin; do check "load generator: $name" run_rival "$name" "${few[@]}"; done
    check "benchmark: rows of fan-out have figures, and nothing allocates more than it may" run_fan_out
}

# With tiny sizes: what it says of speed is not looked at.
run_fan_out() {
    # The others are made of the same pieces.
    local -a rows=(idle-cluster memory broadcast direct-cpu stored resuming allocations)
    CARILLON_BIN=$TEST_BINARY LOADTEST_BIN=$TEST_LOADTEST timeout --kill-after=60 300 "$ROOT/loadtest/benchmarks/fan-out" "${rows[@]}" --short --thresholds debug \
        --json "$TEST_FOLDER/out/fan-out.json" --logs "$TEST_FOLDER/out/fan-out" </dev/null >&2
}

run_rival() {
    local name=$1 status=0
    shift
    if "$ROOT/loadtest/rivals/$name" start "$TEST_FOLDER/$name" >"$TEST_FOLDER/out/$name.env"; then
        (
            # shellcheck source=/dev/null
            . "$TEST_FOLDER/out/$name.env"
            # A rival may refuse a stream at first; what it was sent and its streams must be in order.
            CARILLON_PIDS=$RIVAL_PIDS timeout --kill-after=10 120 "$TEST_LOADTEST" run --adapter "$name" --target "$RIVAL_URL" \
                --publish-target "$RIVAL_PUBLISH_URL" --json "$TEST_FOLDER/out/$name.json" "$@" </dev/null >"$TEST_FOLDER/out/$name.log" 2>&1 || true
            python3 - "$TEST_FOLDER/out/$name.json" <<'PYTHON'
import json, sys
report = json.load(open(sys.argv[1]))
wrong = {name: count for name, count in report["correctness"].items() if count and name in ("lost", "duplicated", "reordered", "malformed")}
if wrong or not 0 < report["throughput"]["acknowledged"] <= report["throughput"]["received"]:
    sys.exit(f"{wrong} {report['throughput']}")
PYTHON
        ) || { status=$?; cat "$TEST_FOLDER/out/$name.log"; }
    else
        status=1
    fi
    "$ROOT/loadtest/rivals/$name" stop "$TEST_FOLDER/$name"
    return "$status"
}

# Every node and server is killed, frozen and stopped at random; nothing may be lost, doubled, out of order or counted wrongly.
run_chaos() {
    timeout --kill-after=10 1200 "$TEST_LOADTEST" run --scenario chaos --state "$CARILLON_LOCAL_STATE" --local "$HERE/local" "$@" </dev/null >&2
}

run_load() {
    timeout --kill-after=10 600 "$TEST_LOADTEST" run --target "$CARILLON_URL" --publish-target "$CARILLON_URL" --api-key "$CARILLON_API_KEY" \
        --tokens "$TEST_FOLDER/tokens" "$@" </dev/null >&2
}

# run_pytest FOLDER counts what pytest reports; a skipped test is a failed one.
run_pytest() {
    local title=${1#"$ROOT"/} report status=0 total=0 failed=0 name began=$SECONDS
    report=$TEST_FOLDER/out/$(basename "$1").xml
    say "running $title"
    PYTHONDONTWRITEBYTECODE=1 timeout --kill-after=10 2400 "$STATE/venv/bin/python" -m pytest -ra --durations=10 -p no:cacheprovider \
        --junitxml="$report" "$1" </dev/null >&2 || status=$?
    if [[ -s $report ]]; then
        total=$(attribute tests "$report")
        for name in failures errors skipped; do failed=$((failed + $(attribute "$name" "$report"))); done
    fi
    if [[ $failed -eq 0 && ($status -ne 0 || $total -eq 0) ]]; then
        failed=1
        total=$((total > 0 ? total : 1))
    fi
    if [[ $failed -gt 0 ]]; then failure "$title (exit status $status)" < <(test_report "$report"); fi
    # A test whose teardown fails as well counts twice among the failures and once in the total.
    if [[ $failed -gt $total ]]; then total=$failed; fi
    say "$title: $((total - failed)) passed, $failed failed (exit status $status, $((SECONDS - began)) s)"
    pass $((total - failed))
    fail "$failed"
}

# test_report FILE: the names, the messages and the last lines of what failed in a JUnit report.
test_report() {
    [[ -s $1 ]] || { echo "no report was written"; return; }
    "$STATE/venv/bin/python" - "$1" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
for case in tree.parse(sys.argv[1]).iter("testcase"):
    for kind in ("failure", "error", "skipped"):
        for found in case.findall(kind):
            print(f"{kind}: {case.get('classname')} {case.get('name')} after {case.get('time')} s")
            print("\n".join((found.text or found.get("message") or "").splitlines()[-40:]))
PYTHON
}

# attribute NAME FILE: of the only testsuite element in a JUnit report.
attribute() {
    local value
    value=$(grep -oE '<testsuite [^>]*' "$2" | grep -oE "[[:space:]]$1=\"[0-9]+\"" | tr -dc 0-9)
    printf '%s\n' "${value:-0}"
}
