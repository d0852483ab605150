#!/bin/bash
# SPDX-License-Identifier: MIT
# Debian's 6.12 and 6.1 kernels, each unmodified: AMX, two CPUs, disks, power off, reset, ends of all kinds.
set -u
. "$(dirname "$0")/lib.bash"

gcc -O2 -static -mamx-tile -mamx-int8 -mamx-bf16 -o "$work/amx" "$top/guest/demo_amx.c" || exit 1
cat >"$work/threads.c" <<'C'
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
static _Atomic int met;
static int seen[2];
static void *body(void *arg)
{
    int i = *(int *)arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(i, &set);
    sched_setaffinity(0, sizeof(set), &set);
    for (met++; met < 2;)
        ;
    seen[i] = sched_getcpu();
    return NULL;
}
int main(void)
{
    pthread_t t[2];
    int id[2] = {0, 1};
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, body, &id[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    printf("threads on CPUs %d and %d\n", seen[0], seen[1]);
    return 0;
}
C
gcc -O2 -static -pthread -o "$work/threads" "$work/threads.c" || exit 1
truncate -s 8M "$work/disk"
printf 'first sector' | dd of="$work/disk" conv=notrunc 2>/dev/null

for series in 6.12 6.1; do
    k=$(kernel $series)
    [ -n "$k" ] || { count=$((count + 1)); echo "ok $count - $series # SKIP ./dev setup has not unpacked it"; continue; }

    run run --kernel "$k" -- "$work/amx" </dev/null
    point "$series: AMX matrices equal plain C" ended 0
    run run --kernel "$k" -- sh -c 'uname -r; grep -m1 ^flags /proc/cpuinfo' </dev/null
    point "$series: it is that kernel" out "^$series\."
    point "$series: amx_tile amx_int8 amx_bf16" out 'amx_bf16.*amx_tile.*amx_int8'
    run run --kernel "$k" --cpus 2 -- "$work/threads" </dev/null
    point "$series: two threads on two CPUs" ended 0 "threads on CPUs 0 and 1"
    run run --kernel "$k" --disk "$work/disk" --disk "$work/disk,ro" -- sh -c \
        'dd if=/dev/vdb bs=12 count=1 2>/dev/null; echo; echo written | dd of=/dev/vda bs=512 seek=3 conv=fsync 2>/dev/null
         cat /sys/block/vdb/ro; dd if=/dev/zero of=/dev/vdb bs=512 count=1 2>/dev/null || echo refused' </dev/null
    point "$series: disks, one read-only" ended 0 "first sector
1
refused"
    point "$series: the write is in the file" grep -q written "$work/disk"
done

run run -- sh -c 'poweroff -f; sleep 20' </dev/null
point "power off" complains 125 'powered off'
run run -- sh -c 'reboot -f; sleep 20' </dev/null
point "reboot" complains 125 'restarted'
run run -- sh -c 'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 20' </dev/null
point "panic" test "$rc" = 125
point "panic: the console's last lines are shown" grep -q 'Kernel panic' "$work/err"
run run --mem 5G -- sh -c 'grep MemTotal /proc/meminfo' </dev/null
point "memory above 4 GiB" out ' (4[89]|5[0-9])[0-9]{5} kB'
plan
