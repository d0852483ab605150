// SPDX-License-Identifier: MIT
// Any bytes in any code size: the decoder gives a well-formed insn, always the same, and reads no further than it may.

#include "cpu/decode/decode.h"
#include "fuzz.h"

#include <stdlib.h>

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool is_gpr(u8 off)
{
    return off <= REG_R15 * 8 + 1;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    u8 mode = fuzz_u8(&in) % 3, stack32 = fuzz_u8(&in) & 1;
    unsigned off = fuzz_u16(&in) % PAGE_SIZE, avail = in.size < 15 ? (unsigned)in.size : 15;
    struct insn a = {0}, b = {0};
    u8 *exact;
    int len;

    if (!avail)
        return 0;
    exact = malloc(avail); /* the sanitizer sees a read beyond it */
    if (!exact)
        return 0;
    memcpy(exact, in.data, avail);
    len = decode_insn(exact, avail, mode, stack32, off, &a);
    if (len >= 0) {
        require(len >= 1 && len <= 15 && (unsigned)len <= avail);
        require(a.op && a.len == len && a.off == off);
        require(a.base < REG_COUNT && a.index < REG_COUNT && a.scale < 4 && a.seg <= SEG_NONE);
        require(is_gpr(a.reg) && is_gpr(a.rm) && is_gpr(a.vvvv));
        require(a.ea_shift == 0 || a.ea_shift == 32 || a.ea_shift == 48);
        require(!(a.flags & INSN_LEGACY) == (mode == MODE_64) || a.flags & INSN_ENDS);
        require(decode_insn(exact, avail, mode, stack32, off, &b) == len && a.op == b.op &&
                a.disp == b.disp && a.flags == b.flags);
    }
    free(exact);
    return 0;
}
