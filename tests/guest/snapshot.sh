#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt snapshot, restore, ps, stop: a VM with live tiles goes on in another process; files and hosts that do not do.
set -u
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/snapshot.bash"
workload || { echo "1..0 # SKIP no static C library"; exit 0; }

# A copy on the way, and a move to another process, which then stops the workload.
echo stop >"$work/stop"
truncate -s 2M "$work/disk"
: >"$work/out"
: >"$work/err"
start run --id vm --cpus 2 --disk "$work/disk" -- "$work/load" /dev/vda 2
seen "round 50 "
point "uvirt ps shows it" grep -qE '^vm +[0-9]+ +2 +512 .*/load$' <("$uvirt" ps)
"$uvirt" run --id vm -- true </dev/null 2>"$work/err2"
point "an ID is given once" grep -q '^uvirt: --id vm: .*runs already' "$work/err2"
"$uvirt" snapshot vm "$work/copy"
point "a snapshot of a VM that goes on" test $? = 0
"$uvirt" snapshot --stop --compress none vm "$work/moved"
point "a snapshot of one that ends with it" test $? = 0
ends
point "its process has ended, as a job that is suspended" ended 148
point "it is gone from uvirt ps" test "$("$uvirt" ps | wc -l)" = 1
point "only its user may read the file" test "$(stat -c %a "$work/moved")" = 600
cp "$work/disk" "$work/other"
cp "$work/out" "$work/before"
timeout -k 5 120 "$uvirt" restore --id vm "$work/moved" <"$work/stop" >>"$work/out" 2>>"$work/err"
rc=$?
point "it goes on in a new process, with its stdin, and ends as its command does" ended 42
point "nothing on stderr" test ! -s "$work/err"
undisturbed
point "as many rounds, undisturbed" ended 42
point "no line of its output was lost, doubled or different" same "$work/got" "$work/want"
point "its disk is the same" cmp -s "$work/disk" "$work/want.disk"

# From one file twice, with the disk as it was then elsewhere.
cp "$work/before" "$work/out"
timeout -k 5 120 "$uvirt" restore --disk "$work/other" "$work/moved" <"$work/stop" >>"$work/out" 2>"$work/err"
rc=$?
point "the same file once more, with --disk" ended 42
undisturbed
point "no line was lost, doubled or different" same "$work/got" "$work/want"
point "its disk is the same" cmp -s "$work/other" "$work/want.disk"
head -c 1 "$work/disk" | dd of="$work/disk" bs=1 conv=notrunc 2>/dev/null # the guest may have had nothing to write
run restore "$work/moved" <"$work/stop"
point "a disk that was written meanwhile is worth a word" grep -q 'was written after the snapshot' "$work/err"

# Streams: what was written to stdin before the snapshot, and its end.
seq 1 20000 >"$work/in"
: >"$work/out"
: >"$work/err"
mkfifo "$work/fifo"
timeout -k 5 120 "$uvirt" run --id vm -- sh -c 'sha256sum; exit 9' <"$work/fifo" >"$work/out" 2>"$work/err" &
pid=$!
exec 9>"$work/fifo"
cat "$work/in" >&9
up
for _ in $(seq 600); do "$uvirt" ps | grep -q ' sh$' && break; sleep 0.1; done
sleep 3
"$uvirt" snapshot --stop vm "$work/stream" 2>>"$work/err"
exec 9>&-
ends
timeout -k 5 120 "$uvirt" restore "$work/stream" </dev/null >"$work/out" 2>>"$work/err"
rc=$?
point "bytes of stdin that were on their way arrive, then its end" ended 9 "$(sha256sum <"$work/in")"

# uvirt stop.
: >"$work/out"
start run --id vm -- sh -c 'trap "echo bye; exit 5" TERM; echo ready; while :; do sleep 0.1; done'
seen ready
"$uvirt" stop vm
ends
point "uvirt stop: the command gets SIGTERM" ended 5 "ready
bye"
: >"$work/out"
start run --id vm -- sh -c 'trap "" TERM; echo ready; while :; do sleep 0.1; done'
seen ready
"$uvirt" stop --timeout 1 vm
ends
point "and one that does not listen is ended" ended 143
mkdir -p "$XDG_RUNTIME_DIR/uvirt"
python3 -c 'import socket,sys; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(sys.argv[1])' \
    "$XDG_RUNTIME_DIR/uvirt/old.sock" 2>/dev/null
"$uvirt" ps >"$work/out"
point "uvirt ps removes what a VM that is gone has left" test ! -e "$XDG_RUNTIME_DIR/uvirt/old.sock"

# Bad input: one line, naming what is wrong.
for bad in "snapshot" "snapshot vm" "snapshot none $work/x" "snapshot --compress lzma vm $work/x" "stop" "stop none" \
    "stop --timeout never vm" "restore" "restore a b" "restore --cpus 2 $work/moved" "ps all"; do
    # shellcheck disable=SC2086
    run $bad </dev/null
    point "uvirt $bad" complains 125 '(accepted|no such VM|unknown option|takes no)'
done
point "no file is left of one that failed" test -z "$(compgen -G "$work/x*")"
run restore /no/such/file </dev/null
point "a file that is not there" complains 125 '/no/such/file: No such file'
run restore /bin/sh </dev/null
point "a foreign file" complains 125 '/bin/sh: magic: '
size=$(stat -c %s "$work/moved")
for cut in 7 31 60 5000 $((size / 2)) $((size - 1)); do
    head -c "$cut" "$work/moved" >"$work/bad"
    run restore "$work/bad" </dev/null
    point "cut at byte $cut" complains 125 'bad: .*truncated'
done
for at in 9 40 70 3000 $((size / 3)) $((size - 3)); do
    cp "$work/moved" "$work/bad"
    byte=$(od -An -tu1 -j "$at" -N 1 "$work/bad" | tr -d ' ')
    # shellcheck disable=SC2059
    printf "\\$(printf %o $((byte ^ 16)))" | dd of="$work/bad" bs=1 seek="$at" conv=notrunc 2>/dev/null
    run restore "$work/bad" </dev/null
    point "a flipped bit in byte $at" complains 125 'bad: .*(version: |damaged|checksum)'
done
mv "$work/disk" "$work/away"
run restore "$work/moved" </dev/null
point "a disk that is gone" complains 125 'moved: disk .*/disk: No such file.*--disk'
truncate -s 1M "$work/disk"
run restore "$work/moved" </dev/null
point "a disk of another size" complains 125 'moved: disk .*/disk: it has 1048576 bytes, and had 2097152'
run restore --disk "$work/away" --disk "$work/away" "$work/moved" </dev/null
point "one disk too many" complains 125 'moved: it has 1 disks, and --disk was given for 2'
run restore --disk "$work/away,ro" "$work/moved" </dev/null
point "a disk that became read-only" complains 125 'moved: disk .*/away: it is read-only now'
plan
