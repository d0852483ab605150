#!/bin/bash
# SPDX-License-Identifier: MIT
# Boots of both kernels, and AMX and self-modifying programs, with every translated block run by both engines.
set -u
. "$(dirname "$0")/lib.bash"

limit=1500
export UVIRT_ENGINE=lockstep
for series in 6.12 6.1; do
    image=$(kernel "$series")
    run run --kernel "$image" -- /bin/busybox sh -c 'echo hello; i=0; while [ $i -lt 200 ]; do i=$((i + 1)); done; echo $i' \
        </dev/null
    point "$series: the engines agree from the kernel's first instruction to a shell's last" ended 0 $'hello\n200'
done
# compiled PROGRAM: it can be made here, as $work/PROGRAM.
compiled() {
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -I"$top/tests" -o "$work/$1" "$top/tests/guest/$1.c"
}
passes() { [ "$rc" = 0 ] && grep -qE '^1\.\.[1-9]' "$work/out" && ! grep -q '^not ok' "$work/out"; }
compiled smc_user && run run --kernel "$image" -- "$work/smc_user" </dev/null
point "self-modifying code" passes
compiled amx_user && run run --kernel "$image" -- "$work/amx_user" </dev/null
point "AMX" passes
plan
