#!/bin/bash
# SPDX-License-Identifier: MIT
# QEMU's vhost-user-vsock-pci and Linux's driver on uvirt vsock-device: both types, both ways; the device is killed and comes back.
set -u
. "$(dirname "$0")/lib.bash"

skip_all() {
    echo "1..0 # SKIP $1"
    exit 0
}
command -v qemu-system-x86_64 >/dev/null || skip_all 'no qemu-system-x86_64: Debian package qemu-system-x86'
image=$(kernel 6.12)
[ -f "$image" ] || skip_all 'no 6.12 kernel: ./dev setup fetches one'
modules=$(echo "${image%/boot/*}"/lib/modules/*/kernel/net/vmw_vsock)
names='vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport'

user=$work/root/bin/vsock_user
mkdir -p "$work"/root/{bin,dev,proc,sys,modules}
gcc -O2 -static -o "$user" "$top/tests/guest/vsock_user.c" || exit 1
cp /bin/busybox "$work/root/bin/"
for m in $names; do
    xz -dc "$modules/$m.ko.xz" >"$work/root/modules/$m.ko" || exit 1
done
cat >"$work/root/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for m in $names; do insmod /modules/\$m.ko; done
driver=/sys/bus/virtio/drivers/vmw_vsock_virtio_transport
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
for round in 1 2; do
    echo "round \$round"
    vsock_user talk stream vsock:2:7001
    vsock_user talk seqpacket vsock:2:7002
    vsock_user echo stream vsock:4294967295:7003
    vsock_user echo seqpacket vsock:4294967295:7004
    echo "done \$round"
    read line
    # The new device knows nothing of the driver; a driver that begins anew sets it up.
    echo virtio0 >\$driver/unbind
    echo virtio0 >\$driver/bind
done
poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet) >"$work/initrd"

cd "$work" || exit 1
pids=
trap 'sed "s/^/# qemu: /" qemu.log; kill $pids 2>/dev/null; rm -rf "$work"' EXIT

device() {
    "$uvirt" vsock-device --socket S --cid 42 --path P --verbose 2>>device.log &
    device_pid=$!
    pids="$pids $device_pid"
    for _ in $(seq 100); do
        [ -S S ] && [ -S P ] && return
        sleep 0.1
    done
}

# What QEMU's monitor takes; a device can be added only once its socket is connected.
monitor() {
    python3 - "$@" <<'PYTHON'
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
for _ in range(100):
    try:
        s.connect("monitor")
        break
    except OSError:
        time.sleep(0.1)
for line in sys.argv[1:]:
    time.sleep(2)
    s.sendall((line + "\n").encode())
time.sleep(2)
PYTHON
}

# said PATTERN: the guest says so within three minutes.
said() {
    for _ in $(seq 1800); do
        grep -qE "$1" serial && return 0
        kill -0 "$qemu_pid" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

# The host's ends of a round; what they say is in host.N.
host() {
    {
        timeout 240 "$user" echo stream unix:P_7001
        timeout 240 "$user" echo seqpacket unix:P_7002
        timeout 240 "$user" talk stream unix:P:7003
        timeout 240 "$user" talk seqpacket unix:P_seqpacket:7004
    } >"host.$1" 2>&1
}

what=
# After round N: each of the eight ends has said its line.
check() {
    cat "host.$1" >out 2>/dev/null
    sed -n "/^round $1/,\$p" serial | tr -d '\r' >err
    rc=0
    point "${what}round $1: the guest ends its round" said "^done $1"
    wait "$host_pid"
    cat "host.$1" >out
    sed -n "/^round $1/,\$p" serial | tr -d '\r' >err
    point "${what}round $1: STREAM, guest to host" grep -q '^echoed 1048576 bytes$' out
    point "${what}round $1: ... and back" grep -q '^1048576 bytes came back' err
    point "${what}round $1: SEQPACKET, guest to host" grep -q '^echoed .* in 200 records' out
    point "${what}round $1: ... and back" grep -q '^200 records came back' err
    point "${what}round $1: STREAM, host to guest" grep -q '^1048576 bytes came back' out
    point "${what}round $1: SEQPACKET, host to guest" grep -q '^200 records came back' out
}

device
mkfifo keys
exec 3<>keys
touch serial
qemu-system-x86_64 -M q35,memory-backend=m -accel tcg -cpu max -m 384 -nodefaults -display none \
    -object memory-backend-memfd,id=m,size=384M,share=on -S -monitor unix:monitor,server=on,wait=off \
    -chardev socket,id=c,path=S,reconnect=1 -device pcie-root-port,id=root1,chassis=1 \
    -kernel "$image" -initrd initrd -append 'console=ttyS0 quiet panic=-1 no_timer_check' \
    -serial stdio -no-reboot <keys >serial 2>qemu.log &
qemu_pid=$!
pids="$pids $qemu_pid"
for _ in $(seq 100); do
    grep -q connected device.log && break
    sleep 0.1
done
monitor 'device_add vhost-user-vsock-pci,chardev=c,bus=root1' cont
host 1 &
host_pid=$!
check 1

kill -9 "$device_pid"
wait "$device_pid" 2>/dev/null
rm -f P_7*
device
cp device.log err
point 'a device that was killed is started again over its stale sockets' kill -0 "$device_pid"
sleep 2
host 2 &
host_pid=$!
echo go >&3
check 2
cp device.log err
point 'no front end was thrown out' test "$(grep -c disconnected device.log)" = 0
kill "$device_pid"
wait "$device_pid"
rc=$?
point 'SIGTERM ends the device' test "$rc" = 0
point '... which takes its sockets along' test ! -e S -a ! -e P

# The same kernel and QEMU's own vhost-vsock-pci, which opens /dev/vhost-vsock: ours, under uvirt exec.
kill "$qemu_pid"
wait "$qemu_pid" 2>/dev/null
rm -f P_7*
mkdir D
: >serial
"$uvirt" exec --kvm --vsock D -- qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 384 -nodefaults -display none \
    -device vhost-vsock-pci,guest-cid=42 -kernel "$image" -initrd initrd \
    -append 'console=ttyS0 quiet panic=-1 no_timer_check' -serial stdio -no-reboot <keys >serial 2>qemu.log &
qemu_pid=$!
pids="$pids $qemu_pid"
ln -s D/42 P
ln -s D/42_seqpacket P_seqpacket
ln -s "$work/P_7001" D/42_7001
ln -s "$work/P_7002" D/42_7002
what='vhost-vsock-pci, '
host 1 &
host_pid=$!
check 1
plan
