// SPDX-License-Identifier: MIT
// AMX in translated code: what is called directly refuses whenever it must, and random code does what it does in the interpreter.

#include "cpu/amx/amx.h"
#include "cpu/amx/direct.h"
#include "cpu/amx/form.h"
#include "op_cpu.h"
#include "rand.h"

#include <stdlib.h>

#define CODE                                                                                       \
    (DATA + 0x30000) /* a page for each program: the translator gives up one that changes often */
#define HANDLER   0x8000u
#define IDT       0x6000u
#define GDT       0x7000u
#define STACK     (DATA + 0x20000)
#define CFGS      DATA /* configurations, one every 64 bytes */
#define CFG_COUNT 64
#define AREA      (DATA + 0x4000) /* tile loads and stores */
#define AREA_SIZE 0x8000u
#define PROGRAMS  250
#define RUNS      48 /* of each; the first dozen is interpreted by both */
#define INSNS     14

/* --- the functions by themselves --- */

static void config(u8 rows, u8 colsb)
{
    c->amx.palette = 1;
    c->amx.start_row = 0;
    for (unsigned t = 0; t < AMX_TILES; t++) {
        c->amx.rows[t] = rows;
        c->amx.colsb[t] = colsb;
    }
}

static int load(u64 lin, u64 stride)
{
    return amx_direct_load(c, lin, stride, 1, amx_rows_kernel());
}

static int store(u64 lin, u64 stride)
{
    return amx_direct_store(c, lin, stride, 1, amx_rows_kernel());
}

static int zero(void)
{
    return amx_direct_zero(c, 0, 0, 1, amx_rows_kernel());
}

static int dp(void)
{
    return amx_direct_dp(c, amx_direct_tiles(1, 2, 3), AMX_INT8, 1, amx_dp_kernel(AMX_DPBUSD));
}

/* The pages of AREA are in the TLB, for stores too; tiles exist. */
static void ready(void)
{
    u8 byte = 0;

    op_reset();
    config(16, 64);
    ok(!amx_tiles_alloc(&c->amx), "tiles");
    for (u64 lin = AREA; lin < AREA + AREA_SIZE; lin += PAGE_SIZE)
        mmu_store(c, lin, &byte, 1, 0);
}

static bool refuses_all(void)
{
    return load(AREA, 64) && store(AREA, 64) && zero() && dp();
}

static void test_refusals(void)
{
    ready();
    ok(!load(AREA, 64) && !store(AREA, 64) && !zero() && !dp(), "all are done when all is well");
    ok(!load(AREA + 0xf00, 128) && !store(AREA + 0xc40, 192),
       "rows that are in several pages, none in two");
    c->xfd = XCR0_XTILEDATA;
    ok(refuses_all(), "XFD armed: refused");
    c->xfd = 0;
    c->xcr0 &= ~XCR0_XTILEDATA;
    ok(refuses_all(), "XCR0 without tile data: refused");
    c->xcr0 |= XCR0_XTILEDATA;
    c->cr4 &= ~CR4_OSXSAVE;
    ok(refuses_all(), "without CR4.OSXSAVE: refused");
    c->cr4 |= CR4_OSXSAVE;
    c->amx_missing |= (u32)BIT(AMX_INT8);
    ok(dp() && !zero(), "a product that CPUID does not offer: refused");
    c->amx_missing &= ~(u32)BIT(AMX_INT8);
    amx_cfg_clear(&c->amx);
    ok(refuses_all(), "no configuration: refused");
    config(16, 64);
    c->amx.rows[1] = 15;
    ok(dp() && !load(AREA, 64), "shapes that do not fit: refused");
    config(16, 62);
    ok(dp() && load(AREA, 64) && store(AREA, 64), "columns that are no whole dwords: refused");
    config(16, 64);
    c->amx.start_row = 1;
    ok(load(AREA, 64) && store(AREA, 64) && !zero() && !c->amx.start_row,
       "loads and stores that are to be restarted: refused");
}

static void test_pages(void)
{
    u8 first;

    ready();
    rnd_fill(ram + AREA, AREA_SIZE);
    page_set(AREA + 0x2000, false, false);
    mmu_load(c, AREA + 0x1000, &first, 1, 0);
    ok(load(AREA + 0x1fc1, 64) && !c->amx.start_row,
       "a first row across the end of a page: refused");
    ok(load(AREA + 0x1e00, 64) && c->amx.start_row == 8,
       "the ninth row's page is not there: the op goes on from it");
    ok(!memcmp(c->amx.tile[1], ram + AREA + 0x1e00, 8 * 64), "and the first eight are loaded");
    c->amx.start_row = 0;
    ok(load(AREA + 0x1fc0, -64ull) == 0 && !memcmp(c->amx.tile[1][15], ram + AREA + 0x1c00, 64),
       "a negative stride");
    page_set(AREA + 0x1000, true, false);
    mmu_load(c, AREA + 0x1000, &first, 1, 0);
    ok(!load(AREA + 0x1000, 64) && store(AREA + 0x1000, 64), "a page that is not to be written");
    page_set(AREA, true, true);
    mmu_store(c, AREA, &first, 1, 0);
    page_code(AREA);
    ok(store(AREA, 64), "a page with code in it: stores are refused");
}

/* --- random code in two machines --- */

struct machine {
    struct cpu *c;
    struct mem *mem;
    struct cpu_world *world;
    u8 *ram;
};

static struct machine machines[2]; /* the interpreter alone; the translator */

static void use(unsigned n)
{
    c = machines[n].c;
    mem = machines[n].mem;
    world = machines[n].world;
    ram = machines[n].ram;
}

static void machine_make(unsigned n)
{
    op_create();
    op_reset();
    op_handler(HANDLER, IDT, GDT);
    for (u64 lin = 0; lin < DATA; lin += PAGE_SIZE) /* tables and code: bases can be small */
        page_set(lin, true, false);
    machines[n] = (struct machine){c, mem, world, ram};
}

static u8 code[INSNS * 16 + 1];

/* Bases point into AREA, indices are small. */
static const u8 bases[] = {REG_RAX, REG_RBX, REG_RSP, REG_RBP, REG_RDI,
                           REG_R8,  REG_R9,  REG_R10, REG_R12, REG_R13};
static const u8 indices[] = {REG_RCX, REG_RDX, REG_RSP /* none */, REG_R11, REG_R14, REG_R15};

/* VEX, W0, L0, and a memory operand: with base and index, or (cfg) [rsi]. */
static unsigned put_memory_form(u8 *at, unsigned pp, unsigned opcode, unsigned reg, bool cfg)
{
    unsigned n = 0, mod = 1 + rnd() % 2;
    unsigned base = bases[rnd() % sizeof(bases)], index = indices[rnd() % sizeof(indices)];

    if (cfg)
        base = REG_RSI;
    if (rnd() % 6 == 0)
        at[n++] = rnd() & 1 ? 0x64 : 0x65;
    if (rnd() % 24 == 0)
        at[n++] = 0x67;
    at[n++] = 0xc4;
    at[n++] = (u8)(0x82 | (~index >> 3 & 1) << 6 | (~base >> 3 & 1) << 5);
    at[n++] = (u8)(0x78 | pp);
    at[n++] = (u8)opcode;
    if (cfg) {
        at[n++] = REG_RSI; /* [rsi] */
        return n;
    }
    at[n++] = (u8)(mod << 6 | reg << 3 | 4);
    at[n++] = (u8)((rnd() & 3) << 6 | (index & 7) << 3 | (base & 7));
    at[n++] = (u8)(rnd() & 0x3f);
    if (mod == 2) {
        memset(at + n, 0, 3);
        n += 3;
    }
    return n;
}

static unsigned put_product(u8 *at)
{
    static const u8 op[][2] = {{3, 0x5e}, {2, 0x5e}, {1, 0x5e}, {0, 0x5e}, {2, 0x5c}, {3, 0x5c}};
    const u8 *o = op[rnd() % 5 + (rnd() % 32 == 0)];
    unsigned d = rnd() & 3, s1 = 4 + (rnd() & 1), s2 = 6 + (rnd() & 1);

    memcpy(at, (u8[]){0xc4, 0xe2, (u8)(o[0] | (~s2 & 15) << 3), o[1], (u8)(0xc0 | d << 3 | s1)}, 5);
    return 5;
}

/* Something that has flags, a vector or an x87 register to lose. */
static unsigned put_other(u8 *at)
{
    static const u8 some[][7] = {
        {6, 0x62, 0xf1, 0x75, 0x48, 0xfe, 0xca}, /* vpaddd zmm1, zmm1, zmm2 */
        {6, 0x62, 0xf1, 0x64, 0x48, 0x58, 0xdc}, /* vaddps zmm3, zmm3, zmm4 */
        {4, 0x49, 0x83, 0xd7, 0x01},             /* adc r15, 1 */
        {4, 0x48, 0x83, 0xc0, 0x40},             /* add rax, 64 */
        {3, 0x4d, 0x8b, 0xca},                   /* mov r9, r10 */
        {1, 0xf9},                               /* stc */
        {2, 0xd8, 0xc1},                         /* fadd st, st(1) */
    };
    unsigned i = rnd() % ARRAY_SIZE(some);

    memcpy(at, some[i] + 1, some[i][0]);
    return some[i][0];
}

static unsigned put_insn(u8 *at)
{
    unsigned t = rnd() & 7;

    switch (rnd() % 16) {
    case 0:
        return put_memory_form(at, 0, 0x49, 0, true); /* LDTILECFG */
    case 1:
        memcpy(at, (u8[]){0xc4, 0xe2, 0x7b, 0x49, (u8)(0xc0 | t << 3)}, 5); /* TILEZERO */
        return 5;
    case 2:
    case 3:
    case 4:
        return put_memory_form(at, rnd() % 4 ? 3 : 1, 0x4b, t, false); /* TILELOADD, T1 */
    case 5:
    case 6:
        return put_memory_form(at, 2, 0x4b, t, false); /* TILESTORED */
    case 7:
        if (rnd() % 8)
            return put_other(at);
        memcpy(at, (u8[]){0xc4, 0xe2, 0x78, 0x49, 0xc0}, 5); /* TILERELEASE */
        return 5;
    case 8:
    case 9:
    case 10:
        return put_other(at);
    default:
        return put_product(at);
    }
}

static void new_program(u64 at)
{
    unsigned len = 0;

    for (unsigned i = 0; i < INSNS; i++)
        len += put_insn(code + len);
    code[len++] = 0xf4;
    for (unsigned n = 0; n < 2; n++) {
        memcpy(machines[n].ram + at, code, len);
        mem_written(machines[n].mem, at, len);
        cpu_request(machines[n].c, CPU_REQ_RECHECK);
    }
}

static void random_config(u8 *p)
{
    unsigned rows = rnd() % 3 ? 16 : 1 + rnd() % 16, colsb = rnd() % 3 ? 64 : 4 * rows;

    memset(p, 0, 64);
    p[0] = rnd() % 24 ? 1 : (u8)(rnd() % 3);
    p[1] = rnd() % 8 ? 0 : (u8)(rnd() % 17);
    for (unsigned t = 0; t < 8; t++) {
        bool none = rnd() % 60 == 0;

        p[16 + 2 * t] = none ? 0 : rnd() % 20 ? (u8)colsb : (u8)(1 + rnd() % 64);
        p[48 + t] = none ? 0 : (u8)(t < 6 ? rows : colsb / 4);
    }
}

/* What both machines begin a run with. Page tables change now and then only, so that the TLB is warm mostly. */
static void random_state(unsigned run)
{
    u64 r[16], fs = rnd() & 0xfc0, page = AREA + (rnd() & 0x7000), kind = rnd() % 8;
    u64 xfd = rnd() % 16 ? 0 : XCR0_XTILEDATA, xcr0 = rnd() % 24 ? ~0ull : ~XCR0_XTILEDATA;
    u64 cr4 = rnd() % 24 ? CR4_OSXSAVE : 0;
    bool change = rnd() % 4 == 0, fresh = rnd() % 16 == 0;
    u16 flags = (u16)(rnd() & RFLAGS_ARITH);
    u8 cfg[64], bytes[256];

    random_config(cfg);
    rnd_fill(bytes, sizeof(bytes));
    for (unsigned i = 0; i < 16; i++)
        r[i] = (rnd() & 3) * 64;
    for (unsigned i = 0; i < sizeof(bases); i++)
        r[bases[i]] = AREA + 0x1800 + (rnd() & 0x3fc0);
    if (rnd() % 16 == 0)
        r[rnd() & 15] = (rnd() & 1 ? -64ull : rnd());
    r[REG_RSI] = CFGS + rnd() % CFG_COUNT * 64;
    r[REG_RSP] = STACK; /* for faults too */
    for (unsigned n = 0; n < 2; n++) {
        use(n);
        memcpy(c->r, r, sizeof(r));
        memset(ram + STACK - 64, 0, 64);
        cpu_rflags_set(c, flags | 2);
        c->seg[SEG_FS].base = c->seg[SEG_GS].base = fs;
        c->xfd = xfd;
        c->xfd_err = c->cr2 = 0;
        c->xcr0 = cpu_xcr0_supported() & xcr0;
        c->cr4 = (c->cr4 & ~CR4_OSXSAVE) | cr4;
        if (run == 0 || fresh) {
            amx_tiles_clear(&c->amx);
            amx_cfg_clear(&c->amx);
            for (unsigned i = 0; i < CFG_COUNT; i++)
                memcpy(ram + CFGS + i * 64, cfg, 64);
        }
        if (rnd_state & 2)
            memcpy(ram + CFGS + (rnd_state >> 8) % CFG_COUNT * 64, cfg, 64);
        amx_cfg_unpack(&c->amx, cfg);
        for (unsigned i = 0; i < sizeof(c->vec.zmm); i++)
            ((u8 *)c->vec.zmm)[i] = bytes[i % 251];
        c->vec.x87.mxcsr = 0x1f80;
        c->vec.x87.fcw = 0x37f;
        c->vec.x87.ftw = 0xff;
        if (!change)
            continue;
        for (u64 lin = AREA; lin < AREA + AREA_SIZE; lin += PAGE_SIZE)
            page_set(lin, true, true);
        if (kind > 4)
            continue;
        if (kind == 1)
            page_mmio(page);
        else if (kind == 4)
            page_code(page);
        else
            page_set(page, kind != 0, kind != 2);
    }
}

static int run(unsigned n, u64 at)
{
    use(n);
    c->rip = at;
    c->halted = false;
    c->exc = (struct cpu_event){0};
    return cpu_run(c);
}

/* RFLAGS in the frame of a fault. */
static void flags_hide(u8 *of)
{
    memset(of + STACK - 24, 0, 8);
}

static const char *difference(void)
{
    const struct machine *a = &machines[0], *b = &machines[1];
    static const u8 none[AMX_TILES * sizeof(*c->amx.tile)];
    bool fault = a->c->rip == HANDLER + 1;
    u8 cfg[2][64];

    amx_cfg_pack(&a->c->amx, cfg[0]);
    amx_cfg_pack(&b->c->amx, cfg[1]);
    if (memcmp(a->c->r, b->c->r, 16 * sizeof(u64)))
        return "general registers";
    if (a->c->rip != b->c->rip)
        return "RIP";
    if (fault) { /* dead flags need not be right: docs/engine.md */
        flags_hide(a->ram);
        flags_hide(b->ram);
    } else if (cpu_rflags_get(a->c) != cpu_rflags_get(b->c)) {
        return "RFLAGS";
    }
    if (a->c->cr2 != b->c->cr2 || a->c->xfd_err != b->c->xfd_err)
        return "CR2 or XFD_ERR";
    if (memcmp(a->c->vec.zmm, b->c->vec.zmm, sizeof(a->c->vec.zmm)) ||
        memcmp(&a->c->vec.x87, &b->c->vec.x87, sizeof(a->c->vec.x87)))
        return "vector or x87 registers";
    if (memcmp(cfg[0], cfg[1], 64) || a->c->amx.tile_inuse != b->c->amx.tile_inuse)
        return "the tile configuration";
    if (memcmp(a->c->amx.tile ? a->c->amx.tile[0][0] : none,
               b->c->amx.tile ? b->c->amx.tile[0][0] : none, sizeof(none)))
        return "tiles";
    if (memcmp(a->ram + DATA, b->ram + DATA, 0x30000))
        return "memory";
    return NULL;
}

static void test_random(void)
{
    unsigned bad = 0, ended = 0, faults = 0;

    setenv("UVIRT_ENGINE", "interp", 1);
    machine_make(0);
    ram[CODE] = 0xf4;
    run(0, CODE); /* which settles the engine */
    unsetenv("UVIRT_ENGINE");
    machine_make(1);
    for (unsigned i = 0; i < 0x30000; i++)
        machines[0].ram[DATA + i] = machines[1].ram[DATA + i] = i & 1 ? 0x3f : (u8)(rnd() & 0x7f);
    for (unsigned p = 0; p < PROGRAMS && bad < 5; p++) {
        u64 at = CODE + p * PAGE_SIZE;

        new_program(at);
        for (unsigned i = 0; i < RUNS && bad < 5; i++) {
            const char *what;
            int want, got;

            random_state(i);
            want = run(0, at);
            got = run(1, at);
            what = want == got ? difference() : "how it ended";
            ended += machines[0].c->rip != HANDLER + 1;
            faults += machines[0].c->rip == HANDLER + 1;
            if (!what)
                continue;
            bad++;
            printf("# program %u run %u: %s differ, RIP %#llx and %#llx\n", p, i, what,
                   (unsigned long long)machines[0].c->rip, (unsigned long long)machines[1].c->rip);
        }
    }
    is_u64(bad, 0, "%u random programs do in the translator what they do in the interpreter",
           PROGRAMS);
    ok(machines[1].c->stats.translated >= PROGRAMS && !machines[0].c->stats.translated,
       "one machine translates, the other does not");
    ok(ended > PROGRAMS * RUNS / 8 && faults > PROGRAMS * RUNS / 8,
       "%u runs came to their end, %u to a fault", ended, faults);
    for (unsigned n = 0; n < 2; n++) {
        use(n);
        op_destroy();
    }
}

int main(void)
{
    if (!op_create())
        return tap_skip_all("no memory");
    test_refusals();
    test_pages();
    op_destroy();
    test_random();
    return tap_done();
}
