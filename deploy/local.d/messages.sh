# shellcheck shell=bash
# What the command says about its own work goes to standard error; standard output is for answers.

say() { printf '%s\n' "$*" >&2; }

die() {
    printf 'deploy/local: %s\n' "$*" >&2
    exit 1
}

is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]]; }
