#!/bin/bash
# SPDX-License-Identifier: MIT
# ./dev demo: boot Debian's kernels unmodified, show AMX in the guest, multiply matrices with it.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
uvirt=${UVIRT:-$top/build/uvirt}
kernels=${UVIRT_KERNELS:-$top/build/kernels}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

gcc -O2 -static -mamx-tile -mamx-int8 -mamx-bf16 -o "$work/demo_amx" "$top/guest/demo_amx.c"
cat >"$work/guest.sh" <<'GUEST'
#!/bin/sh
echo "kernel  $(uname -r), $(nproc) CPU(s), first command after $(cut -d' ' -f1 /proc/uptime) s"
echo "flags   $(grep -m1 '^flags' /proc/cpuinfo | tr ' ' '\n' | grep '^amx' | sort | tr '\n' ' ')"
GUEST
chmod +x "$work/guest.sh"
"$uvirt" probe
for series in 6.12 6.1; do
    kernel=$(compgen -G "$kernels/$series.*/boot/vmlinuz-*" | sort -V | tail -n 1)
    printf '\n==> %s\n' "$(basename "$kernel"): uvirt run -- ./demo_amx"
    start=$(date +%s.%N)
    seen=$("$uvirt" run --kernel "$kernel" -- "$work/guest.sh" </dev/null)
    end=$(date +%s.%N)
    printf '%s\n' "$seen"
    for flag in amx_bf16 amx_int8 amx_tile; do
        grep -q "$flag" <<<"$seen" || { echo "demo: the guest does not have $flag" >&2; exit 1; }
    done
    "$uvirt" run --kernel "$kernel" -- "$work/demo_amx" </dev/null
    printf 'boot    %.1f s from uvirt run to the end of the first command\n' \
        "$(awk "BEGIN { print $end - $start }")"
done
