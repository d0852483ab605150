#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The CPU's engine: programs natively, in uvirt and in QEMU TCG, in turns; -n ROUNDS (3) -g PREFIX -Q (no QEMU) -q (quick)
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=3 series=6.12 tcg=1 arguments=()
while getopts n:g:k:Qq option; do
    case $option in
    n) rounds=$OPTARG ;;
    g) arguments+=(--only "$OPTARG") ;;
    k) series=$OPTARG ;;
    Q) tcg=0 ;;
    q) arguments+=(--sample 0.03) ;;
    *) echo "usage: ./dev bench engine [-n ROUNDS] [-g PREFIX]... [-k KERNEL-SERIES] [-Q] [-q]" >&2; exit 2 ;;
    esac
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "bench engine: -n: '$rounds' is not a number of rounds from 1" >&2; exit 2; }
if [ $tcg = 1 ] && ! command -v qemu-system-x86_64 >/dev/null; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq install -y --no-install-recommends qemu-system-x86 >/dev/null
fi
image=$(printf '%s\n' "$PWD"/build/kernels/"$series".*/boot/vmlinuz-* | sort -V | tail -n 1)
[ -f "$image" ] || { echo "bench engine: no $series kernel below build/kernels; run ./dev setup" >&2; exit 1; }

out=$PWD/build/bench/engine scripts=$PWD/bench/engine busybox=$(readlink -f "$(command -v busybox)")
rm -rf "$out"
mkdir -p "$out/root"/{bin,dev,proc,sys,tmp}
${CC:-gcc} -std=gnu17 -D_GNU_SOURCE -O2 -Wall -static -o "$out/gbench" bench/engine/*.c
tools/extract-vmlinux "$image" "$out/vmlinux"

# pack FILE...: into the guests' root, under the path that it has here.
pack() {
    local f
    for f; do
        mkdir -p "$out/root${f%/*}"
        cp -pL "$f" "$out/root$f"
    done
}
gbench=("$out/gbench" -b "$busybox" -s "$scripts")
pack "$out/gbench" "$busybox" "$scripts"/*.sh "$scripts"/*.py
cp -p "$busybox" "$out/root/bin/busybox"
if [ -x /usr/bin/python3 ]; then
    python=$(readlink -f /usr/bin/python3)
    gbench+=(-p "$python")
    # shellcheck disable=SC2046
    pack "$python" $(ldd "$python" | grep -o '/[^ )]*')
    # Its modules and SQLite's, with the bytecode beside them, and two files by which it finds its library.
    mapfile -t modules < <("$python" -IS -c 'if 1:
        import glob, os, sqlite3, sys
        found = [os.__file__, *glob.glob(os.path.dirname(os.__file__) + "/lib-dynload/_json.*")]
        for module in list(sys.modules.values()):
            found += [getattr(module, "__file__", None), getattr(module, "__cached__", None)]
        print(*sorted({f for f in found if f and os.path.isfile(f)}), sep="\n")')
    # shellcheck disable=SC2046
    pack "${modules[@]}" $(ldd "${modules[@]}" 2>/dev/null | grep -o '/[^ )]*\.so[^ ):]*' | sort -u)
else
    echo "bench engine: no /usr/bin/python3: the macro.py rows are left out" >&2
fi
cat >"$out/root/init" <<INIT
#!/bin/busybox sh
busybox=/bin/busybox
\$busybox mount -t proc proc /proc
\$busybox mount -t sysfs sys /sys
\$busybox mount -t devtmpfs dev /dev
${gbench[@]} </dev/ttyS0 >/dev/ttyS0
\$busybox poweroff -f
INIT
chmod +x "$out/root/init"
(cd "$out/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$out/initrd"

# qemu CPUS TCG-MODEL: as boot.sh has it, with the kernel parameters that uvirt passes by itself. Without
# ACPI a microvm has one CPU, and with it no timer that TCG's clock could be compared with: two are a q35.
append='console=ttyS0 quiet loglevel=1 panic=-1 8250.nr_uarts=1 pci=off tsc=reliable no_timer_check'
append+=' random.trust_cpu=on cryptomgr.notests mitigations=off'
qemu() {
    local machine=microvm,acpi=off thread=single
    [ "$1" = 1 ] || machine=q35 thread=multi
    command=(qemu-system-x86_64 -nodefaults -no-user-config -display none -serial stdio -no-reboot
        -M "$machine" -accel "tcg,thread=$thread" -cpu "$2" -smp "$1" -m 512M
        -kernel "$out/vmlinux" -initrd "$out/initrd" -append "$append")
}
uvirt=("${UVIRT:-build/uvirt}" run --mem 512M --kernel "$image" --initrd "$out/initrd" --append loglevel=1)
arguments+=(:: native "${gbench[@]}" :: uvirt "${uvirt[@]}" --cpus 1 -- "${gbench[@]}")
if [ $tcg = 1 ]; then
    qemu 1 max
    arguments+=(:: tcg "${command[@]}")
    qemu 1 max,-erms,-fsrm
    arguments+=(:: tcg-slow-string "${command[@]}")
fi
arguments+=(:: uvirt-2 "${uvirt[@]}" --cpus 2 -- "${gbench[@]}")
if [ $tcg = 1 ]; then
    qemu 2 max,-erms,-fsrm
    arguments+=(:: tcg-2 "${command[@]}")
fi
exec python3 bench/engine.py --rounds "$rounds" --json "$out/result.json" --log "$out/log" \
    --gbench "$out/gbench" "${arguments[@]}"
