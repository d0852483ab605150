#!/bin/bash
# SPDX-License-Identifier: MIT
# vsock between guests and Unix sockets of the host: streams and records both ways, siblings, bad options.
set -u
. "$(dirname "$0")/lib.bash"

user=$work/vsock_user
${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -o "$user" "$top/tests/guest/vsock_user.c" ||
    { echo "1..0 # SKIP no static C library"; exit 0; }
any=4294967295

# beside OUTFILE COMMAND...: run it on the host meanwhile.
beside() {
    local out=$1
    shift
    timeout -k 5 120 "$@" >"$out" 2>&1 &
    peer=$!
}

# both TEXT: run ended with 0, so did its peer, and the talker among them said TEXT.
both() {
    local peer_rc=0
    wait "$peer" || peer_rc=$?
    [ "$rc" = 0 ] && [ "$peer_rc" = 0 ] && cat "$work/out" "$work/peer" | grep -qx "$1"
}

# counted TYPE: the statistics have a connection of TYPE that moved what it should.
counted() {
    local bytes=1048576
    [ "$1" = stream ] || bytes=677900
    grep -qE "guest 5:1234, 2:[0-9]+ $1.*: to it $bytes bytes in [0-9]+ packets, from it $bytes in " "$work/err"
}

# dissected: Wireshark knows every packet of the capture, and its payload is all there.
dissected() {
    tshark -r "$work/pcap" -T fields -e vsock.virtio.op -e frame.protocols -e _ws.malformed \
        >"$work/out" 2>/dev/null || return 1
    ! grep -qv 'vsock' "$work/out" && ! grep -qi malformed "$work/out" &&
        tshark -r "$work/pcap" 2>/dev/null | grep -q 'host → 5 .*\[Connect\].*Op: Request' &&
        tshark -r "$work/pcap" 2>/dev/null | grep -q '5 → host .*\[Payload\].*Op: RW'
}

stream='1048576 bytes came back'
seqpacket='200 records came back'
for series in 6.12 6.1; do
    k=$(kernel $series)
    for type in stream seqpacket; do
        suffix=
        [ $type = stream ] || suffix=_seqpacket
        v=$work/v
        beside "$work/peer" "$user" talk $type "unix:$v$suffix:1234"
        run run --stats --kernel "$k" --vsock "cid=5,path=$v,dump=$work/pcap" -- \
            "$user" echo $type vsock:$any:1234 </dev/null
        point "$series: host to guest, $type" both "${!type}"
        point "$series: --stats has the connection" counted $type
        beside "$work/peer" "$user" echo $type "unix:${v}_99"
        run run --kernel "$k" --vsock "cid=5,path=$v" -- "$user" talk $type vsock:2:99 </dev/null
        point "$series: guest to host, $type" both "${!type}"
        rm -f "${v}_99"
    done
    if command -v tshark >/dev/null; then
        point "$series: tshark reads the capture" dissected
    else
        count=$((count + 1))
        echo "ok $count - $series: tshark reads the capture # SKIP Debian's package tshark is not installed"
    fi
    mkdir "$work/group"
    beside "$work/peer" "$uvirt" run --kernel "$k" --vsock "cid=6,path=$work/group" -- \
        "$user" echo seqpacket vsock:$any:1234 </dev/null
    run run --kernel "$k" --vsock "cid=7,path=$work/group" -- "$user" talk seqpacket vsock:6:1234 eor </dev/null
    point "$series: guest to guest, records with MSG_EOR" both "$seqpacket"
    point "$series: nothing is left in the directory" rmdir "$work/group"
done

# bad VALUE PATTERN: --vsock VALUE is refused in one line that matches.
bad() {
    run run --kernel "$(kernel 6.12)" --vsock "$1" -- true </dev/null
    point "refused: --vsock ${1//$work\//}" complains 125 "$2"
}
bad cid=0 'cid=0: no guest can have that CID'
bad cid=1 'cid=1: no guest can have that CID'
bad cid=2 'cid=2: no guest can have that CID'
bad cid=4294967296 'no guest can have that CID'
bad cid=4294967295 'no guest can have that CID'
bad "path=$work/v" 'it has no CID'
bad cid=3,framing=x 'accepted: framing=eom or framing=marker'
bad cid=3,path= 'path= is empty'
bad cid=3,pat=x 'accepted: --vsock cid=N'
bad "cid=3,path=$work/none/v" 'No such file or directory'
bad "cid=3,path=$work/$(printf 'x%.0s' {1..90})" 'sockets can have names of 86'
touch "$work/file"
bad "cid=3,path=$work/file" 'it exists and is not a socket'
beside "$work/peer" "$user" echo stream "unix:$work/live"
for _ in {1..100}; do [ -S "$work/live" ] && break; sleep 0.05; done
bad "cid=3,path=$work/live" 'somebody listens there already'
wait "$peer"
run run --kernel "$(kernel 6.12)" --vsock "cid=3,path=$work/live" -- true </dev/null
point "a socket file that nobody listens at is replaced" ended 0
disks=()
for i in 1 2 3 4 5 6; do
    truncate -s 1M "$work/disk$i"
    disks+=(--disk "$work/disk$i")
done
run run --kernel "$(kernel 6.12)" "${disks[@]}" --vsock cid=3 -- true </dev/null
point "six disks and vsock" ended 0
run run --kernel "$(kernel 6.12)" "${disks[@]}" --net user -- true </dev/null
point "refused: six disks and a network" complains 125 '--net: too many devices'
plan
