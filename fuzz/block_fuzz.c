// SPDX-License-Identifier: MIT
// Runs of integer instructions, executed by the run loop and by the host: registers and flags must agree.

#include "cpu/native.h"
#include "cpu/op_cpu.h"
#include "fuzz.h"

#define CODE      0x10000u
#define RUN_BYTES 200
#define RUN_INSNS 24

static bool in_family(const struct op_row *rows, const struct op_row *row)
{
    for (const struct op_row *r = rows; r->lower; r++) {
        if (r == row)
            return true;
    }
    return false;
}

/* Straight-line, on registers alone, and sure not to fault: what both sides can run anywhere. */
static bool is_plain(const struct decoded *d)
{
    const struct op_row *row = decode_row(d->mnemonic);

    if (!row || d->lock || d->mnemonic == ZYDIS_MNEMONIC_DIV || d->mnemonic == ZYDIS_MNEMONIC_IDIV ||
        d->mnemonic == ZYDIS_MNEMONIC_XLAT || (d->has_mem && d->mnemonic != ZYDIS_MNEMONIC_LEA) ||
        d->mem_rip)
        return false;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind != OPND_GPR && d->op[i].kind != OPND_IMM && d->op[i].kind != OPND_MEM)
            return false;
    }
    return in_family(ops_alu, row) || in_family(ops_mov, row) || in_family(ops_shift, row) ||
           in_family(ops_muldiv, row) || in_family(ops_bit, row);
}

/* Take plain instructions off the input, skipping a byte where there is none. Returns the code's size. */
static unsigned take_code(struct fuzz_input *in, u8 *code)
{
    unsigned len = 0, insns = 0;

    while (in->size && insns < RUN_INSNS && len + 15 < RUN_BYTES) {
        struct decoded d;
        unsigned skip = 1;
        bool gp;

        if (!decode_one(in->data, in->size < 15 ? (unsigned)in->size : 15, MODE_64, true, &d, &gp)) {
            if (is_plain(&d)) {
                memcpy(code + len, in->data, d.len);
                len += d.len;
                insns++;
            }
            skip = d.len;
        }
        in->data += skip;
        in->size -= skip;
    }
    return len;
}

static bool ready(void)
{
    static int state;

    if (!state)
        state = native_init() && op_create() ? 1 : -1;
    return state > 0;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct fuzz_input in = {data, size};
    u8 code[RUN_BYTES + 1];
    unsigned len;
    u64 flags;

    if (!ready())
        return 0;
    op_reset();
    flags = fuzz_u16(&in) & RFLAGS_ARITH;
    for (unsigned i = 0; i < 16; i++)
        NATIVE->in[i] = c->r[i] = fuzz_u64(&in);
    NATIVE->in_flags = flags | 0x202;
    cpu_rflags_set(c, flags | 2);
    len = take_code(&in, code);
    if (!len)
        return 0;

    native_set(code, len);
    native_run();
    if (NATIVE->where != NATIVE_WENT_ON)
        return 0; /* an instruction that this host does not have */
    code[len] = 0xf4; /* HLT */
    memcpy(ram + CODE, code, len + 1);
    mem_written(mem, CODE, len + 1);
    c->rip = CODE;
    if (cpu_run(c) != CPU_EXIT_HLT || c->rip != CODE + len + 1)
        abort();
    if (memcmp(c->r, NATIVE->out, sizeof(NATIVE->out)) ||
        (cpu_rflags_get(c) & RFLAGS_ARITH) != (NATIVE->out_flags & RFLAGS_ARITH))
        abort();
    return 0;
}
