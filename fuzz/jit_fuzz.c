// SPDX-License-Identifier: MIT
// A page of arbitrary code in lock-step mode: the engines agree, and nothing happens to the host.

#include "cpu/jit/lockstep.h"
#include "cpu/op_cpu.h"
#include "fuzz.h"

#define CODE     0x10000u
#define CODE_MAX 2048u
#define HANDLER  0x8000u
#define IDT      0x6000u
#define GDT      0x7000u
#define RUNS     16 /* of cpu_run(): each exception ends one */

static bool ready(void)
{
    static int state;

    if (!state) {
        setenv("UVIRT_ENGINE", "lockstep", 1);
        state = op_create() ? 1 : -1;
    }
    return state > 0;
}

/* A 64-bit kernel's bare minimum: every exception ends at a HLT. */
static void prepare(struct fuzz_input *in)
{
    op_reset();
    op_handler(HANDLER, IDT, GDT);
    memset(ram + DATA, 0x5a, 0x10000);
    for (unsigned i = 0; i < 16; i++)
        c->r[i] = i & 1 ? DATA + fuzz_u16(in) : fuzz_u64(in);
    c->r[REG_RSP] = DATA + 0x8000;
    c->vec.x87.fcw = 0x37f;
    cpu_rflags_set(c, (fuzz_u16(in) & RFLAGS_ARITH) | 2);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static const u8 stop = 1;
    struct fuzz_input in = {data, size};
    size_t len;

    if (!ready())
        return 0;
    prepare(&in);
    len = in.size < CODE_MAX ? in.size : CODE_MAX;
    memset(ram + CODE, 0xf4, CODE_MAX + 16);
    memcpy(ram + CODE, in.data, len);
    mem_written(mem, 0, RAM_SIZE);
    cpu_request(c, CPU_REQ_RECHECK);
    c->stop_flag = &stop;
    c->rip = CODE;
    for (unsigned i = 0; i < RUNS; i++) {
        int why = cpu_run(c);

        if (lockstep_failed(c))
            abort();
        if (why != CPU_EXIT_HLT || c->seg[SEG_CS].sel != 8)
            break;
        c->halted = false;
        c->rip = CODE + (c->rip * 7 + i * 61) % (CODE_MAX - 1);
        c->r[REG_RSP] = DATA + 0x8000;
    }
    c->halted = false;
    return 0;
}
