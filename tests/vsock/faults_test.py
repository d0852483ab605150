#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# Every fault in docs/vsock-faults.md is named by the tests that are said to show it.
"""Usage: faults_test.py ROOT. Prints TAP: one point for each fault and test."""
import re
import sys

root = sys.argv[1]
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| ((?:`[a-z_/]+` ?)+)\|$")


def names(fault):
    """'Project #1, #2' stands for two faults of that project."""
    project = ""
    for part in fault.split(", "):
        if part.startswith("#"):
            yield project, part
        else:
            project = part.split(" #")[0]
            yield project, part[len(project):].strip()


def shows(text, project, number):
    """The name stands in a string of the test, the number maybe behind others of its project."""
    strings = " ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text))
    pattern = re.escape(project) + (r"(?: #?[0-9a-f]+,)* " + re.escape(number) if number else "")
    return re.search(pattern + r"(?![0-9])", strings) is not None


count = failed = rows = 0
with open(f"{root}/docs/vsock-faults.md", encoding="utf-8") as f:
    for line in f:
        match = ROW.match(line.strip())
        if not match:
            continue
        rows += 1
        for test in re.findall(r"`([a-z_/]+)`", match.group(2)):
            with open(f"{root}/tests/{test}_test.c", encoding="utf-8") as source:
                text = source.read()
            for project, number in names(match.group(1)):
                good = shows(text, project, number)
                count += 1
                failed += not good
                print(f"{'ok' if good else 'not ok'} {count} - {project} {number} in {test}")
count += 1
failed += rows < 60
print(f"{'ok' if rows >= 60 else 'not ok'} {count} - the list has {rows} rows")
print(f"1..{count}")
sys.exit(1 if failed else 0)
