// SPDX-License-Identifier: MIT
// The slow paths of guest memory access: TLB fills, page crossings, MMIO, code pages, LOCKs.

/*
 * Theory of operation
 *
 * Every access is cut at page boundaries into pieces, and each piece is resolved to a
 * `struct place` before anything is copied, so that a fault on the second page leaves the
 * first untouched.
 *
 * Code pages. A page with code_lines has no write entry in any TLB. The two sides of the race
 * between filling a write entry and marking a page as code are ordered like Dekker's: the
 * filler publishes its bit in (writers), then reads (code_lines); the marker publishes
 * (code_lines), then reads (writers). At least one of them sees the other. A marker that sees
 * foreign bits stops the world and drops those entries.
 */

#include "cpu/jit/jit.h"
#include "cpu/jit/lockstep.h"
#include "cpu/mmu/access.h"
#include "cpu/mmu/fill.h"
#include "cpu/mmu/stlb.h"
#include "cpu/world.h"

#define MMIO_MAX 8 /* bytes of one bus access */

/* One piece of an access, within a page. */
struct place {
    u8 *host; /* NULL: MMIO */
    gpa_t gpa;
    struct mem_slot *slot; /* NULL: a hole */
    bool fast;             /* a write needs no accounting */
    unsigned len;
};

static struct tlb *view_of(struct cpu *c, unsigned acc)
{
    return acc & MMU_SYSTEM ? c->tlbs[TLB_KERNEL] : c->tlb;
}

#define GUESTDBG_USE_HW_BP BIT(17) /* KVM_GUESTDBG_USE_HW_BP */

/* A page as it was found: in the second level, or by a walk. */
struct found {
    gpa_t gpa; /* of the byte */
    struct mem_slot *slot;
    u64 rights; /* STLB_* */
    u64 flags;  /* TLB_* */
};

static u64 size_flags(u64 page_size)
{
    return page_size >= BIT(30) ? TLB_1G : page_size > PAGE_SIZE ? TLB_2M : 0;
}

/* Find (lin) for (acc), as mmu_walk() does. f->slot is NULL for a hole. */
static int find(struct cpu *c, u64 lin, unsigned acc, bool user, struct found *f)
{
    struct stlb_entry *e = stlb_usable(c) ? stlb_find(c, lin) : NULL;
    struct walk w;
    int rc;

    if (e && stlb_allows(c, e->tag, acc, user) && (!(acc & MMU_WRITE) || e->tag & STLB_DIRTY)) {
        *f = (struct found){stlb_gpa(c->stlb, e, lin), e->slot, e->tag, stlb_tlb_flags(c->stlb, e)};
        c->stats.tlb_refill++;
        return OP_NEXT;
    }
    rc = mmu_walk(c, lin, acc, &w);
    if (rc)
        return rc;
    f->gpa = w.gpa;
    f->slot = mem_slot_find(c->mem, w.gpa);
    f->rights = stlb_rights(&w);
    f->flags = size_flags(w.page_size) | (w.global ? TLB_GLOBAL : 0);
    if (f->slot)
        stlb_insert(c, lin, &w, f->slot);
    return OP_NEXT;
}

/* Does the view now in force let ordinary stores through to a page with these rights? */
static bool view_writes(const struct cpu *c, u64 rights, bool user)
{
    return rights & STLB_DIRTY && (rights & STLB_WRITE || (!user && !(c->cr0 & CR0_WP)));
}

/*
 * Note data breakpoints that [lin, lin + len) touches: SDM 3B 17.2.4. While one is armed no entry is filled.
 * A debugger that sets breakpoints takes all four from the guest.
 */
static void watch(struct cpu *c, u64 lin, unsigned len, bool write)
{
    static const u8 lengths[4] = {1, 2, 8, 4};
    bool ours = c->guest_debug & GUESTDBG_USE_HW_BP;
    const u64 *dr = ours ? c->guest_debug_dr : c->dr;
    u64 dr7 = ours ? c->guest_debug_dr[7] : c->dr7;

    for (unsigned i = 0; i < 4; i++) {
        unsigned type = dr7 >> (16 + 4 * i) & 3, n = lengths[dr7 >> (18 + 4 * i) & 3];
        u64 at = dr[i] & ~(u64)(n - 1);

        if (dr7 >> (2 * i) & 3 && (type == 3 || (type == 1 && write)) && lin < at + n &&
            at < lin + len)
            c->watch_hit |= BIT(i);
    }
}

/* Resolve one piece that the TLB does not have, and have the TLB remember it. */
static int resolve_miss(struct cpu *c, u64 lin, unsigned acc, struct place *pl)
{
    bool write = acc & MMU_WRITE, user = c->cpl == 3 && !(acc & MMU_SYSTEM);
    struct tlb *t = view_of(c, acc);
    struct found f;
    int rc;

    c->stats.tlb_miss++;
    if (!(c->efer & EFER_LMA))
        lin = (u32)lin;
    rc = find(c, lin, acc, user, &f);
    if (rc)
        return rc;
    pl->gpa = f.gpa;
    pl->slot = f.slot;
    pl->host = NULL;
    pl->fast = false;
    if (!f.slot || (write && f.slot->flags & MEM_READONLY))
        return OP_NEXT;
    mem_populate(f.slot, f.gpa);
    pl->host = mem_slot_hva(f.slot, f.gpa);
    if (write && !c->undo && view_writes(c, f.rights, user))
        pl->fast = tlb_write_may_be_fast(c, f.slot, f.gpa);
    if (likely(!tlb_breakpoints_armed(c)) && t != c->tlbs[TLB_USER_AC]) {
        tlb_fill(t, lin, false, f.gpa & PAGE_MASK, f.flags, f.slot);
        if (pl->fast)
            tlb_fill(t, lin, true, f.gpa & PAGE_MASK, f.flags, f.slot);
    }
    return OP_NEXT;
}

static int resolve(struct cpu *c, u64 lin, unsigned len, unsigned acc, struct place *pl)
{
    bool write = acc & MMU_WRITE;
    struct tlb_entry *e = tlb_slot(view_of(c, acc), lin, write);

    pl->len = len;
    if (unlikely(tlb_breakpoints_armed(c)) && !(acc & MMU_SYSTEM))
        watch(c, lin, len, write);
    if ((lin ^ e->tag) <= PAGE_SIZE - len) {
        pl->host = (u8 *)(lin + e->delta);
        pl->gpa = (e->gpa & PAGE_MASK) | (lin & ~PAGE_MASK);
        pl->slot = NULL;
        pl->fast = true;
        return OP_NEXT;
    }
    return resolve_miss(c, lin, acc, pl);
}

/*
 * Alignment checking (SDM 3A 6.15 #AC): integers of 2, 4 and 8 bytes at CPL 3. Vector operands have rules of
 * their own, and larger structures are copied whole.
 */
static bool misaligned(const struct cpu *c, u64 lin, unsigned len, unsigned acc)
{
    return unlikely(c->tlb == c->tlbs[TLB_USER_AC]) && !(acc & MMU_SYSTEM) && len <= 8 &&
           !(len & (len - 1)) && lin & (len - 1);
}

/* Bytes of [lin, lin + len) in lin's page. */
static unsigned piece_len(u64 lin, unsigned len)
{
    unsigned room = (unsigned)(PAGE_SIZE - (lin & ~PAGE_MASK));

    return len < room ? len : room;
}

static int load_piece(struct cpu *c, const struct place *pl, u8 *buf)
{
    int rc = OP_NEXT;

    if (pl->host) {
        memcpy(buf, pl->host, pl->len);
        return OP_NEXT;
    }
    for (unsigned i = 0; i < pl->len && rc == OP_NEXT; i += MMIO_MAX)
        rc = c->bus->mmio_read(c, pl->gpa + i, buf + i,
                               pl->len - i < MMIO_MAX ? pl->len - i : MMIO_MAX);
    return rc;
}

/* A store has hit code at (gpa): links to it are doubtful here and on other vCPUs. */
static int code_written(struct cpu *c, gpa_t gpa)
{
    c->stats.smc++;
    jit_unlink(c, gpa);
    cpu_world_code_written(c->world, gpa, c);
    return OP_STOP;
}

/* OP_NEXT or OP_STOP; negative only from the bus, before it took anything. */
static int store_piece(struct cpu *c, u64 lin, const struct place *pl, const u8 *buf)
{
    int rc = OP_NEXT;

    if (!pl->host) {
        for (unsigned i = 0; i < pl->len && rc >= 0; i += MMIO_MAX) {
            int r = c->bus->mmio_write(c, pl->gpa + i, buf + i,
                                       pl->len - i < MMIO_MAX ? pl->len - i : MMIO_MAX);
            rc = r < 0 ? r : r > rc ? r : rc;
        }
        return rc;
    }
    if (unlikely(c->undo))
        lockstep_note_store(c, lin, pl->host, pl->len);
    memcpy(pl->host, buf, pl->len);
    return !pl->fast && mem_page_written(pl->slot, pl->gpa, pl->len) ? code_written(c, pl->gpa)
                                                                     : OP_NEXT;
}

int mmu_load(struct cpu *c, u64 lin, void *buf, unsigned len, unsigned acc)
{
    u8 tmp[64], *out = len <= sizeof(tmp) ? tmp : buf;
    struct place pl;
    int rc;

    if (misaligned(c, lin, len, acc))
        return cpu_raise_err(c, EXC_AC, 0);
    for (unsigned done = 0; done < len; done += pl.len) {
        rc = resolve(c, lin + done, piece_len(lin + done, len - done), acc, &pl);
        if (rc == OP_NEXT)
            rc = load_piece(c, &pl, out + done);
        if (rc)
            return rc;
    }
    if (out == tmp)
        memcpy(buf, tmp, len);
    return OP_NEXT;
}

int mmu_probe(struct cpu *c, u64 lin, unsigned len, unsigned acc)
{
    struct place pl;
    int rc = OP_NEXT;

    for (unsigned done = 0; done < len && rc == OP_NEXT; done += pl.len)
        rc = resolve(c, lin + done, piece_len(lin + done, len - done), acc, &pl);
    return rc;
}

int mmu_store(struct cpu *c, u64 lin, const void *buf, unsigned len, unsigned acc)
{
    const u8 *in = buf;
    struct place pl;
    int rc, ret = OP_NEXT;

    acc |= MMU_WRITE;
    if (misaligned(c, lin, len, acc))
        return cpu_raise_err(c, EXC_AC, 0);
    if (piece_len(lin, len) != len) {
        rc = mmu_probe(c, lin, len, acc);
        if (rc)
            return rc;
    }
    for (unsigned done = 0; done < len; done += pl.len) {
        rc = resolve(c, lin + done, piece_len(lin + done, len - done), acc, &pl);
        if (rc == OP_NEXT)
            rc = store_piece(c, lin + done, &pl, in + done);
        if (rc < 0)
            return rc;
        if (rc > ret)
            ret = rc;
    }
    return ret;
}

int mmu_rmw_slow(struct cpu *c, struct mmu_rmw *m, bool lock)
{
    struct place pl;
    int rc;

    m->exclusive = false;
    m->bounced = true;
    if (misaligned(c, m->lin, m->size, m->acc))
        return cpu_raise_err(c, EXC_AC, 0);
    if (piece_len(m->lin, m->size) == m->size) {
        rc = resolve(c, m->lin, m->size, m->acc | MMU_WRITE, &pl);
        if (rc)
            return rc;
        if (pl.host) {
            if (unlikely(c->undo))
                lockstep_note_store(c, m->lin, pl.host, m->size);
            m->p = pl.host;
            m->gpa = pl.gpa;
            m->slot = pl.slot;
            m->bounced = !pl.fast;
            return OP_NEXT;
        }
    } else {
        rc = mmu_probe(c, m->lin, m->size, m->acc | MMU_WRITE);
        if (rc)
            return rc;
    }
    if (lock) {
        cpu_world_exclusive(c->world, c);
        m->exclusive = true;
    }
    m->p = m->buf;
    rc = mmu_load(c, m->lin, m->buf, m->size, m->acc);
    if (rc && m->exclusive)
        cpu_world_exclusive_end(c->world, c);
    return rc;
}

int mmu_rmw_commit(struct cpu *c, struct mmu_rmw *m)
{
    int rc;

    if (m->p != m->buf) {
        return mem_page_written(m->slot, m->gpa, m->size) ? code_written(c, m->gpa) : OP_NEXT;
    }
    rc = mmu_store(c, m->lin, m->buf, m->size, m->acc);
    if (m->exclusive)
        cpu_world_exclusive_end(c->world, c);
    return rc < 0 ? OP_STOP : rc;
}

int mmu_fetch(struct cpu *c, u64 lin, struct tlb_fetch **ret)
{
    struct tlb_fetch *f = tlb_fetch_slot(c->tlb, lin);
    unsigned i = (unsigned)(f - c->tlb->f);
    struct found found;
    int rc;

    if (unlikely(f->tag != (lin & PAGE_MASK))) {
        rc = find(c, lin, MMU_EXEC, c->cpl == 3, &found);
        if (rc)
            return rc;
        if (!found.slot) {
            c->exit = CPU_EXIT_INTERNAL_ERROR;
            return OP_EXIT;
        }
        mem_populate(found.slot, found.gpa);
        c->tlb->fetch[i / 64] |= BIT(i % 64);
        c->tlb->large[lin >> 63] |= found.flags & (TLB_2M | TLB_1G);
        f->tag = lin & PAGE_MASK;
        f->gpa = (found.gpa & PAGE_MASK) | found.flags;
        f->slot = found.slot;
        f->host = mem_slot_hva(found.slot, found.gpa & PAGE_MASK);
    }
    tlb_note_fetch(c, lin, f->gpa & (TLB_2M | TLB_1G));
    *ret = f;
    return OP_NEXT;
}

u32 mmu_mark_code(struct cpu *c, struct mem_slot *slot, gpa_t gpa, unsigned len)
{
    struct mem_page *page = mem_slot_page(slot, gpa);
    unsigned first = (gpa & ~PAGE_MASK) / MEM_CODE_LINE;
    unsigned last = ((gpa & ~PAGE_MASK) + len - 1) / MEM_CODE_LINE;
    u32 lines = (u32)(GENMASK(last, first));
    u32 own = c->index < 31 ? tlb_writer_bit(c) : 0, writers, gen; /* 0: others may have set it */

    do {
        if ((atomic_load(&page->code_lines) & lines) != lines)
            atomic_fetch_or(&page->code_lines, lines);
        gen = atomic_load(&page->gen);
    } while ((atomic_load(&page->code_lines) & lines) != lines);
    writers = atomic_load(&page->writers);
    if (writers & ~own) {
        cpu_world_exclusive(c->world, c);
        cpu_world_drop_writes(c->world, gpa);
        atomic_store(&page->writers, 0);
        cpu_world_exclusive_end(c->world, c);
    } else if (writers) {
        tlb_drop_write(c, gpa);
        atomic_fetch_and(&page->writers, ~own);
    }
    return gen;
}
