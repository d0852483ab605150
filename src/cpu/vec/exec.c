// SPDX-License-Identifier: MIT
// Ops that run a stub with its memory operand where it lies, or in a bounce buffer.

#include "cpu/vec/exec.h"

/* SDM 2A 2.4.1 and up: #UD goes before #NM; CR0.EM makes x87 #NM, MMX and SSE #UD. */
int vec_unavailable(struct cpu *c, const struct vec_stub *s)
{
    bool undefined;

    if (s->flags & VEC_AVX)
        undefined = (~c->cr0 & CR0_PE) | (~c->cr4 & s->cr4_need) | (~c->xcr0 & s->xcr0_need);
    else
        undefined = !(s->flags & VEC_X87) && (c->cr0 & CR0_EM || ~c->cr4 & s->cr4_need);
    return cpu_raise(c, undefined ? EXC_UD : EXC_NM);
}

int op_vec_reg(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    s->code(c, NULL, NULL, in->x[0]);
    return OP_NEXT;
}

int vec_operand_load(struct cpu *c, const struct insn *in, const struct vec_stub *s, u8 *buf, void **ret)
{
    u64 lin;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    rc = vec_lin(c, in, s, s->mem_size, false, &lin);
    if (unlikely(rc))
        return rc;
    *ret = mmu_peek(c, lin, s->mem_size, false);
    if (likely(*ret))
        return OP_NEXT;
    *ret = buf;
    return mmu_load(c, lin, buf, s->mem_size, insn_acc(in));
}

int op_vec_load(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    void *mem;
    int rc = vec_operand_load(c, in, s, buf, &mem);

    if (unlikely(rc))
        return rc;
    s->code(c, mem, NULL, in->x[0]);
    return OP_NEXT;
}

static int store_whole(struct cpu *c, const struct insn *in, u64 lin, const void *buf)
{
    return mmu_store(c, lin, buf, insn_stub(in)->mem_size, insn_acc(in));
}

int op_vec_store(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    u64 lin;
    void *mem;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    rc = vec_lin(c, in, s, s->mem_size, true, &lin);
    if (unlikely(rc))
        return rc;
    mem = mmu_peek(c, lin, s->mem_size, true);
    if (likely(mem)) {
        s->code(c, mem, NULL, in->x[0]);
        return OP_NEXT;
    }
    s->code(c, buf, NULL, in->x[0]);
    return store_whole(c, in, lin, buf);
}

int op_vec_frame_reg(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    int rc = vec_check(c, in, s);

    return unlikely(rc) ? rc : vec_run(c, in, s, NULL);
}

int op_vec_frame_load(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    void *mem;
    int rc = vec_operand_load(c, in, s, buf, &mem);

    return unlikely(rc) ? rc : vec_run(c, in, s, mem);
}

int op_vec_frame_store(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    u64 lin;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    rc = vec_lin(c, in, s, s->mem_size, true, &lin);
    return unlikely(rc) ? rc : vec_run_store(c, in, s, lin, buf, store_whole);
}
