#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt exec --vsock: unmodified programs of the host talk to each other (socat, ncat) and to guests.
set -u
. "$(dirname "$0")/lib.bash"
build=$(dirname "$(readlink -f "$uvirt")")/../..
# The kernel kills what asks it for an AF_VSOCK socket on this side.
forbid=$build/tests/preload/forbid_vsock
dir=$work/dir
any=4294967295
mkdir "$dir"

# "${under[@]}" PROGRAM: a program of the host with AF_VSOCK.
under=(timeout -k 5 120 "$forbid" "$uvirt" exec --vsock "$dir" --)

# listening PORT [SUFFIX]: wait until a program of the host has that port.
listening() {
    for _ in {1..200}; do
        ! grep -q "/2_$1${2:-}\$" /proc/net/unix || return 0
        sleep 0.1
    done
}

# served TEXT: the client got it, and client and server ended well.
served() {
    local peer_rc=0
    wait "$peer" || peer_rc=$?
    [ "$rc" = 0 ] && [ "$peer_rc" = 0 ] && [ "$(cat "$work/out")" = "$1" ]
}

# beside COMMAND...: in the background, its output in $work/peer.
beside() {
    "$@" >"$work/peer" 2>"$work/err" &
    peer=$!
}

if command -v socat >/dev/null; then
    beside "${under[@]}" socat VSOCK-LISTEN:5000 EXEC:cat
    listening 5000
    rc=0; echo text | "${under[@]}" socat -t9 - VSOCK-CONNECT:1:5000 >"$work/out" 2>"$work/err" || rc=$?
    point "socat to socat, CID 1" served text
    beside "${under[@]}" socat VSOCK-LISTEN:5001,fork,max-children=3 SYSTEM:'echo "$SOCAT_PEERADDR"' # its children are exec'd
    listening 5001
    rc=0; "${under[@]}" socat -u VSOCK-CONNECT:2:5001 - >"$work/out" 2>"$work/err" || rc=$?
    kill "$peer"
    point "socat serves with children" eval '[ $rc = 0 ] && out "^vsock:1|^1"'
    wait "$peer" 2>/dev/null
    rc=0; "${under[@]}" socat -u VSOCK-CONNECT:2:5001 - >"$work/out" 2>"$work/err" || rc=$?
    point "nobody listens: ECONNRESET" eval '[ $rc = 1 ] && grep -q "Connection reset by peer" "$work/err"'
else
    echo "ok $((++count)) - socat # SKIP Debian's package socat is not installed"
fi

if command -v ncat >/dev/null && command -v socat >/dev/null; then
    beside "${under[@]}" ncat --vsock -l 5002
    listening 5002
    rc=0; echo text | "${under[@]}" socat -t9 - VSOCK-CONNECT:1:5002 >"$work/out" 2>"$work/err" || rc=$?
    point "socat to ncat" eval 'served "" && [ "$(cat "$work/peer")" = text ]'
    beside "${under[@]}" socat VSOCK-LISTEN:5003 EXEC:cat
    listening 5003
    rc=0; { echo text; sleep 2; } | "${under[@]}" ncat --vsock 2 5003 >"$work/out" 2>"$work/err" || rc=$?
    point "ncat to socat" served text
    beside "${under[@]}" ncat --vsock -l 5004 -c cat
    listening 5004
    rc=0; { echo text; sleep 2; } | "${under[@]}" ncat --vsock 1 5004 >"$work/out" 2>"$work/err" || rc=$?
    point "ncat to ncat" served text
else
    echo "ok $((++count)) - ncat # SKIP Debian's packages ncat and socat are not installed"
fi

# in_guest COMMAND...: in a guest with CID 5, beside; its output is in $work/peer.
in_guest() {
    beside timeout -k 5 120 "$uvirt" run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$dir" -- "$@"
}

# again COMMAND...: until it ends well, as a guest takes a while to listen, or the guest has gone. Its stdin is $work/in.
again() {
    rc=1
    while [ $rc != 0 ] && kill -0 "$peer" 2>/dev/null; do
        rc=0
        "$@" <"$work/in" >"$work/out" 2>"$work/err" || rc=$?
        [ $rc = 0 ] || sleep 0.3
    done
}

# ncat_with NUMBER... : ncat that stays a moment for the answer when its input has ended.
ncat_with() {
    { cat; sleep 2; } | "${under[@]}" ncat --vsock "$@"
}

if command -v ncat >/dev/null && command -v socat >/dev/null; then
    echo text >"$work/in"
    in_guest socat VSOCK-LISTEN:6000 PIPE </dev/null
    again "${under[@]}" socat -t9 - VSOCK-CONNECT:5:6000
    point "socat to socat in a guest" served text
    in_guest socat VSOCK-LISTEN:6001 PIPE </dev/null
    again ncat_with 5 6001
    point "ncat to socat in a guest" served text
    in_guest ncat --vsock -l 6002 </dev/null
    again "${under[@]}" socat -u - VSOCK-CONNECT:5:6002
    point "socat to ncat in a guest" eval 'served "" && [ "$(cat "$work/peer")" = text ]'
    beside "${under[@]}" socat VSOCK-LISTEN:6003 PIPE
    listening 6003
    run run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$dir" -- socat -t9 - VSOCK-CONNECT:2:6003 <"$work/in"
    point "socat in a guest to socat" served text
    beside "${under[@]}" ncat --vsock -l 6005
    listening 6005
    run run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$dir" -- socat -u - VSOCK-CONNECT:2:6005 <"$work/in"
    point "socat in a guest to ncat" eval 'served "" && [ "$(cat "$work/peer")" = text ]'
    beside "${under[@]}" socat VSOCK-LISTEN:6004 PIPE
    listening 6004
    { cat "$work/in"; sleep 4; } | run run --kernel "$(kernel 6.12)" --vsock "cid=5,path=$dir" -- ncat --vsock 2 6004
    point "ncat in a guest to socat" served text
else
    echo "ok $((++count)) - socat and ncat with a guest # SKIP Debian's packages ncat and socat are not installed"
fi

for link in '' -static; do
    # shellcheck disable=SC2086
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 $link -o "$work/user$link" "$top/tests/guest/vsock_user.c" ||
        { echo "1..0 # SKIP no static C library"; exit 0; }
done
stream='1048576 bytes came back'
seqpacket='200 records came back'

# both TEXT: run and its peer ended with 0, and the talker among them said TEXT.
both() {
    local peer_rc=0
    wait "$peer" || peer_rc=$?
    cat "$work/peer" >>"$work/out"
    [ "$rc" = 0 ] && [ "$peer_rc" = 0 ] && out "^$1\$"
}

for series in 6.12 6.1; do
    for type in stream seqpacket; do
        beside "${under[@]}" "$work/user" talk $type vsock:5:1234 eor
        run run --kernel "$(kernel $series)" --vsock "cid=5,path=$dir" -- "$work/user-static" echo $type vsock:$any:1234 </dev/null
        point "$series: connect() to a guest, $type, MSG_EOR" both "${!type}"
        beside "${under[@]}" "$work/user" echo $type vsock:$any:99
        run run --kernel "$(kernel $series)" --vsock "cid=5,path=$dir" -- "$work/user-static" talk $type vsock:2:99 eor </dev/null
        point "$series: accept() from a guest, $type, MSG_EOR" both "${!type}"
    done
done
rc=0
"${under[@]}" "$work/user" echo stream vsock:3:99 >"$work/out" 2>"$work/err" || rc=$?
point "a guest's CID is not ours to bind" eval '[ $rc = 1 ] && grep -q "Cannot assign requested address" "$work/err"'
rm -f "$dir/.lock"
point "no name is left in the directory" rmdir "$dir"

run exec --vsock "$work/user" -- true
point "a file for a directory" complains 125 'not a directory \(accepted: a directory\)'
run exec --vsock "$work/no/such" -- true
point "no parent directory" complains 125 'exec --vsock .*: No such file or directory'
mkdir "$work/$(printf 'x%.0s' {1..90})"
run exec --vsock "$work/$(printf 'x%.0s' {1..90})" -- true
point "a directory with a long name" complains 125 'too long for the names of sockets \(accepted: at most 80 bytes\)'
run exec --vsock
point "no DIR" complains 125 'accepted: --vsock DIR'
plan
