#!/bin/bash
# SPDX-License-Identifier: MIT
# stress-ng on two CPUs: CPU, VM, fork, signal, vector and FP stressors that check their results; SOAK seconds (1800).
set -u
. "$(dirname "$0")/lib.bash"

soak=${SOAK:-1800}
if ! command -v stress-ng >/dev/null; then
    echo "1..0 # SKIP there is no stress-ng"
    exit 0
fi
limit=$((soak * 2 + 300))
run run --cpus 2 --mem 1G --stats -- stress-ng --cpu 1 --vm 1 --vm-bytes 64M --fork 1 --sigfpe 1 --sigsegv 1 \
    --matrix 1 --fp 1 --vecmath 1 --switch 1 --verify --temp-path /tmp -t "$soak" </dev/null
point "every stressor agrees with itself for $soak s" ended 0

# What uvirt takes beside the guest's 1 GiB: code, blocks, TLBs, its own text.
memory=$(sed -n 's/^stats: memory \([0-9]*\) MiB at most$/\1/p' "$work/err")
bounded() { [ "${memory:-99999}" -le $((1024 + 256)) ]; }
point "memory stays bounded: ${memory:-?} MiB" bounded
plan
