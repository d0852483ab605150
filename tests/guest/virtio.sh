#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's own virtio drivers on our devices: disks, random numbers, streams, and a guest that pokes registers.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
uvirt=${UVIRT:-$top/build/uvirt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n=0

point() {
    n=$((n + 1))
    if [ "$1" = 0 ]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        sed 's/^/# /' "$work/log"
    fi
}

has() { grep -qxF -- "$1" "$work/log"; }

# guest OPTIONS... : run $script in busybox's shell; what it prints is in $work/log.
guest() {
    timeout -k 5 120 "$uvirt" run --add /bin/busybox "$@" -- /bin/busybox sh -c "
        /bin/busybox mkdir /b; /bin/busybox --install -s /b; PATH=/b; $script" \
        </dev/null >"$work/log" 2>&1
}

head -c 4M /dev/urandom >"$work/rw"
cp "$work/rw" "$work/ro"
sum=$(sha256sum <"$work/ro")

script='
    sha256sum </dev/vda
    dd if=/dev/zero of=/dev/vda bs=64k seek=2 count=4 conv=fsync 2>/dev/null && echo written
    dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>/dev/null || echo refused
    echo "ro $(cat /sys/block/vdb/ro)"
    echo "random $(head -c 100000 /dev/hwrng | wc -c) $(cat /sys/class/misc/hw_random/rng_current)"'
for kernel in "$top"/build/kernels/*/boot/vmlinuz-*; do
    name=$(basename "$kernel")
    cp "$work/ro" "$work/rw"
    guest --kernel "$kernel" --disk "$work/rw" --disk "$work/ro,ro"
    point $? "$name: the guest ends"
    has "$sum"; point $? "$name: a disk reads as its file"
    has written; point $? "$name: a disk is written"
    head -c 131072 "$work/rw" | cmp -s - <(head -c 131072 "$work/ro") &&
        head -c 393216 "$work/rw" | tail -c 262144 | cmp -s - <(head -c 262144 /dev/zero) &&
        cmp -s <(tail -c +393217 "$work/rw") <(tail -c +393217 "$work/ro")
    point $? "$name: the right bytes reach the file and no others"
    has refused && has "ro 1"; point $? "$name: a read-only disk refuses"
    [ "$(sha256sum <"$work/ro")" = "$sum" ]; point $? "$name: and stays as it is"
    has "random 100000 virtio_rng.0"; point $? "$name: random numbers"
done

# A stream each way, larger than all buffers on the way, with a slow reader and a binary content.
head -c 3M /dev/urandom >"$work/data"
timeout -k 5 120 "$uvirt" run -- cat <"$work/data" 2>"$work/log" | { sleep 2; cat >"$work/back"; }
cmp "$work/data" "$work/back" >>"$work/log" 2>&1; point $? "3 MiB through stdin and stdout come back"

# The driver lets go of the disk; then its registers get whatever comes.
script='
    for d in /sys/bus/platform/drivers/virtio-mmio/LNRO*; do
        for b in $d/virtio*/block; do [ -d "$b" ] && dev=${d##*/}; done
    done
    at=0x$(sed -n "s/-.*$dev.*//p" /proc/iomem | tr -d " " | head -n 1)
    echo $dev >/sys/bus/platform/drivers/virtio-mmio/unbind
    echo "magic $(devmem $at 32)"
    for v in 0xffffffff 0 0x80000001 1 7 0x10; do
        o=0
        while [ $o -lt 300 ]; do devmem $((at + o)) 32 $v; devmem $((at + o)) 32 >/dev/null; o=$((o + 4)); done
        for s in 1 3 11 15; do devmem $((at + 0x70)) 32 $s; done
        for q in 0 1 0xffff; do devmem $((at + 0x50)) 32 $q; done
    done
    devmem $((at + 0x70)) 32 0
    echo $dev >/sys/bus/platform/drivers/virtio-mmio/bind
    sha256sum </dev/vda'
guest --disk "$work/ro,ro"
point $? "a guest that writes garbage to registers ends as usual"
has "magic 0x74726976"; point $? "the registers are there"
has "$sum"; point $? "after a reset the disk works again"
echo "1..$n"
