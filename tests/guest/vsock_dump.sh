#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt vsock-dump: captures of a VM by its ID and of a vsock-device by its socket, counts, cut packets, bad input.
set -u
. "$(dirname "$0")/lib.bash"
export XDG_RUNTIME_DIR=$work/run
mkdir -m 0700 "$XDG_RUNTIME_DIR"
rc=0
: >"$work/out"
: >"$work/err"

# sound FILE PACKETS|+ CAPLEN: the file has so many packets (+: some), none with more than CAPLEN bytes, each with the
# headers of vsockmon and virtio-vsock, whose addresses and lengths agree, and nothing behind the last.
sound() {
    python3 - "$@" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
want, cap = sys.argv[2], int(sys.argv[3])
magic, major, minor, _, _, snaplen, link = struct.unpack_from("<IHHIIII", data)
assert (magic, major, minor, snaplen, link) == (0xA1B23C4D, 2, 4, cap, 271), "file header"
at, n, kinds = 24, 0, set()
while at < len(data):
    sec, nsec, caplen, length = struct.unpack_from("<IIII", data, at)
    p = data[at + 16:at + 16 + caplen]
    assert len(p) == caplen == min(length, cap) and nsec < 10**9, "record header"
    src, dst, sport, dport, op, transport, hlen = struct.unpack_from("<QQIIHHH", p)
    vsrc, vdst, vsport, vdport, vlen, vtype, vop = struct.unpack_from("<QQIIIHH", p, 32)
    assert (src, dst, sport, dport) == (vsrc, vdst, vsport, vdport) and transport == 2 and hlen == 44, "addresses"
    assert length == 76 + vlen and {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 3, 7: 3}[vop] == op, "operation"
    kinds.add((vtype, vop))
    at, n = at + 16 + caplen, n + 1
assert want == "+" and n or str(n) == want, f"{n} packets"
PY
}

# dumped FILE PACKETS: vsock-dump said so of itself.
said() {
    grep -qE "^uvirt: $1 packets, 0 dropped$" "$work/err"
}

# dump ARG...: vsock-dump in the foreground; rc, out and err as run leaves them.
dump() {
    run vsock-dump "$@" </dev/null
}

for series in 6.12 6.1; do
    k=$(kernel $series)
    timeout -k 5 120 "$uvirt" run --id vm --kernel "$k" -- sh -c 'while :; do echo some text; sleep 0.05; done' \
        </dev/null >"$work/text" 2>/dev/null &
    vm=$!
    for _ in $(seq 600); do
        [ "$(wc -l <"$work/text")" -gt 2 ] && break
        sleep 0.1
    done
    dump --count 20 --write "$work/pcap" vm
    point "$series: 20 packets of a VM" ended 0 ""
    point "$series: it says so" said 20
    point "$series: they are sound" sound "$work/pcap" 20 65612
    point "$series: with what the command says" grep -q 'some text' "$work/pcap"
    dump --count 5 --snaplen 80 vm
    cp "$work/out" "$work/cut"
    point "$series: to standard output, cut off" sound "$work/cut" 5 80
    point "$series: without what the command says" test "$(grep -c 'some text' "$work/cut")" = 0
    "$uvirt" vsock-dump vm >"$work/one" 2>"$work/err" </dev/null &
    one=$!
    dump --count 10 --write "$work/two" vm
    sleep 0.5
    kill -INT $one
    wait $one
    rc=$?
    point "$series: two at once, one until it is interrupted" ended 0
    point "$series: both are sound" sound "$work/one" + 65612
    point "$series: both are sound, the counted one too" sound "$work/two" 10 65612
    if command -v tshark >/dev/null; then
        point "$series: tshark reads it as it comes" grep -q 'Op: RW' \
            <("$uvirt" vsock-dump --count 20 vm 2>/dev/null | tshark -r - 2>/dev/null)
    else
        count=$((count + 1))
        echo "ok $count - $series: tshark reads it as it comes # SKIP Debian's package tshark is not installed"
    fi
    "$uvirt" vsock-dump --write "$work/last" vm 2>"$work/err" &
    one=$!
    sleep 0.5
    "$uvirt" stop vm
    wait $vm
    rc=0
    wait $one || rc=$?
    point "$series: it ends with the VM" ended 0
    point "$series: and is sound" sound "$work/last" + 65612
done

"$uvirt" vsock-device --socket "$work/s" --cid 9 --path "$work/p" 2>"$work/err" &
device=$!
for _ in $(seq 100); do [ -S "$work/s_dump" ] && break; sleep 0.05; done
"$uvirt" vsock-dump --write "$work/device" "$work/s" 2>"$work/err" &
one=$!
for _ in $(seq 100); do [ -s "$work/device" ] && break; sleep 0.05; done
kill $one
rc=0
wait $one || rc=$?
point "a vsock-device by its socket" ended 0
point "without a guest it has no packets" sound "$work/device" 0 65612
rm "$work/device" # the next one makes it again, once it is connected
"$uvirt" vsock-dump --write "$work/device" "$work/s" 2>"$work/err" &
one=$!
for _ in $(seq 100); do [ -s "$work/device" ] && break; sleep 0.05; done
kill $device
wait $device
rc=0
wait $one || rc=$?
point "it ends with the device" ended 0
point "whose sockets are gone" test ! -e "$work/s" -a ! -e "$work/s_dump"

# Bad input.
dump
point "no ID" complains 125 'vsock-dump needs one ID or SOCKET \(accepted: uvirt vsock-dump'
dump a b
point "two of them" complains 125 'vsock-dump needs one'
dump none
point "no such VM" complains 125 'none: no such VM \(accepted: an ID of uvirt ps'
dump "$work/s"
point "no such device" complains 125 '/s: no vsock-device listens there: No such file'
dump "$work/$(printf 'x%.0s' {1..120})"
point "a socket's name that is too long" complains 125 'no vsock-device listens there: File name too long'
for bad in "--count 0" "--count x" "--snaplen 75" "--snaplen 65613" "--snaplen"; do
    # shellcheck disable=SC2086
    dump $bad vm
    point "$bad" complains 125 'accepted'
done
timeout -k 5 60 "$uvirt" run --id vm --kernel "$(kernel 6.12)" -- sleep 100 </dev/null >/dev/null 2>&1 &
vm=$!
for _ in $(seq 600); do "$uvirt" ps | grep -q '^vm ' && break; sleep 0.1; done
dump --write "$work/none/pcap" vm
point "a file that cannot be" complains 125 '--write .*/none/pcap: No such file'
dump --write /dev/full --count 3 vm
point "a file that is full" grep -q '^uvirt: /dev/full: No space left' "$work/err"
"$uvirt" stop --timeout 0 vm
wait $vm
plan
