// SPDX-License-Identifier: MIT
// Random code in lock-step mode: the translator against the interpreter, block by block.

#include "cpu/jit/lockstep.h"
#include "op_cpu.h"
#include "rand.h"

#include <stdlib.h>
#include <sys/mman.h>

#define CODE    0x10000u
#define HANDLER 0x8000u
#define IDT     0x6000u
#define GDT     0x7000u
#define LEN_MAX 600
#define INSNS   40

static void prepare(void)
{
    op_reset();
    op_handler(HANDLER, IDT, GDT);
    for (unsigned i = 0; i < 16; i++)
        c->r[i] = rnd() & 1 ? DATA + (rnd() & 0xfff0) : rnd() >> (rnd() & 63);
    c->r[REG_RSP] = DATA + 0x8000 + (rnd() & 0x1ff8);
    for (unsigned i = 0; i < 0x20000; i += 8)
        put64(DATA + i, rnd() & 3 ? rnd() : DATA + (rnd() & 0xffff));
    cpu_rflags_set(c, (rnd() & RFLAGS_ARITH) | 2);
    if (rnd() & 3)
        c->vec.x87.fcw = 0x37f;
    for (unsigned i = 0; i < sizeof(c->vec.zmm); i++)
        ((u8 *)c->vec.zmm)[i] = (u8)rnd();
}

/* An instruction that decodes, its displacement made small so that it may hit memory. */
static unsigned random_insn(u8 *at)
{
    static const u8 lead[] = {0x48, 0x49, 0x4c, 0x4d, 0x66, 0x0f, 0xc5, 0xc4, 0x62,
                              0x41, 0xf3, 0xf2, 0x65, 0x67, 0xd8, 0xd9, 0xdb, 0xdd};
    struct decoded d;
    bool gp;

    for (;;) {
        for (unsigned i = 0; i < 15; i++)
            at[i] = (u8)rnd();
        if (rnd() & 1)
            at[0] = lead[rnd() % sizeof(lead)];
        if (rnd() % 4 == 0 && (at[0] & 0xf0) == 0x40)
            at[1] = 0x0f;
        if (decode_one(at, 15, MODE_64, true, &d, &gp) || d.rep || d.repne)
            continue;
        if (d.op[0].kind == OPND_IMM && d.op[0].rel)
            continue;
        if (d.has_mem && d.disp_size == 4) {
            u32 disp = (u32)rnd() & 0x3ff;

            memcpy(at + d.len - d.imm_size - 4, &disp, 4);
        }
        return d.len;
    }
}

/* A short forward branch over the instruction that follows. */
static unsigned random_branch(u8 *at, unsigned over)
{
    at[0] = 0x70 | (rnd() & 15);
    at[1] = (u8)over;
    return 2;
}

static u8 code[LEN_MAX + 16];
static unsigned insn_at[INSNS * 2 + 2], insns;

static unsigned random_code(void)
{
    unsigned len = 0;

    insns = 0;
    for (unsigned i = 0; i < INSNS && len + 40 < LEN_MAX; i++) {
        u8 insn[16];
        unsigned n = random_insn(insn);

        if (rnd() % 5 == 0) {
            insn_at[insns++] = len;
            len += random_branch(code + len, n);
        }
        insn_at[insns++] = len;
        memcpy(code + len, insn, n);
        len += n;
    }
    insn_at[insns++] = len;
    code[len++] = 0xf4;
    return len;
}

/* Offset of the instruction after the one that faulted, whose address is on the stack, or 0. */
static unsigned after_fault(void)
{
    for (unsigned slot = 0; slot < 16; slot += 8) {
        u64 at = c->r[REG_RSP] + slot;

        if (at > RAM_SIZE - 8)
            return 0;
        for (unsigned i = 0; i + 1 < insns; i++) {
            if (get64(at) == CODE + insn_at[i])
                return insn_at[i + 1];
        }
    }
    return 0;
}

static bool run_one(void)
{
    static const u8 stop = 1;
    unsigned len = random_code(), at = 0;

    prepare();
    memcpy(ram + CODE, code, len);
    mem_written(mem, CODE, len);
    c->stop_flag = &stop;
    cpu_request(c, CPU_REQ_RECHECK);
    for (unsigned i = 0; i < INSNS; i++) {
        u64 rsp = c->r[REG_RSP];

        c->rip = CODE + at;
        if (cpu_run(c) != CPU_EXIT_HLT || c->rip != HANDLER + 1)
            break;
        c->halted = false;
        at = after_fault();
        c->r[REG_RSP] = rsp;
        if (!at || c->seg[SEG_CS].sel != 8)
            break;
    }
    c->halted = false;
    return !lockstep_failed(c);
}

static void run_many(unsigned n, const char *where)
{
    for (unsigned i = 0; i < n; i++) {
        u64 at = rnd_state;

        if (!run_one()) {
            fprintf(stderr, "# the run from seed %#llx\n", (unsigned long long)at);
            ok(false, "the engines agree over random code, the vCPU %s", where);
            return;
        }
    }
    ok(true, "the engines agree over random code, the vCPU %s", where);
}

/* Leave no room where MAP_32BIT looks for it: translated code then reaches the vCPU by way of GS. */
static bool take_low_addresses(void)
{
    void *from = (void *)(1ul << 30);

    return mmap(from, (1ul << 30) - (1ul << 16), PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) == from;
}

static bool is_low(const void *p)
{
    return (uintptr_t)p >> 31 == 0;
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 2000;

    if (argc > 2)
        rnd_state = strtoull(argv[2], NULL, 0);
    setenv("UVIRT_ENGINE", "lockstep", 1);
    if (!ok(op_create() && is_low(c), "a CPU in lock-step mode, below 2 GiB"))
        return tap_done();
    run_many(n, "below 2 GiB");
    op_destroy();
    if (!ok(take_low_addresses() && op_create() && !is_low(c), "a CPU in lock-step mode, above"))
        return tap_done();
    run_many(n, "above");
    op_destroy();
    return tap_done();
}
