// SPDX-License-Identifier: MIT
// Instructions for which there is no more room in the stub cache: slow, but they run.

/*
 * A guest may make up more instruction forms than a process should keep code for. Beyond that
 * limit an insn keeps nothing: when it runs, its bytes are fetched and decoded again, and its
 * stub is written over the last one in the thread's own slot.
 */

#include "cpu/vec/codebuf.h"
#include "cpu/vec/exec.h"
#include "cpu/vec/lower.h"

static _Thread_local struct {
    void *rw;
    const void *rx;
} slot;

/* The insn's bytes as they are in memory now. */
static int fetch(struct cpu *c, const struct insn *in, u8 *bytes)
{
    u64 lin = insn_rip(c, in);
    struct tlb_fetch *page;

    if (c->mode != MODE_64)
        lin = (u32)(cpu_rip_trim(c, lin) + c->seg[SEG_CS].base);
    for (unsigned i = 0; i < in->len; i++) {
        int rc = mmu_fetch(c, lin + i, &page);

        if (rc)
            return rc;
        bytes[i] = page->host[(lin + i) & ~PAGE_MASK];
    }
    return OP_NEXT;
}

int op_vec_uncached(struct cpu *c, const struct insn *in)
{
    u8 bytes[15], code[VEC_STUB_MAX];
    struct insn tmp = *in;
    struct vec_stub s;
    struct decoded d;
    unsigned len;
    bool gp;
    int rc = fetch(c, in, bytes);

    if (rc)
        return rc;
    /* They may have changed since; what they say now is as right as what they said then. */
    rc = decode_one(bytes, in->len, c->mode, c->seg[SEG_SS].ar & SEG_AR_DB, &d, &gp);
    if (rc || vec_lower(&d, &tmp))
        return cpu_raise_ud(c);
    if (tmp.op != op_vec_uncached)
        return tmp.op(c, &tmp);
    if (!slot.rx)
        slot.rx = codebuf_slot(VEC_STUB_MAX, &slot.rw);
    if (!slot.rx) {
        c->exit = CPU_EXIT_INTERNAL_ERROR;
        return OP_EXIT;
    }
    len = vec_stub_build(&d, &s, code);
    memcpy(slot.rw, code, len);
    codebuf_sync();
    s.code = (vec_code *)slot.rx;
    tmp.aux = &s;
    tmp.op = lower_stub_op(&d, &s);
    return tmp.op(c, &tmp);
}
