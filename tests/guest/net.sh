#!/bin/bash
# SPDX-License-Identifier: MIT
# --net user: 8 MiB each way between guest and host, through 10.0.2.2 and forwarded ports, IPv4 and IPv6; bad options.
set -u
. "$(dirname "$0")/lib.bash"
user=$work/net_user
${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -o "$user" "$top/tests/guest/net_user.c" 2>"$work/err" ||
    { echo "1..0 # SKIP no static C library"; exit 0; }
base=$((20000 + ($$ + RANDOM) % 20000))
head -c 8M /dev/urandom >"$work/data"
sum=$(sha256sum <"$work/data")

# beside IN OUT ARG...: net_user on the host, meanwhile.
beside() {
    local in=$1 out=$2
    shift 2
    timeout 110 "$user" "$@" <"$in" >"$out" 2>"$work/beside" &
    others+=($!)
}

# serve IN OUT ADDR PORT send|recv: the same as a listener, and come back when it is one.
serve() {
    beside "$1" "$2" listen "$3" "$4" "$5"
    until grep -q up "$work/beside" || ! kill -0 "${others[-1]}" 2>/dev/null; do sleep 0.05; done
}

# forwarded PORT IN OUT ARG...: net_user as soon as the guest listens at PORT.
forwarded() {
    local port=$1 in=$2 out=$3
    shift 3
    for _ in {1..1000}; do
        ! grep -qs "up $port" "$work/err" || break
        sleep 0.1
    done
    timeout 110 "$user" "$@" <"$in" >"$out" 2>/dev/null
}

# What the guest does; the host comes in when it says "up".
script='
    "$U" connect 10.0.2.2 $1 recv >got; echo "from host $(sha256sum <got)"
    "$U" connect 10.0.2.2 $(($1 + 1)) send <data && echo "to host done"
    "$U" connect fec0::2 $(($1 + 2)) recv >got; echo "IPv6 $(sha256sum <got)"
    "$U" listen 0.0.0.0 5000 recv >got; echo "forwarded in $(sha256sum <got)"
    "$U" listen 0.0.0.0 5001 send <data
    "$U" listen :: 5002 recv >got; echo "forwarded IPv6 $(sha256sum <got)"
    "$U" connect 10.0.2.2 $(($1 + 6)) recv || echo "refused"
    busybox udhcpc -i eth0 -n -q -s /bin/true 2>&1 | grep -o "lease of [0-9.]*"
    cat /etc/resolv.conf'

cd "$work" || exit 1
for series in 6.12 6.1; do
    others=()
    : >"$work/err"
    serve "$work/data" /dev/null 127.0.0.1 $((base)) send
    serve /dev/null "$work/uploaded" 127.0.0.1 $((base + 1)) recv
    serve "$work/data" /dev/null ::1 $((base + 2)) send
    (
        forwarded 5000 "$work/data" /dev/null connect 127.0.0.1 $((base + 3)) send
        forwarded 5001 /dev/null "$work/downloaded" connect 127.0.0.1 $((base + 4)) recv
        forwarded 5002 "$work/data" /dev/null connect ::1 $((base + 5)) send
    ) &
    others+=($!)
    run run --kernel "$(kernel $series)" --add "$work/data" --add "$user" --env "U=$user" \
        --net "user,hostfwd=tcp:127.0.0.1:$((base + 3))-:5000,hostfwd=tcp:127.0.0.1:$((base + 4))-10.0.2.15:5001" \
        --net "user,hostfwd=tcp:[::1]:$((base + 5))-:5002" -- /bin/sh -c "$script" sh $((base)) </dev/null
    kill "${others[@]}" 2>/dev/null
    point "$series: the guest ends" ended 0
    point "$series: guest connects to 10.0.2.2: 8 MiB from the host" out "^from host $sum"
    point "$series: and to it" eval 'out "^to host done" && cmp -s "$work/data" "$work/uploaded"'
    point "$series: guest connects to fec0::2: 8 MiB from the host" out "^IPv6 $sum"
    point "$series: host connects to a forwarded port: 8 MiB to the guest" out "^forwarded in $sum"
    point "$series: and from it" cmp -s "$work/data" "$work/downloaded"
    point "$series: IPv6, too" out "^forwarded IPv6 $sum"
    point "$series: a port where nobody listens refuses" out '^refused'
    point "$series: DHCP gives the same address" out '^lease of 10\.0\.2\.15'
    point "$series: a name server is set" out '^nameserver 10\.0\.2\.3'
    rm -f "$work/uploaded" "$work/downloaded"
done

others=()
serve "$work/data" /dev/null 127.0.0.1 $((base)) send
run run --net user,restrict=on --add "$user" --env "U=$user" -- \
    /bin/sh -c 'timeout 3 "$U" connect 10.0.2.2 $1 recv | wc -c; ping -c 1 10.0.2.2 >&2 && echo up' sh $((base)) </dev/null
kill "${others[@]}" 2>/dev/null
point "restrict=on: the router is there, the host is not" ended 0 $'0\nup'

# bad VALUE PATTERN: --net VALUE is refused in one line that matches.
bad() {
    run run --net "$1" -- true </dev/null
    point "refused: --net $1" complains 125 "$2"
}
bad tap '--net tap: .*accepted: --net user'
bad '' '--net .*accepted: --net user'
bad user, 'accepted: --net user'
bad user,restrict=yes 'accepted: --net user'
for forward in '' 8080 tcp::8080 tcp::8080-:0 tcp::65536-:80 tcp::0-:80 sctp::8080-:80 tcp:localhost:8080-:80 \
    'tcp:[::1]:8080-10.0.2.15:80' 'tcp:[::1:8080-:80' tcp:127.0.0.1:8080:80; do
    bad "user,hostfwd=$forward" 'not a forward .accepted: hostfwd=tcp'
done
others=()
serve /dev/null /dev/null 127.0.0.1 $((base + 7)) recv
bad "user,hostfwd=tcp:127.0.0.1:$((base + 7))-:80" "hostfwd=tcp:127.0.0.1:$((base + 7))-:80: Address already in use"
kill "${others[@]}" 2>/dev/null
plan
