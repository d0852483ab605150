#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# vsock's throughput, round trips and memory, VM-free beside AF_UNIX, then in a VM; [BYTES [SECONDS-A-ROUND]] for the first part alone
set -euo pipefail
cd "$(dirname "$0")/.."

build/meson/bench/vsock_bench "$@"
[ $# = 0 ] || exit 0

out=build/bench/vsock
rm -rf "$out"
mkdir -p "$out"
gcc -O2 -static -D_GNU_SOURCE -o "$out/vsock_vm" bench/vsock_vm.c
echo
echo "in a VM, to and from Unix sockets of the host:"
(cd "$out" && exec ./vsock_vm host P) &
host=$!
trap 'kill $host 2>/dev/null || true' EXIT
(cd "$out" && exec ../../uvirt run --vsock cid=5,path=P -- ./vsock_vm guest)
wait "$host"
