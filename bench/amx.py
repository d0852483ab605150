#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Measures the AMX kernels by themselves and a guest that uses them, in turns, and prints a table.
"""
Usage: bench/amx.py --rounds N --native PROGRAM [--json FILE] -- GUEST-COMMAND...

PROGRAM prints the rates of the host's own peak loops and of each kernel (bench/amx_native.c). The guest command
starts a VM with bench/amx_guest.c in it, which computes products when told to; its time is the CPU time of the
whole VM process. Rounds alternate between the two, and what is printed is the median of the rounds.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

TILES = 64  # tile operations of one product in the guest
OPS = {"int8": 2 * 16 * 16 * 64, "bf16": 2 * 16 * 16 * 32}  # of one tile operation
SAMPLE = 0.3  # seconds of one sample in the guest
TARGETS = {"TDPBUSD": 75, "TDPBSUD": 40, "TDPBSSD": 40, "TDPBUUD": 40, "TDPBF16PS": 75}  # % of the peak
GUEST_TARGETS = {"int8": 60}  # the same of a guest's whole product


def process_cpu(pid):
    """CPU seconds of all threads of a live process: the kernel's process clock, as clock_getcpuclockid()."""
    return time.clock_gettime((~pid << 3) | 2)


class Guest:
    """A VM with amx_guest in it."""

    def __init__(self, command):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.expect("ready")
        self.count = {}

    def expect(self, word):
        line = self.child.stdout.readline().strip()
        if line != word:
            sys.exit(f"the guest said '{line}', not '{word}'")

    def seconds(self, kind, count):
        start = process_cpu(self.child.pid)
        self.child.stdin.write(f"{kind} {count}\n")
        self.expect("done")
        return process_cpu(self.child.pid) - start

    def nanoseconds(self, kind):
        """Of one tile operation with all that a product has besides; checking it is measured apart and taken off."""
        check = self.seconds(kind, 1)
        if kind not in self.count:
            self.count[kind] = 16
            while self.seconds(kind, self.count[kind]) - check < SAMPLE / 4:
                self.count[kind] *= 2
            self.count[kind] *= 3
        return (self.seconds(kind, self.count[kind]) - check) / ((self.count[kind] - 1) * TILES) * 1e9

    def end(self):
        self.child.stdin.close()
        self.child.wait()


def native(program):
    """({peak: ops per ns}, {(set, operation): (ns, peak, share)}) of one run."""
    peaks, kernels = {}, {}
    for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines():
        kind, *rest = line.split()
        if kind == "peak":
            peaks[rest[0]] = float(rest[1])
        else:
            kernels[rest[0], rest[1]] = float(rest[2]), rest[3], float(rest[4])
    return peaks, kernels


def median(values):
    return statistics.median(values)


def table(rounds):
    """Rows of (what, ns, GOPS, % of the peak, target, peak)."""
    rows = []
    peaks, kernels, guest = zip(*rounds)
    for name in peaks[0]:
        rows.append(("host's own peak", name, None, median(p[name] for p in peaks), None, None, ""))
    for key in kernels[0]:
        ns = median(k[key][0] for k in kernels)
        share = median(k[key][2] for k in kernels) * 100
        ops = OPS["bf16" if "BF16" in key[1] else "int8"]
        target = TARGETS[key[1]] if key[0] != "avx2" else None
        rows.append((f"kernels {key[0]}", key[1], ns, ops / ns, share, target, kernels[0][key][1]))
    for kind, operation in (("int8", "TDPBUSD"), ("bf16", "TDPBF16PS")):
        ns = median(g[kind] for g in guest)
        peak = next((k[key][1] for k in kernels for key in k if key[1] == operation), "")
        share = median(OPS[kind] / g[kind] / p[peak] for p, _, g in rounds) * 100 if peak else None
        rows.append((f"guest, {kind} GEMM", operation, ns, OPS[kind] / ns, share, GUEST_TARGETS.get(kind), peak))
    return rows


def show(rows):
    print(f"{'':<18} {'operation':<14} {'ns/tile op':>10} {'GOPS':>8} {'% of peak':>10} {'target':>7}  peak")
    for what, operation, ns, gops, share, target, peak in rows:
        print(f"{what:<18} {operation:<14} {'' if ns is None else f'{ns:.1f}':>10} {gops:>8.1f} "
              f"{'' if share is None else f'{share:.0f} %':>10} {'' if target is None else f'{target} %':>7}  {peak}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--native", required=True)
    parser.add_argument("--json")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    guest = Guest(args.command)
    rounds = []
    for _ in range(args.rounds):
        peaks, kernels = native(args.native)
        rounds.append((peaks, kernels, {kind: guest.nanoseconds(kind) for kind in OPS}))
    guest.end()
    rows = table(rounds)
    show(rows)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump([dict(zip(("what", "operation", "ns", "gops", "share", "target", "peak"), r)) for r in rows],
                      f, indent=1)


main()
