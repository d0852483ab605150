# SPDX-License-Identifier: MIT
# A small benchmark in plain Python: dicts, lists, strings, objects, floats, calls.


class Vec:
    __slots__ = ("x", "y")

    def __init__(self, x, y):
        self.x = x
        self.y = y

    def add(self, o):
        return Vec(self.x + o.x, self.y + o.y)


def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def sieve(n):
    a = bytearray([1]) * (n + 1)
    a[0] = a[1] = 0
    i = 2
    while i * i <= n:
        if a[i]:
            for j in range(i * i, n + 1, i):
                a[j] = 0
        i += 1
    return sum(a)


def words(n):
    d = {}
    for i in range(n):
        k = "w%d" % (i * 7919 % 997)
        d[k] = d.get(k, 0) + i
    return sorted(d.items(), key=lambda kv: (-kv[1], kv[0]))[0]


def vecs(n):
    v = Vec(0.0, 0.0)
    step = Vec(0.5, -0.25)
    for _ in range(n):
        v = v.add(step)
    return v.x, v.y


def matmul(n):
    a = [[(i * j) % 7 + 0.5 for j in range(n)] for i in range(n)]
    b = [list(c) for c in zip(*a)]
    return sum(sum(x * y for x, y in zip(r, c)) for r in a for c in b)


def strings(n):
    s = []
    for i in range(n):
        s.append(("%05d" % i)[::-1].replace("0", "o"))
    return len("".join(s).split("o"))


res = (fib(21), sieve(200000), words(60000), vecs(80000), matmul(50), strings(40000))
assert res[0] == 10946 and res[1] == 17984 and res[3] == (40000.0, -20000.0), res
