#!/bin/bash
# SPDX-License-Identifier: MIT
# Build OpenBLAS with bfloat16 for its SAPPHIRERAPIDS core, from Debian's source package, into build/openblas.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/openblas
[ ! -e "$out/lib/libopenblas.a" ] || exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The machine's own package sources, with deb-src for deb: kept apart, so that nothing changes for others.
mkdir -p "$work/apt" "$work/lists/partial" "$work/src"
for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
    [ -e "$f" ] || continue
    sed -e 's/^Types:.*/Types: deb-src/' -e '/^deb-src /d' -e 's/^deb /deb-src /' "$f" >"$work/apt/${f##*/}"
done
[ ! -e "$work/apt/sources.list" ] || mv "$work/apt/sources.list" "$work/apt/machine.list"
apt() {
    apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/apt" \
        -o Dir::State::lists="$work/lists" -o APT::Sandbox::User= "$@"
}
cd "$work"
apt update
apt source --download-only openblas
tar -C src --strip-components=1 -xJf openblas_*.orig.tar.xz

# Debian's own library has neither bfloat16 nor this core. Only what a product in single precision needs,
# and not the AVX512-FP16 that compilers take for granted on this core: a guest has it where its host does.
options=(COMMON_OPT='-O2 -mno-avx512fp16'
         TARGET=SAPPHIRERAPIDS BUILD_BFLOAT16=1 BUILD_SINGLE=1 NO_LAPACK=1 NO_LAPACKE=1 NO_FORTRAN=1 ONLY_CBLAS=1
         NO_SHARED=1 NUM_THREADS=16)
{
    make -C src -j"$(nproc)" "${options[@]}" libs && make -C src "${options[@]}" PREFIX="$work/install" install
} >"$work/log" 2>&1 ||
    { tail -n 20 "$work/log" >&2; exit 1; }
rm -rf "$out"
mv -T "$work/install" "$out"
