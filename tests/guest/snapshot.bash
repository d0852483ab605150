# SPDX-License-Identifier: MIT
# What the snapshot tests share: the workload, and moving a VM from process to process; sourced after lib.bash.
export XDG_RUNTIME_DIR=$work/run
mkdir -m 0700 "$XDG_RUNTIME_DIR"

# workload: build it as $work/load; false where that is not possible.
workload() {
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -mamx-tile -mamx-int8 -o "$work/load" \
        "$top/tests/guest/snapshot_user.c" 2>"$work/err"
}

# start ARG...: uvirt ARG... in the background; stdout and stderr are appended to $work/{out,err}; sets pid. Its stdin is
# open, and says nothing.
mkfifo "$work/silence"
exec 8<>"$work/silence"
start() {
    timeout -k 5 "${limit:-120}" "$uvirt" "$@" <&8 >>"$work/out" 2>>"$work/err" &
    pid=$!
}

# undisturbed: the workload again without snapshots, as long as it was in $work/out, which becomes $work/got; leaves
# $work/want and want.disk.
undisturbed() {
    local rounds="" w
    for w in 0 1; do
        rounds="$rounds $(grep -c "^worker $w " "$work/out")"
    done
    mv "$work/out" "$work/got"
    rm -f "$work/want.disk"
    truncate -s 2M "$work/want.disk"
    # shellcheck disable=SC2086
    run run --cpus 2 --disk "$work/want.disk" -- "$work/load" /dev/vda 2 $rounds </dev/null
    cp "$work/out" "$work/want"
}

# up: wait until "vm" runs: only then does it answer. False when its process has ended before.
up() {
    until "$uvirt" ps | grep -qE '^vm +[0-9]+'; do
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.02
    done
}

# seen PATTERN [SECONDS]: wait until a line of stdout matches.
seen() {
    for _ in $(seq $((${2:-60} * 20))); do
        grep -qE "$1" "$work/out" && return 0
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.05
    done
    grep -qE "$1" "$work/out"
}

# ends: wait for the VM's process; its status is in rc.
ends() {
    rc=0
    wait "$pid" || rc=$?
}

# same FILE FILE: the same lines; those of different workers come in any order.
same() {
    cmp -s <(sort "$1") <(sort "$2")
}
