#!/bin/bash
# SPDX-License-Identifier: MIT
# Self-modifying code in a guest with two CPUs, in both engines; and a JIT compiler.
set -u
. "$(dirname "$0")/lib.bash"

${CC:-cc} -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -I"$top/tests" -o "$work/user" "$top/tests/guest/smc_user.c" ||
    { echo "1..0 # SKIP no static C library"; exit 0; }
"$work/user" make-disk "$work/disk"

passes() {
    [ "$rc" = 0 ] && grep -q '^1\.\.9$' "$work/out" && ! grep -qE '^not ok|SKIP' "$work/out"
}

run run --cpus 2 --disk "$work/disk,ro" -- "$work/user" </dev/null
point "translated: every change of code is seen" passes
UVIRT_ENGINE=interp run run --cpus 2 --disk "$work/disk,ro" -- "$work/user" </dev/null
point "interpreted: every change of code is seen" passes

if command -v luajit >/dev/null; then
    want=$(luajit "$top/tests/guest/jit.lua")
    run run --add "$top/tests/guest/jit.lua" -- luajit "$top/tests/guest/jit.lua" </dev/null
    point "LuaJIT's code computes what it does on the host" ended 0 "$want"
else
    count=$((count + 1))
    echo "ok $count - LuaJIT # SKIP there is no luajit"
fi
plan
