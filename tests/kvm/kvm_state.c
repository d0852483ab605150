// SPDX-License-Identifier: MIT
// A vCPU's state through the API: what is set comes back, what is wrong is refused, and a guest does not notice
// being saved, thrown away and restored into a new VM.

#include "longmode.h"

#define RAM_SIZE 0x200000
#define MSRS_ROOM 512
#define XSAVE_ROOM 16384

static void test_regs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_regs in, out;

    for (unsigned i = 0; i < sizeof(in) / 8; i++)
        ((uint64_t *)&in)[i] = 0x1111111111111111 * (i % 15 + 1) + i;
    in.rflags = 0x246;
    ok(!kv(v.fd, KVM_SET_REGS, &in) && !kv(v.fd, KVM_GET_REGS, &out), "set and get registers");
    ok(!memcmp(&in, &out, sizeof(in)), "all of them come back");
    in.rflags = 0xcd5;
    kv(v.fd, KVM_SET_REGS, &in);
    is_u64(regs_of(&v).rflags, 0xcd7, "RFLAGS bit 1 is always set");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_reset_state(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_sregs s;
    struct kvm_regs r = regs_of(&v);

    kv(v.fd, KVM_GET_SREGS, &s);
    is_u64(r.rip, 0xfff0, "RIP");
    is_u64(r.rflags, 2, "RFLAGS");
    is_u64(s.cs.base, 0xffff0000, "CS base");
    is_u64(s.cs.selector, 0xf000, "CS selector");
    is_u64(s.cr0, 0x60000010, "CR0");
    is_u64(s.apic_base, 0xfee00900, "APIC base of the bootstrap processor");
    is_u64(s.ds.limit, 0xffff, "DS limit");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_sregs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_sregs s, out, bad;
    struct kvm_sregs2 s2;

    kv(v.fd, KVM_GET_SREGS, &s);
    long_mode_sregs(&s);
    s.cr2 = 0x1234567;
    s.cr8 = 5;
    s.fs.base = 0x7fff00001000;
    ok(!kv(v.fd, KVM_SET_SREGS, &s) && !kv(v.fd, KVM_GET_SREGS, &out), "long mode");
    ok(!memcmp(&s, &out, sizeof(s)), "comes back as it was set");
    ok(!kv(v.fd, KVM_GET_SREGS2, &s2) && s2.cr3 == s.cr3 && s2.fs.base == s.fs.base && !s2.flags, "KVM_GET_SREGS2 agrees");
    ok(!kv(v.fd, KVM_SET_SREGS2, &s2), "KVM_SET_SREGS2");
    s2.flags = 2;
    fails(kv(v.fd, KVM_SET_SREGS2, &s2), EINVAL, "KVM_SET_SREGS2 with an unknown flag");
    s2.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    fails(kv(v.fd, KVM_SET_SREGS2, &s2), EINVAL, "PDPTEs outside PAE paging");
    bad = s;
    bad.cr4 &= ~0x20ull;
    fails(kv(v.fd, KVM_SET_SREGS, &bad), EINVAL, "long mode without PAE");
    bad = s;
    bad.efer &= ~0x400ull;
    fails(kv(v.fd, KVM_SET_SREGS, &bad), EINVAL, "LME and PG without LMA");
    bad = s;
    bad.cr0 &= ~1ull;
    fails(kv(v.fd, KVM_SET_SREGS, &bad), EINVAL, "paging without protection");
    bad = s;
    bad.cr4 |= 1ull << 40;
    fails(kv(v.fd, KVM_SET_SREGS, &bad), EINVAL, "a reserved bit of CR4");
    bad = s;
    bad.cr0 |= 1 << 29;
    fails(kv(v.fd, KVM_SET_SREGS, &bad), EINVAL, "NW without CD");
    kv(v.fd, KVM_GET_SREGS, &out);
    ok(!memcmp(&s, &out, sizeof(s)), "what was refused changed nothing");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_pdptrs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_sregs2 s = {0}, out = {0};

    kv(v.fd, KVM_GET_SREGS2, &s);
    s.cr0 = 0x80000011;
    s.cr3 = 0x2000;
    s.cr4 = 0x20;
    s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    for (int i = 0; i < 4; i++)
        s.pdptrs[i] = (uint64_t)(0x10000 + i * 0x1000) | 1;
    ok(!kv(v.fd, KVM_SET_SREGS2, &s) && !kv(v.fd, KVM_GET_SREGS2, &out), "PAE paging with PDPTEs of our own");
    ok(out.flags == KVM_SREGS2_FLAGS_PDPTRS_VALID && !memcmp(out.pdptrs, s.pdptrs, sizeof(s.pdptrs)), "they come back");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_fpu(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_fpu f = {.fcw = 0x27f, .fsw = 0x1800, .ftwx = 0x81, .mxcsr = 0x1f80}, out;

    memset(f.fpr[0], 0x11, 10);
    memset(f.xmm[15], 0xa5, 16);
    ok(!kv(v.fd, KVM_SET_FPU, &f) && !kv(v.fd, KVM_GET_FPU, &out), "FPU");
    ok(!memcmp(f.fpr, out.fpr, sizeof(f.fpr)) && !memcmp(f.xmm, out.xmm, sizeof(f.xmm)), "registers come back");
    ok(out.fcw == f.fcw && out.fsw == f.fsw && out.ftwx == f.ftwx, "control, status and tags too");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_xsave(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    int size = kv(m.sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2), tiles;
    uint8_t *image = calloc(1, XSAVE_ROOM);
    struct kvm_device_attr a = {.addr = (uintptr_t)image};
    struct kvm_xcrs x = {.nr_xcrs = 1};
    uint64_t xcr0;

    kv(m.sys, KVM_GET_DEVICE_ATTR, &a);
    memcpy(&xcr0, image, 8);
    tiles = xcr0 >> 18 & 1;
    ok(!kv(v.fd, KVM_GET_XSAVE, image), "KVM_GET_XSAVE before CPUID is set");
    ok(!vcpu_cpuid(&m, &v, 0), "CPUID as supported");
    memset(image, 0xee, XSAVE_ROOM);
    if (tiles) {
        fails(kv(v.fd, KVM_GET_XSAVE, image), EINVAL, "KVM_GET_XSAVE cannot hold tiles");
        is_u64(size, 11008, "KVM_CAP_XSAVE2");
    } else {
        ok(!kv(v.fd, KVM_GET_XSAVE, image), "KVM_GET_XSAVE");
        is_u64(size, 4096, "KVM_CAP_XSAVE2");
    }
    ok(!kv(v.fd, KVM_GET_XSAVE2, image), "KVM_GET_XSAVE2");
    ok(image[size - 1] == 0 && image[size] == 0xee, "writes just the bytes it promised");
    ok(!kv(v.fd, KVM_SET_XSAVE, image), "KVM_SET_XSAVE takes it back");
    image[520] = 1;
    fails(kv(v.fd, KVM_SET_XSAVE, image), EINVAL, "XCOMP_BV must be 0");
    image[520] = 0;
    image[519] = 0x80;
    fails(kv(v.fd, KVM_SET_XSAVE, image), EINVAL, "an unknown component");
    ok(!kv(v.fd, KVM_GET_XCRS, &x) && x.xcrs[0].value == 1, "XCR0 is 1 at reset");
    x.xcrs[0].value = 2;
    fails(kv(v.fd, KVM_SET_XCRS, &x), EINVAL, "XCR0 without x87");
    x.xcrs[0].value = 0x20003;
    fails(kv(v.fd, KVM_SET_XCRS, &x), EINVAL, "half of AMX");
    x.xcrs[0].value = xcr0;
    ok(!kv(v.fd, KVM_SET_XCRS, &x), "XCR0 = %#llx", (unsigned long long)xcr0);
    x.flags = 1;
    fails(kv(v.fd, KVM_SET_XCRS, &x), EINVAL, "XCR flags");
    free(image);
    vcpu_free(&v);
    vm_free(&m);
}

GUEST16(hlt_code, "1: hlt\n jmp 1b")

/* CR4 takes what the guest's CPUID offers. */
static void test_cr4_by_cpuid(void)
{
    static const struct {
        uint64_t bits, works;
        const char *what;
    } rows[] = {
        {1 << 20 | 1 << 21 | 1 << 16, 0, "SMEP, SMAP, FSGSBASE without leaf 7"},
        {1 << 18, 0, "OSXSAVE without XSAVE"},
        {1 << 17, 1, "PCIDE"},
        {0x7ff, 1, "what every CPU has"},
    };
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + sizeof(c->entries[0]));
    struct kvm_sregs s;

    c->nent = 1;
    c->entries[0] = (struct kvm_cpuid_entry2){.function = 1, .ecx = 1 << 17};
    ok(!kv(v.fd, KVM_SET_CPUID2, c), "a guest with PCID and nothing else");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        kv(v.fd, KVM_GET_SREGS, &s);
        s.cr4 = rows[i].bits;
        if (rows[i].works)
            ok(!kv(v.fd, KVM_SET_SREGS, &s), "%s", rows[i].what);
        else
            fails(kv(v.fd, KVM_SET_SREGS, &s), EINVAL, "%s", rows[i].what);
    }
    free(c);
    vcpu_free(&v);
    vm_free(&m);
}

static void test_cpuid(void)
{
    BOOT16(m, v, hlt_code);
    struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 300 * sizeof(c->entries[0]));
    uint32_t n;

    ok(!vcpu_cpuid(&m, &v, 0), "KVM_SET_CPUID2");
    fails(kv(v.fd, KVM_GET_CPUID2, c), E2BIG, "KVM_GET_CPUID2 without room");
    c->nent = 300;
    ok(!kv(v.fd, KVM_GET_CPUID2, c) && c->nent > 10, "KVM_GET_CPUID2");
    n = c->nent;
    ok(!kv(v.fd, KVM_SET_CPUID2, c), "takes it back");
    runs_to(&v, KVM_EXIT_HLT, "run");
    ok(!kv(v.fd, KVM_SET_CPUID2, c), "the same table after the first run");
    c->entries[0].eax++;
    fails(kv(v.fd, KVM_SET_CPUID2, c), EINVAL, "another one is refused");
    c->nent = n - 1;
    fails(kv(v.fd, KVM_SET_CPUID2, c), EINVAL, "and a shorter one");
    c->nent = 300;
    fails(kv(v.fd, KVM_SET_CPUID2, c), E2BIG, "300 entries");
    free(c);
    vcpu_free(&v);
    vm_free(&m);
}

static void test_msrs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[4];
    } x = {.head.nmsrs = 3};

    vcpu_cpuid(&m, &v, 0);
    x.e[0] = (struct kvm_msr_entry){.index = 0xc0000082, .data = 0xffffffff81000000};
    x.e[1] = (struct kvm_msr_entry){.index = 0xc0000102, .data = 0x7000};
    x.e[2] = (struct kvm_msr_entry){.index = 0x277, .data = 0x0007040600070406};
    is_u64(kv(v.fd, KVM_SET_MSRS, &x), 3, "LSTAR, KERNEL_GS_BASE, PAT");
    x.e[0].data = x.e[1].data = x.e[2].data = 0;
    is_u64(kv(v.fd, KVM_GET_MSRS, &x), 3, "and back");
    ok(x.e[0].data == 0xffffffff81000000 && x.e[1].data == 0x7000 && x.e[2].data == 0x0007040600070406, "as set");
    x.e[1].index = 0x12345678;
    is_u64(kv(v.fd, KVM_GET_MSRS, &x), 1, "an unknown one stops the list");
    is_u64(kv(v.fd, KVM_SET_MSRS, &x), 1, "also for writes");
    x.head.nmsrs = 1;
    x.e[0] = (struct kvm_msr_entry){.index = 0xc0000082, .data = 1ull << 60};
    is_u64(kv(v.fd, KVM_SET_MSRS, &x), 0, "a value that faults is not taken");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_all_msrs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct {
        struct kvm_msr_list head;
        uint32_t index[MSRS_ROOM];
    } list = {.head.nmsrs = MSRS_ROOM};
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[1];
    } x = {.head.nmsrs = 1};
    unsigned bad = 0;

    vcpu_cpuid(&m, &v, 0);
    ok(!kv(m.sys, KVM_GET_MSR_INDEX_LIST, &list), "MSR list");
    for (uint32_t i = 0; i < list.head.nmsrs; i++) {
        x.e[0].index = list.head.indices[i];
        if (kv(v.fd, KVM_GET_MSRS, &x) == 1 && kv(v.fd, KVM_SET_MSRS, &x) == 1)
            continue;
        bad++;
        printf("# MSR %#x\n", x.e[0].index);
    }
    is_u64(bad, 0, "each MSR of the list can be read and written back");
    vcpu_free(&v);
    vm_free(&m);
}

static uint64_t tsc_of(const struct vcpu *v)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } x = {.head.nmsrs = 1, .e.index = 0x10};

    kv(v->fd, KVM_GET_MSRS, &x);
    return x.e.data;
}

static void tsc_to(const struct vcpu *v, uint64_t val)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } x = {.head.nmsrs = 1, .e = {.index = 0x10, .data = val}};

    kv(v->fd, KVM_SET_MSRS, &x);
}

static void test_tsc(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu a = vcpu_new(&m, 0), b = vcpu_new(&m, 1);
    int64_t offset_a = 0, offset_b = 1;
    struct kvm_device_attr at = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET};
    int khz = kv(a.fd, KVM_GET_TSC_KHZ, 0);
    uint64_t t = tsc_of(&a);

    ok(khz > 100000, "TSC frequency %d kHz", khz);
    ok(t < (uint64_t)khz * 1000 * 3600, "the TSC begins at 0 with the VM");
    ok(tsc_of(&b) >= t, "the other vCPU is in step");
    tsc_to(&a, 1ull << 50);
    tsc_to(&b, 1ull << 50);
    at.addr = (uintptr_t)&offset_a;
    ok(!kv(a.fd, KVM_GET_DEVICE_ATTR, &at), "TSC offset");
    at.addr = (uintptr_t)&offset_b;
    kv(b.fd, KVM_GET_DEVICE_ATTR, &at);
    is_u64(offset_a, offset_b, "writing the same value one after the other keeps them in step");
    ok(tsc_of(&a) >= 1ull << 50 && tsc_of(&a) < (1ull << 50) + (uint64_t)khz * 1000 * 60, "and sets it");
    offset_b += 12345;
    ok(!kv(b.fd, KVM_SET_DEVICE_ATTR, &at), "setting an offset");
    fails(kv(a.fd, KVM_SET_TSC_KHZ, khz / 2), on_host() ? 0 : EINVAL, "no TSC scaling");
    vcpu_free(&a);
    vcpu_free(&b);
    vm_free(&m);
}

static void test_events(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_enable_cap c = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
    struct kvm_vcpu_events e = {0}, out;

    e.exception = (__typeof__(e.exception)){.injected = 1, .nr = 13, .has_error_code = 1, .error_code = 8};
    e.nmi.masked = 1;
    e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    e.flags = KVM_VCPUEVENT_VALID_SHADOW;
    ok(!kv(v.fd, KVM_SET_VCPU_EVENTS, &e) && !kv(v.fd, KVM_GET_VCPU_EVENTS, &out), "#GP, NMI mask, STI shadow");
    ok(out.exception.injected && out.exception.nr == 13 && out.exception.has_error_code && out.exception.error_code == 8,
       "the exception comes back");
    ok(out.nmi.masked && out.interrupt.shadow == KVM_X86_SHADOW_INT_STI, "and the rest");
    e.exception.nr = 2;
    fails(kv(v.fd, KVM_SET_VCPU_EVENTS, &e), EINVAL, "an NMI is no exception");
    e.exception.nr = 32;
    fails(kv(v.fd, KVM_SET_VCPU_EVENTS, &e), EINVAL, "nor is 32");
    e.exception.nr = 14;
    e.flags = 0x8000;
    fails(kv(v.fd, KVM_SET_VCPU_EVENTS, &e), EINVAL, "an unknown flag");
    e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
    fails(kv(v.fd, KVM_SET_VCPU_EVENTS, &e), EINVAL, "a payload without the capability");
    kv(m.fd, KVM_ENABLE_CAP, &c);
    e.exception.injected = 0;
    e.exception.pending = e.exception_has_payload = 1;
    e.exception_payload = 0xdead000;
    ok(!kv(v.fd, KVM_SET_VCPU_EVENTS, &e) && !kv(v.fd, KVM_GET_VCPU_EVENTS, &out), "and with it");
    ok(out.exception.pending && !out.exception.injected && out.exception_payload == 0xdead000, "a pending #PF with its address");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_debugregs(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_debugregs d = {.db = {0x1000, 0x2000, 0x3000, 0x4000}, .dr6 = 0xffff0ff1, .dr7 = 0x402}, out = {0};

    ok(!kv(v.fd, KVM_SET_DEBUGREGS, &d) && !kv(v.fd, KVM_GET_DEBUGREGS, &out), "debug registers");
    ok(!memcmp(&d, &out, sizeof(d)), "come back");
    d.dr7 = 1ull << 32;
    fails(kv(v.fd, KVM_SET_DEBUGREGS, &d), EINVAL, "DR7's upper half");
    d.dr7 = 0;
    d.flags = 1;
    fails(kv(v.fd, KVM_SET_DEBUGREGS, &d), EINVAL, "flags");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_mp_state(void)
{
    struct vm m = vm_new(0x100000);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_mp_state s = {.mp_state = KVM_MP_STATE_HALTED};

    fails(kv(v.fd, KVM_SET_MP_STATE, &s), EINVAL, "HALTED needs an irqchip");
    s.mp_state = 77;
    fails(kv(v.fd, KVM_SET_MP_STATE, &s), EINVAL, "an unknown state");
    ok(!kv(v.fd, KVM_GET_MP_STATE, &s) && s.mp_state == KVM_MP_STATE_RUNNABLE, "RUNNABLE");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_translate(void)
{
    struct vm m = vm_new(RAM_SIZE);
    struct vcpu v = vcpu_new(&m, 0);
    struct kvm_translation t = {.linear_address = 0x123456};

    long_mode_tables(&m);
    put64(&m, PD_AT + 8, 0x87); /* 2 MiB at 2 MiB is at 0 too */
    vcpu_long_mode(&v, CODE64_AT);
    ok(!kv(v.fd, KVM_TRANSLATE, &t) && t.valid && t.physical_address == 0x123456, "identity");
    t.linear_address = 0x200123;
    ok(!kv(v.fd, KVM_TRANSLATE, &t) && t.valid && t.physical_address == 0x123, "an alias");
    t.linear_address = 0x8000000000;
    ok(!kv(v.fd, KVM_TRANSLATE, &t) && !t.valid, "nothing there");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_sync_regs(void)
{
    BOOT16(m, v, hlt_code);
    struct kvm_regs r = regs_of(&v);

    v.run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS;
    v.run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    r.rbx = 0xbabe;
    v.run->s.regs.regs = r;
    runs_to(&v, KVM_EXIT_HLT, "run with registers in kvm_run");
    is_u64(v.run->s.regs.regs.rbx, 0xbabe, "they went in and out");
    is_u64(v.run->s.regs.regs.rip, CODE_AT + 1, "with the new RIP");
    is_u64(v.run->kvm_dirty_regs, 0, "and are clean");
    v.run->kvm_valid_regs = 0x80;
    fails(vcpu_run(&v), EINVAL, "an unknown set");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- save, throw away, restore --- */

/*
 * Stages, each reported by OUT to port 0x10 with AL = stage:
 *   1 XCR0 has AMX   2 XFD is 0   3 tiles configured and loaded   4 tile stored again
 *   5 XFD set        6 in #NM: XFD_ERR, XFD read                   7 tile loaded again   8 done
 * RBX: source tile, RCX etc. as needed.
 */
GUEST64(amx_code,
    "mov %cr4, %rax\n or $0x40000, %rax\n mov %rax, %cr4\n"
    "xor %ecx, %ecx\n xgetbv\n or $0x60007, %eax\n xsetbv\n"
    "mov $1, %al\n out %al, $0x10\n"
    "mov $0x1c4, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
    "mov $2, %al\n out %al, $0x10\n"
    "mov $0x20000, %ebx\n ldtilecfg (%rbx)\n mov $0x21000, %ebx\n mov $64, %esi\n tileloadd (%rbx,%rsi), %tmm0\n"
    "mov $3, %al\n out %al, $0x10\n"
    "mov $0x22000, %ebx\n tilestored %tmm0, (%rbx,%rsi)\n"
    "mov $4, %al\n out %al, $0x10\n"
    "tilerelease\n mov $0x1c4, %ecx\n mov $0x40000, %eax\n xor %edx, %edx\n wrmsr\n"
    "mov $5, %al\n out %al, $0x10\n"
    "mov $0x20000, %ebx\n ldtilecfg (%rbx)\n mov $0x21000, %ebx\n"
    "tileloadd (%rbx,%rsi), %tmm0\n"
    "mov $0x23000, %ebx\n tilestored %tmm0, (%rbx,%rsi)\n"
    "mov $7, %al\n out %al, $0x10\n"
    "mov $8, %al\n out %al, $0x10\n"
    "hlt\n"
    ".balign 256\n"
    "push %rax\n push %rcx\n push %rdx\n"
    "mov $0x1c5, %ecx\n rdmsr\n mov %eax, %edi\n"
    "mov $6, %al\n out %al, $0x10\n"
    "mov $0x1c5, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n mov $0x1c4, %ecx\n wrmsr\n"
    "pop %rdx\n pop %rcx\n pop %rax\n iretq")

struct state {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xcrs xcrs;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp;
    struct kvm_debugregs debug;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e[200];
    } msrs;
    uint8_t xsave[XSAVE_ROOM];
};

static int save(const struct vm *m, const struct vcpu *v, struct state *s)
{
    struct {
        struct kvm_msr_list head;
        uint32_t index[MSRS_ROOM];
    } list = {.head.nmsrs = MSRS_ROOM};
    int bad = kv(m->sys, KVM_GET_MSR_INDEX_LIST, &list);

    s->msrs.head.nmsrs = list.head.nmsrs;
    for (uint32_t i = 0; i < list.head.nmsrs && i < 200; i++)
        s->msrs.e[i].index = list.head.indices[i];
    bad |= kv(v->fd, KVM_GET_VCPU_EVENTS, &s->events) || kv(v->fd, KVM_GET_MP_STATE, &s->mp) ||
           kv(v->fd, KVM_GET_REGS, &s->regs) || kv(v->fd, KVM_GET_XSAVE2, s->xsave) ||
           kv(v->fd, KVM_GET_XCRS, &s->xcrs) || kv(v->fd, KVM_GET_SREGS, &s->sregs) ||
           kv(v->fd, KVM_GET_DEBUGREGS, &s->debug);
    return bad || kv(v->fd, KVM_GET_MSRS, &s->msrs) != (int)list.head.nmsrs;
}

static int restore(const struct vcpu *v, struct state *s)
{
    return kv(v->fd, KVM_SET_SREGS, &s->sregs) || kv(v->fd, KVM_SET_MSRS, &s->msrs) != (int)s->msrs.head.nmsrs ||
           kv(v->fd, KVM_SET_XCRS, &s->xcrs) || kv(v->fd, KVM_SET_XSAVE, s->xsave) ||
           kv(v->fd, KVM_SET_VCPU_EVENTS, &s->events) || kv(v->fd, KVM_SET_MP_STATE, &s->mp) ||
           kv(v->fd, KVM_SET_DEBUGREGS, &s->debug) || kv(v->fd, KVM_SET_REGS, &s->regs);
}

/* A new VM on the same memory takes over. */
static void move(struct vm *m, struct vcpu *v, struct state *s, int stage)
{
    struct kvm_regs r;

    ok(!save(m, v, s), "stage %d: saved", stage);
    vcpu_free(v);
    kvm_close(m->fd);
    m->fd = kv(m->sys, KVM_CREATE_VM, 0);
    slot(m, 0, 0, m->size, m->ram, 0);
    *v = vcpu_new(m, 0);
    vcpu_cpuid(m, v, 0);
    ok(!restore(v, s), "stage %d: restored", stage);
    r = regs_of(v);
    ok(!memcmp(&r, &s->regs, sizeof(r)), "stage %d: registers match", stage);
}

static void check_stage(const struct vm *m, const struct state *s, int stage)
{
    uint64_t xstate_bv;
    const uint8_t *tile = m->ram + 0x21000;

    memcpy(&xstate_bv, s->xsave + 512, 8);
    if (stage == 1)
        is_u64(s->xcrs.xcrs[0].value & 0x60000, 0x60000, "XCR0 has AMX");
    if (stage == 3) {
        ok(xstate_bv >> 18 & 1, "tile data is in the image");
        ok(!memcmp(s->xsave + 2816, tile, 1024), "and is what was loaded");
    }
    if (stage == 4)
        ok(!memcmp(m->ram + 0x22000, tile, 1024), "the tile survived");
    if (stage == 5 || stage == 6)
        ok(!(xstate_bv >> 18 & 1), "no tile data after TILERELEASE");
    if (stage == 6)
        is_u64(s->regs.rdi, 0x40000, "#NM with XFD_ERR[18]");
    if (stage == 7)
        ok(!memcmp(m->ram + 0x23000, tile, 1024), "the load happened after #NM");
}

static void test_migration(void)
{
    struct vm m = vm_new(RAM_SIZE);
    struct vcpu v = vcpu_new(&m, 0);
    struct state *s = calloc(1, sizeof(*s));
    uint8_t cfg[64] = {1};
    int stage;

    if (kv(m.sys, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2) <= 4096) {
        skip("no AMX here", "save and restore of an AMX guest");
        goto out;
    }
    vcpu_cpuid(&m, &v, 0);
    long_mode_tables(&m);
    load_code(&m, CODE64_AT, amx_code, amx_code_end);
    idt_gate(&m, 7, CODE64_AT + ((size_t)(amx_code_end - amx_code) & ~255ul));
    for (int i = 0; i < 8; i++) {
        cfg[16 + 2 * i] = 64;
        cfg[48 + i] = 16;
    }
    memcpy(m.ram + 0x20000, cfg, 64);
    for (int i = 0; i < 1024; i++)
        m.ram[0x21000 + i] = (uint8_t)(i * 7 + i / 64);
    vcpu_long_mode(&v, CODE64_AT);
    for (stage = 1; stage <= 8; stage++) {
        if (!runs_to(&v, KVM_EXIT_IO, "stage %d", stage) || !ok(*pio_data(&v) == stage, "in order"))
            break;
        v.run->immediate_exit = 1;
        fails(vcpu_run(&v), EINTR, "complete the I/O");
        v.run->immediate_exit = 0;
        move(&m, &v, s, stage);
        check_stage(&m, s, stage);
    }
    is_u64(stage, 9, "all stages");
out:
    free(s);
    vcpu_free(&v);
    vm_free(&m);
}

int main(void)
{
    test_regs();
    test_reset_state();
    test_sregs();
    test_pdptrs();
    test_fpu();
    test_xsave();
    test_cr4_by_cpuid();
    test_cpuid();
    test_msrs();
    test_all_msrs();
    test_tsc();
    test_events();
    test_debugregs();
    test_mp_state();
    test_translate();
    test_sync_regs();
    test_migration();
    return tap_done();
}
