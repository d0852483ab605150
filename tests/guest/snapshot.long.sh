#!/bin/bash
# SPDX-License-Identifier: MIT
# A VM moved to a new process at SNAPSHOTS (200) random moments, from boot to end: its output and disk never differ.
set -u
limit=1700
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/snapshot.bash"
workload || { echo "1..0 # SKIP no static C library"; exit 0; }
count_wanted=${SNAPSHOTS:-200}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "# SEED=$seed SNAPSHOTS=$count_wanted"

# move MS: after at most so long, into another process; one in four survives a copy first, one in four is not compressed.
moves=0
bad=0
move() {
    local nap=$((RANDOM % $1)) kind=$((RANDOM % 4)) compress=zstd
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
    return 0
}

# A tenth of the moments lie in the boot.
truncate -s 2M "$work/disk"
: >"$work/out"
: >"$work/err"
start run --id vm --cpus 2 --disk "$work/disk" -- "$work/load" /dev/vda 2
while [ "$moves" -lt $((count_wanted / 10)) ] && move 600; do
    start restore --id vm "$work/file"
done
seen 'round 0 '
while [ "$moves" -lt "$count_wanted" ] && move 300; do
    [ "$moves" = "$count_wanted" ] || start restore --id vm "$work/file"
done
point "$count_wanted moves to a new process" test "$moves:$bad" = "$count_wanted:0"
echo stop >"$work/stop"
timeout -k 5 120 "$uvirt" restore "$work/file" <"$work/stop" >>"$work/out" 2>>"$work/err"
rc=$?
point "the command ends as it would have" ended 42
point "nothing on stderr" test ! -s "$work/err"
echo "# $(wc -l <"$work/out") lines"
undisturbed
point "as many rounds, undisturbed" ended 42
point "every sum of every round is the same" same "$work/got" "$work/want"
point "the final checksum is the same" test "$(tail -n 1 "$work/got")" = "$(tail -n 1 "$work/want")"
point "the disk is the same" cmp -s "$work/disk" "$work/want.disk"
plan
