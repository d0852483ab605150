#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Boot to the guest's first line of init: uvirt against QEMU TCG at its best, alternating; -n ROUNDS (5)
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=5 machine=microvm,acpi=off series=6.12
while getopts n:M:k: option; do
    case $option in
    n) rounds=$OPTARG ;;
    M) machine=$OPTARG ;;
    k) series=$OPTARG ;;
    *) echo "usage: ./dev bench boot [-n ROUNDS] [-M QEMU-MACHINE] [-k KERNEL-SERIES]" >&2; exit 2 ;;
    esac
done
command -v qemu-system-x86_64 >/dev/null || {
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq install -y --no-install-recommends qemu-system-x86 >/dev/null
}
image=$(printf '%s\n' build/kernels/"$series".*/boot/vmlinuz-* | sort -V | tail -n 1)
[ -f "$image" ] || { echo "bench boot: no $series kernel below build/kernels; run ./dev setup" >&2; exit 1; }

out=build/bench/boot
rm -rf "$out"
mkdir -p "$out/root/bin"
tools/extract-vmlinux "$image" "$out/vmlinux"
cp /bin/busybox "$out/root/bin/busybox"
cat >"$out/root/init" <<'INIT'
#!/bin/busybox sh
echo INIT-FIRST-LINE
exec /bin/busybox poweroff -f
INIT
chmod +x "$out/root/init"
(cd "$out/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$out/initrd"

# Both get the same ELF kernel, initrd, memory and command line. QEMU is spared slow string
# instructions (-erms, -fsrm), an idle device model (microvm) and unpacking (ELF over PVH).
append='console=ttyS0 quiet panic=-1'
exec python3 bench/watch.py --rounds "$rounds" --mark INIT-FIRST-LINE --json "$out/result.json" \
    -- uvirt build/uvirt run --cpus 1 --mem 512M --serial stdio --kernel "$out/vmlinux" \
       --initrd "$out/initrd" --append "$append" \
    -- qemu-tcg qemu-system-x86_64 -nodefaults -no-user-config -display none -serial stdio -no-reboot \
       -M "$machine" -accel tcg,thread=single -cpu max,-erms,-fsrm -smp 1 -m 512M \
       -kernel "$out/vmlinux" -initrd "$out/initrd" -append "$append"
