#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt run -- COMMAND: exit status, streams, signals, files, on the newest kernel.
set -u
. "$(dirname "$0")/lib.bash"

run run -- sh -c 'exit 7' </dev/null
point "exit status" ended 7 ""

run run -- /usr/bin/uname -a </dev/null
point "uname -a" out '^Linux uvirt .* x86_64 GNU/Linux$'

echo hi >"$work/in"
run run -- cat <"$work/in"
point "stdin to stdout" ended 0 hi

seq 1 100000 >"$work/in"
run run -- sh -c 'echo to stderr >&2; cat; kill -TERM $$' <"$work/in"
point "600 KB through both pipes, death by signal" ended 143
point "nothing lost, nothing added" cmp -s "$work/in" "$work/out"
point "stderr is apart" test "$(cat "$work/err")" = "to stderr"

head -c 300000 /dev/urandom >"$work/in"
run run -- sha256sum <"$work/in"
point "binary data" ended 0 "$(sha256sum <"$work/in")"

if [ -x /usr/bin/python3 ]; then
    lib=$(/usr/bin/python3 -c 'import os; print(os.path.dirname(os.__file__))')
    run run --lib "$lib" -- /usr/bin/python3 -c 'print(2**100)' </dev/null
    point "python3 with its library directory" ended 0 1267650600228229401496703205376
fi

printf '#!/bin/sh\necho "$0:$1:$PWD:$X"\ncat data\n' >"$work/script"
chmod +x "$work/script"
echo content >"$work/data"
(cd "$work" && run run --add data --env X=y -- ./script arg </dev/null; echo "$rc" >rc)
rc=$(cat "$work/rc")
point "script, --add, --env, working directory" ended 0 "./script:arg:$work:y
content"

run run -- sh -c 'trap "echo got it; exit 5" TERM; echo ready; while :; do sleep 0.1; done' </dev/null &
pid=$!
for _ in $(seq 600); do
    grep -q ready "$work/out" 2>/dev/null && break
    sleep 0.1
done
pkill -TERM -P "$(pgrep -P $pid timeout)" 2>/dev/null
wait $pid
point "a signal reaches the command" grep -q 'got it' "$work/out"

# started COMMAND...: a VM beside, its command has said ready, its process is $pid.
started() {
    "$uvirt" run -- "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    for _ in $(seq 600); do
        grep -q ready "$work/out" 2>/dev/null && break
        sleep 0.1
    done
}

# over: wait for $pid, 60 s at most; leaves rc.
over() {
    for _ in $(seq 600); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL $pid 2>/dev/null
    rc=0
    wait $pid || rc=$?
}

rc=0
timeout 10 "$uvirt" run -- sleep 1000 >"$work/out" 2>"$work/err" </dev/null || rc=$?
point "timeout, without -k, ends a command" ended 124
started sh -c 'trap "echo once" TERM INT; echo ready; while :; do sleep 0.1; done'
kill -TERM $pid
sleep 3
point "a command may ignore SIGTERM" kill -0 $pid
kill -TERM $pid
over
point "but not for ever: a second one ends the VM" ended 143
point "it got the first" out '^once$'
started sh -c 'trap "echo once" TERM INT; echo ready; while :; do sleep 0.1; done'
kill -INT $pid
sleep 3
kill -INT $pid
sleep 3
point "SIGINT now and then is the command's affair" eval 'kill -0 $pid && [ "$(grep -c once "$work/out")" = 2 ]'
kill -INT $pid
sleep 0.5
kill -INT $pid
over
point "two within two seconds end the VM" ended 130
# A guest without its vsock is as good as hung for init.
started sh -c 'echo ready; sleep 1; for d in /sys/bus/virtio/drivers/vmw_vsock_virtio_transport/virtio*; do
    echo ${d##*/} >${d%/*}/unbind; done; sleep 1000'
sleep 5
kill -TERM $pid
over
point "a guest that does not answer ends, too" complains 143 'has not answered to signal 15 for 5 s: ended'

rc=0
timeout -k 5 120 "$uvirt" run -- yes 2>"$work/err" </dev/null | head -n 3 >"$work/out" || rc=$?
point "a reader that leaves ends the writer" test "$(tr -d '\n' <"$work/out")" = yyy

run run --stats -- true </dev/null
point "--stats" grep -q '^stats: exits to uvirt [1-9]' "$work/err"
plan
