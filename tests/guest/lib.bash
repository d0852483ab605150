# SPDX-License-Identifier: MIT
# TAP points for tests that boot guests; sourced by tests/guest/*.sh.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
uvirt=${UVIRT:-$top/build/uvirt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0

# kernel SERIES: the vmlinuz of that series.
kernel() {
    compgen -G "${UVIRT_KERNELS:-$top/build/kernels}/$1.*/boot/vmlinuz-*" | sort -V | tail -n 1
}

# point NAME CONDITION-COMMAND...: one TAP point.
point() {
    local name=$1
    shift
    count=$((count + 1))
    if "$@"; then
        echo "ok $count - $name"
    else
        echo "not ok $count - $name"
        sed 's/^/# out: /' "$work/out" | tail -n 20
        sed 's/^/# err: /' "$work/err" | tail -n 20
        echo "# rc: $rc"
    fi
}

# run ARG...: uvirt with a time limit; leaves rc, $work/out and $work/err. stdin passes through.
run() {
    rc=0
    timeout -k 5 "${limit:-120}" "$uvirt" "$@" >"$work/out" 2>"$work/err" || rc=$?
}

# ended CODE [TEXT]: it ended with CODE, and TEXT is all of its stdout.
ended() {
    [ "$rc" = "$1" ] && { [ $# -lt 2 ] || [ "$(cat "$work/out")" = "$2" ]; }
}

# complains CODE PATTERN: it ended with CODE and one line on stderr that matches PATTERN.
complains() {
    [ "$rc" = "$1" ] && [ "$(wc -l <"$work/err")" = 1 ] && grep -qE "^uvirt: .*$2" "$work/err"
}

# out PATTERN: a line of stdout matches.
out() {
    grep -qE "$1" "$work/out"
}

plan() {
    echo "1..$count"
}
