#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt run without COMMAND: a kernel and an initrd of one's own, the serial port as console; both boot protocols.
set -u
. "$(dirname "$0")/lib.bash"
k=$(kernel 6.12)
busybox=$(command -v busybox) || { echo "1..0 # SKIP no busybox"; exit 0; }
[ -n "$k" ] || { echo "1..0 # SKIP ./dev setup has not unpacked a kernel"; exit 0; }

mkdir -p "$work/root/bin" "$work/root/dev" "$work/root/proc"
cp "$busybox" "$work/root/bin/busybox"
cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
echo "init runs on $(/bin/busybox uname -r)"
echo "command line: $(/bin/busybox cat /proc/cmdline)"
while read -r line; do
    case $line in
    off) /bin/busybox poweroff -f ;;
    reset) /bin/busybox reboot -f ;;
    *) echo "read <$line>" ;;
    esac
done
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd"

printf 'first\n%s\noff\n' "$(head -c 200 /dev/zero | tr '\0' x)" >"$work/in"
run run --kernel "$k" --initrd "$work/initrd" --append quiet --append word=value <"$work/in"
point "it boots, and powering off ends uvirt" ended 0
point "the console is on stdout" out '^init runs on 6\.12'
point "--append" out '^command line: console=ttyS0 .* quiet word=value'
point "stdin goes to the serial port" out '^read <first>'
point "more than its FIFO holds, nothing lost" out "^read <x{200}>"

printf 'reset\n' >"$work/in"
run run --kernel "$k" --initrd "$work/initrd" --serial "file:$work/log" </dev/null &
pid=$!
for _ in $(seq 900); do
    grep -q 'init runs' "$work/log" 2>/dev/null && break
    sleep 0.1
done
pkill -INT -P "$(pgrep -P $pid timeout)" 2>/dev/null
wait $pid
point "--serial file:F" grep -q 'init runs' "$work/log"
point "and nothing on stdout" test ! -s "$work/out"
run run --kernel "$k" --initrd "$work/initrd" --append quiet <"$work/in"
point "a reset ends uvirt" ended 0

# The same kernel as ELF file, without its PVH note: Linux' 64-bit boot protocol.
if command -v zstd >/dev/null && command -v python3 >/dev/null; then
    python3 - "$k" "$work/vmlinux" <<'PY'
import struct, subprocess, sys
k = open(sys.argv[1], "rb").read()
offset, length = struct.unpack_from("<II", k, 0x248)
start = (k[0x1F1] + 1) * 512 + offset
v = bytearray(subprocess.run(["zstd", "-dcq"], input=k[start:start + length - 4], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL).stdout)
at = v.index(struct.pack("<III4s", 4, 8, 18, b"Xen\0")) if struct.pack("<III4s", 4, 8, 18, b"Xen\0") in v \
    else v.index(struct.pack("<III4s", 4, 4, 18, b"Xen\0"))
struct.pack_into("<I", v, at + 8, 0x7FFF)
open(sys.argv[2], "wb").write(v)
PY
    UVIRT_KERNELS=${UVIRT_KERNELS:-$top/build/kernels}
    export UVIRT_KERNELS
    run run --kernel "$work/vmlinux" --cpus 2 -- sh -c 'dmesg | grep -c BIOS-e820; nproc' </dev/null
    point "the 64-bit boot protocol, from an ELF kernel" ended 0 "3
2"
fi
plan
