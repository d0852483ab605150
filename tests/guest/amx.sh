#!/bin/bash
# SPDX-License-Identifier: MIT
# A program that uses AMX, in a guest: on both CPU models and with every set of kernels.
set -u
. "$(dirname "$0")/lib.bash"

${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -I"$top/tests" -o "$work/amx_user" \
    "$top/tests/guest/amx_user.c" || { echo "1..0 # SKIP no static C library"; exit 0; }

# passes: the program's own TAP has no failure and came to its end.
passes() {
    [ "$rc" = 0 ] && grep -qE '^1\.\.[0-9]+$' "$work/out" && ! grep -q '^not ok' "$work/out"
}

run run --cpus 2 -- "$work/amx_user" </dev/null
point "host model, two CPUs" passes
run run --cpu sapphirerapids -- "$work/amx_user" </dev/null
point "sapphirerapids" passes
UVIRT_AMX=scalar run run -- "$work/amx_user" </dev/null
point "scalar kernels" passes
run run --cpu host,-amx_tile -- "$work/amx_user" </dev/null
point "without AMX the first instruction is illegal" out '^not ok 1 - '
plan
