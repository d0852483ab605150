// SPDX-License-Identifier: MIT
// The AMX instructions: configuration, tile loads and stores, dispatch to the dot-product kernels.

#include "cpu/amx/check.h"
#include "cpu/amx/kernel.h"
#include "cpu/mmu/access.h"

/*
 * Theory of operation. Checks come in the SDM's order (exception classes AMX-E1 to E6):
 * #UD for the encoding, the mode, CPUID and the system's enabling; #NM for XFD; #UD for the tile
 * configuration; then memory. TILELOADD and TILESTORED are restartable: on a fault
 * start_row says which row comes next and the rows before it stay done.
 *
 * An insn holds tile numbers: (reg) first operand, (rm) second, (vvvv) third.
 */

/* SDM 2A LDTILECFG. */
int amx_op_ldtilecfg(struct cpu *c, const struct insn *in)
{
    u8 mem[64];
    u64 lin;
    int rc = amx_check_enabled(c, in);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, sizeof(mem), false, &lin);
    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, mem, sizeof(mem), insn_acc(in));
    if (rc)
        return rc;
    if (amx_cfg_unpack(&c->amx, mem))
        return cpu_raise_gp(c);
    amx_tiles_clear(&c->amx);
    return OP_NEXT;
}

/* SDM 2B STTILECFG. */
int amx_op_sttilecfg(struct cpu *c, const struct insn *in)
{
    u8 mem[64];
    u64 lin;
    int rc = amx_check_enabled(c, in);

    if (rc == OP_NEXT)
        rc = insn_lin(c, in, sizeof(mem), true, &lin);
    if (rc)
        return rc;
    amx_cfg_pack(&c->amx, mem);
    return mmu_store(c, lin, mem, sizeof(mem), insn_acc(in));
}

/* SDM 2B TILERELEASE. */
int amx_op_tilerelease(struct cpu *c, const struct insn *in)
{
    int rc = amx_check_enabled(c, in);

    if (rc)
        return rc;
    amx_cfg_clear(&c->amx);
    amx_tiles_clear(&c->amx);
    return OP_NEXT;
}

static const u8 zero_row[AMX_ROW_BYTES];

/* SDM 2B TILEZERO. Columns need not be whole dwords, and start_row does not matter. */
int amx_op_tilezero(struct cpu *c, const struct insn *in)
{
    struct cpu_amx *a = &c->amx;
    int rc = amx_check_data(c, in);

    if (rc)
        return rc;
    if (!amx_tile_valid(a, in->reg))
        return cpu_raise_ud(c);
    if (a->tile_inuse)
        amx_rows_kernel()(a->tile[in->reg][0], AMX_ROW_BYTES, zero_row, 0, AMX_ROWS);
    a->start_row = 0;
    return OP_NEXT;
}

/* Address of row (row): rows are one stride (the scaled index) apart, cut to the address size. */
static u64 row_lin(const struct cpu *c, const struct insn *in, unsigned row)
{
    u64 ea = c->r[in->base] + (u64)in->disp + row * (c->r[in->index] << in->scale);

    return (ea & (~0ull >> in->ea_shift)) + c->seg[in->seg].base;
}

static int check_memory_form(struct cpu *c, const struct insn *in)
{
    int rc = amx_check_data(c, in);

    if (unlikely(rc))
        return rc;
    if (unlikely(!amx_tile_dwords(&c->amx, in->reg) || c->amx.start_row >= c->amx.rows[in->reg]))
        return cpu_raise_ud(c);
    return OP_NEXT;
}

/*
 * Host memory of row (row), when it lies in a page with a fast mapping, else NULL. (count): how many of the rows
 * before (rows) lie in the same page, each (stride) beyond the last.
 */
static u8 *rows_peek(struct cpu *c, const struct insn *in, unsigned row, unsigned rows,
                     unsigned len, bool write, u64 *stride, unsigned *count)
{
    u64 step = c->r[in->index] << in->scale, lin = row_lin(c, in, row);
    u32 room = PAGE_SIZE - (u32)(lin & ~PAGE_MASK), n = rows - row;

    if (unlikely(len > room))
        return NULL;
    if (unlikely(step > PAGE_SIZE || in->ea_shift))
        n = 1; /* so are strides below 0 */
    else if ((n - 1) * (u32)step > room - len)
        n = (room - len) / (u32)step + 1;
    *stride = step;
    *count = n;
    return mmu_peek(c, lin, (n - 1) * (u32)step + len, write);
}

static inline void row_copy(u8 *dst, const u8 *src, unsigned len)
{
    if (likely(len == AMX_ROW_BYTES))
        memcpy(dst, src, AMX_ROW_BYTES);
    else
        memcpy(dst, src, len);
}

/* Load one row and zero its tail. OP_NEXT, or negative with the row untouched. */
static int row_load(struct cpu *c, const struct insn *in, unsigned row, u8 *dst, unsigned len)
{
    u64 lin = row_lin(c, in, row);
    const u8 *src = mmu_peek(c, lin, len, false);
    int rc = OP_NEXT;

    if (likely(src))
        row_copy(dst, src, len);
    else
        rc = mmu_load(c, lin, dst, len, insn_acc(in));
    if (rc == OP_NEXT)
        memset(dst + len, 0, AMX_ROW_BYTES - len);
    return rc;
}

/* SDM 2B TILELOADD. The T1 form is a cache hint, and so is RS (TILELOADDRS). */
int amx_op_tileload(struct cpu *c, const struct insn *in)
{
    struct cpu_amx *a = &c->amx;
    unsigned row, rows = a->rows[in->reg], len = a->colsb[in->reg], count;
    u8(*tile)[AMX_ROW_BYTES];
    const u8 *src;
    u64 stride;
    int rc = check_memory_form(c, in);

    if (rc == OP_NEXT)
        rc = amx_tiles_touch(c);
    if (unlikely(rc))
        return rc;
    tile = a->tile[in->reg];
    row = a->start_row;
    while (row < rows) {
        src = NULL;
        if (likely(len == AMX_ROW_BYTES))
            src = rows_peek(c, in, row, rows, len, false, &stride, &count);
        if (likely(src)) {
            amx_rows_kernel()(tile[row], AMX_ROW_BYTES, src, stride, count);
            row += count;
            continue;
        }
        rc = row_load(c, in, row, tile[row], len);
        if (rc)
            break;
        row++;
    }
    /* Rows that are not there, and after a fault those that are still to come. */
    if (unlikely(row < AMX_ROWS))
        memset(tile[row], 0, (AMX_ROWS - row) * AMX_ROW_BYTES);
    a->start_row = rc ? (u8)row : 0;
    return rc;
}

/* SDM 2B TILESTORED. */
int amx_op_tilestore(struct cpu *c, const struct insn *in)
{
    struct cpu_amx *a = &c->amx;
    unsigned row, rows = a->rows[in->reg], len = a->colsb[in->reg], count;
    int rc = check_memory_form(c, in), ret = OP_NEXT;
    u64 stride;
    u8 *dst;

    if (unlikely(rc))
        return rc;
    row = a->start_row;
    for (; row < rows; row += count) {
        const u8 *src = a->tile_inuse ? a->tile[in->reg][row] : zero_row;

        dst = rows_peek(c, in, row, rows, len, true, &stride, &count);
        if (likely(dst && len == AMX_ROW_BYTES)) {
            amx_rows_kernel()(dst, stride, src, a->tile_inuse ? AMX_ROW_BYTES : 0, count);
            continue;
        }
        count = 1;
        if (dst) {
            row_copy(dst, src, len);
            continue;
        }
        rc = mmu_store(c, row_lin(c, in, row), src, len, insn_acc(in));
        if (rc < 0) {
            a->start_row = (u8)row;
            return rc;
        }
        if (rc > ret)
            ret = rc;
    }
    a->start_row = 0;
    return ret;
}

/* TDPBSSD … TMMULTF32PS: three tiles, SDM 2B. in->x[0]: enum amx_dp. */
int amx_op_dp(struct cpu *c, const struct insn *in)
{
    struct cpu_amx *a = &c->amx;
    unsigned d = in->reg, s1 = in->rm, s2 = in->vvvv;
    int rc = amx_check_data(c, in);

    if (unlikely(rc))
        return rc;
    if (unlikely(!amx_tile_dwords(a, d) || !amx_tile_dwords(a, s1) || !amx_tile_dwords(a, s2) ||
                 a->rows[d] != a->rows[s1] || a->colsb[d] != a->colsb[s2] ||
                 a->colsb[s1] / 4 != a->rows[s2]))
        return cpu_raise_ud(c);
    rc = amx_tiles_touch(c);
    if (unlikely(rc))
        return rc;
    amx_dp_kernel(in->x[0])(a->tile[d], a->tile[s1], a->tile[s2], a->rows[d], a->colsb[d] / 4,
                            a->colsb[s1] / 4);
    a->start_row = 0;
    return OP_NEXT;
}
