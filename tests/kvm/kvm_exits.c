// SPDX-License-Identifier: MIT
// KVM_RUN's exits in real mode: port I/O, MMIO, HLT, shutdown, debugging, interrupts from user space.

#include "client.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

/* Adds two numbers and prints the sum: the guest of many first KVM programs. */
GUEST16(sum_code, "mov $0x3f8, %dx\n add %bl, %al\n add $'0', %al\n out %al, (%dx)\n"
                  "mov $'\\n', %al\n out %al, (%dx)\n hlt")

static void test_sum(void)
{
    BOOT16(m, v, sum_code);
    struct kvm_regs r = regs_of(&v);

    r.rax = 2;
    r.rbx = 2;
    kv(v.fd, KVM_SET_REGS, &r);
    runs_to(&v, KVM_EXIT_IO, "OUT");
    ok(v.run->io.direction == KVM_EXIT_IO_OUT && v.run->io.size == 1 && v.run->io.port == 0x3f8 &&
           v.run->io.count == 1,
       "direction, size, port, count");
    is_u64(*pio_data(&v), '4', "2 + 2");
    runs_to(&v, KVM_EXIT_IO, "another OUT");
    is_u64(*pio_data(&v), '\n', "newline");
    runs_to(&v, KVM_EXIT_HLT, "HLT");
    is_u64(regs_of(&v).rip, CODE_AT + (sum_code_end - sum_code), "RIP is past the HLT");
    vcpu_free(&v);
    vm_free(&m);
}

GUEST16(in_code, "mov $0x1234, %dx\n in (%dx), %ax\n mov %eax, %ebx\n in $0x61, %al\n in (%dx), %eax\n"
                 "out %eax, (%dx)\n hlt")

static void test_in(void)
{
    BOOT16(m, v, in_code);

    runs_to(&v, KVM_EXIT_IO, "IN of 2 bytes");
    ok(v.run->io.direction == KVM_EXIT_IO_IN && v.run->io.size == 2 && v.run->io.port == 0x1234, "as asked");
    memcpy(pio_data(&v), "\xcd\xab", 2);
    runs_to(&v, KVM_EXIT_IO, "IN of 1 byte");
    is_u64(regs_of(&v).rbx & 0xffff, 0xabcd, "the first came through");
    is_u64(v.run->io.port, 0x61, "port in an immediate");
    *pio_data(&v) = 0x55;
    runs_to(&v, KVM_EXIT_IO, "IN of 4 bytes");
    is_u64(regs_of(&v).rax & 0xffff, 0xab55, "only AL changed");
    memcpy(pio_data(&v), "\x01\x02\x03\x04", 4);
    runs_to(&v, KVM_EXIT_IO, "OUT of 4 bytes");
    ok(v.run->io.size == 4 && !memcmp(pio_data(&v), "\x01\x02\x03\x04", 4), "with what came in");
    runs_to(&v, KVM_EXIT_HLT, "HLT");
    vcpu_free(&v);
    vm_free(&m);
}

/* REP INSB of 3, REP OUTSW of 2. */
GUEST16(string_code, "cld\n mov $0x80, %dx\n mov $0x2000, %di\n mov $3, %cx\n rep insb\n"
                     "mov $0x2000, %si\n mov $2, %cx\n rep outsw\n hlt")

static void test_strings(void)
{
    BOOT16(m, v, string_code);
    unsigned in = 0, out = 0;
    uint8_t seen[8] = {0};

    memcpy(m.ram + 0x2003, "d", 1);
    while (vcpu_run(&v) == 0 && v.run->exit_reason == KVM_EXIT_IO && in < 10 && out < 10) {
        unsigned bytes = v.run->io.size * v.run->io.count;

        for (unsigned i = 0; i < bytes && v.run->io.direction == KVM_EXIT_IO_IN; i++)
            pio_data(&v)[i] = (uint8_t)("abc"[in++ % 3]);
        if (v.run->io.direction == KVM_EXIT_IO_OUT && out + bytes <= sizeof(seen)) {
            memcpy(seen + out, pio_data(&v), bytes);
            out += bytes;
        }
    }
    is_u64(v.run->exit_reason, KVM_EXIT_HLT, "runs through to HLT");
    is_u64(in, 3, "three bytes asked for");
    ok(!memcmp(m.ram + 0x2000, "abcd", 4), "and stored");
    ok(out == 4 && !memcmp(seen, "abcd", 4), "two words written");
    is_u64(regs_of(&v).rcx & 0xffff, 0, "CX ran out");
    vcpu_free(&v);
    vm_free(&m);
}

/* Memory-mapped: a read, a write, a read-modify-write, a REP MOVS from there to there. */
GUEST16(mmio_code, "mov $0x2000, %ax\n mov %ax, %ds\n mov %ax, %es\n mov 0x10, %ebx\n mov %bx, 0x14\n"
                   "orw $0xf0, 0x18\n cld\n mov $0x20, %si\n mov $0x30, %di\n mov $2, %cx\n rep movsw\n"
                   "push 0x40\n hlt")

struct mmio_step {
    uint64_t addr;
    uint8_t len, is_write;
    uint64_t data; /* given to a read, expected of a write */
};

static void expect_mmio(struct vcpu *v, const struct mmio_step *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        uint64_t got = 0;

        if (!runs_to(v, KVM_EXIT_MMIO, "MMIO %u", i))
            return;
        ok(v->run->mmio.phys_addr == s[i].addr && v->run->mmio.len == s[i].len &&
               v->run->mmio.is_write == s[i].is_write,
           "%s of %u at %#llx", s[i].is_write ? "write" : "read", s[i].len, (unsigned long long)s[i].addr);
        memcpy(&got, v->run->mmio.data, s[i].len);
        if (s[i].is_write)
            is_u64(got, s[i].data, "the data");
        else
            memcpy(v->run->mmio.data, &s[i].data, s[i].len);
    }
}

static void test_mmio(void)
{
    static const struct mmio_step steps[] = {
        {0x20010, 4, 0, 0xdeadbeef}, {0x20014, 2, 1, 0xbeef},
        {0x20018, 2, 0, 0x0a05},     {0x20018, 2, 1, 0x0af5},
        {0x20020, 2, 0, 0x1111},     {0x20030, 2, 1, 0x1111},
        {0x20022, 2, 0, 0x2222},     {0x20032, 2, 1, 0x2222},
        {0x20040, 2, 0, 0x3333},
    };
    struct vm m = vm_new(0x10000);
    struct vcpu v = vcpu_new(&m, 0);

    load_code(&m, CODE_AT, mmio_code, mmio_code_end);
    vcpu_real_mode(&v, CODE_AT);
    expect_mmio(&v, steps, sizeof(steps) / sizeof(steps[0]));
    runs_to(&v, KVM_EXIT_HLT, "HLT");
    is_u64(regs_of(&v).rbx, 0xdeadbeef, "EBX holds what was read");
    is_u64(m.ram[0x7ffe] | m.ram[0x7fff] << 8, 0x3333, "PUSH from MMIO to memory");
    is_u64(regs_of(&v).rcx & 0xffff, 0, "CX ran out");
    vcpu_free(&v);
    vm_free(&m);
}

/* A 16-byte load and store: two fragments each; a load across the end of RAM. */
GUEST16(wide_code, "mov %cr4, %eax\n or $0x200, %eax\n mov %eax, %cr4\n mov $0x1000, %ax\n mov %ax, %ds\n"
                   "movups 0x10, %xmm1\n movups %xmm1, 0x20\n mov $0x0fff, %ax\n mov %ax, %ds\n mov 0xe, %eax\n hlt")

static void test_wide_mmio(void)
{
    static const struct mmio_step steps[] = {
        {0x10010, 8, 0, 0x1122334455667788}, {0x10018, 8, 0, 0x99aabbccddeeff00},
        {0x10020, 8, 1, 0x1122334455667788}, {0x10028, 8, 1, 0x99aabbccddeeff00},
        {0x10000, 2, 0, 0xbeef},
    };
    struct vm m = vm_new(0x10000);
    struct vcpu v = vcpu_new(&m, 0);

    load_code(&m, CODE_AT, wide_code, wide_code_end);
    vcpu_real_mode(&v, CODE_AT);
    memcpy(m.ram + 0xfffe, "\xad\xde", 2);
    expect_mmio(&v, steps, sizeof(steps) / sizeof(steps[0]));
    runs_to(&v, KVM_EXIT_HLT, "HLT");
    is_u64(regs_of(&v).rax, 0xbeefdead, "half from RAM, half from MMIO");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_pending_io(void)
{
    BOOT16(m, v, in_code);

    runs_to(&v, KVM_EXIT_IO, "IN");
    memcpy(pio_data(&v), "\x22\x11", 2);
    v.run->immediate_exit = 1;
    fails(vcpu_run(&v), EINTR, "immediate_exit");
    is_u64(regs_of(&v).rax & 0xffff, 0x1122, "but the IN is complete");
    is_u64(regs_of(&v).rip, CODE_AT + 4, "and RIP past it");
    fails(vcpu_run(&v), EINTR, "again");
    is_u64(regs_of(&v).rip, CODE_AT + 4, "no instruction ran");
    v.run->immediate_exit = 0;
    runs_to(&v, KVM_EXIT_IO, "on to the next IN");
    is_u64(v.run->io.port, 0x61, "port 0x61");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- leaving a guest that does not want to --- */

GUEST16(spin_code, "1: jmp 1b")

static struct kvm_run *spin_run;
static volatile int handled;

static void on_usr1(int sig)
{
    handled++;
    if (spin_run)
        spin_run->immediate_exit = 1;
}

static void *kicker(void *arg)
{
    struct timespec t = {.tv_nsec = 30000000};

    nanosleep(&t, NULL);
    pthread_kill(*(pthread_t *)arg, SIGUSR1);
    return NULL;
}

static void kicked_run(const struct vcpu *v, const char *what)
{
    pthread_t self = pthread_self(), other;

    handled = 0;
    pthread_create(&other, NULL, kicker, &self);
    fails(vcpu_run(v), EINTR, "%s: EINTR", what);
    is_u64(v->run->exit_reason, KVM_EXIT_INTR, "%s: KVM_EXIT_INTR", what);
    pthread_join(other, NULL);
}

static void test_signals(void)
{
    BOOT16(m, v, spin_code);
    struct sigaction sa = {.sa_handler = on_usr1}, ign = {.sa_handler = SIG_IGN};
    struct {
        struct kvm_signal_mask head;
        uint64_t set;
    } __attribute__((packed)) mask = {.head.len = 8, .set = 0};
    sigset_t usr1;

    sigaction(SIGUSR1, &sa, NULL);
    kicked_run(&v, "a signal");
    is_u64(handled, 1, "whose handler has run");
    spin_run = v.run;
    kicked_run(&v, "a handler that sets immediate_exit");
    spin_run = NULL;
    v.run->immediate_exit = 0;

    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    ok(!kv(v.fd, KVM_SET_SIGNAL_MASK, &mask), "a signal mask that lets SIGUSR1 through");
    kicked_run(&v, "a signal that the thread blocks");
    is_u64(handled, 0, "whose handler has not run");
    fails(vcpu_run(&v), EINTR, "it is still pending: EINTR at once");
    pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
    is_u64(handled, 1, "it is delivered when the thread wants it");
    kv(v.fd, KVM_SET_SIGNAL_MASK, NULL);
    sigaction(SIGUSR1, &ign, NULL);
    vcpu_free(&v);
    vm_free(&m);
}

/* --- the end --- */

GUEST16(shutdown_code, "lidt (1f - shutdown_code + 0x1000)\n int $3\n 1: .word 0, 0, 0")

static void test_shutdown(void)
{
    BOOT16(m, v, shutdown_code);

    runs_to(&v, KVM_EXIT_SHUTDOWN, "a triple fault is a shutdown");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_no_code(void)
{
    BOOT16(m, v, spin_code);
    struct kvm_sregs s;

    kv(v.fd, KVM_GET_SREGS, &s);
    s.cs.base = 0x40000000;
    kv(v.fd, KVM_SET_SREGS, &s);
    runs_to(&v, KVM_EXIT_INTERNAL_ERROR, "code where no memory is");
    is_u64(v.run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION, "KVM_INTERNAL_ERROR_EMULATION");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- interrupts by KVM_INTERRUPT --- */

/* Vector 0x20 goes to a handler that counts in BX and returns; the main code spins with IF clear, then set. */
GUEST16(irq_code, "movw $(1f - irq_code + 0x1000), 0x80\n movw $0, 0x82\n mov $5, %cx\n 2: loop 2b\n out %al, $0x10\n sti\n nop\n"
                  "3: nop\n out %al, $0x11\n jmp 3b\n 1: inc %bx\n iret")

static void test_window(void)
{
    BOOT16(m, v, irq_code);
    struct kvm_interrupt irq = {.irq = 0x20};

    runs_to(&v, KVM_EXIT_IO, "set up");
    ok(!v.run->ready_for_interrupt_injection && !v.run->if_flag, "IF is clear");
    v.run->request_interrupt_window = 1;
    runs_to(&v, KVM_EXIT_IRQ_WINDOW_OPEN, "the window opens after STI");
    ok(v.run->ready_for_interrupt_injection && v.run->if_flag, "and kvm_run says so");
    v.run->request_interrupt_window = 0;
    fails(kv(v.fd, KVM_INTERRUPT, &((struct kvm_interrupt){.irq = 256})), EINVAL, "vector 256");
    ok(!kv(v.fd, KVM_INTERRUPT, &irq), "KVM_INTERRUPT");
    runs_to(&v, KVM_EXIT_IO, "run on");
    is_u64(v.run->io.port, 0x11, "past the handler");
    is_u64(regs_of(&v).rbx & 0xffff, 1, "which ran once");
    runs_to(&v, KVM_EXIT_IO, "run on");
    is_u64(regs_of(&v).rbx & 0xffff, 1, "and no more");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_nmi(void)
{
    BOOT16(m, v, irq_code);
    uint16_t vec[2] = {(uint16_t)(CODE_AT + (irq_code_end - irq_code) - 2), 0};
    struct kvm_vcpu_events e;

    memcpy(m.ram + 2 * 4, vec, 4);
    runs_to(&v, KVM_EXIT_IO, "set up");
    ok(!kv(v.fd, KVM_NMI, 0), "KVM_NMI");
    kv(v.fd, KVM_GET_VCPU_EVENTS, &e);
    is_u64(e.nmi.pending, 1, "is pending");
    runs_to(&v, KVM_EXIT_IO, "run on");
    is_u64(regs_of(&v).rbx & 0xffff, 1, "taken with IF clear");
    kv(v.fd, KVM_GET_VCPU_EVENTS, &e);
    ok(!e.nmi.pending && !e.nmi.masked, "and done with");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- debugging --- */

GUEST16(debug_code, "nop\n nop\n inc %ax\n inc %ax\n hlt")

static void test_debug(void)
{
    BOOT16(m, v, debug_code);
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};

    ok(!kv(v.fd, KVM_SET_GUEST_DEBUG, &d), "single step");
    for (int i = 1; i <= 2; i++) {
        runs_to(&v, KVM_EXIT_DEBUG, "step %d", i);
        is_u64(v.run->debug.arch.pc, (uint64_t)(CODE_AT + i), "one instruction on");
        is_u64(v.run->debug.arch.exception, 1, "#DB");
        ok(v.run->debug.arch.dr6 & 1 << 14, "DR6.BS");
    }
    d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    d.arch.debugreg[0] = CODE_AT + 3;
    d.arch.debugreg[7] = 0x402;
    ok(!kv(v.fd, KVM_SET_GUEST_DEBUG, &d), "hardware breakpoint");
    runs_to(&v, KVM_EXIT_DEBUG, "hit");
    is_u64(v.run->debug.arch.pc, CODE_AT + 3, "where it was set");
    is_u64(v.run->debug.arch.dr6 & 0xf, 1, "DR6 names it");
    d.control = 0;
    kv(v.fd, KVM_SET_GUEST_DEBUG, &d);
    runs_to(&v, KVM_EXIT_HLT, "debugging off");
    is_u64(regs_of(&v).rax & 0xffff, 2, "everything ran once");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_soft_breakpoint(void)
{
    BOOT16(m, v, debug_code);
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};

    m.ram[CODE_AT + 1] = 0xcc;
    kv(v.fd, KVM_SET_GUEST_DEBUG, &d);
    runs_to(&v, KVM_EXIT_DEBUG, "INT3 with software breakpoints");
    is_u64(v.run->debug.arch.exception, 3, "#BP");
    is_u64(v.run->debug.arch.pc, CODE_AT + 1, "at the INT3");
    vcpu_free(&v);
    vm_free(&m);
}

/* A store of 4 bytes, a load, access to a debug register. */
GUEST16(data_bp_code, "mov %eax, 0x2000\n mov 0x2000, %bl\n mov %dr0, %ecx\n hlt")

/* What a debugger watches, the guest's own debug registers know nothing of. */
static void test_data_breakpoint(void)
{
    BOOT16(m, v, data_bp_code);
    struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};

    d.arch.debugreg[1] = 0x2002;
    d.arch.debugreg[7] = 0x400 | 1 << 2 | 1 << 20 /* 1 byte, writes */;
    kv(v.fd, KVM_SET_GUEST_DEBUG, &d);
    runs_to(&v, KVM_EXIT_DEBUG, "the store hits a watched byte");
    is_u64(v.run->debug.arch.dr6, 0xffff0ff2, "DR6 names it");
    is_u64(v.run->debug.arch.pc, CODE_AT + 4, "after the store");
    d.arch.debugreg[7] = 0x400 | 1 << 13 /* GD */;
    kv(v.fd, KVM_SET_GUEST_DEBUG, &d);
    runs_to(&v, KVM_EXIT_DEBUG, "access to a debug register");
    is_u64(v.run->debug.arch.dr6, 0xffff2ff0, "DR6.BD");
    is_u64(v.run->debug.arch.pc, CODE_AT + 8, "before the access");
    d.control = 0;
    kv(v.fd, KVM_SET_GUEST_DEBUG, &d);
    runs_to(&v, KVM_EXIT_HLT, "debugging off");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- memory that user space writes --- */

GUEST16(patch_code, "1: mov $1, %bl\n hlt\n jmp 1b")

static void test_patched_code(void)
{
    BOOT16(m, v, patch_code);

    runs_to(&v, KVM_EXIT_HLT, "run");
    is_u64(regs_of(&v).rbx, 1, "MOV $1");
    m.ram[CODE_AT + 1] = 7;
    runs_to(&v, KVM_EXIT_HLT, "run with the code changed from outside");
    is_u64(regs_of(&v).rbx, 7, "MOV $7");
    vcpu_free(&v);
    vm_free(&m);
}

/* --- coalesced writes --- */

static void test_coalesced(void)
{
    struct vm m = vm_new(0x10000);
    struct vcpu v = vcpu_new(&m, 0);
    int page = kv(m.sys, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO);
    struct kvm_coalesced_mmio_ring *ring = (void *)((uint8_t *)v.run + page * 4096);
    struct kvm_coalesced_mmio_zone z = {.addr = 0x20014, .size = 2};

    load_code(&m, CODE_AT, mmio_code, mmio_code_end);
    vcpu_real_mode(&v, CODE_AT);
    ok(!kv(m.fd, KVM_REGISTER_COALESCED_MMIO, &z), "a zone");
    runs_to(&v, KVM_EXIT_MMIO, "the read exits");
    memcpy(v.run->mmio.data, "\x78\x56\x34\x12", 4);
    runs_to(&v, KVM_EXIT_MMIO, "the next exit");
    is_u64(v.run->mmio.phys_addr, 0x20018, "is past the coalesced write");
    ok(ring->first == 0 && ring->last == 1, "which is in the ring");
    ok(ring->coalesced_mmio[0].phys_addr == 0x20014 && ring->coalesced_mmio[0].len == 2 &&
           !memcmp(ring->coalesced_mmio[0].data, "\x78\x56", 2),
       "in full");
    ok(!kv(m.fd, KVM_UNREGISTER_COALESCED_MMIO, &z), "zone removed");
    vcpu_free(&v);
    vm_free(&m);
}

/* The same IP with three bases of CS: each is other code. */
GUEST16(far_code_0, "mov $1, %al\n out %al, $0x10\n ljmp $0x200, $0x1000")
GUEST16(far_code_1, "mov $2, %al\n out %al, $0x10\n ljmp $0x300, $0x1000")
GUEST16(far_code_2, "mov $3, %al\n out %al, $0x10\n ljmp $0x000, $0x1000")

static void test_far_jumps(void)
{
    BOOT16(m, v, far_code_0);

    load_code(&m, 0x3000, far_code_1, far_code_1_end);
    load_code(&m, 0x4000, far_code_2, far_code_2_end);
    for (unsigned i = 0; i < 9; i++) {
        runs_to(&v, KVM_EXIT_IO, "far jump %u", i);
        is_u64(*pio_data(&v), i % 3 + 1, "code of its segment");
    }
    vcpu_free(&v);
    vm_free(&m);
}

int main(void)
{
    test_sum();
    test_in();
    test_strings();
    test_mmio();
    test_wide_mmio();
    test_pending_io();
    test_signals();
    test_shutdown();
    test_no_code();
    test_window();
    test_nmi();
    test_debug();
    test_soft_breakpoint();
    test_data_breakpoint();
    test_patched_code();
    test_coalesced();
    test_far_jumps();
    return tap_done();
}
