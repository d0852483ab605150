// SPDX-License-Identifier: MIT
// MSRs that user space guards: the filter, exits for RDMSR and WRMSR, MSR_PLATFORM_INFO.

#include "client.h"

#include <stdbool.h>

#define MSR_NOBODYS       0xdeadbeef
#define MSR_SYSENTER_CS   0x174
#define MSR_SYSENTER_ESP  0x175
#define MSR_PLATFORM_INFO 0xce

/* RDMSR, WRMSR of what ECX, EDX, EAX say; a #GP shows as HLT with RBX 1 and goes on after the instruction. */
GUEST16(msr_code, "1: rdmsr\n hlt\n wrmsr\n hlt\n jmp 1b")
GUEST16(gp_code, "mov $1, %bx\n add $6, %sp\n hlt")

#define AT_WRMSR (CODE_AT + 3)
#define GP_AT    0x1800

struct guest {
    struct vm m;
    struct vcpu v;
};

static struct guest guest_new(void)
{
    struct guest g = {.m = vm_new(0x100000)};
    uint16_t gate[2] = {GP_AT, 0};

    g.v = vcpu_new(&g.m, 0);
    load_code(&g.m, CODE_AT, msr_code, msr_code_end);
    load_code(&g.m, GP_AT, gp_code, gp_code_end);
    memcpy(g.m.ram + 13 * 4, gate, sizeof(gate));
    vcpu_real_mode(&g.v, CODE_AT);
    return g;
}

static void guest_free(struct guest *g)
{
    vcpu_free(&g->v);
    vm_free(&g->m);
}

/* Put the guest before one access. */
static void access_msr(struct guest *g, bool write, uint32_t index, uint64_t val)
{
    struct kvm_regs r = {.rip = write ? AT_WRMSR : CODE_AT,
                         .rflags = 2,
                         .rsp = 0x8000,
                         .rcx = index,
                         .rax = (uint32_t)val,
                         .rdx = val >> 32};

    kv(g->v.fd, KVM_SET_REGS, &r);
}

static uint64_t edx_eax(struct guest *g)
{
    struct kvm_regs r = regs_of(&g->v);

    return r.rdx << 32 | (uint32_t)r.rax;
}

static bool faulted(struct guest *g)
{
    return regs_of(&g->v).rbx == 1;
}

static int enable(struct guest *g, uint32_t cap, uint64_t arg)
{
    struct kvm_enable_cap c = {.cap = cap, .args = {arg}};

    return kv(g->m.fd, KVM_ENABLE_CAP, &c);
}

static void expect_msr_exit(struct guest *g, uint32_t exit, uint32_t reason, uint32_t index,
                            const char *what)
{
    runs_to(&g->v, exit, "%s: exit", what);
    ok(g->v.run->msr.reason == reason && g->v.run->msr.index == index && !g->v.run->msr.error,
       "%s: reason and index", what);
}

/* --- exits for MSRs that the guest does not have --- */

static void test_unknown(void)
{
    struct guest g = guest_new();

    access_msr(&g, false, MSR_NOBODYS, 0);
    runs_to(&g.v, KVM_EXIT_HLT, "RDMSR of nobody's MSR");
    ok(faulted(&g), "#GP: nobody asked for exits");

    fails(enable(&g, KVM_CAP_X86_USER_SPACE_MSR, 8), EINVAL, "a reason that does not exist");
    ok(!enable(&g, KVM_CAP_X86_USER_SPACE_MSR,
               KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL),
       "exits for unknown MSRs and bad accesses");
    access_msr(&g, false, MSR_NOBODYS, 0);
    expect_msr_exit(&g, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NOBODYS,
                    "RDMSR of nobody's");
    is_u64(regs_of(&g.v).rip, CODE_AT, "RIP is on the RDMSR");
    g.v.run->msr.data = 0x123456789abcdef0;
    runs_to(&g.v, KVM_EXIT_HLT, "answered");
    is_u64(edx_eax(&g), 0x123456789abcdef0, "EDX:EAX has the answer");

    access_msr(&g, true, MSR_NOBODYS, 0x1122334455667788);
    expect_msr_exit(&g, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NOBODYS,
                    "WRMSR of nobody's");
    is_u64(g.v.run->msr.data, 0x1122334455667788, "the value written");
    g.v.run->msr.error = 1;
    runs_to(&g.v, KVM_EXIT_HLT, "refused");
    ok(faulted(&g), "error: #GP");

    access_msr(&g, true, 0x277 /* IA32_PAT */, 0xff);
    expect_msr_exit(&g, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_INVAL, 0x277,
                    "a memory type that does not exist");
    runs_to(&g.v, KVM_EXIT_HLT, "accepted by user space");
    ok(!faulted(&g), "no #GP");
    guest_free(&g);
}

/* Completed by KVM_RUN with immediate_exit, as whoever saves a vCPU does; and dropped when RIP was moved. */
static void test_completion(void)
{
    struct guest g = guest_new();

    enable(&g, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_UNKNOWN);
    access_msr(&g, false, MSR_NOBODYS, 0);
    expect_msr_exit(&g, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NOBODYS,
                    "to be completed");
    g.v.run->msr.data = 77;
    g.v.run->immediate_exit = 1;
    fails(vcpu_run(&g.v), EINTR, "immediate_exit");
    g.v.run->immediate_exit = 0;
    is_u64(regs_of(&g.v).rip, CODE_AT + 2, "the RDMSR is done");
    is_u64(edx_eax(&g), 77, "with the answer");

    access_msr(&g, false, MSR_NOBODYS, 0);
    expect_msr_exit(&g, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NOBODYS,
                    "to be dropped");
    g.v.run->msr.data = 78;
    access_msr(&g, true, MSR_NOBODYS, 5);
    expect_msr_exit(&g, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_UNKNOWN, MSR_NOBODYS,
                    "another instruction");
    is_u64(g.v.run->msr.data, 5, "asks anew");
    guest_free(&g);
}

/* --- the filter --- */

static int filter(struct guest *g, uint32_t flags, uint32_t kind, uint32_t base, uint32_t n,
                  uint64_t *bits)
{
    struct kvm_msr_filter f = {.flags = flags};

    f.ranges[3] = (struct kvm_msr_filter_range){
        .flags = kind, .base = base, .nmsrs = n, .bitmap = (uint8_t *)bits};
    return kv(g->m.fd, KVM_X86_SET_MSR_FILTER, &f);
}

static void test_filter(void)
{
    struct guest g = guest_new();
    uint64_t first_only = 1;

    ok(!filter(&g, 0, KVM_MSR_FILTER_WRITE, MSR_SYSENTER_CS, 2, &first_only),
       "deny writes of SYSENTER_ESP");
    access_msr(&g, true, MSR_SYSENTER_CS, 0x10);
    runs_to(&g.v, KVM_EXIT_HLT, "write of an allowed MSR");
    ok(!faulted(&g), "goes through");
    access_msr(&g, true, MSR_SYSENTER_ESP, 0x20);
    runs_to(&g.v, KVM_EXIT_HLT, "write of a denied one");
    ok(faulted(&g), "#GP");
    access_msr(&g, false, MSR_SYSENTER_ESP, 0);
    runs_to(&g.v, KVM_EXIT_HLT, "its read");
    ok(!faulted(&g) && edx_eax(&g) == 0, "is not filtered");

    enable(&g, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_FILTER);
    access_msr(&g, true, MSR_SYSENTER_ESP, 0x20);
    expect_msr_exit(&g, KVM_EXIT_X86_WRMSR, KVM_MSR_EXIT_REASON_FILTER, MSR_SYSENTER_ESP,
                    "denied, with exits");
    runs_to(&g.v, KVM_EXIT_HLT, "user space took it");
    access_msr(&g, false, MSR_SYSENTER_ESP, 0);
    runs_to(&g.v, KVM_EXIT_HLT, "read again");
    is_u64(edx_eax(&g), 0, "the register itself was not written");

    ok(!filter(&g, KVM_MSR_FILTER_DEFAULT_DENY, KVM_MSR_FILTER_READ, MSR_SYSENTER_CS, 1,
               &first_only),
       "deny the rest");
    access_msr(&g, false, 0x10, 0);
    expect_msr_exit(&g, KVM_EXIT_X86_RDMSR, KVM_MSR_EXIT_REASON_FILTER, 0x10, "RDMSR of the TSC");
    g.v.run->msr.data = 99;
    runs_to(&g.v, KVM_EXIT_HLT, "answered");
    is_u64(edx_eax(&g), 99, "with the answer");
    ok(!filter(&g, 0, 0, 0, 0, NULL), "allow everything");
    access_msr(&g, true, MSR_SYSENTER_ESP, 0x30);
    runs_to(&g.v, KVM_EXIT_HLT, "no exit any more");
    ok(!faulted(&g), "nor #GP");
    guest_free(&g);
}

static void test_bad_filters(void)
{
    struct guest g = guest_new();
    uint64_t bits = 0;

    fails(filter(&g, 2, 0, 0, 0, NULL), EINVAL, "unknown flag");
    fails(filter(&g, 0, 4, 0, 1, &bits), EINVAL, "unknown flag of a range");
    fails(filter(&g, KVM_MSR_FILTER_DEFAULT_DENY, 0, 0, 0, NULL), EINVAL, "no MSR at all");
    fails(filter(&g, 0, 1, 0, KVM_MSR_FILTER_MAX_BITMAP_SIZE * 8 + 1, &bits), EINVAL,
          "bitmap too big");
    fails(filter(&g, 0, 1, 0, 64, (uint64_t *)8), EFAULT, "bitmap that is nowhere");
    guest_free(&g);
}

static void test_platform_info(void)
{
    struct guest g = guest_new();

    access_msr(&g, false, MSR_PLATFORM_INFO, 0);
    runs_to(&g.v, KVM_EXIT_HLT, "RDMSR of MSR_PLATFORM_INFO");
    ok(!faulted(&g), "is there");
    ok(!enable(&g, KVM_CAP_MSR_PLATFORM_INFO, 0), "turn it off");
    access_msr(&g, false, MSR_PLATFORM_INFO, 0);
    runs_to(&g.v, KVM_EXIT_HLT, "RDMSR again");
    ok(faulted(&g), "#GP");
    guest_free(&g);
}

int main(void)
{
    test_unknown();
    test_completion();
    test_filter();
    test_bad_filters();
    test_platform_info();
    return tap_done();
}
