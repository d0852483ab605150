#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Runs the engine benchmark on this host and in virtual machines, in turns, and prints a table of ratios.
"""
Usage: bench/engine.py --gbench PROGRAM [OPTIONS] (:: NAME COMMAND ARG...)...

Each command is bench/engine/main.c's program, or starts a virtual machine with it: "native", "uvirt", "tcg",
"tcg-slow-string"; "uvirt-2" and "tcg-2" have two CPUs. All live at once and wait, except the one whose turn it is.

What is compared is CPU time. For native it is the program's own. For a virtual machine it is that of its whole
process, from the order to the answer: its guest's clock would count what the host gave to others. What an order
costs by itself (no iteration) is taken off. Only the two-CPU rows are about elapsed time; from the guest's clock
they take off how long the vCPU thread that was last waited for a host CPU (/proc/PID/task/TID/schedstat).
"""
import argparse
import json
import math
import os
import re
import select
import signal
import statistics
import subprocess
import sys
import time

RAM_KIB = 512 << 10
WARM_UP = 0.2e9  # ns of CPU time that each machine gets before a row is measured
VIRTUAL = ("uvirt", "tcg", "tcg-slow-string")
PARALLEL = "int.coremix"
COPIES = ("mem.memcpy64m", "mem.memset64m", "mem.repmovsb64m", "mem.repstosb64m")

# Group, the rows in it, the figure its target is about, the target.
GROUPS = [
    ("integer", r"int\..*|br\.(?!smc).*|mem\.chase.*|macro\.(gzip|sha256sum|py).*", "share", 45),
    ("floating point", r"fp\..*", "share", 75),
    ("memory", "|".join(map(re.escape, COPIES)), "share", 85),
    ("os", r"os\.(getpid|pagefault|forkexec|pipe|signal)", "tcg", 2),
    ("macro", r"macro\..*", None, None),
    ("patch and call", r"br\.smc", "share", 5),
]


class Failure(Exception):
    pass


def process_cpu(pid):
    """CPU nanoseconds of all threads of a live process: the kernel's process clock, as clock_getcpuclockid()."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def threads(pid):
    """{thread: (ns on a CPU, ns waiting for one)}"""
    times = {}
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
                times[tid] = tuple(map(int, f.read().split()[:2]))
        except OSError:
            pass
    return times


def beyond_ram(pid):
    """Resident KiB of a process besides its guest's RAM: the smallest mapping that has room for it."""
    total, ram, size = 0, None, 0
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("Size:"):
                size = int(line.split()[1])
            elif line.startswith("Rss:"):
                rss = int(line.split()[1])
                total += rss
                if size >= RAM_KIB and (ram is None or size < ram[0]):
                    ram = size, rss
    return total - ram[1] if ram else None


class Machine:
    """The benchmark program, natively or in a guest; started when it is first spoken to."""

    def __init__(self, name, command, log, limit):
        self.name, self.command, self.log, self.limit = name, command, log, limit
        self.child, self.pending, self.beyond, self.idle = None, b"", None, 0

    def start(self):
        self.pending = b""
        self.child = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.log, start_new_session=True)
        self.answer()
        self.beyond = beyond_ram(self.child.pid)

    def answer(self):
        """The next line that begins with '@', as words."""
        end = time.monotonic() + self.limit
        while True:
            line, newline, rest = self.pending.partition(b"\n")
            if newline:
                self.pending = rest
                if line.startswith(b"@"):
                    return line.decode().split()
                self.log.write(line + b"\n")
                continue
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.child.stdout], [], [], left)[0]:
                raise Failure(f"no answer within {self.limit:.0f} s")
            data = os.read(self.child.stdout.fileno(), 65536)
            if not data:
                raise Failure("it ended")
            self.pending += data

    def ask(self, order):
        if self.child is None:
            self.start()
        os.write(self.child.stdin.fileno(), order.encode() + b"\n")
        return self.answer()

    def begin(self, bench):
        """False if the machine cannot run it."""
        answer = self.ask(f"begin {bench}")[0]
        if answer == "@skip":
            return False
        if answer != "@ready":
            self.ask("end")
            raise Failure("wrong result")
        return True

    def end(self):
        self.ask("end")

    def raw(self, count):
        before = process_cpu(self.child.pid)
        own = int(self.ask(f"run {count} 1")[1])
        return own if self.name == "native" else process_cpu(self.child.pid) - before

    def cpu(self, count):
        """CPU nanoseconds of so many iterations."""
        return max(self.raw(count) - self.idle, 1)

    def calibrate(self, sample):
        """How many iterations take about `sample` nanoseconds, once the machine is warm.

        A translator meets code for the first time here, its guest's kernel and the orders themselves included. So all
        machines work for WARM_UP first, and what an order costs is only then measured.
        """
        count, took = 1, self.raw(1)
        spent = took
        while took < sample / 4 or spent < WARM_UP:
            if took < sample / 4:
                count *= max(2, min(16, int(sample / 4 / took)))
            took = self.raw(count)
            spent += took
        self.idle = min(self.raw(0) for _ in range(5))
        return max(1, round(count * sample / self.cpu(count)))

    def elapsed(self, count):
        """Nanoseconds that two processes with so many iterations each took, less the waits for a host CPU.

        Waits include some from before the guest's clock starts, so CPU time is a lower bound; and the thread that
        is done first idles while the other still waits, so the other counts.
        """
        before = threads(self.child.pid)
        wall = int(self.ask(f"run {count} 2")[2])
        after = threads(self.child.pid)
        used = [(after[t][0] - before[t][0], after[t][1] - before[t][1]) for t in after if t in before]
        most = max(cpu for cpu, _ in used)
        return max(most, min(wall - wait for cpu, wait in used if cpu > most / 4))

    def kill(self):
        if self.child is None:
            return
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.stdout.close()
        self.child.stdin.close()
        self.child.wait()
        self.child = None

    def stop(self):
        """End it; the native program removes its files."""
        if self.name == "native" and self.child:
            self.child.stdin.close()
            self.child.wait()
            self.child = None
        self.kill()


def measure(bench, per_iteration, machines, rounds, sample):
    """({machine: ns of one operation, median}, [what went wrong])"""
    counts, times, problems = {}, {}, []
    ready = []
    for m in machines:
        try:
            if m.begin(bench):
                counts[m.name] = m.calibrate(sample)
                times[m.name] = []
                ready.append(m)
        except (Failure, OSError) as e:
            problems.append(f"{m.name}: {e}")
            m.kill()
    for number in range(rounds):
        for m in ready[number % len(ready):] + ready[:number % len(ready)]:
            if m.child is None:
                continue
            try:
                times[m.name].append(m.cpu(counts[m.name]) / counts[m.name] / per_iteration)
            except (Failure, OSError) as e:
                problems.append(f"{m.name}: {e}")
                times[m.name] = []
                m.kill()
    for m in ready:
        if m.child:
            m.end()
    return {name: statistics.median(t) for name, t in times.items() if t}, problems


def figures(ns):
    """uvirt's and TCG's share of native in %, uvirt / TCG, and which TCG was the better one."""
    tcg = min((n for n in ns if n.startswith("tcg")), key=ns.get, default=None)
    native, uvirt, best = ns.get("native"), ns.get("uvirt"), ns.get(tcg)
    return {"share": 100 * native / uvirt if native and uvirt else None,
            "tcg_share": 100 * native / best if native and best else None,
            "tcg": best / uvirt if best and uvirt else None, "variant": tcg}


def native_text(ns, unit):
    value = ns if unit == "ns" else 1e3 / ns
    if unit == "ns" and value >= 1e6:
        value, unit = value / 1e6, "ms"
    return f"{value:.4g} {unit}"


def cell(value, suffix=""):
    return "-" if value is None else f"{value:.3g}{suffix}" if value < 100 else f"{value:.0f}{suffix}"


def show(name, first, uvirt, tcg, ratio, target=""):
    print(f"{name:<28} {first:>14} {uvirt:>9} {tcg:>9} {ratio:>10}  {target}".rstrip(), flush=True)


def mean(values):
    values = [v for v in values if v]
    return math.exp(statistics.fmean(map(math.log, values))) if values else None


def show_groups(rows):
    print()
    show("geometric means", "rows", "uvirt", "TCG", "uvirt/TCG", "target")
    for name, pattern, about, target in GROUPS:
        members = [f for bench, f in rows.items() if re.fullmatch(pattern, bench) and f["share"]]
        if not members:
            continue
        share, tcg_share = mean(f["share"] for f in members), mean(f["tcg_share"] for f in members)
        ratio = mean(f["tcg"] for f in members)
        text = ""
        if about == "share":
            what = f"uvirt >= {target} %" if name != "patch and call" else "uvirt <= 20 x native"
            text = f"{what}: {'met' if share >= target else 'missed'}"
        elif about == "tcg" and ratio:
            least = min(f["tcg"] for f in members if f["tcg"])
            met = ratio >= target and least > 1
            text = f"uvirt/TCG >= {target}, each > 1 (least {least:.2f}): {'met' if met else 'missed'}"
        show(name, str(len(members)), cell(share, " %"), cell(tcg_share, " %"), cell(ratio, " x"), text)


def parallel(machines, rounds, sample):
    """{engine: the speedup of two CPUs over one}, in elapsed time."""
    found = {}
    for one, two in (("native", "native"), ("uvirt", "uvirt-2"), ("tcg-slow-string", "tcg-2")):
        if one not in machines or two not in machines:
            continue
        a, b = machines[one], machines[two]
        try:
            for m in {a, b}:
                m.begin(PARALLEL)
            count = a.calibrate(max(4 * sample, 5e8))
            speedups = []
            for _ in range(rounds):
                if one == "native":
                    speedups.append(2 * a.cpu(count) / int(a.ask(f"run {count} 2")[1]))
                else:
                    speedups.append(a.elapsed(count) / b.elapsed(count))
            found[one.partition("-")[0]] = statistics.median(speedups)
            for m in {a, b}:
                m.end()
        except (Failure, OSError) as e:
            print(f"two CPUs: {two}: {e}", file=sys.stderr)
            a.kill()
        if b is not a:
            b.kill()
    return found


def show_rest(two, machines):
    print()
    show("besides", "native", "uvirt", "TCG", "")
    if two:
        met = two.get("uvirt", 0) >= 1.8
        show("two CPUs over one, speedup", *(cell(two.get(e), " x") for e in ("native", "uvirt", "tcg")), "",
             f"uvirt >= 1.8 x: {'met' if met else 'missed'}")
    beyond = {m.name: m.beyond / 1024 for m in machines if m.beyond and m.name in ("uvirt", "tcg")}
    if "uvirt" in beyond:
        show("resident beyond guest RAM", "", cell(beyond["uvirt"], " MiB"), cell(beyond.get("tcg"), " MiB"), "",
             f"uvirt <= 64 MiB: {'met' if beyond['uvirt'] <= 64 else 'missed'}")
    return beyond


def benches(gbench, prefixes):
    """[(name, unit, operations in an iteration)] of those that begin with one of the prefixes, or all."""
    found = []
    for line in subprocess.run([gbench, "-l"], check=True, capture_output=True, text=True).stdout.splitlines():
        name, unit, per_iteration = line.split()
        if not prefixes or name.startswith(tuple(prefixes)):
            found.append((name, unit, float(per_iteration)))
    return found


def arguments():
    words = [[]]
    for word in sys.argv[1:]:
        if word == "::":
            words.append([])
        else:
            words[-1].append(word)
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--gbench", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=float, default=0.1, help="seconds of CPU time")
    parser.add_argument("--limit", type=float, default=300, help="seconds to wait for an answer")
    parser.add_argument("--only", action="append", default=[], help="benchmarks that begin so, and two CPUs if 'par'")
    parser.add_argument("--json")
    parser.add_argument("--log", default=os.devnull)
    return parser.parse_args(words[0]), words[1:]


def main():
    args, commands = arguments()
    sample = args.sample * 1e9
    chosen = benches(args.gbench, args.only)
    pair = not args.only or "par" in args.only
    if not chosen and not pair:
        sys.exit(f"bench engine: no benchmark begins with '{args.only[0]}'")
    wrong, rows, raw = [], {}, {}
    with open(args.log, "wb", buffering=0) as log:
        machines = {name: Machine(name, command, log, args.limit) for name, *command in commands}
        single = [machines[n] for n in ("native", *VIRTUAL) if n in machines]
        try:
            show("benchmark", "native", "uvirt", "TCG", "uvirt/TCG", "TCG's options")
            for bench, unit, per_iteration in chosen:
                ns, problems = measure(bench, per_iteration, single, args.rounds, sample)
                rows[bench], raw[bench] = figures(ns), ns
                f = rows[bench]
                note = {"tcg": "", "tcg-slow-string": "-erms,-fsrm"}.get(f["variant"], "")
                show(bench, native_text(ns["native"], unit) if "native" in ns else "-", cell(f["share"], " %"),
                     cell(f["tcg_share"], " %"), cell(f["tcg"], " x"), " ".join([note, *problems]).strip())
                wrong += [f"{bench}: {p}" for p in problems]
            two = parallel(machines, args.rounds, sample) if pair else {}
            show_groups(rows)
            beyond = show_rest(two, single)
        finally:
            for m in machines.values():
                m.stop()
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            json.dump({"ns": raw, "two CPUs": two, "MiB beyond RAM": beyond}, f, indent=1)
    if wrong:
        sys.exit("bench engine: " + "; ".join(wrong))


main()
