// SPDX-License-Identifier: MIT
// CRC32C by the SSE4.2 instruction, or by a table.
#include "vmm/snapshot/crc32c.h"

#include <nmmintrin.h>
#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41, bits reversed */

static u32 table[256];

static void make_table(void)
{
    for (u32 i = 0; i < ARRAY_SIZE(table); i++) {
        u32 v = i;

        for (int bit = 0; bit < 8; bit++)
            v = v >> 1 ^ (v & 1 ? POLYNOMIAL : 0);
        table[i] = v;
    }
}

u32 crc32c_table(u32 crc, const void *data, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    const u8 *p = data;

    pthread_once(&once, make_table);
    crc = ~crc;
    while (len--)
        crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    return ~crc;
}

__attribute__((target("sse4.2"))) static u32 by_instruction(u32 crc, const u8 *p, size_t len)
{
    u64 wide = (u32)~crc;

    for (; len >= 8; len -= 8, p += 8) {
        u64 v;

        memcpy(&v, p, sizeof(v));
        wide = _mm_crc32_u64(wide, v);
    }
    for (; len; len--)
        wide = _mm_crc32_u8((u32)wide, *p++);
    return ~(u32)wide;
}

u32 crc32c(u32 crc, const void *data, size_t len)
{
    return __builtin_cpu_supports("sse4.2") ? by_instruction(crc, data, len)
                                            : crc32c_table(crc, data, len);
}
