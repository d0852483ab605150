#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's tools/testing/vsock, unmodified, on uvirt's AF_VSOCK: builds it from Debian's linux-source-6.12 package into
# build/vsock-test, runs vsock_test in each pairing of its two ends and prints a table.
#
# usage: tools/vsock-test.sh [--build | --list | PAIRING...]
# docs/vsock-test.md is what it prints without PAIRING; with, it prints "PAIRING ID pass|fail NAME [WHY]" lines.
# The program under test is $UVIRT, else build/uvirt.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/vsock-test
uvirt=${UVIRT:-$top/build/uvirt}
limit=${VSOCK_TEST_LIMIT:-120}
source=/usr/src/linux-source-6.12.tar.xz

# A pairing NAME has a column of the table, and a function client_server_NAME that runs both ends with the arguments
# given and leaves what they print in $work/client and $work/server.
pairings='host-host guest-loopback guest-host host-guest'
declare -A column=([host-host]='both on the host' [guest-loopback]='both in a guest'
    [guest-host]='guest, host' [host-guest]='host, guest')

packages() {
    local sudo='' list='linux-source-6.12 xz-utils gcc make libc6-dev'
    # shellcheck disable=SC2086
    if ! dpkg -s $list >/dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get install -y --no-install-recommends $list >/dev/null
    fi
}

build() {
    local tree
    packages
    tree=$(mktemp -d)
    trap 'rm -rf "$tree"' EXIT
    tar -C "$tree" --strip-components=1 -xJf "$source" linux-source-6.12/tools/testing/vsock linux-source-6.12/tools/include
    make -C "$tree/tools/testing/vsock" vsock_test vsock_perf >"$tree/log" 2>&1 ||
        { tail -n 30 "$tree/log" >&2; exit 1; }
    mkdir -p "$out"
    cp "$tree/tools/testing/vsock/vsock_test" "$tree/tools/testing/vsock/vsock_perf" "$out"
    rm -rf "$tree"
    trap - EXIT
}

# Linux 6.12, as the tests are of that version: older kernels do not pass them.
kernel=$(compgen -G "${UVIRT_KERNELS:-$top/build/kernels}/6.12.*/boot/vmlinuz-*" | sort -V | tail -n 1) || true

# listens PORT: wait until something listens on a TCP port of this machine.
listens() {
    local n
    for n in $(seq 100); do
        ! grep -q ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp || return 0
        sleep 0.1
    done
    return 1
}

# on_host ARG...: vsock_test under uvirt exec. $VSOCK_TEST_UNDER is a program to run all under, as tests do.
on_host() {
    # shellcheck disable=SC2086
    timeout -k 5 "$limit" ${VSOCK_TEST_UNDER:-} "$uvirt" exec --vsock "$work/dir" -- "$out/vsock_test" "$@"
}

client_server_host_host() {
    local port=$((20000 + ($$ + RANDOM) % 10000)) pid
    on_host --mode=server --control-port="$port" --peer-cid=1 "$@" >"$work/server" 2>&1 &
    pid=$!
    listens "$port" || true
    on_host --mode=client --control-host=127.0.0.1 --control-port="$port" --peer-cid=1 "$@" >"$work/client" 2>&1 || true
    wait "$pid" || true
}

# in_guest SCRIPT OPTION... -- ARG...: SCRIPT in a shell of a guest, with vsock_test as $T and ARG as "$@".
in_guest() {
    local script=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    # shellcheck disable=SC2086
    timeout -k 5 "$limit" ${VSOCK_TEST_UNDER:-} "$uvirt" run --kernel "$kernel" "${options[@]}" --add "$out/vsock_test" \
        --env "T=$out/vsock_test" --env "M=$work/modules" -- /bin/sh -c "$script" sh "$@"
}

# For in_guest: start the server, its output in /server, and come back when it listens at TCP port 1234 (04D2).
# shellcheck disable=SC2016
start_server='
    "$T" --mode=server --control-port=1234 "$@" >/server 2>&1 &
    for n in $(seq 100); do
        ! grep -q ":04D2 0*:0000 0A" /proc/net/tcp || break
        sleep 0.1
    done'

# A guest's loopback is a kernel module that nothing loads by itself.
client_server_guest_loopback() {
    local m f
    mkdir -p "$work/modules"
    for m in vsock vmw_vsock_virtio_transport_common vsock_loopback; do
        f=$(find "${kernel%/boot/*}/lib/modules" -name "$m.ko*")
        if [ "${f%.xz}" = "$f" ]; then cp "$f" "$work/modules"; else xz -dc "$f" >"$work/modules/$m.ko"; fi
    done
    # shellcheck disable=SC2016
    in_guest 'for m in vsock vmw_vsock_virtio_transport_common vsock_loopback; do insmod "$M/$m.ko"; done'"$start_server"'
        "$T" --mode=client --control-host=127.0.0.1 --control-port=1234 "$@" 2>&1
        wait
        cat /server >&2' \
        --cpus 2 --add "$work/modules" -- --peer-cid=1 "$@" >"$work/client" 2>"$work/server" </dev/null || true
}

# The server in a guest; the client on the host comes in through a forwarded port.
client_server_guest_host() {
    local port=$((20000 + ($$ + RANDOM) % 10000)) pid
    mkdir -p "$work/dir"
    : >"$work/ready"
    in_guest "$start_server"'
        echo ready >&2
        wait
        cat /server' \
        --vsock "cid=5,path=$work/dir" --net "user,hostfwd=tcp:127.0.0.1:$port-:1234" -- --peer-cid=2 "$@" \
        >"$work/server" 2>"$work/ready" </dev/null &
    pid=$!
    until grep -q ready "$work/ready" || ! kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
    on_host --mode=client --control-host=127.0.0.1 --control-port="$port" --peer-cid=5 "$@" >"$work/client" 2>&1 || true
    wait "$pid" || true
}

# The server on the host; the client in a guest reaches it at the address that stands for the host.
client_server_host_guest() {
    local port=$((20000 + ($$ + RANDOM) % 10000)) pid
    mkdir -p "$work/dir"
    on_host --mode=server --control-port="$port" --peer-cid=5 "$@" >"$work/server" 2>&1 &
    pid=$!
    listens "$port" || true
    # shellcheck disable=SC2016
    in_guest '"$T" --mode=client --control-host=10.0.2.2 "$@" 2>&1' \
        --vsock "cid=5,path=$work/dir" --net user -- --control-port="$port" --peer-cid=2 "$@" \
        >"$work/client" 2>/dev/null </dev/null || true
    wait "$pid" || true
}

# passed ID END: did END say that the case went well?
passed() {
    grep -aq "^$1 - .*ok\$" "$work/$2"
}

# run_pairing NAME: its lines. vsock_test ends with the first case that fails; it is run again without those.
run_pairing() {
    local id name failed=' ' skips again=1 why
    while [ $again = 1 ]; do
        again=0
        skips=$(for id in $failed; do echo "--skip=$id"; done)
        rm -rf "$work/dir"
        # shellcheck disable=SC2086
        "client_server_${1//-/_}" $skips
        while read -r id name; do
            [[ $failed == *" $id "* ]] && continue
            passed "$id" client && passed "$id" server && continue
            why=$(cat "$work/client" "$work/server" | grep -av '^Control socket\|^ *$\|[0-9] - .*ok$\|\.\.\.skipped$' |
                tr '\n' ' ' | cut -c 1-160)
            echo "$1 $id fail $name: $why"
            failed+="$id " again=1
            break
        done <"$work/cases"
    done
    while read -r id name; do
        [[ $failed == *" $id "* ]] || echo "$1 $id pass $name"
    done <"$work/cases"
}

[ -x "$out/vsock_test" ] && [ -x "$out/vsock_perf" ] || build
[ -n "$kernel" ] || pairings=host-host
case ${1:-} in
--build) exit 0 ;;
--list)
    echo "$pairings"
    exit 0
    ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{ "$out/vsock_test" --control-port=1 --list || true; } | sed 1d | sort -n >"$work/cases"

if [ $# -gt 0 ]; then
    for p in "$@"; do
        [ -n "${column[$p]:-}" ] || { echo "vsock-test.sh: no pairing '$p' (there are: $pairings)" >&2; exit 2; }
        run_pairing "$p"
    done
    exit 0
fi

for p in $pairings; do run_pairing "$p"; done >"$work/results"
cat <<'HEAD'
<!-- Printed by tools/vsock-test.sh; do not edit. -->

# Linux's vsock_test on uvirt

`tools/testing/vsock` of Linux 6.12, unmodified. A column is a pairing of server and client. On the host they run under
`uvirt exec --vsock DIR`, in a guest of `uvirt run --vsock cid=5,path=DIR --net user` on Debian's 6.12 kernel; in a guest alone
they use its kernel's own loopback.

HEAD
{
    printf '| | Case |'
    for p in $pairings; do printf ' %s |' "${column[$p]}"; done
    printf '\n|---|---|'
    for p in $pairings; do printf -- '---|'; done
    echo
    while read -r id name; do
        printf '| %s | %s |' "$id" "$name"
        for p in $pairings; do
            printf ' %s |' "$(sed -n "s/^$p $id \(pass\|fail\) .*/\1/p" "$work/results")"
        done
        echo
    done <"$work/cases"
    printf '\n%s passed, %s failed.\n' "$(grep -c ' pass ' "$work/results" || true)" "$(grep -c ' fail ' "$work/results" || true)"
}
