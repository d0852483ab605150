// SPDX-License-Identifier: MIT
// Lock-step mode: every translated block is run by both engines, and they must agree.

/*
 * Theory of operation
 *
 * The interpreter goes first. While it runs it has a TLB of its own and c->undo is set: no store is fast, and
 * each is noted with the bytes it overwrites. Then its state is kept aside, registers and memory are put back, the translation
 * runs, and the two outcomes are compared: registers, flags, vector state, the memory that was noted.
 *
 * Some blocks cannot be run twice: what they do reaches the bus, reads a clock, or changes code. The bus is
 * wrapped to notice. For them the interpreter's outcome stands. A difference must show several times
 * in a row, because devices write memory of their own accord.
 */

#include "cpu/jit/lockstep.h"
#include "cpu/jit/code.h"
#include "cpu/mmu/access.h"

#include <Zydis/Zydis.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define STORES_MAX 4096
#define BYTES_MAX  (1u << 20)
#define TRIES      3

struct store {
    u64 lin;
    u8 *host;
    unsigned len;
    unsigned at; /* of the overwritten bytes in (bytes) */
};

struct cpu_undo {
    struct store store[STORES_MAX];
    unsigned count, used;
    bool once; /* cannot be run a second time */
    bool failed;
    u8 bytes[BYTES_MAX], outcome[BYTES_MAX];
    struct cpu before, interp;
    struct tlb views[TLB_VIEWS]; /* the interpreter's: nothing is ever in their tables for stores */
    const struct cpu_bus *bus;
    struct cpu_bus proxy;
};

void lockstep_note_store(struct cpu *c, u64 lin, u8 *host, unsigned len)
{
    struct cpu_undo *u = c->undo;

    if (u->count == STORES_MAX || u->used + len > BYTES_MAX) {
        u->once = true;
        return;
    }
    u->store[u->count++] = (struct store){lin, host, len, u->used};
    memcpy(u->bytes + u->used, host, len);
    u->used += len;
}

static struct cpu_undo *undo_of(struct cpu *c)
{
    struct cpu_undo *u =
        (struct cpu_undo *)((const char *)c->bus - offsetof(struct cpu_undo, proxy));

    u->once = true;
    return u;
}

static int proxy_io_in(struct cpu *c, u16 port, unsigned size, u32 *val)
{
    return undo_of(c)->bus->io_in(c, port, size, val);
}

static int proxy_io_out(struct cpu *c, u16 port, unsigned size, u32 val)
{
    return undo_of(c)->bus->io_out(c, port, size, val);
}

static int proxy_mmio_read(struct cpu *c, gpa_t gpa, void *buf, unsigned size)
{
    return undo_of(c)->bus->mmio_read(c, gpa, buf, size);
}

static int proxy_mmio_write(struct cpu *c, gpa_t gpa, const void *buf, unsigned size)
{
    return undo_of(c)->bus->mmio_write(c, gpa, buf, size);
}

static int proxy_msr_read(struct cpu *c, u32 index, u64 *val)
{
    return undo_of(c)->bus->msr_read(c, index, val);
}

static int proxy_msr_write(struct cpu *c, u32 index, u64 val)
{
    return undo_of(c)->bus->msr_write(c, index, val);
}

static int proxy_msr_trap(struct cpu *c, enum cpu_msr_trap why, u32 index, bool write, u64 *val)
{
    return undo_of(c)->bus->msr_trap(c, why, index, write, val);
}

static u8 proxy_cr8_read(struct cpu *c)
{
    return undo_of(c)->bus->cr8_read(c);
}

static void proxy_cr8_write(struct cpu *c, u8 tpr)
{
    undo_of(c)->bus->cr8_write(c, tpr);
}

static int proxy_hypercall(struct cpu *c)
{
    return undo_of(c)->bus->hypercall(c);
}

/* Have (c) use the TLB at (views). */
static void views_swap(struct cpu *c, struct tlb *views)
{
    for (unsigned v = 0, now = (unsigned)(c->tlb - c->tlbs[0]); v < TLB_VIEWS; v++) {
        c->tlbs[v] = &views[v];
        if (v == now)
            c->tlb = &views[v];
    }
}

int lockstep_create(struct cpu *c)
{
    struct cpu_undo *u = aligned_alloc(64, ALIGN_UP(sizeof(*u), 64ul));

    if (!u)
        return -ENOMEM;
    memset(u, 0, sizeof(*u));
    u->bus = c->bus;
    u->proxy = *c->bus;
    u->proxy.io_in = proxy_io_in;
    u->proxy.io_out = proxy_io_out;
    u->proxy.mmio_read = proxy_mmio_read;
    u->proxy.mmio_write = proxy_mmio_write;
    u->proxy.msr_read = proxy_msr_read;
    u->proxy.msr_write = proxy_msr_write;
    u->proxy.msr_trap = c->bus->msr_trap ? proxy_msr_trap : NULL;
    u->proxy.cr8_read = proxy_cr8_read;
    u->proxy.cr8_write = proxy_cr8_write;
    u->proxy.hypercall = proxy_hypercall;
    views_swap(c, u->views);
    tlb_reset(c);
    views_swap(c, (struct tlb *)(c + 1));
    c->jit->lockstep = u;
    return 0;
}

bool lockstep_failed(const struct cpu *c)
{
    return c->jit && c->jit->lockstep && c->jit->lockstep->failed;
}

void lockstep_free(struct cpu *c)
{
    free(c->jit->lockstep);
}

/* Clocks, random numbers, and AMX, whose tiles are not part of what is put back. */
bool lockstep_repeats(const struct decoded *d)
{
    switch (d->mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDPMC:
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_WRMSR:
    case ZYDIS_MNEMONIC_LDTILECFG:
    case ZYDIS_MNEMONIC_TILERELEASE:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64:
        return false;
    default:
        break;
    }
    for (unsigned k = 0; k < d->nopnd; k++) {
        if (d->op[k].kind == OPND_TILE)
            return false;
    }
    return !d->rep && !d->repne; /* how far a REP gets before it says OP_AGAIN depends on the TLB */
}

static int run_interpreter(struct cpu *c, const struct block *b, const struct insn **ret)
{
    const struct insn *in = b->insn;
    int rc;

    c->r[REG_IPBASE] = c->rip - b->off;
    while ((rc = in->op(c, in)) == OP_NEXT) {
        if (++in == b->insn + b->code->count) { /* translations may end earlier than blocks */
            c->rip = insn_rip(c, in);
            rc = OP_END;
            break;
        }
    }
    *ret = in;
    return rc;
}

/* Memory as it was, or (outcome kept) as the interpreter left it. */
static void memory_put_back(struct cpu_undo *u)
{
    for (unsigned i = u->count; i--;) {
        const struct store *s = &u->store[i];

        memcpy(u->outcome + s->at, s->host, s->len);
        memcpy(s->host, u->bytes + s->at, s->len);
    }
}

/*
 * Does memory hold what the interpreter left? Where stores overlap, the outcome of an earlier one is not
 * what it stored but what was there before the next; walking back in the same way makes both sides alike.
 */
static bool memory_equal(const struct cpu_undo *u)
{
    for (unsigned i = u->count; i--;) {
        const struct store *s = &u->store[i];
        bool shadowed = false;

        for (unsigned k = i + 1; k < u->count; k++)
            shadowed |=
                u->store[k].host < s->host + s->len && s->host < u->store[k].host + u->store[k].len;
        if (!shadowed && memcmp(u->outcome + s->at, s->host, s->len))
            return false;
    }
    return true;
}

/* The parts of the state that a difference of would matter. */
static bool state_equal(const struct cpu *a, const struct cpu *b, int rc)
{
    return !memcmp(a->r, b->r, 16 * sizeof(a->r[0])) && a->rflags == b->rflags &&
           (rc != OP_END || (a->rip == b->rip && a->cc == b->cc)) &&
           (rc != OP_FAULT || !memcmp(&a->exc, &b->exc, sizeof(a->exc))) &&
           !memcmp(a->vec.zmm, b->vec.zmm, sizeof(a->vec.zmm)) &&
           !memcmp(a->vec.k, b->vec.k, sizeof(a->vec.k)) &&
           !memcmp(&a->vec.x87, &b->vec.x87, sizeof(a->vec.x87)) && a->cr0 == b->cr0 &&
           a->cr2 == b->cr2 && a->cr3 == b->cr3 && a->cr4 == b->cr4 && a->cpl == b->cpl &&
           !memcmp(a->seg, b->seg, sizeof(a->seg));
}

/* All but (request): other threads set bits in it meanwhile, and one that is lost may be the last timer's. */
static void state_put_back(struct cpu *c, const struct cpu *from)
{
    const size_t at = offsetof(struct cpu, request), end = at + sizeof(c->request);
    struct cpu_stats stats = c->stats;
    struct cpu_jit j = c->j;
    u32 epoch = c->link_epoch;

    memcpy(c, from, at);
    memcpy((u8 *)c + end, (const u8 *)from + end, sizeof(*c) - end);
    c->link_epoch = epoch;
    c->stats = stats;
    c->j = j;
}

static void report_state(const struct cpu *c, const char *who, int rc)
{
    fprintf(stderr, "%s: result %d rip %#llx cc %#x rflags %#llx mxcsr %#x cr2 %#llx\n", who, rc,
            (unsigned long long)c->rip, c->cc, (unsigned long long)c->rflags, c->vec.x87.mxcsr,
            (unsigned long long)c->cr2);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "  r%-2u %016llx%s", i, (unsigned long long)c->r[i],
                i % 4 == 3 ? "\n" : "");
}

static void report_bytes(const char *what, const u8 *p, size_t n)
{
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %02x", p[i]);
    fprintf(stderr, "\n");
}

static int report(struct cpu *c, const struct block *b, int rc_interp, int rc)
{
    struct cpu_undo *u = c->jit->lockstep;
    const struct jit_code *k = b->code;

    u->failed = true;
    fprintf(stderr, "lockstep: the engines differ\n");
    report_state(&u->before, "before", 0);
    report_state(&u->interp, "interpreter", rc_interp);
    report_state(c, "translation", rc);
    for (unsigned n = 0; n < 32; n++) {
        if (memcmp(c->vec.zmm[n], u->interp.vec.zmm[n], 64)) {
            fprintf(stderr, "zmm%u ", n);
            report_bytes("interpreter", u->interp.vec.zmm[n], 64);
            report_bytes("translation", c->vec.zmm[n], 64);
        }
    }
    if (memcmp(&c->vec.x87, &u->interp.vec.x87, sizeof(c->vec.x87))) {
        report_bytes("x87 interpreter", (const u8 *)&u->interp.vec.x87, sizeof(c->vec.x87));
        report_bytes("x87 translation", (const u8 *)&c->vec.x87, sizeof(c->vec.x87));
    }
    for (unsigned i = 0; i < u->count && !memory_equal(u); i++) {
        fprintf(stderr, "store %#llx ", (unsigned long long)u->store[i].lin);
        report_bytes("interpreter", u->outcome + u->store[i].at, u->store[i].len);
        report_bytes("translation", u->store[i].host, u->store[i].len);
    }
    report_bytes("block", b->bytes, b->len);
    report_bytes("code", c->jit->hot.rw + k->entry[JIT_POLL], k->hot_end - k->entry[JIT_POLL]);
    c->exit = CPU_EXIT_INTERNAL_ERROR;
    return OP_EXIT;
}

/* Both engines, once. True: they agree, or nothing can be said; (*rc) and (*in) are then the outcome. */
static bool run_both(struct cpu *c, struct block *b, int *rc_interp, int *rc,
                     const struct insn **in)
{
    struct cpu_undo *u = c->jit->lockstep;
    u64 smc = c->stats.smc, dropped = c->stats.tlb_flush_page;

    u->count = u->used = 0;
    u->once = false;
    memcpy(&u->before, c, sizeof(*c));
    c->bus = &u->proxy;
    c->undo = u;
    views_swap(c, u->views);
    *rc_interp = *rc = run_interpreter(c, b, in);
    views_swap(c, (struct tlb *)(c + 1));
    if (c->link_epoch != u->before.link_epoch || c->stats.tlb_flush_page != dropped)
        tlb_flush(c);
    c->undo = NULL;
    c->bus = u->bus;
    if (u->once || c->stats.smc != smc || *rc == OP_EXIT)
        return true;
    memcpy(&u->interp, c, sizeof(*c));
    memory_put_back(u);
    state_put_back(c, &u->before);
    for (unsigned i = 0; i < u->count; i++) {
        if (mmu_probe(c, u->store[i].lin, u->store[i].len,
                      MMU_WRITE)) /* fast store entries, as the translation expects */
            c->exc.pending = u->before.exc.pending;
    }
    c->cr2 = u->before.cr2;
    c->exc = u->before.exc;
    *rc = jit_enter(c, b, in);
    return *rc == *rc_interp && memory_equal(u) && state_equal(c, &u->interp, *rc);
}

int lockstep_run(struct cpu *c, struct block *b, const struct insn **in)
{
    struct cpu_undo *u = c->jit->lockstep;
    int rc_interp, rc;

    if (b->code->once)
        return run_interpreter(c, b, in);
    for (unsigned i = 0; i < TRIES; i++) {
        if (run_both(c, b, &rc_interp, &rc, in))
            return rc;
        if (i == TRIES - 1)
            break;
        for (unsigned k = u->count; k--;)
            memcpy(u->store[k].host, u->bytes + u->store[k].at, u->store[k].len);
        state_put_back(c, &u->before);
    }
    return report(c, b, rc_interp, rc);
}
