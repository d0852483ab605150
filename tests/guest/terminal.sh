#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt run on a terminal: size, Ctrl-C, resizing, the way out, and the terminal as it was afterwards.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
export UVIRT=${UVIRT:-$top/build/uvirt}
command -v python3 >/dev/null || { echo "1..0 # SKIP no python3"; exit 0; }
exec python3 - <<'PY'
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time

number = 0


def point(name, good, seen=b""):
    global number
    number += 1
    print(f"{'ok' if good else 'not ok'} {number} - {name}", flush=True)
    if not good:
        for line in seen.decode(errors="replace").splitlines()[-20:]:
            print(f"# {line}")


def resize(fd, cols, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


class Run:
    """uvirt on a terminal of its own."""

    def __init__(self, *command):
        self.master, slave = pty.openpty()
        resize(self.master, 100, 40)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = b""
        self.p = subprocess.Popen([os.environ["UVIRT"], "run", "--", *command], stdin=slave,
                                  stdout=slave, stderr=slave, start_new_session=True,
                                  preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def pump(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            self.seen += os.read(self.master, 65536)

    def wait_for(self, pattern, limit=120):
        end = time.time() + limit
        while not re.search(pattern, self.seen) and time.time() < end:
            self.pump(0.1)
        return bool(re.search(pattern, self.seen))

    def send(self, data):
        os.write(self.master, data)

    def code(self, limit=60):
        end = time.time() + limit
        while self.p.poll() is None and time.time() < end:
            self.pump(0.1)
        if self.p.poll() is None:
            self.p.kill()
            self.p.wait()
            return "it had to be killed"
        self.pump(0)
        return self.p.returncode

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before


r = Run("sh", "-c", 'stty size; tty; trap "echo RESIZED; stty size" WINCH; '
        'trap "echo INTERRUPTED; exit 9" INT; echo READY; while :; do sleep 0.2; done')
point("the terminal has the size of the host's", r.wait_for(rb"READY") and b"40 100" in r.seen, r.seen)
point("it is a terminal", b"/dev/pts/0" in r.seen, r.seen)
point("raw mode while the command runs", not r.restored(), r.seen)
resize(r.master, 90, 30)
os.kill(r.p.pid, signal.SIGWINCH)
point("a new size reaches the guest", r.wait_for(rb"RESIZED\s+30 90", 30), r.seen)
r.send(b"\x03")
point("Ctrl-C goes to the command", r.code() == 9 and b"INTERRUPTED" in r.seen, r.seen)
point("the terminal is as it was", r.restored())

r = Run("cat")
time.sleep(1)
r.send(b"typed early\n")
point("what is typed while it boots arrives", r.wait_for(rb"typed early\s+typed early"), r.seen)
r.send(b"\x04")
point("Ctrl-D ends cat", r.code() == 0, r.seen)

r = Run("sh", "-c", "trap '' INT TERM QUIT HUP; echo READY; while :; do sleep 1; done")
r.wait_for(rb"READY")
r.send(b"\x03")
r.send(b"\x1d\x1d\x1d")
point("Ctrl-] three times is the way out", r.code() == 130, r.seen)
point("the terminal is as it was", r.restored())

r = Run("sleep", "1000")
time.sleep(1)
r.send(b"\x03")
point("Ctrl-C while it boots", r.code() in (-2, 130), r.seen)
point("the terminal is as it was", r.restored())

r = Run("sh", "-c", "echo READY; sleep 1000")
r.wait_for(rb"READY")
os.kill(r.p.pid, signal.SIGTERM)
point("SIGTERM to uvirt goes to the command", r.code() == 143, r.seen)
point("the terminal is as it was", r.restored())
print(f"1..{number}")
PY
