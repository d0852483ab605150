// SPDX-License-Identifier: MIT
// Loads and stores under a mask: elements that are masked off are not touched and cannot fault.

/*
 * With the whole operand in one page that the TLB lets through, the host's own masking does
 * all of it in place. Otherwise the operand is put together, or taken apart, element by
 * element in a bounce buffer. SDM 2A 2.8.1 (fault suppression), SDM 2C VMASKMOV, VPMASKMOV.
 */

#include "cpu/vec/exec.h"

/* One bit for each element in memory that the instruction accesses. */
static u64 active(const struct cpu *c, const struct vec_stub *s)
{
    const u8 *v = c->vec.zmm[s->mask_reg];
    u64 m = 0;

    if (s->masking == MASKING_K)
        return c->vec.k[s->mask_reg] & (s->lanes >= 64 ? ~0ull : BIT(s->lanes) - 1);
    for (unsigned i = 0; i < s->nelem; i++)
        m |= (u64)(v[(i + 1) * s->esize - 1] >> 7) << i;
    return m;
}

/* The next run of set bits of (m) at or after (*pos): its start in (*pos), its length returned; 0: no more. */
static unsigned next_run(u64 m, unsigned *pos)
{
    u64 rest;

    if (*pos >= 64 || !(m >> *pos))
        return 0;
    *pos += (unsigned)__builtin_ctzll(m >> *pos);
    rest = ~(m >> *pos);
    return rest ? (unsigned)__builtin_ctzll(rest) : 64 - *pos;
}

/*
 * Linear address of the operand, not yet checked against a legacy segment: that is done
 * element by element. The alignment that VMOVAPS and its like ask for is a matter of the whole
 * operand, but nobody asks where nothing is accessed.
 */
static int operand_lin(struct cpu *c, const struct insn *in, const struct vec_stub *s, u64 *lin)
{
    *lin = insn_ea(c, in) + c->seg[in->seg].base;
    if (unlikely(*lin & (s->mem_align - 1u)) && active(c, s))
        return cpu_raise_gp(c);
    return OP_NEXT;
}

/* Linear address of (len) bytes at (pos) in the operand. */
static int part_lin(struct cpu *c, const struct insn *in, unsigned pos, unsigned len, bool write, u64 *lin)
{
    if (in->flags & INSN_LEGACY)
        return seg_access(c, in->seg, (insn_ea(c, in) + pos) & (~0ull >> in->ea_shift), len, write, lin);
    *lin = insn_ea(c, in) + c->seg[in->seg].base + pos;
    return OP_NEXT;
}

/* Bring the accessed elements to their places in (buf); the rest of it is zero. */
static int load_active(struct cpu *c, const struct insn *in, const struct vec_stub *s, u8 *buf)
{
    u64 m = active(c, s), lin;
    unsigned pos = 0, n;
    int rc;

    memset(buf, 0, 64);
    if (s->flags & VEC_SCALAR)
        m &= 1;
    if (s->flags & VEC_WHOLE || (m && s->nelem != s->lanes)) /* scalar, broadcast, or not lane by lane: all or nothing */
        m = s->nelem >= 64 ? ~0ull : BIT(s->nelem) - 1;
    for (; (n = next_run(m, &pos)); pos += n) {
        rc = part_lin(c, in, pos * s->esize, n * s->esize, false, &lin);
        if (rc == OP_NEXT)
            rc = mmu_load(c, lin, buf + pos * s->esize, n * s->esize, insn_acc(in));
        if (rc)
            return rc;
    }
    return OP_NEXT;
}

int op_vec_masked_load(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    void *mem = NULL;
    u64 lin;
    int rc = vec_check(c, in, s);

    if (rc == OP_NEXT)
        rc = operand_lin(c, in, s, &lin);
    if (unlikely(rc))
        return rc;
    if (likely(!(in->flags & INSN_LEGACY) && !(lin & (s->mem_align - 1u))))
        mem = mmu_peek(c, lin, s->mem_size, false);
    if (unlikely(!mem)) {
        mem = buf;
        rc = load_active(c, in, s, buf);
    }
    return rc ? rc : vec_run(c, in, s, mem);
}

/* Store the accessed elements, all or none: first see that each may be, then do it. */
static int store_active(struct cpu *c, const struct insn *in, u64 lin, const void *buf)
{
    const struct vec_stub *s = insn_stub(in);
    u64 m = active(c, s);
    unsigned pos, n, ret = OP_NEXT;
    int rc;

    if (s->flags & VEC_SCALAR)
        m &= 1;
    for (pos = 0; (n = next_run(m, &pos)); pos += n) {
        rc = part_lin(c, in, pos * s->esize, n * s->esize, true, &lin);
        if (rc == OP_NEXT)
            rc = mmu_probe(c, lin, n * s->esize, insn_acc(in) | MMU_WRITE);
        if (rc)
            return rc;
    }
    for (pos = 0; (n = next_run(m, &pos)); pos += n) {
        rc = part_lin(c, in, pos * s->esize, n * s->esize, true, &lin);
        if (rc == OP_NEXT)
            rc = mmu_store(c, lin, (const u8 *)buf + pos * s->esize, n * s->esize, insn_acc(in));
        if (rc < 0)
            return rc;
        ret |= (unsigned)rc;
    }
    return ret ? OP_STOP : OP_NEXT;
}

int op_vec_masked_store(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64];
    void *mem = NULL;
    u64 lin;
    int rc = vec_check(c, in, s);

    if (rc == OP_NEXT)
        rc = operand_lin(c, in, s, &lin);
    if (unlikely(rc))
        return rc;
    if (likely(!(in->flags & INSN_LEGACY) && !(s->flags & (VEC_MXCSR | VEC_FX)) &&
               !(lin & (s->mem_align - 1u))))
        mem = mmu_peek(c, lin, s->mem_size, true);
    if (unlikely(!mem))
        return vec_run_store(c, in, s, lin, buf, store_active);
    s->code(c, mem, NULL, in->x[0]);
    return OP_NEXT;
}

/* Bytes that VPEXPAND reads and VPCOMPRESS writes: one element for each mask bit, packed. */
static unsigned packed_bytes(const struct cpu *c, const struct vec_stub *s)
{
    return (unsigned)__builtin_popcountll(active(c, s)) * s->esize;
}

int op_vec_expand(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64] = {0};
    unsigned len = s->mem_size;
    u64 lin;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    if (s->masking == MASKING_K)
        len = packed_bytes(c, s);
    if (len) {
        rc = insn_lin(c, in, len, false, &lin);
        if (rc == OP_NEXT)
            rc = mmu_load(c, lin, buf, len, insn_acc(in));
        if (rc)
            return rc;
    }
    return vec_run(c, in, s, buf);
}

int op_vec_compress(struct cpu *c, const struct insn *in)
{
    const struct vec_stub *s = insn_stub(in);
    _Alignas(64) u8 buf[64] = {0};
    unsigned len = s->mem_size;
    u64 lin;
    int rc = vec_check(c, in, s);

    if (unlikely(rc))
        return rc;
    if (s->masking == MASKING_K)
        len = packed_bytes(c, s);
    if (!len)
        return OP_NEXT;
    rc = insn_lin(c, in, len, true, &lin);
    if (unlikely(rc))
        return rc;
    s->code(c, buf, NULL, in->x[0]);
    return mmu_store(c, lin, buf, len, insn_acc(in));
}
