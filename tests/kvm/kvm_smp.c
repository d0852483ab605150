// SPDX-License-Identifier: MIT
// Several vCPU threads with an in-kernel irqchip: start-up, sleep, interrupts from every side, slots that change meanwhile.

#include "longmode.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#define RAM_SIZE 0x400000
#define FLAG_AT 0x500 /* the AP's sign of life */
#define COUNT_AT 0x508 /* interrupts taken */
#define AP_AT 0x8000
#define VECTOR 0x30

/* The guest's part of every test: x2APIC on, software enable. */
#define X2APIC_ON                                                                                  \
    "mov $0x1b, %ecx\n rdmsr\n or $0xc00, %eax\n wrmsr\n mov $0x80f, %ecx\n mov $0x1ff, %eax\n xor %edx, %edx\n wrmsr\n"
/* Counts, ends the interrupt, returns. */
#define HANDLER                                                                                    \
    ".balign 256\n push %rax\n push %rcx\n push %rdx\n incl 0x508\n mov $0x80b, %ecx\n xor %eax, %eax\n"   \
    "xor %edx, %edx\n wrmsr\n pop %rdx\n pop %rcx\n pop %rax\n iretq"

GUEST64(start_code, X2APIC_ON
    "mov $0x830, %ecx\n mov $1, %edx\n mov $0x4500, %eax\n wrmsr\n" /* INIT to APIC ID 1 */
    "mov $0x4608, %eax\n wrmsr\n"                                   /* SIPI, vector 8 */
    "1: pause\n cmpl $0x55, 0x500\n jne 1b\n"
    "movl $0x66, 0x500\n"
    "1: pause\n cmpl $0x77, 0x500\n jne 1b\n out %al, $0x10\n hlt")
GUEST16(ap_code, "movw $0x55, 0x500\n 1: pause\n cmpw $0x66, 0x500\n jne 1b\n movw $0x77, 0x500\n out %al, $0x11\n cli\n 2: hlt\n jmp 2b")

GUEST64(halt_code, X2APIC_ON "sti\n out %al, $0x10\n 1: hlt\n out %al, $0x11\n jmp 1b\n" HANDLER)

/* TSC deadline 20 ms from now, in RBX ticks. */
GUEST64(deadline_code, X2APIC_ON
    "mov $0x832, %ecx\n mov $0x40030, %eax\n xor %edx, %edx\n wrmsr\n sti\n"
    "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n mov %rax, %rsi\n add %rbx, %rax\n mov %rax, %rdx\n shr $32, %rdx\n"
    "mov $0x6e0, %ecx\n wrmsr\n hlt\n"
    "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n sub %rsi, %rax\n out %al, $0x10\n hlt\n" HANDLER)

GUEST64(spin_code, "1: incq 0x600\n pause\n jmp 1b")

struct machine {
    struct vm m;
    struct vcpu v[2];
};

static struct machine machine_new(const uint8_t *code, const uint8_t *end, unsigned vcpus)
{
    struct machine x = {.m = vm_new(RAM_SIZE)};

    ok(!kv(x.m.fd, KVM_CREATE_IRQCHIP, 0), "irqchip");
    for (unsigned i = 0; i < vcpus; i++) {
        x.v[i] = vcpu_new(&x.m, i);
        vcpu_cpuid(&x.m, &x.v[i], i);
    }
    long_mode_tables(&x.m);
    idt_gate(&x.m, VECTOR, CODE64_AT + ((size_t)(end - code) & ~255ul));
    load_code(&x.m, CODE64_AT, code, end);
    vcpu_long_mode(&x.v[0], CODE64_AT);
    return x;
}

static void machine_free(struct machine *x, unsigned vcpus)
{
    for (unsigned i = 0; i < vcpus; i++)
        vcpu_free(&x->v[i]);
    vm_free(&x->m);
}

static uint32_t word(const struct vm *m, uint64_t at)
{
    return __atomic_load_n((uint32_t *)(m->ram + at), __ATOMIC_ACQUIRE);
}

static void sleep_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* --- start-up --- */

struct ap {
    struct vcpu *v;
    int again, rc, err;
};

static void *ap_thread(void *arg)
{
    struct ap *ap = arg;

    do {
        ap->rc = vcpu_run(ap->v);
        ap->err = ap->rc ? errno : 0;
        ap->again += ap->err == EAGAIN;
    } while (ap->rc == -1 && ap->err == EAGAIN && ap->again < 10);
    return NULL;
}

static void test_start_up(void)
{
    struct machine x = machine_new(start_code, start_code_end, 2);
    struct kvm_mp_state mp;
    struct ap ap = {.v = &x.v[1]};
    struct kvm_sregs s;
    pthread_t t;

    load_code(&x.m, AP_AT, ap_code, ap_code_end);
    kv(x.v[1].fd, KVM_GET_MP_STATE, &mp);
    is_u64(mp.mp_state, KVM_MP_STATE_UNINITIALIZED, "the AP is uninitialized");
    pthread_create(&t, NULL, ap_thread, &ap);
    runs_to(&x.v[0], KVM_EXIT_IO, "the BSP gets an answer from the AP");
    pthread_join(t, NULL);
    ok(ap.rc == 0 && x.v[1].run->exit_reason == KVM_EXIT_IO && x.v[1].run->io.port == 0x11, "the AP exits for I/O");
    ok(ap.again >= 1, "after EAGAIN for its INIT");
    is_u64(word(&x.m, FLAG_AT), 0x77, "the last word in memory is the AP's");
    kv(x.v[1].fd, KVM_GET_SREGS, &s);
    is_u64(s.cs.base, AP_AT, "it runs at the SIPI's vector");
    kv(x.v[1].fd, KVM_GET_MP_STATE, &mp);
    is_u64(mp.mp_state, KVM_MP_STATE_RUNNABLE, "the AP is runnable");
    machine_free(&x, 2);
}

static void test_sipi_by_state(void)
{
    struct machine x = machine_new(halt_code, halt_code_end, 2);
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_SIPI_RECEIVED};
    struct kvm_vcpu_events e = {.sipi_vector = 8, .flags = KVM_VCPUEVENT_VALID_SIPI_VECTOR};
    struct ap ap = {.v = &x.v[1]};

    load_code(&x.m, AP_AT, ap_code, ap_code_end);
    memcpy(x.m.ram + FLAG_AT, "\x66\0", 2);
    x.m.ram[AP_AT + 4] = 0x66; /* MOVW $0x66 */
    ok(!kv(x.v[1].fd, KVM_SET_VCPU_EVENTS, &e), "a SIPI vector");
    ok(!kv(x.v[1].fd, KVM_SET_MP_STATE, &mp), "SIPI_RECEIVED");
    ap_thread(&ap);
    ok(!ap.rc && x.v[1].run->exit_reason == KVM_EXIT_IO && x.v[1].run->io.port == 0x11, "the vCPU starts there");
    machine_free(&x, 2);
}

/* --- interrupts for a sleeping vCPU --- */

struct poke {
    struct machine *x;
    int kind, efd;
    pthread_t target;
};

enum { POKE_MSI, POKE_LINE, POKE_IRQFD, POKE_SIGNAL };

static void *poker(void *arg)
{
    struct poke *p = arg;
    struct kvm_msi msi = {.address_lo = 0xfee00000, .data = VECTOR};
    struct kvm_irq_level up = {.irq = 20, .level = 1}, down = {.irq = 20};
    uint64_t one = 1;

    sleep_ms(30);
    switch (p->kind) {
    case POKE_MSI:
        is_u64(kv(p->x->m.fd, KVM_SIGNAL_MSI, &msi), 1, "KVM_SIGNAL_MSI says delivered");
        break;
    case POKE_LINE:
        ok(!kv(p->x->m.fd, KVM_IRQ_LINE, &up) && !kv(p->x->m.fd, KVM_IRQ_LINE, &down), "KVM_IRQ_LINE");
        break;
    case POKE_IRQFD:
        ok(write(p->efd, &one, 8) == 8, "eventfd");
        break;
    default:
        pthread_kill(p->target, SIGUSR1);
    }
    return NULL;
}

/* GSI 20 becomes an MSI. */
static int route(const struct vm *m)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[1];
    } r = {.head.nr = 1,
           .e = {{.gsi = 20, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = VECTOR}}}};

    return kv(m->fd, KVM_SET_GSI_ROUTING, &r);
}

static void on_usr1(int sig) { }

static void test_wake(void)
{
    static const char *const name[] = {"MSI", "IRQ line", "irqfd"};
    struct machine x = machine_new(halt_code, halt_code_end, 1);
    struct poke p = {.x = &x, .efd = eventfd(0, EFD_CLOEXEC), .target = pthread_self()};
    struct kvm_irqfd irqfd = {.fd = (uint32_t)p.efd, .gsi = 20};
    struct sigaction sa = {.sa_handler = on_usr1};
    struct kvm_mp_state mp;
    pthread_t t;
    double begin;

    ok(!route(&x.m), "GSI 20 is an MSI");
    ok(!kv(x.m.fd, KVM_IRQFD, &irqfd), "with an irqfd");
    runs_to(&x.v[0], KVM_EXIT_IO, "the guest is ready");
    for (p.kind = POKE_MSI; p.kind <= POKE_IRQFD; p.kind++) {
        begin = now_s();
        pthread_create(&t, NULL, poker, &p);
        runs_to(&x.v[0], KVM_EXIT_IO, "%s: HLT ends", name[p.kind]);
        ok(now_s() - begin > 0.02, "%s: it slept", name[p.kind]);
        pthread_join(t, NULL);
        is_u64(x.v[0].run->io.port, 0x11, "%s: past the HLT", name[p.kind]);
        is_u64(word(&x.m, COUNT_AT), (unsigned)p.kind + 1, "%s: one interrupt", name[p.kind]);
    }
    sigaction(SIGUSR1, &sa, NULL);
    pthread_create(&t, NULL, poker, &p);
    fails(vcpu_run(&x.v[0]), EINTR, "a signal ends the sleep");
    pthread_join(t, NULL);
    kv(x.v[0].fd, KVM_GET_MP_STATE, &mp);
    is_u64(mp.mp_state, KVM_MP_STATE_HALTED, "the vCPU is still halted");
    mp.mp_state = KVM_MP_STATE_RUNNABLE;
    kv(x.v[0].fd, KVM_SET_MP_STATE, &mp);
    runs_to(&x.v[0], KVM_EXIT_IO, "RUNNABLE lets it run on");
    is_u64(word(&x.m, COUNT_AT), 3, "without an interrupt");
    close(p.efd);
    machine_free(&x, 1);
}

static void test_deadline(void)
{
    struct machine x = machine_new(deadline_code, deadline_code_end, 1);
    uint64_t khz = (uint64_t)kv(x.v[0].fd, KVM_GET_TSC_KHZ, 0), took;
    struct kvm_regs r = regs_of(&x.v[0]);

    r.rbx = khz * 20;
    kv(x.v[0].fd, KVM_SET_REGS, &r);
    runs_to(&x.v[0], KVM_EXIT_IO, "the TSC deadline ends HLT");
    took = regs_of(&x.v[0]).rax;
    ok(took >= khz * 20, "not early");
    ok(took < khz * 200, "nor late: %llu us", (unsigned long long)(took * 1000 / khz));
    is_u64(word(&x.m, COUNT_AT), 1, "one interrupt");
    machine_free(&x, 1);
}

/* --- slots and dirty log while guest code runs --- */

static void *spinner(void *arg)
{
    int rc = vcpu_run(arg);

    return (void *)(intptr_t)(rc == -1 && errno == EINTR);
}

static void test_slots_meanwhile(void)
{
    struct machine x = machine_new(spin_code, spin_code_end, 2);
    uint8_t *more = ram_alloc(0x10000);
    struct sigaction sa = {.sa_handler = on_usr1};
    uint64_t bits[RAM_SIZE / 4096 / 64] = {0};
    struct kvm_dirty_log l = {.slot = 0, .dirty_bitmap = bits};
    unsigned bad = 0, logged = 0;
    struct kvm_mp_state mp = {.mp_state = KVM_MP_STATE_RUNNABLE};
    uint32_t before;
    pthread_t t[2];
    void *out[2];

    sigaction(SIGUSR1, &sa, NULL);
    vcpu_long_mode(&x.v[1], CODE64_AT);
    kv(x.v[1].fd, KVM_SET_MP_STATE, &mp);
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, spinner, &x.v[i]);
    while (!word(&x.m, 0x600))
        sleep_ms(1);
    slot(&x.m, 0, 0, RAM_SIZE, x.m.ram, KVM_MEM_LOG_DIRTY_PAGES);
    for (int i = 0; i < 50; i++) {
        bad += slot(&x.m, 1, 0x10000000, 0x10000, more, 0) != 0;
        bad += slot(&x.m, 1, 0x20000000, 0x10000, more, 0) != 0;
        bad += slot(&x.m, 1, 0, 0, NULL, 0) != 0;
        sleep_ms(1);
        bad += kv(x.m.fd, KVM_GET_DIRTY_LOG, &l) != 0;
        logged += bits[0] & 1;
    }
    is_u64(bad, 0, "slots come, move and go under two running vCPUs");
    ok(logged > 40, "and page 0 is dirty again and again: %u of 50", logged);
    before = word(&x.m, 0x600);
    sleep_ms(20);
    ok(word(&x.m, 0x600) != before, "they still run");
    for (int i = 0; i < 2; i++) {
        pthread_kill(t[i], SIGUSR1);
        pthread_join(t[i], &out[i]);
    }
    ok(out[0] && out[1], "a signal each ends them");
    machine_free(&x, 2);
    munmap(more, 0x10000);
}

static void test_chip_rules(void)
{
    struct vm m = vm_new(0x100000);
    struct kvm_irq_level l = {.irq = 4, .level = 1};
    struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_pit_config p = {.flags = 0};
    struct kvm_lapic_state lapic;
    struct kvm_interrupt irq = {.irq = 32};
    struct vcpu v;

    fails(kv(m.fd, KVM_IRQ_LINE, &l), ENXIO, "KVM_IRQ_LINE without irqchip");
    fails(kv(m.fd, KVM_GET_IRQCHIP, &c), ENXIO, "KVM_GET_IRQCHIP without irqchip");
    fails(kv(m.fd, KVM_CREATE_PIT2, &p), ENOENT, "KVM_CREATE_PIT2 without irqchip");
    ok(!kv(m.fd, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
    fails(kv(m.fd, KVM_CREATE_IRQCHIP, 0), EEXIST, "twice");
    ok(!kv(m.fd, KVM_CREATE_PIT2, &p), "KVM_CREATE_PIT2");
    fails(kv(m.fd, KVM_CREATE_PIT2, &p), EEXIST, "twice");
    ok(!kv(m.fd, KVM_GET_IRQCHIP, &c), "KVM_GET_IRQCHIP");
    ok(!kv(m.fd, KVM_SET_IRQCHIP, &c), "KVM_SET_IRQCHIP");
    c.chip_id = 9;
    fails(kv(m.fd, KVM_GET_IRQCHIP, &c), EINVAL, "an unknown chip");
    v = vcpu_new(&m, 0);
    fails(kv(v.fd, KVM_INTERRUPT, &irq), ENXIO, "KVM_INTERRUPT with an in-kernel irqchip");
    ok(!kv(v.fd, KVM_GET_LAPIC, &lapic) && !kv(v.fd, KVM_SET_LAPIC, &lapic), "KVM_GET_LAPIC, KVM_SET_LAPIC");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_split(void)
{
    struct vm m = vm_new(0x100000);
    struct kvm_enable_cap c = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_interrupt irq = {.irq = 32};
    struct kvm_lapic_state lapic;
    struct vcpu v;

    ok(!kv(m.fd, KVM_ENABLE_CAP, &c), "split irqchip");
    fails(kv(m.fd, KVM_CREATE_IRQCHIP, 0), EEXIST, "no other besides it");
    fails(kv(m.fd, KVM_GET_IRQCHIP, &chip), ENXIO, "its IOAPIC is not in the kernel");
    v = vcpu_new(&m, 0);
    ok(!kv(v.fd, KVM_GET_LAPIC, &lapic), "its LAPICs are");
    ok(!kv(v.fd, KVM_INTERRUPT, &irq), "KVM_INTERRUPT, for the 8259");
    fails(kv(v.fd, KVM_INTERRUPT, &irq), EEXIST, "one at a time");
    vcpu_free(&v);
    vm_free(&m);
}

int main(void)
{
    test_chip_rules();
    test_split();
    test_start_up();
    test_sipi_by_state();
    test_wake();
    test_deadline();
    test_slots_meanwhile();
    return tap_done();
}
