// SPDX-License-Identifier: MIT
// The machine that the guest test programs run on: a bare CPU, 16 MiB of RAM and a few ports; prints what they print.

#include "cpu/cpu.h"
#include "cpu/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE (16u << 20)
#define LOAD_AT 0x8000
#define LOAD_MAX 0x60000
#define RUNS_MAX 10000 /* of cpu_run() */
#define TIME_MAX 25    /* seconds: a program that loops does not loop for ever */

enum { PORT_CONSOLE = 0xe9, PORT_INTR = 0xf0, PORT_NMI, PORT_IDENT, PORT_SHUTDOWN, PORT_EXIT, PORT_EXITING = 0xf6,
       PORT_SCRATCH = 0xf8 };

/* Written by the bus, read by the loop; guest/guest.h says what the ports do. */
static struct machine {
    int vector;        /* pending, or -1 */
    unsigned shutdown; /* number of the test point that a shutdown will be; 0: none is wanted */
    int exit_code;     /* -1: still running */
    bool answered;     /* PORT_EXITING has been left for */
    u8 tpr;
    u8 fifo[256];
    u8 fifo_in, fifo_out;
    char line[256];
    unsigned line_len;
    bool failed;
} machine = {.vector = -1, .exit_code = -1};

static void console(char ch)
{
    putchar(ch);
    if (machine.line_len < sizeof(machine.line) - 1)
        machine.line[machine.line_len++] = ch;
    if (ch != '\n')
        return;
    machine.line[machine.line_len] = 0;
    if (!strncmp(machine.line, "not ok", 6) || !strncmp(machine.line, "Bail", 4))
        machine.failed = true;
    machine.line_len = 0;
}

static int io_in(struct cpu *c, u16 port, unsigned size, u32 *val)
{
    *val = ~0u;
    if (port == PORT_IDENT)
        *val = 0x42;
    if (port == PORT_SCRATCH)
        *val = machine.fifo[machine.fifo_out++];
    if (port == PORT_EXITING) {
        machine.answered = !machine.answered;
        if (machine.answered)
            return OP_EXIT;
        *val = 0x5a;
    }
    return OP_NEXT;
}

static int io_out(struct cpu *c, u16 port, unsigned size, u32 val)
{
    switch (port) {
    case PORT_CONSOLE:
        console((char)val);
        break;
    case PORT_INTR:
        machine.vector = (int)(val & 0xff);
        cpu_request(c, CPU_REQ_INTR);
        break;
    case PORT_NMI:
        cpu_request(c, CPU_REQ_NMI);
        break;
    case PORT_SHUTDOWN:
        machine.shutdown = val;
        break;
    case PORT_EXIT:
        machine.exit_code = (int)val;
        cpu_request(c, CPU_REQ_EXIT);
        return OP_STOP;
    case PORT_EXITING:
        cpu_request(c, CPU_REQ_EXIT);
        return OP_STOP;
    case PORT_SCRATCH:
        machine.fifo[machine.fifo_in++] = (u8)val;
        break;
    default:
        break;
    }
    return OP_NEXT;
}

static int mmio_read(struct cpu *c, gpa_t gpa, void *buf, unsigned size)
{
    memset(buf, 0xff, size);
    return OP_NEXT;
}

static int mmio_write(struct cpu *c, gpa_t gpa, const void *buf, unsigned size) { return OP_NEXT; }
static int msr_read(struct cpu *c, u32 index, u64 *val) { return OP_FAULT; }
static int msr_write(struct cpu *c, u32 index, u64 val) { return OP_FAULT; }
static bool intr_pending(struct cpu *c) { return machine.vector >= 0; }
static u8 cr8_read(struct cpu *c) { return machine.tpr; }
static void cr8_write(struct cpu *c, u8 tpr) { machine.tpr = tpr; }

static int intr_ack(struct cpu *c)
{
    int v = machine.vector;

    machine.vector = -1;
    return v;
}

static int hypercall(struct cpu *c)
{
    c->r[REG_RAX] = ~c->r[REG_RAX];
    return OP_NEXT;
}

static const struct cpu_bus bus = {
    .io_in = io_in, .io_out = io_out, .mmio_read = mmio_read, .mmio_write = mmio_write, .msr_read = msr_read,
    .msr_write = msr_write, .intr_ack = intr_ack, .intr_pending = intr_pending, .cr8_read = cr8_read,
    .cr8_write = cr8_write, .hypercall = hypercall,
};

static int load(const char *path, u8 *ram)
{
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f)
        return -1;
    n = fread(ram + LOAD_AT, 1, LOAD_MAX, f);
    fclose(f);
    return n > 0 && n < LOAD_MAX ? 0 : -1;
}

static void dump(const struct cpu *c, const char *why)
{
    printf("Bail out! %s\n# mode %u cpl %u rip %llx rsp %llx cs %x rflags %llx cr0 %llx cr2 %llx exc %u %x\n", why,
           c->mode, c->cpl, (unsigned long long)c->rip, (unsigned long long)c->r[REG_RSP], c->seg[SEG_CS].sel,
           (unsigned long long)cpu_rflags_get(c), (unsigned long long)c->cr0, (unsigned long long)c->cr2,
           c->exc.vector, c->exc.error);
}

/* Run to the end. The exit status. */
static int run(struct cpu *c)
{
    for (unsigned i = 0; i < RUNS_MAX; i++) {
        int why = cpu_run(c);

        atomic_fetch_and(&c->request, ~(u32)CPU_REQ_EXIT);
        if (machine.exit_code >= 0)
            return machine.exit_code || machine.failed;
        switch (why) {
        case CPU_EXIT_INTR:
        case CPU_EXIT_BUS:
            break;
        case CPU_EXIT_SHUTDOWN:
            if (!machine.shutdown) {
                dump(c, "shutdown");
                return 1;
            }
            printf("ok %u - a fault that cannot be delivered: shutdown\n1..%u\n", machine.shutdown, machine.shutdown);
            return machine.failed;
        default:
            if (why == CPU_EXIT_HLT && (machine.vector >= 0 || c->nmi_pending))
                break;
            dump(c, why == CPU_EXIT_HLT ? "halted for good" : "the CPU gave up");
            return 1;
        }
    }
    dump(c, "still running");
    return 1;
}

static int set_model(struct cpu *c, const char *model)
{
    static struct cpu_cpuid_entry e[CPU_CPUID_MAX];
    int n = cpu_cpuid_model(model, e, CPU_CPUID_MAX);

    return n < 0 ? n : cpu_cpuid_set(c, e, (unsigned)n);
}

int main(int argc, char **argv)
{
    struct cpu_world *world;
    struct mem *mem;
    struct cpu *c;
    u8 *ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int rc;

    setvbuf(stdout, NULL, _IOLBF, 0);
    alarm(TIME_MAX);
    if (argc < 2 || argc > 3 || ram == MAP_FAILED || load(argv[1], ram)) {
        printf("Bail out! usage: sys_guest PROGRAM [CPU-MODEL]\n");
        return 1;
    }
    if (mem_create(&mem) || mem_slot_set(mem, 0, 0, RAM_SIZE, ram, 0) || cpu_world_create(&world) ||
        cpu_create(&c, world, mem, &bus, NULL)) {
        printf("Bail out! no machine\n");
        return 1;
    }
    if (argc == 3 && set_model(c, argv[2])) {
        printf("Bail out! no such CPU model\n");
        return 1;
    }
    c->seg[SEG_CS].sel = 0;
    c->seg[SEG_CS].base = 0;
    c->rip = LOAD_AT;
    rc = run(c);
    cpu_free(c);
    cpu_world_free(world);
    mem_free(mem);
    munmap(ram, RAM_SIZE);
    return rc;
}
