#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# vsock's throughput, round trips and memory beside AF_UNIX, with targets, then in a VM; [-k KERNEL-SERIES] or [BYTES [SECONDS]] for the first part alone
set -euo pipefail
cd "$(dirname "$0")/.."

series=6.12
if [ "${1:-}" = -k ] && [ $# = 2 ]; then
    series=$2
    shift 2
fi
kernel=$(ls -d build/kernels/"$series".*/boot/vmlinuz-* 2>/dev/null | sort -V | tail -1) || true
[ -n "$kernel" ] || {
    echo "vsock: no kernel $series in build/kernels (accepted: -k 6.12, -k 6.1)" >&2
    exit 2
}

build/meson/bench/vsock_bench "$@"
[ $# = 0 ] || exit 0

kernel=$PWD/$kernel
out=build/bench/vsock
rm -rf "$out"
mkdir -p "$out"
gcc -O2 -static -D_GNU_SOURCE -o "$out/vsock_vm" bench/vsock_vm.c
echo
echo "in a VM, $(basename "$kernel"), to and from Unix sockets of the host:"
(cd "$out" && exec ./vsock_vm host P) &
host=$!
trap 'kill $host 2>/dev/null || true' EXIT
(cd "$out" && exec ../../uvirt run --kernel "$kernel" --vsock cid=5,path=P -- ./vsock_vm guest)
wait "$host"
