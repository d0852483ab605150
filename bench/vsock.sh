#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# vsock's throughput, round trips and memory, VM-free, beside AF_UNIX; arguments: [BYTES [SECONDS-A-ROUND]]
set -euo pipefail
cd "$(dirname "$0")/.."
exec build/meson/bench/vsock_bench "$@"
