#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# AMX: each kernel and a guest's whole matrix product against this host's own peak, in one run; -n ROUNDS (7)
set -euo pipefail
cd "$(dirname "$0")/.."

rounds=7
while getopts n: option; do
    case $option in
    n) rounds=$OPTARG ;;
    *) echo "usage: ./dev bench amx [-n ROUNDS]" >&2; exit 2 ;;
    esac
done
out=build/bench/amx
mkdir -p "$out"
${CC:-cc} -std=gnu17 -O2 -static -o "$out/amx_guest" bench/amx_guest.c
exec python3 bench/amx.py --rounds "$rounds" --native "${UVIRT_BUILD:-build/meson}/bench/amx_native" \
    --json "$out/result.json" -- "${UVIRT:-build/uvirt}" run --cpus 1 --mem 512M -- "$out/amx_guest"
