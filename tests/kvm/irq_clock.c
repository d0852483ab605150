// SPDX-License-Identifier: MIT
// kvmclock: the pages as a guest reads them, against exact arithmetic; wall clock, KVM_GET/SET_CLOCK, MSR rules.
#include "irq_fake.h"

#include <errno.h>
#include <linux/kvm_para.h>
#include <time.h>

#define RAM 0x10000

/* The guest's view of the page (Linux, Documentation/virt/kvm/x86/msr.rst). */
struct page {
    u32 version, pad;
    u64 tsc, ns;
    u32 mul;
    s8 shift;
    u8 flags, pad2[2];
};

struct board {
    u64 tsc;
    u32 khz;
    _Alignas(4096) u8 ram[RAM];
    struct mem *mem;
    struct kvmclock *clock;
    struct cpu cpu[2];
    struct vclock v[2];
};

static u64 board_tsc(void *arg)
{
    return ((struct board *)arg)->tsc;
}

static struct board *board(u32 khz)
{
    struct board *b = aligned_alloc(4096, ALIGN_UP(sizeof(*b), 4096));
    struct irq_time t = {.tsc = board_tsc, .arg = b, .tsc_khz = khz};

    if (!b)
        abort();
    memset(b, 0, sizeof(*b));
    b->khz = khz;
    b->tsc = 5000000000;
    if (mem_create(&b->mem) || mem_slot_set(b->mem, 0, 0, RAM, b->ram, 0) ||
        kvmclock_create(&b->clock, &t))
        abort();
    for (unsigned i = 0; i < 2; i++) {
        b->cpu[i].mem = b->mem;
        vclock_init(&b->v[i], b->clock, &b->cpu[i]);
    }
    return b;
}

static void board_free(struct board *b)
{
    for (unsigned i = 0; i < 2; i++)
        vclock_fini(&b->v[i]);
    kvmclock_free(b->clock);
    mem_free(b->mem);
    free(b);
}

/* As a guest computes it. */
static u64 guest_ns(const struct board *b, unsigned i, gpa_t gpa)
{
    struct page p;
    u64 delta;

    memcpy(&p, b->ram + gpa, sizeof(p));
    delta = b->tsc + (u64)b->cpu[i].tsc_offset - p.tsc;
    delta = p.shift < 0 ? delta >> -p.shift : delta << p.shift;
    return p.ns + (u64)((u128)delta * p.mul >> 32);
}

static void scales(void)
{
    static const u32 khz[] = {1000,    800000,  999999,  1000000, 1000001,
                              1999999, 2000000, 2096045, 2400000, 5800000};

    for (unsigned i = 0; i < ARRAY_SIZE(khz); i++) {
        struct board *b = board(khz[i]);
        u64 ns, want;

        vclock_msr_write(&b->v[0], MSR_KVM_SYSTEM_TIME_NEW, 0x1001);
        b->tsc += (u64)khz[i] * 1000 * 3600; /* an hour */
        ns = guest_ns(b, 0, 0x1000);
        want = 3600ull * 1000000000;
        ok(ns <= want && want - ns < 4000, "%u kHz: an hour is off by less than 4 us (-%llu ns)",
           khz[i], (unsigned long long)(want - ns));
        board_free(b);
    }
}

static void pages(void)
{
    struct board *b = board(2000000);
    struct kvm_clock_data d = {0};
    struct page *p = (struct page *)(b->ram + 0x1000);
    u32 version;
    u64 a, c;

    b->cpu[1].tsc_offset = -4000000000;
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_SYSTEM_TIME_NEW, 0x1001), 0, "enable");
    is_u64(vclock_msr_write(&b->v[1], MSR_KVM_SYSTEM_TIME, 0x2041), 0, "the old MSR");
    is_u64(p->version & 1, 0, "version is even");
    is_u64(p->flags, 1, "TSC_STABLE");
    b->tsc += 2000000000;
    a = guest_ns(b, 0, 0x1000);
    is_u64(a, 1000000000, "a second after the VM's start");
    is_u64(guest_ns(b, 1, 0x2040), a, "another TSC offset, the same time");
    version = p->version;
    vclock_pre_run(&b->v[0]);
    is_u64(p->version, version, "nothing new, nothing written");
    kvmclock_get(b->clock, &d);
    is_u64(d.clock, a, "KVM_GET_CLOCK agrees with the guest");
    is_u64(d.host_tsc, b->tsc, "host TSC");
    is_u64(d.flags, 14, "flags");
    b->cpu[0].tsc_offset += 12345678;
    vclock_pre_run(&b->v[0]);
    ok(p->version != version && !(p->version & 1), "a moved TSC makes a new page");
    is_u64(guest_ns(b, 0, 0x1000), a, "of the same time");

    d = (struct kvm_clock_data){.clock = 77000000000};
    is_u64(kvmclock_set(b->clock, &d), 0, "KVM_SET_CLOCK");
    ok(atomic_load(&b->cpu[0].request) & CPU_REQ_EXIT, "asks the vCPUs out");
    vclock_pre_run(&b->v[0]);
    vclock_pre_run(&b->v[1]);
    is_u64(guest_ns(b, 0, 0x1000), 77000000000, "the page follows");
    is_u64(guest_ns(b, 1, 0x2040), 77000000000, "both do");
    kvmclock_get(b->clock, &d);
    d.realtime -= 5000000000;
    kvmclock_set(b->clock, &d);
    vclock_pre_run(&b->v[0]);
    c = guest_ns(b, 0, 0x1000);
    ok(c >= 82000000000 && c < 83000000000, "with REALTIME, the time between counts");
    d.flags = 0x100;
    is_u64((u32)kvmclock_set(b->clock, &d), (u32)-EINVAL, "unknown flag");

    is_u64(vclock_guest_stopped(&b->v[0]), 0, "KVM_KVMCLOCK_CTRL");
    vclock_pre_run(&b->v[0]);
    is_u64(p->flags, 3, "GUEST_STOPPED");
    b->cpu[0].tsc_offset++;
    vclock_pre_run(&b->v[0]);
    is_u64(p->flags, 3, "stays until the guest clears it");
    p->flags = 1;
    b->cpu[0].tsc_offset++;
    vclock_pre_run(&b->v[0]);
    is_u64(p->flags, 1, "and is gone then");
    vclock_msr_write(&b->v[0], MSR_KVM_SYSTEM_TIME_NEW, 0);
    is_u64((u32)vclock_guest_stopped(&b->v[0]), (u32)-EINVAL, "no clock");
    version = p->version;
    b->cpu[0].tsc_offset++;
    vclock_pre_run(&b->v[0]);
    is_u64(p->version, version, "disabled: nothing is written");
    board_free(b);
}

static void msrs(void)
{
    struct board *b = board(2000000);
    const u32 *list;
    unsigned n, known = 0;
    u32 w[3];
    u64 v;

    memset(b->ram, 0xff, RAM);
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_WALL_CLOCK_NEW, 0x3000), 0, "wall clock");
    memcpy(w, b->ram + 0x3000, sizeof(w));
    ok(!(w[0] & 1), "version even, whatever was there");
    ok((u64)time(NULL) - w[1] <= 2, "boot time is now: the VM is new");
    ok(w[2] < 1000000000, "nanoseconds");
    is_u64(b->ram[0x300c], 0xff, "12 bytes and no more");
    vclock_msr_read(&b->v[0], MSR_KVM_WALL_CLOCK, &v);
    is_u64(v, 0x3000, "reads back");
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_WALL_CLOCK, 0xfffffff0), 0, "a hole is harmless");
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_WALL_CLOCK, 0x3001), 0, "so is an odd address");
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_SYSTEM_TIME_NEW, 0xfffffffffffff001), 0,
           "so is the end of the world");
    vclock_pre_run(&b->v[0]);
    is_u64(vclock_msr_write(&b->v[0], MSR_KVM_SYSTEM_TIME_NEW, RAM - 4 + 1), 0,
           "and the end of memory");
    vclock_pre_run(&b->v[0]);
    is_u64((u32)vclock_msr_write(&b->v[0], MSR_KVM_POLL_CONTROL, 2), (u32)-EINVAL,
           "poll control: reserved bit");
    is_u64((u32)vclock_msr_write(&b->v[0], MSR_KVM_STEAL_TIME, 1), (u32)-ENOENT, "not offered");
    is_u64((u32)vclock_msr_read(&b->v[0], 0x10, &v), (u32)-ENOENT, "not ours");
    list = vclock_msr_list(&n);
    for (unsigned i = 0; i < n; i++)
        known += !vclock_msr_read(&b->v[0], list[i], &v);
    is_u64(known, n, "every MSR of the list can be read");
    board_free(b);
}

static void pairing(void)
{
    struct board *b = board(2000000);
    struct kvm_clock_pairing *p = (struct kvm_clock_pairing *)(b->ram + 0x100);
    struct cpu *c = &b->cpu[0];

    c->mode = MODE_64;
    c->tsc_offset = 7;
    c->r[REG_RAX] = 9;
    c->r[REG_RBX] = 0x100;
    pv_hypercall(c, NULL, &b->v[0]);
    is_u64(c->r[REG_RAX], 0, "KVM_HC_CLOCK_PAIRING");
    is_u64(p->tsc, b->tsc + 7, "the guest's TSC");
    ok(llabs((long long)time(NULL) - p->sec) <= 2, "and the time of day");
    c->r[REG_RAX] = 9;
    c->r[REG_RBX] = RAM;
    pv_hypercall(c, NULL, &b->v[0]);
    is_u64(c->r[REG_RAX], (u64)-KVM_EFAULT, "no memory there");
    c->r[REG_RAX] = KVM_HC_SEND_IPI;
    pv_hypercall(c, NULL, &b->v[0]);
    is_u64(c->r[REG_RAX], (u64)-KVM_ENOSYS, "no irqchip, no IPIs");
    board_free(b);
}

int main(void)
{
    scales();
    pages();
    msrs();
    pairing();
    return tap_done();
}
