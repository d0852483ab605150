#!/bin/bash
# SPDX-License-Identifier: MIT
# marker framing end to end: programs under `uvirt exec`, `run --vsock …,framing=marker`, a guest that drives the device itself.
set -u
. "$(dirname "$0")/lib.bash"
k=$(kernel 6.12)
command -v python3 >/dev/null || { echo "1..0 # SKIP no python3"; exit 0; }
[ -n "$k" ] || { echo "1..0 # SKIP ./dev setup has not unpacked a kernel"; exit 0; }

src=$top/src
mkdir -p "$work/root"
${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -fno-strict-aliasing -fwrapv -I"$src" -I"$top/include" \
    -o "$work/root/init" "$top/tests/guest/marker_user.c" "$src"/vsock/*.c "$src"/vsock/*/*.c \
    "$src"/virtio/{vsock_driver,driver_queue,driver_split,driver_packed,turn}.c 2>"$work/err" ||
    { echo "1..0 # SKIP no static C library"; exit 0; }
user=$work/vsock_user
${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -o "$user" "$top/tests/guest/vsock_user.c" || exit 1
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"
mkdir "$work/v"

# guest ROLE FRAMING DEVICE-FRAMING: the VM; its console in out.
guest() {
    limit=60 run run --kernel "$k" --initrd "$work/initrd" --mem 3136M --append "quiet mem=512M -- $1 $2" \
        --vsock "cid=5,path=$work/v,framing=$3,dump=$work/pcap" </dev/null
}

# host ARG...: vsock_user under exec beside it; its status in peer_rc, its output in peer.
host() {
    timeout -k 5 60 "$uvirt" exec --vsock "$work/v" -- "$user" "$@" >"$work/peer" 2>&1 &
    peer=$!
}
peer_ends() {
    peer_rc=0
    wait "$peer" || peer_rc=$?
}

# says TEXT: the console has that line.
says() {
    tr -d '\r' <"$work/out" | grep -qxE "$1"
}

# wire MARKERS FLAGS: the capture has these operations beyond Linux's, and these flags of data beside none.
wire() {
    python3 - "$work/pcap" "$1" "$2" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
at, ops, flags = 24, set(), set()
while at < len(data):
    caplen = struct.unpack_from("<I", data, at + 8)[0]
    vtype, op, flag = struct.unpack_from("<HHI", data, at + 16 + 32 + 28)
    ops |= {op} if op > 7 else set()
    flags |= {f"{op}:{flag}"} if op == 5 and flag else set()
    at += 16 + caplen
got = (" ".join(map(str, sorted(ops))), " ".join(sorted(flags)))
print("# " + str(got))
sys.exit(got != (sys.argv[2], sys.argv[3]))
PY
}

# resets: "rst FROM TO" for each RST of the capture.
resets() {
    python3 - "$work/pcap" <<'PY'
import struct, sys
data = open(sys.argv[1], "rb").read()
at = 24
while at < len(data):
    caplen = struct.unpack_from("<I", data, at + 8)[0]
    src, dst, sport, dport, _, _, op = struct.unpack_from("<QQIIIHH", data, at + 16 + 32)
    if op == 3:
        print(f"rst {src}:{sport} {dst}:{dport}")
    at += 16 + caplen
PY
}

for framing in marker eom; do
    host talk seqpacket vsock:5:1234 eor
    guest echo $framing $framing
    peer_ends
    point "$framing: exec's records and MSG_EOR to a guest and back" grep -qx '200 records came back' "$work/peer"
    point "$framing: both ends are content" test "$rc:$peer_rc" = 0:0
    point "$framing: the guest had as many" says 'echoed 200 records'
    host echo seqpacket vsock:2:99
    for _ in $(seq 100); do compgen -G "$work/v/2_99*" >/dev/null && break; sleep 0.05; done
    guest talk $framing $framing
    peer_ends
    point "$framing: a guest's records and MSG_EOR to exec and back" says '200 records came back'
    point "$framing: the host had as many" grep -q 'in 200 records' "$work/peer"
    rm -f "$work"/v/2_99*
    case $framing in
    marker) point "marker: on the wire are markers, and RW_EOR" wire '8 9' '5:1' ;;
    eom) point "eom: on the wire are EOMs, and no markers" wire '' '5:1 5:3' ;;
    esac
done

# One end speaks one framing, the other the other: RST, and not one record.
for pair in "marker eom" "eom marker"; do
    read -r mine device <<<"$pair"
    host echo seqpacket vsock:2:99
    for _ in $(seq 100); do compgen -G "$work/v/2_99*" >/dev/null && break; sleep 0.05; done
    guest talk "$mine" "$device"
    kill "$peer" 2>/dev/null
    peer_ends
    rm -f "$work"/v/2_99*
    point "a guest with $mine, a device with $device: RST" says '(send|recv): (Connection reset by peer|Broken pipe)|0 records came back'
    point "nothing came through" test "$(grep -c 'in [1-9][0-9]* records' "$work/peer")" = 0
    point "the capture has the RST" grep -q '^rst 2:99 5:' <(resets)
done
plan
