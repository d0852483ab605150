#!/bin/bash
# SPDX-License-Identifier: MIT
# Build Linux's own x86 selftests, static, from Debian's linux-source-6.12 package into build/selftests.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/selftests
source=/usr/src/linux-source-6.12.tar.xz
names='amx fsgsbase sysret_rip syscall_nt sigreturn single_step_syscall mov_ss_trap iopl
       test_mremap_vdso corrupt_xstate_header'

for n in $names; do
    [ -x "$out/${n}_64" ] || missing=1
done
[ -n "${missing:-}" ] || exit 0

if [ ! -e "$source" ]; then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get install -y --no-install-recommends linux-source-6.12 xz-utils > /dev/null
fi
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -C "$work" --strip-components=1 -xJf "$source" linux-source-6.12/tools linux-source-6.12/arch/x86/include
cd "$work/tools/testing/selftests/x86"
for n in $names; do
    extra=
    [ "$n" = sysret_rip ] && extra=clang_helpers_64.S
    # The flags are those of the directory's own Makefile, and -static: the guest has no libraries.
    # shellcheck disable=SC2086
    gcc -m64 -static -O2 -g -std=gnu99 -pthread -no-pie -DCAN_BUILD_64 -I../../../include \
        -I../../../../tools/include -o "$out/${n}_64" "$n.c" $extra -lrt -ldl 2> "$work/log" ||
        { cat "$work/log" >&2; exit 1; }
done
