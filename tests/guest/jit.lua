-- SPDX-License-Identifier: MIT
-- Work that LuaJIT compiles: loops over tables, strings and floating point.
local function sieve(n) local p, c = {}, 0 for i = 2, n do p[i] = true end
  for i = 2, n do if p[i] then c = c + 1 for j = i * i, n, i do p[j] = false end end end return c end
local s = 0
for r = 1, 20 do s = s + sieve(20000 + r) end
local t = {}
for i = 1, 20000 do t[#t + 1] = string.format("%d:%s", i * 7 % 1000, tostring(i)) end
table.sort(t)
local x = 0.0
for i = 1, 2000000 do x = x + (i % 7) * 0.5 end
print(s, t[1], t[#t], x, jit and jit.status())
