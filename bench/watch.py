#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Runs commands in turn and prints the CPU and wall time that each took until a mark in its output.
"""
Usage: bench/watch.py [--rounds N] [--mark TEXT] [--limit SECONDS] [--json FILE] (-- NAME COMMAND ARG...)...

Commands alternate, so that a change of the machine's load meets all of them. CPU time is user + system of
the process with all its threads at the moment the mark shows; it is what to compare on a busy machine.
The ratio is the first command's median over each other's.
"""
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import time


def process_cpu(pid):
    """CPU seconds of all threads of a live process: the kernel's process clock, as clock_getcpuclockid()."""
    return time.clock_gettime((~pid << 3) | 2)


def watch(command, mark, limit):
    """(cpu, wall) in seconds until the mark, or a string that says why there is none."""
    start = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, start_new_session=True)
    seen = b""
    try:
        while mark not in seen:
            left = limit - (time.monotonic() - start)
            if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
                return f"no mark within {limit} s"
            data = os.read(child.stdout.fileno(), 65536)
            if not data:
                last = seen.decode(errors="replace").strip().splitlines()[-1:]
                return f"ended without the mark: {last[0] if last else 'no output'}"
            seen += data
        return process_cpu(child.pid), time.monotonic() - start
    finally:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.stdout.close()
        child.wait()


def parse(argv):
    options = {"--rounds": "5", "--mark": None, "--limit": "300", "--json": None}
    at = 0
    while at < len(argv) and argv[at] != "--":
        if argv[at] not in options or at + 1 == len(argv):
            sys.exit(__doc__)
        options[argv[at]] = argv[at + 1]
        at += 2
    commands = []
    for word in argv[at:]:
        if word == "--":
            commands.append([])
        else:
            commands[-1].append(word)
    if not options["--mark"] or not commands or any(len(c) < 2 for c in commands):
        sys.exit(__doc__)
    return options, commands


def main():
    options, commands = parse(sys.argv[1:])
    mark, limit = options["--mark"].encode(), float(options["--limit"])
    times = {c[0]: [] for c in commands}
    for number in range(int(options["--rounds"])):
        for name, *command in commands:
            result = watch(command, mark, limit)
            if isinstance(result, str):
                sys.exit(f"{name}: {result}")
            times[name].append(result)
            print(f"round {number + 1} {name}: cpu {result[0]:.2f} s, wall {result[1]:.2f} s", flush=True)
    medians = {n: [statistics.median(column) for column in zip(*t)] for n, t in times.items()}
    for name, (cpu, wall) in medians.items():
        print(f"median {name}: cpu {cpu:.2f} s, wall {wall:.2f} s")
    first = commands[0][0]
    for name in list(medians)[1:]:
        print(f"ratio {first} / {name}: cpu {medians[first][0] / medians[name][0]:.2f}")
    if options["--json"]:
        with open(options["--json"], "w", encoding="utf-8") as f:
            json.dump({"mark": options["--mark"], "seconds": {n: [{"cpu": c, "wall": w} for c, w in t]
                                                              for n, t in times.items()}}, f, indent=1)


main()
