// SPDX-License-Identifier: MIT
// A 64-bit guest for the tests: identity-mapped tables, a flat GDT, an IDT, and code between two labels.
#pragma once

#include "client.h"

#define PML4_AT 0x2000
#define PDPT_AT 0x3000
#define PD_AT 0x4000
#define GDT_AT 0x5000
#define IDT_AT 0x6000
#define CODE64_AT 0x10000
#define STACK64_AT 0x9000
#define SEL_CODE 8
#define SEL_DATA 16

#define GUEST64(name, code)                                                                        \
    asm(".pushsection .rodata\n.balign 256\n.code64\n" #name ":\n" code "\n" #name "_end:\n.popsection");       \
    extern const uint8_t name[], name##_end[];

static inline void put64(const struct vm *m, uint64_t at, uint64_t val)
{
    memcpy(m->ram + at, &val, 8);
}

/* Tables for the first GiB in 2 MiB pages. */
static inline void long_mode_tables(const struct vm *m)
{
    put64(m, PML4_AT, PDPT_AT | 7);
    put64(m, PDPT_AT, PD_AT | 7);
    for (unsigned i = 0; i < 512; i++)
        put64(m, PD_AT + i * 8, (uint64_t)i << 21 | 0x87);
    put64(m, GDT_AT + SEL_CODE, 0x00af9b000000ffff);
    put64(m, GDT_AT + SEL_DATA, 0x00cf93000000ffff);
}

/* Vector (n) goes to (addr). */
static inline void idt_gate(const struct vm *m, unsigned n, uint64_t addr)
{
    put64(m, IDT_AT + n * 16, (addr & 0xffff) | SEL_CODE << 16 | 0x8e0000000000 | (addr >> 16 & 0xffff) << 48);
    put64(m, IDT_AT + n * 16 + 8, addr >> 32);
}

static inline void long_mode_sregs(struct kvm_sregs *s)
{
    struct kvm_segment code = {.limit = 0xffffffff, .selector = SEL_CODE, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    struct kvm_segment data = {.limit = 0xffffffff, .selector = SEL_DATA, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};

    s->cs = code;
    s->ds = s->es = s->fs = s->gs = s->ss = data;
    s->gdt = (struct kvm_dtable){.base = GDT_AT, .limit = 23};
    s->idt = (struct kvm_dtable){.base = IDT_AT, .limit = 256 * 16 - 1};
    s->cr0 = 0x80000033; /* PG NE ET MP PE */
    s->cr3 = PML4_AT;
    s->cr4 = 0x620; /* PAE OSFXSR OSXMMEXCPT */
    s->efer = 0x500; /* LMA LME */
}

static inline void vcpu_long_mode(const struct vcpu *v, uint64_t rip)
{
    struct kvm_regs r = {.rip = rip, .rflags = 2, .rsp = STACK64_AT};
    struct kvm_sregs s;

    kv(v->fd, KVM_GET_SREGS, &s);
    long_mode_sregs(&s);
    kv(v->fd, KVM_SET_SREGS, &s);
    kv(v->fd, KVM_SET_REGS, &r);
}

/* Give the vCPU what the host supports, with its own APIC ID. */
static inline int vcpu_cpuid(const struct vm *m, const struct vcpu *v, uint32_t apic_id)
{
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 256 * sizeof(c->entries[0]));
    int rc;

    c->nent = 256;
    rc = kv(m->sys, KVM_GET_SUPPORTED_CPUID, c);
    for (uint32_t i = 0; i < c->nent; i++) {
        if (c->entries[i].function == 1)
            c->entries[i].ebx = (c->entries[i].ebx & 0x00ffffff) | apic_id << 24;
        if (c->entries[i].function == 0xb)
            c->entries[i].edx = apic_id;
    }
    if (!rc)
        rc = kv(v->fd, KVM_SET_CPUID2, c);
    free(c);
    return rc;
}
