// SPDX-License-Identifier: MIT
// KVM's hypercalls: what a guest may ask of us directly.
#include "kvm/lapic.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <sched.h>

#define ICR_DEST_OR_SHORTHAND ((3u << 18) | (1u << 11))

struct hypercall {
    struct cpu *c;
    struct lapic *l;
    struct vclock *v;
    u64 arg[4];
    bool wide; /* made in 64-bit code */
};

static s64 kick_cpu(const struct hypercall *h)
{
    struct lapic *l;

    if (!h->l || h->arg[1] >= APIC_ID_MAX)
        return h->l ? 0 : -KVM_ENOSYS;
    l = atomic_load(&h->l->chip->by_id[h->arg[1]]);
    if (l) {
        atomic_store(&l->unhalt, true);
        l->kick(l->kick_arg);
    }
    return 0;
}

/* The set bits of (map) are APIC IDs from (first) on. Returns how many took it. */
static s64 send_bits(const struct hypercall *h, u64 map, u64 first, u32 icr)
{
    struct apic_msg m = {.vector = (u8)icr, .mode = icr >> 8 & 7, .assert = true};
    s64 took = 0;

    for (; map; map &= map - 1) {
        u64 id = first + (unsigned)__builtin_ctzll(map);
        struct lapic *l = id < APIC_ID_MAX ? atomic_load(&h->l->chip->by_id[id]) : NULL;
        bool merged = false;

        took += l && lapic_present(l) && lapic_accept(l, &m, &merged);
    }
    return took;
}

static s64 send_ipi(const struct hypercall *h)
{
    u64 first = h->arg[2];
    u32 icr = (u32)h->arg[3];

    if (!h->l)
        return -KVM_ENOSYS;
    if (icr & ICR_DEST_OR_SHORTHAND)
        return -KVM_EINVAL;
    if (first >= APIC_ID_MAX)
        return 0; /* nobody there */
    return send_bits(h, h->arg[0], first, icr) +
           send_bits(h, h->arg[1], first + (h->wide ? 64 : 32), icr);
}

static s64 clock_pairing(const struct hypercall *h)
{
    if (h->arg[1] != KVM_CLOCK_PAIRING_WALLCLOCK)
        return -KVM_EOPNOTSUPP;
    return vclock_pairing(h->v, h->arg[0]) ? -KVM_EFAULT : 0;
}

static s64 dispatch(const struct hypercall *h, u64 nr)
{
    switch (nr) {
    case KVM_HC_VAPIC_POLL_IRQ: /* a look at interrupts, which the way back is */
        return 0;
    case KVM_HC_KICK_CPU:
        return kick_cpu(h);
    case KVM_HC_CLOCK_PAIRING:
        return clock_pairing(h);
    case KVM_HC_SEND_IPI:
        return send_ipi(h);
    case KVM_HC_SCHED_YIELD:
        sched_yield();
        return 0;
    default:
        return -KVM_ENOSYS;
    }
}

int pv_hypercall(struct cpu *c, struct lapic *l, struct vclock *v)
{
    static const u8 args[] = {REG_RBX, REG_RCX, REG_RDX, REG_RSI};
    struct hypercall h = {.c = c, .l = l, .v = v, .wide = c->mode == MODE_64};
    u64 mask = h.wide ? ~0ull : UINT32_MAX;
    s64 ret;

    for (unsigned i = 0; i < ARRAY_SIZE(args); i++)
        h.arg[i] = c->r[args[i]] & mask;
    ret = c->cpl ? -KVM_EPERM : dispatch(&h, c->r[REG_RAX] & mask);
    c->r[REG_RAX] = (u64)ret & mask;
    return OP_NEXT;
}
