// SPDX-License-Identifier: MIT
// Port I/O: IN, OUT, INS, OUTS. SDM 1 18.5, SDM 2A IN, INS, SDM 2B OUT, OUTS.

#include "cpu/interp/operand.h"
#include "cpu/sys/desc.h"
#include "cpu/sys/lower.h"

#define IO_PORT_DX 1 /* in->x[0]: the port is in DX, else in imm */
#define IO_REPEAT 1  /* in->x[1]: REP or REPNE */

#define TSS_IO_MAP_BASE 0x66
#define TSS_LIMIT_MIN 103

/* The I/O permission bit map, for code with too little privilege to go without: SDM 1 18.5.2. */
static int bitmap_check(struct cpu *c, u16 port, unsigned size)
{
    const struct cpu_seg *tr = &c->seg[SEG_TR];
    u16 base, bits;
    u32 at;
    int rc;

    if (tr->ar & SEG_AR_UNUSABLE || !(tr->ar & 8) || tr->limit < TSS_LIMIT_MIN)
        return cpu_raise_gp(c);
    rc = mmu_load(c, tr->base + TSS_IO_MAP_BASE, &base, 2, MMU_SYSTEM);
    if (rc)
        return rc;
    at = base + port / 8u;
    if (at + 1 > tr->limit)
        return cpu_raise_gp(c);
    rc = mmu_load(c, tr->base + at, &bits, 2, MMU_SYSTEM);
    if (rc)
        return rc;
    return bits >> (port & 7) & ((1u << size) - 1) ? cpu_raise_gp(c) : OP_NEXT;
}

static int io_check(struct cpu *c, u16 port, unsigned size)
{
    bool vm = c->rflags & RFLAGS_VM;

    if (c->cr0 & CR0_PE && (vm || c->cpl > (c->rflags & RFLAGS_IOPL) >> 12))
        return bitmap_check(c, port, size);
    return OP_NEXT;
}

static u16 io_port(struct cpu *c, const struct insn *in)
{
    return in->x[0] == IO_PORT_DX ? *insn_reg16(c, REG_RDX * 8) : (u16)in->imm;
}

static int op_in(struct cpu *c, const struct insn *in)
{
    u16 port = io_port(c, in);
    u32 val = 0;
    int rc = io_check(c, port, in->size);

    if (rc == OP_NEXT)
        rc = c->bus->io_in(c, port, in->size, &val);
    if (rc >= 0)
        reg_write(c, REG_RAX * 8, in->size, val);
    return rc;
}

static int op_out(struct cpu *c, const struct insn *in)
{
    u16 port = io_port(c, in);
    u32 val = *insn_reg32(c, REG_RAX * 8);
    int rc = io_check(c, port, in->size);

    if (in->size < 4)
        val &= (1u << (8 * in->size)) - 1;
    return rc ? rc : c->bus->io_out(c, port, in->size, val);
}

/* Linear address of the string element at RSI or RDI. */
static int element_lin(struct cpu *c, const struct insn *in, unsigned reg, unsigned seg, bool write, u64 *lin)
{
    u64 ea = c->r[reg] & (~0ull >> in->ea_shift);

    if (in->flags & INSN_LEGACY)
        return seg_access(c, seg, ea, in->size, write, lin);
    *lin = ea + c->seg[seg].base;
    return OP_NEXT;
}

/* Add (delta) to a register in the address size. */
static void advance(struct cpu *c, const struct insn *in, unsigned reg, s64 delta)
{
    reg_write(c, (u8)(reg * 8), 8 - in->ea_shift / 8u, c->r[reg] + (u64)delta);
}

/* The memory is probed before the port is read: a fault must not lose what the device gave. */
/* How many elements of a REP INS fit between (lin) and the end of its page. Backwards they come one at a time. */
static u32 elements_ahead(const struct cpu *c, const struct insn *in, u64 lin, s64 delta)
{
    u64 left = c->r[REG_RCX] & ~0ull >> in->ea_shift, room = (PAGE_SIZE - (lin & ~PAGE_MASK)) / in->size;

    if (!in->x[1] || delta < 0 || !room)
        return 1;
    return (u32)(left < room ? left : room);
}

static int ins_element(struct cpu *c, const struct insn *in, u16 port, s64 delta)
{
    unsigned seg = c->mode == MODE_64 ? SEG_NONE : SEG_ES;
    u32 val = 0;
    u64 lin;
    int rc = element_lin(c, in, REG_RDI, seg, true, &lin), io;

    if (rc == OP_NEXT)
        rc = mmu_probe(c, lin, in->size, MMU_WRITE);
    if (rc)
        return rc;
    c->io_elements = elements_ahead(c, in, lin, delta);
    io = c->bus->io_in(c, port, in->size, &val);
    c->io_elements = 1;
    if (io < 0)
        return io;
    rc = mmu_store(c, lin, &val, in->size, 0);
    if (rc < 0)
        return rc;
    advance(c, in, REG_RDI, delta);
    return rc > io ? rc : io;
}

static int outs_element(struct cpu *c, const struct insn *in, u16 port, s64 delta)
{
    u32 val = 0;
    u64 lin;
    int rc = element_lin(c, in, REG_RSI, in->seg, false, &lin);

    if (rc == OP_NEXT)
        rc = mmu_load(c, lin, &val, in->size, 0);
    if (rc == OP_NEXT)
        rc = c->bus->io_out(c, port, in->size, val);
    if (rc >= 0)
        advance(c, in, REG_RSI, delta);
    return rc;
}

/* One element, or with REP elements until something wants attention; what was done stays done. */
static int io_string(struct cpu *c, const struct insn *in,
                     int (*element)(struct cpu *c, const struct insn *in, u16 port, s64 delta))
{
    u16 port = *insn_reg16(c, REG_RDX * 8);
    s64 delta = c->rflags & RFLAGS_DF ? -(s64)in->size : in->size;
    u64 mask = ~0ull >> in->ea_shift;
    int rc;

    if (in->x[1] && !(c->r[REG_RCX] & mask))
        return OP_NEXT;
    rc = io_check(c, port, in->size);
    if (rc)
        return rc;
    for (;;) {
        rc = element(c, in, port, delta);
        if (rc < 0 || !in->x[1])
            return rc;
        advance(c, in, REG_RCX, -1);
        if (!(c->r[REG_RCX] & mask))
            return rc;
        if (rc != OP_NEXT || c->rflags & RFLAGS_TF || c->guest_debug ||
            atomic_load_explicit(&c->request, memory_order_relaxed))
            return OP_AGAIN;
    }
}

static int op_ins(struct cpu *c, const struct insn *in) { return io_string(c, in, ins_element); }
static int op_outs(struct cpu *c, const struct insn *in) { return io_string(c, in, outs_element); }

static int lower_inout(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct opnd *port = d->mnemonic == ZYDIS_MNEMONIC_IN ? &d->op[1] : &d->op[0];

    if (port->kind == OPND_IMM)
        in->imm = (u8)port->imm;
    else
        in->x[0] = IO_PORT_DX;
    return lower_form(d, in, arg);
}

static int lower_string(const struct decoded *d, struct insn *in, const void *arg)
{
    in->size = d->mnemonic == ZYDIS_MNEMONIC_INSB || d->mnemonic == ZYDIS_MNEMONIC_OUTSB   ? 1
               : d->mnemonic == ZYDIS_MNEMONIC_INSW || d->mnemonic == ZYDIS_MNEMONIC_OUTSW ? 2
                                                                                           : 4;
    in->seg = decoded_source_seg(d);
    in->x[1] = d->rep || d->repne ? IO_REPEAT : 0;
    return lower_form(d, in, arg);
}

const struct op_row ops_io[] = {
    {ZYDIS_MNEMONIC_IN, lower_inout, SYS_FORM(op_in, 0)},
    {ZYDIS_MNEMONIC_OUT, lower_inout, SYS_FORM(op_out, 0)},
    {ZYDIS_MNEMONIC_INSB, lower_string, SYS_FORM(op_ins, 0)},
    {ZYDIS_MNEMONIC_INSW, lower_string, SYS_FORM(op_ins, 0)},
    {ZYDIS_MNEMONIC_INSD, lower_string, SYS_FORM(op_ins, 0)},
    {ZYDIS_MNEMONIC_OUTSB, lower_string, SYS_FORM(op_outs, 0)},
    {ZYDIS_MNEMONIC_OUTSW, lower_string, SYS_FORM(op_outs, 0)},
    {ZYDIS_MNEMONIC_OUTSD, lower_string, SYS_FORM(op_outs, 0)},
    {0, NULL, NULL},
};
