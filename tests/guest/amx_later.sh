#!/bin/bash
# SPDX-License-Identifier: MIT
# Later AMX generations in guests: each CPU model runs its own instructions and no others.
set -u
. "$(dirname "$0")/lib.bash"

${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -I"$top/tests" -o "$work/user" "$top/tests/guest/amx_later_user.c" ||
    { echo "1..0 # SKIP no static C library"; exit 0; }
avx512=
grep -qw -m1 avx512f /proc/cpuinfo && avx512=amx_avx512

passes() {
    [ "$rc" = 0 ] && grep -qE '^1\.\.[0-9]+$' "$work/out" && ! grep -q '^not ok' "$work/out"
}

# model MODEL FEATURE...: a guest with that model has these features and no others.
model() {
    local model=$1
    shift
    run run --cpu "$model" -- "$work/user" "$@" </dev/null
    point "$model: $*" passes
}

model sapphirerapids
model graniterapids amx_fp16
# shellcheck disable=SC2086
model diamondrapids amx_fp16 amx_complex amx_fp8 amx_movrs $avx512
# shellcheck disable=SC2086
model host amx_fp16 amx_complex amx_fp8 amx_movrs amx_tf32 $avx512
model sapphirerapids,+amx-fp8,+amx-tf32 amx_fp8 amx_tf32
model diamondrapids,-amx_avx512,-amx_fp8,-amx_movrs amx_fp16 amx_complex
plan
