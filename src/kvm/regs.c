// SPDX-License-Identifier: MIT
// General registers, segments and control registers at the ABI, and their copies in kvm_run.

#include "kvm/handlers.h"
#include "kvm/regs.h"

#include "cpu/mmu/walk.h"
#include "cpu/sys/control.h"

#include <errno.h>
#include <string.h>

/* struct kvm_regs has the general registers in an order of its own. */
static const u8 reg_order[] = {
    REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI, REG_RDI, REG_RSP, REG_RBP,
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};
_Static_assert(offsetof(struct kvm_regs, rip) == sizeof(reg_order) * 8, "struct kvm_regs");

void kvm_regs_get(struct kvm_vcpu *v, struct kvm_regs *r)
{
    u64 *out = (u64 *)r;

    for (unsigned i = 0; i < ARRAY_SIZE(reg_order); i++)
        out[i] = v->cpu->r[reg_order[i]];
    r->rip = v->cpu->rip;
    r->rflags = cpu_rflags_get(v->cpu);
    if (v->cpu->guest_debug & KVM_GUESTDBG_SINGLESTEP)
        r->rflags &= ~RFLAGS_TF;
}

void kvm_regs_set(struct kvm_vcpu *v, const struct kvm_regs *r)
{
    const u64 *in = (const u64 *)r;

    for (unsigned i = 0; i < ARRAY_SIZE(reg_order); i++)
        v->cpu->r[reg_order[i]] = in[i];
    v->cpu->rip = r->rip;
    cpu_rflags_set(v->cpu, r->rflags);
    v->cpu->exc.pending = false; /* as KVM: a new RIP makes the old exception meaningless */
}

static struct kvm_segment segment_get(const struct cpu_seg *s)
{
    return (struct kvm_segment){
        .base = s->base,
        .limit = s->limit,
        .selector = s->sel,
        .type = s->ar & SEG_AR_TYPE,
        .present = !!(s->ar & SEG_AR_P),
        .dpl = (u8)((s->ar & SEG_AR_DPL) >> SEG_AR_DPL_SHIFT),
        .db = !!(s->ar & SEG_AR_DB),
        .s = !!(s->ar & SEG_AR_S),
        .l = !!(s->ar & SEG_AR_L),
        .g = !!(s->ar & SEG_AR_G),
        .avl = !!(s->ar & SEG_AR_AVL),
        .unusable = !!(s->ar & SEG_AR_UNUSABLE),
    };
}

static struct cpu_seg segment_set(const struct kvm_segment *s)
{
    u32 ar = (s->type & SEG_AR_TYPE) | (u32)(s->dpl & 3) << SEG_AR_DPL_SHIFT;

    ar |= s->s ? SEG_AR_S : 0;
    ar |= s->present && !s->unusable ? SEG_AR_P : 0;
    ar |= s->avl ? SEG_AR_AVL : 0;
    ar |= s->l ? SEG_AR_L : 0;
    ar |= s->db ? SEG_AR_DB : 0;
    ar |= s->g ? SEG_AR_G : 0;
    ar |= s->unusable || !s->present ? SEG_AR_UNUSABLE : 0;
    return (struct cpu_seg){.base = s->base, .limit = s->limit, .ar = ar, .sel = s->selector};
}

static const struct {
    u16 offset;
    u8 seg;
} seg_fields[] = {
    {offsetof(struct kvm_sregs, cs), SEG_CS}, {offsetof(struct kvm_sregs, ds), SEG_DS},
    {offsetof(struct kvm_sregs, es), SEG_ES}, {offsetof(struct kvm_sregs, fs), SEG_FS},
    {offsetof(struct kvm_sregs, gs), SEG_GS}, {offsetof(struct kvm_sregs, ss), SEG_SS},
    {offsetof(struct kvm_sregs, tr), SEG_TR}, {offsetof(struct kvm_sregs, ldt), SEG_LDTR},
};

void kvm_sregs_get(struct kvm_vcpu *v, struct kvm_sregs *s)
{
    const struct cpu *c = v->cpu;

    memset(s, 0, sizeof(*s));
    for (unsigned i = 0; i < ARRAY_SIZE(seg_fields); i++)
        *(struct kvm_segment *)((u8 *)s + seg_fields[i].offset) = segment_get(&c->seg[seg_fields[i].seg]);
    s->gdt = (struct kvm_dtable){.base = c->gdt.base, .limit = c->gdt.limit};
    s->idt = (struct kvm_dtable){.base = c->idt.base, .limit = c->idt.limit};
    s->cr0 = c->cr0;
    s->cr2 = c->cr2;
    s->cr3 = c->cr3;
    s->cr4 = c->cr4;
    s->efer = c->efer;
    s->cr8 = kvm_vcpu_cr8(v);
    s->apic_base = kvm_vcpu_apic_base(v);
    if (v->irq_queued >= 0)
        s->interrupt_bitmap[v->irq_queued / 64] |= BIT(v->irq_queued % 64);
}

#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define EFER_KNOWN (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define CR4_ALWAYS GENMASK(10, 0) /* KVM asks no CPUID bit for these */

/* Control registers that no sequence of guest instructions could produce: SDM 3A 2.5, 4.1. */
static bool sregs_valid(const struct cpu *c, const struct kvm_sregs *s)
{
    bool lme_paging = s->efer & EFER_LME && s->cr0 & CR0_PG;

    if (s->cr0 & ~CR0_KNOWN || s->cr4 & ~(CR4_ALWAYS | cpu_cr4_allowed(c)) || s->efer & ~EFER_KNOWN)
        return false;
    if ((s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) || (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD)))
        return false;
    if (lme_paging)
        return s->cr4 & CR4_PAE && s->efer & EFER_LMA && !(s->cr3 >> c->maxphyaddr);
    return !(s->efer & EFER_LMA) && !s->cs.l;
}

static void load_control(struct cpu *c, const struct kvm_sregs *s)
{
    c->gdt = (struct cpu_dtable){.base = s->gdt.base, .limit = s->gdt.limit};
    c->idt = (struct cpu_dtable){.base = s->idt.base, .limit = s->idt.limit};
    c->cr0 = s->cr0 | CR0_ET;
    c->cr2 = s->cr2;
    c->cr3 = s->cr3;
    c->cr4 = s->cr4;
    c->efer = s->efer;
    for (unsigned i = 0; i < ARRAY_SIZE(seg_fields); i++)
        c->seg[seg_fields[i].seg] = segment_set((const void *)((const u8 *)s + seg_fields[i].offset));
    if (!(c->cr0 & CR0_PE))
        c->cpl = 0;
    else
        c->cpl = c->rflags & RFLAGS_VM ? 3 : s->ss.dpl & 3;
    cpu_mode_update(c);
    cpu_mmu_changed(c);
}

static bool pae_paging(const struct cpu *c)
{
    return c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !(c->efer & EFER_LMA);
}

/* PDPTEs from memory; a reserved bit set there faults at their first use, not here. */
static void load_pdptes(struct cpu *c)
{
    struct cpu_event exc = c->exc;

    if (!pae_paging(c))
        return;
    cpu_world_enter(c);
    mmu_load_pdptes(c);
    cpu_world_leave(c);
    c->exc = exc;
}

static int sregs_load(struct kvm_vcpu *v, const struct kvm_sregs *s)
{
    int rc = 0;

    if (!sregs_valid(v->cpu, s))
        return -EINVAL;
    if (v->lapic)
        rc = lapic_base_set(v->lapic, s->apic_base);
    else
        v->apic_base = s->apic_base;
    if (rc)
        return rc;
    load_control(v->cpu, s);
    kvm_vcpu_set_cr8(v, (u8)(s->cr8 & 0xf));
    return 0;
}

int kvm_sregs_set(struct kvm_vcpu *v, const struct kvm_sregs *s)
{
    int rc = sregs_load(v, s);

    if (rc)
        return rc;
    load_pdptes(v->cpu);
    for (int i = 0; i < 4; i++) {
        if (s->interrupt_bitmap[i])
            v->irq_queued = i * 64 + __builtin_ctzll(s->interrupt_bitmap[i]);
    }
    return 0;
}

/* --- ioctls --- */

int kvm_vcpu_get_regs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    kvm_regs_get(v, arg);
    return 0;
}

int kvm_vcpu_set_regs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    kvm_regs_set(v, arg);
    return 0;
}

int kvm_vcpu_get_sregs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    kvm_sregs_get(v, arg);
    return 0;
}

int kvm_vcpu_set_sregs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return kvm_sregs_set(v, arg);
}

/* The part that struct kvm_sregs2 shares with its elder. */
#define SREGS_COMMON offsetof(struct kvm_sregs, interrupt_bitmap)
_Static_assert(SREGS_COMMON == offsetof(struct kvm_sregs2, flags), "struct kvm_sregs2");

int kvm_vcpu_get_sregs2(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_sregs2 *s = arg;
    struct kvm_sregs old;

    kvm_sregs_get(v, &old);
    memcpy(s, &old, SREGS_COMMON);
    if (pae_paging(v->cpu)) {
        s->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(s->pdptrs, v->cpu->pdpte, sizeof(s->pdptrs));
    }
    return 0;
}

int kvm_vcpu_set_sregs2(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_sregs2 *s = arg;
    bool pdptrs = s->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID;
    bool pae = s->cr0 & CR0_PG && s->cr4 & CR4_PAE && !(s->efer & EFER_LMA);
    struct kvm_sregs old = {0};
    int rc;

    if (s->flags & ~(u64)KVM_SREGS2_FLAGS_PDPTRS_VALID || (pdptrs && !pae))
        return -EINVAL;
    memcpy(&old, s, SREGS_COMMON);
    rc = sregs_load(v, &old);
    if (rc)
        return rc;
    if (pdptrs)
        memcpy(v->cpu->pdpte, s->pdptrs, sizeof(s->pdptrs));
    else
        load_pdptes(v->cpu);
    return 0;
}

int kvm_vcpu_translate(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_translation *t = arg;
    struct walk w;
    int rc;

    cpu_world_enter(v->cpu);
    rc = mmu_translate(v->cpu, t->linear_address, &w);
    cpu_world_leave(v->cpu);
    t->valid = rc == 0;
    t->physical_address = rc ? ~0ull : w.gpa;
    t->writeable = 1;
    t->usermode = 0;
    return 0;
}

/* --- copies in kvm_run --- */

int kvm_sync_regs_in(struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    u64 dirty = run->kvm_dirty_regs;
    struct kvm_sync_regs s;
    int rc = 0;

    if ((run->kvm_valid_regs | dirty) & ~(u64)KVM_SYNC_VALID)
        return -EINVAL;
    if (!dirty)
        return 0;
    s = run->s.regs; /* user space may write there at any time: one copy */
    if (dirty & KVM_SYNC_X86_REGS)
        kvm_regs_set(v, &s.regs);
    if (dirty & KVM_SYNC_X86_SREGS)
        rc = kvm_sregs_set(v, &s.sregs);
    if (!rc && dirty & KVM_SYNC_X86_EVENTS)
        rc = kvm_events_set(v, &s.events);
    if (!rc)
        run->kvm_dirty_regs = 0;
    return rc;
}

void kvm_sync_regs_out(struct kvm_vcpu *v)
{
    struct kvm_run *run = v->run;
    u64 valid = run->kvm_valid_regs;

    if (valid & KVM_SYNC_X86_REGS)
        kvm_regs_get(v, &run->s.regs.regs);
    if (valid & KVM_SYNC_X86_SREGS)
        kvm_sregs_get(v, &run->s.regs.sregs);
    if (valid & KVM_SYNC_X86_EVENTS)
        kvm_events_get(v, &run->s.regs.events);
}
