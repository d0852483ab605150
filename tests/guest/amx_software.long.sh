#!/bin/bash
# SPDX-License-Identifier: MIT
# AMX software that others wrote (oneDNN, OpenBLAS), and a minute of context switches, in guests.
set -u
. "$(dirname "$0")/lib.bash"

# installed PACKAGE...: have them all.
installed() {
    local p sudo= missing=()
    for p in "$@"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
    done
    [ ${#missing[@]} = 0 ] && return 0
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq update >/dev/null 2>&1
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1
}

# compile NAME FLAG...: tests/guest/NAME.c into $work/NAME.
compile() {
    local name=$1
    shift
    ${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -I"$top/tests" -o "$work/$name" "$top/tests/guest/$name.c" "$@"
}

# passes: the program's own TAP has no failure and came to its end.
passes() {
    [ "$rc" = 0 ] && grep -qE '^1\.\.[0-9]+$' "$work/out" && ! grep -q '^not ok' "$work/out"
}

# host_has FLAG...: the host's CPU, and so the guest's, has them all.
host_has() {
    local flag
    for flag in "$@"; do
        grep -qw -m1 "$flag" /proc/cpuinfo || return 1
    done
}

# skip NAME REASON
skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

onednn() {
    local name
    if ! installed libdnnl-dev; then
        skip oneDNN "package libdnnl-dev cannot be installed"
        return
    fi
    compile onednn_user -ldnnl -lm
    limit=600 run run --cpus 2 --mem 1G --env ONEDNN_VERBOSE=1 -- "$work/onednn_user" </dev/null
    point "oneDNN's products equal those of its reference" passes
    for name in int8 bf16; do
        if host_has avx512_vnni avx512_bf16; then
            point "oneDNN runs $name on AMX" out "^onednn_verbose,exec,cpu,matmul,brg:avx512_core_amx_$name,"
        else
            skip "oneDNN runs $name on AMX" "oneDNN wants AVX-512 with VNNI and BF16 for it, which this host lacks"
        fi
    done
}

openblas() {
    local dir=$top/build/openblas
    if ! installed gcc libc6-dev make xz-utils || ! "$top/tools/openblas.sh"; then
        skip OpenBLAS "Debian's source package openblas cannot be had or built"
        return
    fi
    compile openblas_user -I"$dir/include" "$dir/lib/libopenblas.a" -pthread -lm
    if ! host_has avx512f avx512bw avx512vl avx512_bf16; then
        skip OpenBLAS "its SAPPHIRERAPIDS core needs AVX-512 with BF16, which this host lacks"
        return
    fi
    run run --cpus 2 --mem 1G -- "$work/openblas_user" </dev/null
    point "OpenBLAS' sbgemm of the SAPPHIRERAPIDS core equals sums in double precision" passes
}

# A minute of switches on each kernel series, on two CPUs, and on one with the slowest kernels.
switches() {
    local series
    compile amx_stress -static -pthread
    for series in 6.12 6.1; do
        limit=500 run run --cpus 2 --kernel "$(kernel $series)" -- "$work/amx_stress" 60 </dev/null
        point "a minute of switches, $series: $(grep -o '[0-9]* context switches' "$work/out")" passes
    done
    UVIRT_AMX=scalar limit=500 run run --cpus 1 -- "$work/amx_stress" 60 </dev/null
    point "a minute of switches, scalar kernels: $(grep -o '[0-9]* context switches' "$work/out")" passes
}

onednn
openblas
switches
plan
