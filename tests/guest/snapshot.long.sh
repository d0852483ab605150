#!/bin/bash
# SPDX-License-Identifier: MIT
# A VM moved to a new process at SNAPSHOTS (200) random moments, from boot to end: its output and disk never differ.
set -u
limit=1700
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/snapshot.bash"
workload || { echo "1..0 # SKIP no static C library"; exit 0; }
count_wanted=${SNAPSHOTS:-200}
rounds=${ROUNDS:-$((count_wanted * 30))}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "# SEED=$seed SNAPSHOTS=$count_wanted ROUNDS=$rounds"

now_ms() { date +%s%3N; }

# Undisturbed, and how long that takes: boot, and the workload.
truncate -s 2M "$work/disk"
: >"$work/out"
: >"$work/err"
began=$(now_ms)
start run --id vm --cpus 2 --disk "$work/disk" -- "$work/load" /dev/vda 2 "$rounds"
seen 'round 0 '
boot=$(($(now_ms) - began))
ends
load=$(($(now_ms) - began - boot))
point "the workload, undisturbed" ended 42
mv "$work/out" "$work/want"
mv "$work/disk" "$work/want.disk"
echo "# boot $boot ms, workload $load ms"

# move NAP: after up to NAP ms, into another process; one in four survives a copy first, one in four is not compressed.
moves=0
bad=0
move() {
    local nap=$((RANDOM % ($1 + 1))) kind=$((RANDOM % 4)) compress=zstd
    up || return 1
    sleep "$(printf '%d.%03d' $((nap / 1000)) $((nap % 1000)))"
    if [ "$kind" = 0 ]; then
        "$uvirt" snapshot vm "$work/copy" 2>>"$work/err" || return 1
    elif [ "$kind" = 1 ]; then
        compress=none
    fi
    "$uvirt" snapshot --stop --compress $compress vm "$work/file" 2>>"$work/err" || return 1
    ends
    [ "$rc" = 148 ] || bad=$((bad + 1))
    moves=$((moves + 1))
    [ $((moves % 20)) = 0 ] && echo "# $moves moves, $(wc -l <"$work/out") lines"
    start restore --id vm "$work/file"
}

# A tenth of the moments lie in the boot; those in the workload are together shorter than it, so that it is not over
# before the last of them.
truncate -s 2M "$work/disk"
: >"$work/out"
: >"$work/err"
start run --id vm --cpus 2 --disk "$work/disk" -- "$work/load" /dev/vda 2 "$rounds"
in_boot=$((count_wanted / 10))
while [ "$moves" -lt "$in_boot" ] && move $((boot / (in_boot + 1))); do :; done
seen 'round 0 '
while [ "$moves" -lt "$count_wanted" ] && move $((load * 14 / 10 / count_wanted)); do :; done
ends
point "$count_wanted moves to a new process" test "$moves:$bad" = "$count_wanted:0"
point "the command ends as it would have" ended 42
point "every sum of every round is the same" same "$work/out" "$work/want"
point "the final checksum is the same" test "$(tail -n 1 "$work/out")" = "$(tail -n 1 "$work/want")"
point "the disk is the same" cmp -s "$work/disk" "$work/want.disk"
point "nothing on stderr" test ! -s "$work/err"
plan
