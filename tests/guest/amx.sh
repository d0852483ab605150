#!/bin/bash
# SPDX-License-Identifier: MIT
# A program that uses AMX, in a guest: on both CPU models and with every set of kernels.
set -u
. "$(dirname "$0")/lib.bash"

for program in amx_user amx_state amx_stress; do
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -I"$top/tests" -o "$work/$program" \
        "$top/tests/guest/$program.c" || { echo "1..0 # SKIP no static C library"; exit 0; }
done

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
run run --cpus 2 -- "$work/amx_state" </dev/null
point "tiles in signal frames and under ptrace" passes
run run --cpus 2 -- "$work/amx_stress" 3 </dev/null
point "more AMX threads and processes than CPUs" passes
# stat NAME: a vCPU statistic that --stats printed, 0 if none.
stat() {
    sed -n "s/^stats: vcpu $1 *//p" "$work/err" | grep . || echo 0
}
run run --stats -- true </dev/null
bytes=$(stat state_bytes)
point "a guest that uses no tiles has none: $bytes bytes a vCPU" [ "$(stat tile_bytes)" = 0 ]
run run --stats -- "$work/amx_state" </dev/null
point "8 KiB more once it does" [ "$(stat tile_bytes) $(stat state_bytes)" = "8192 $((bytes + 8192))" ]
UVIRT_AMX=avx3 run run -- true </dev/null
point "UVIRT_AMX names no kernels" complains 125 'UVIRT_AMX=avx3: .*accepted: .*vnni'
if ! grep -qw -m1 amx_tile /proc/cpuinfo; then
    UVIRT_AMX=amx run run -- true </dev/null
    point "UVIRT_AMX=amx on a host without AMX" complains 125 'UVIRT_AMX=amx: .*accepted here: scalar'
fi
# The guest is a host with AMX for the kernels that use it.
if [ -x "${UVIRT_BUILD:-$top/build/meson}/tests/cpu/amx_kernel" ]; then
    run run -- "${UVIRT_BUILD:-$top/build/meson}/tests/cpu/amx_kernel" </dev/null
    point "kernels on a host's AMX equal the others" passes
    point "and are what such a host chooses" out '^ok [0-9]+ - the best kernels here \(amx\) can run here$'
fi
run run --cpu host,-amx_tile -- "$work/amx_user" </dev/null
point "without AMX the first instruction is illegal" out '^not ok 1 - '
plan
