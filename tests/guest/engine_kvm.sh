#!/bin/bash
# SPDX-License-Identifier: MIT
# --engine kvm: uvirt's calls into libc and /dev/kvm, where /dev/kvm is that of uvirt exec. AMX has to be asked for there.
set -u
. "$(dirname "$0")/lib.bash"

gcc -O2 -static -mamx-tile -mamx-int8 -mamx-bf16 -o "$work/amx" "$top/guest/demo_amx.c" || exit 1
k=$(kernel 6.12)
[ -n "$k" ] || { echo "1..0 # SKIP ./dev setup has not unpacked a 6.12 kernel"; exit 0; }

# on_kvm ARG...: uvirt under uvirt.
on_kvm() {
    run exec --kvm -- "$uvirt" "$@" </dev/null
}

on_kvm probe
point "probe finds the KVM" out '^engine kvm .*amx'
on_kvm cpuid --engine kvm
cp "$work/out" "$work/kvm"
run cpuid --engine soft </dev/null
point "its CPUID is that of the software engine, AMX and all" cmp -s "$work/out" "$work/kvm"
on_kvm run --engine kvm --kernel "$k" --cpus 2 -- "$work/amx"
point "a guest with two CPUs computes with tiles" ended 0
on_kvm run --engine kvm --kernel "$k" -- sh -c 'grep -m1 -o amx_tile /proc/cpuinfo; exit 7'
point "the guest has AMX, its status is uvirt's" ended 7 amx_tile
on_kvm run --engine auto --kernel "$k" -- sh -c 'exit 8'
point "auto takes it" ended 8
plan
