#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's vsock_test and vsock_perf, unmodified: every case in each PAIRING given, or in all that there are.
set -u
. "$(dirname "$0")/lib.bash"
build=$(dirname "$(readlink -f "$uvirt")")/../..
suite=$top/tools/vsock-test.sh
# The kernel kills what asks it for an AF_VSOCK socket on this side.
export UVIRT=$uvirt VSOCK_TEST_UNDER=$build/tests/preload/forbid_vsock

"$suite" --build || { echo "1..0 # SKIP Linux's vsock_test could not be built"; exit 0; }
[ $# -gt 0 ] || read -ra set <<<"$("$suite" --list)"
[ $# = 0 ] || set=("$@")
rc=0

for pairing in "${set[@]}"; do
    while read -r _ id verdict name; do
        count=$((count + 1))
        [ "$verdict" = pass ] && echo "ok $count - $pairing $id: $name" || echo "not ok $count - $pairing $id: $name"
    done < <("$suite" "$pairing")
done

# perf ARG...: 200 MB from a sender with these arguments to a receiver; what the receiver says is in $work/out.
perf() {
    timeout 60 "$VSOCK_TEST_UNDER" "$uvirt" exec --vsock "$work/dir" -- "$top/build/vsock-test/vsock_perf" \
        --port 7000 --buf-size 65536 --vsk-size 262144 >"$work/out" 2>"$work/err" &
    local receiver=$!
    until [ -S "$work/dir/2_7000" ] || ! kill -0 $receiver 2>/dev/null; do sleep 0.1; done
    sleep 0.2
    timeout 60 "$VSOCK_TEST_UNDER" "$uvirt" exec --vsock "$work/dir" -- "$top/build/vsock-test/vsock_perf" \
        --port 7000 --sender 1 --bytes 200M --buf-size 65536 "$@" >"$work/sender" 2>&1 || rc=$?
    wait $receiver || rc=$?
    cat "$work/sender" >>"$work/out"
}

perf
point "vsock_perf" eval '[ $rc = 0 ] && out "rx performance: [0-9.]+ Gbits/s" && out "total bytes sent: 209715200"'
perf --zerocopy
point "vsock_perf --zerocopy" eval '[ $rc = 0 ] && out "total bytes sent: 209715200"'

# With a guest at one end. The receiver must listen before the sender asks, which it does once; and it ends at the
# hang-up, whatever it has not read by then.
perf=$top/build/vsock-test/vsock_perf
rm -rf "$work/dir"
mkdir "$work/dir"
timeout 60 "$VSOCK_TEST_UNDER" "$uvirt" exec --vsock "$work/dir" -- "$perf" --port 7000 --buf-size 65536 \
    >"$work/receiver" 2>&1 &
receiver=$!
until [ -S "$work/dir/2_7000" ] || ! kill -0 $receiver 2>/dev/null; do sleep 0.1; done
run run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$work/dir" -- \
    "$perf" --port 7000 --sender 2 --bytes 20M --buf-size 65536 </dev/null
wait $receiver || rc=$?
cat "$work/receiver" >>"$work/out"
point "vsock_perf, guest to host" eval '[ $rc = 0 ] && out "rx performance: [0-9.]+ Gbits/s" && out "bytes sent: 20971520"'

timeout 120 "$uvirt" run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$work/dir" -- \
    "$perf" --port 7000 --buf-size 65536 >"$work/receiver" 2>"$work/err" </dev/null &
receiver=$!
rc=1
while [ $rc != 0 ] && kill -0 $receiver 2>/dev/null; do
    sleep 0.5
    rc=0
    timeout 60 "$VSOCK_TEST_UNDER" "$uvirt" exec --vsock "$work/dir" -- \
        "$perf" --port 7000 --sender 5 --bytes 20M --buf-size 65536 >"$work/out" 2>>"$work/err" || rc=$?
done
wait $receiver || rc=$?
cat "$work/receiver" >>"$work/out"
point "vsock_perf, host to guest" eval '[ $rc = 0 ] && out "rx performance: [0-9.]+ Gbits/s" && out "bytes sent: 20971520"'
plan
