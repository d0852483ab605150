#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's x86 selftests, unmodified, in a guest: each must end as it does on a real CPU.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
uvirt=${UVIRT:-$top/build/uvirt}

"$top/tools/selftests.sh" || { echo "1..0 # SKIP Linux's selftests could not be built"; exit 0; }
n=0
for t in amx fsgsbase sysret_rip syscall_nt sigreturn single_step_syscall mov_ss_trap iopl \
         test_mremap_vdso corrupt_xstate_header; do
    n=$((n + 1))
    if log=$(timeout 300 "$uvirt" run --cpus 2 --mem 512M -- "$top/build/selftests/${t}_64" 2>&1 < /dev/null); then
        echo "ok $n - selftests/x86 ${t}_64"
    else
        echo "not ok $n - selftests/x86 ${t}_64 ended with $?"
        printf '%s\n' "$log" | tail -n 30 | sed 's/^/# /'
    fi
done
echo "1..$n"
