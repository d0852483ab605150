#!/bin/bash
# SPDX-License-Identifier: MIT
# QEMU with -accel kvm under uvirt exec: Debian's kernel to a user program that looks at its vector registers,
# with CPU models whose XSAVE layout QEMU takes from the host's CPUID instruction.
set -u
. "$(dirname "$0")/lib.bash"

skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}

command -v qemu-system-x86_64 >/dev/null || skip_all 'no qemu-system-x86_64: Debian package qemu-system-x86'
gcc -O2 -static -mavx -o "$work/init" "$top/tests/guest/qemu_user.c" || exit 1
mkdir "$work/root" "$work/root/dev"
cp "$work/init" "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd" || exit 1

# qemu CPU KERNEL [ARG...]
qemu() {
    local cpu=$1 kernel=$2
    shift 2
    limit=300 run exec --kvm -- qemu-system-x86_64 -accel kvm -cpu "$cpu" -M q35 -m 512 -nodefaults -display none \
        -no-reboot -serial stdio -kernel "$kernel" -initrd "$work/initrd" -append 'console=ttyS0 quiet panic=-1' "$@" \
        </dev/null
}

for series in 6.12 6.1; do
    k=$(kernel $series)
    for cpu in host max; do
        if [ -z "$k" ]; then
            count=$((count + 1))
            echo "ok $count - $series, -cpu $cpu # SKIP ./dev setup has not unpacked that kernel"
            continue
        fi
        qemu "$cpu" "$k"
        point "$series, -cpu $cpu: vector registers are where CPUID says" out '^user program: good'
    done
done
k=$(kernel 6.12)
[ -z "$k" ] || {
    qemu host "$k" -smp 2 -machine kernel-irqchip=split
    point "6.12, two CPUs, split irqchip" out '^user program: good'
}
plan
