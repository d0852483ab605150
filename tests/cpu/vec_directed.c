// SPDX-License-Identifier: MIT
// Vector, MMX and x87 instructions where order and precision matter: faults, masks, restarts, availability.

#include "tap.h"
#include "vec_guest.h"

#include "cpu/mmu/access.h"
#include "cpu/vec/codebuf.h"
#include "cpu/vec/host.h"

#include <Zydis/MetaInfo.h>
#include <pthread.h>

#define MXCSR_ZM BIT(9)
#define MXCSR_ZE BIT(2)
#define FSW_ES BIT(7)

#define INSN(...) ((const u8[16]){__VA_ARGS__})
#define FAULT (-1)

static struct guest g;
static struct cpu *c;
static u8 *mem; /* what the guest has at SCRATCH_LIN */

static void reset(void)
{
    guest_reset(&g, host_has_avx512() ? 0xe7 : host_has_avx() ? 7 : 3);
    guest_paging(&g);
    memset(mem, 0, SCRATCH_SIZE);
    memset(c->vec.zmm, 0, sizeof(c->vec.zmm));
    memset(c->vec.k, 0, sizeof(c->vec.k));
    memset(c->vec.x87.st, 0, sizeof(c->vec.x87.st));
    c->r[REG_RAX] = SCRATCH_LIN;
    c->r[REG_IPBASE] = GUEST_RIP;
}

static int run_mode(const u8 *bytes, enum cpu_mode_size mode)
{
    struct decoded d;
    struct insn in;

    c->exc.pending = false;
    c->mode = (u8)mode;
    if (guest_decode(bytes, 15, mode, &d, &in))
        return -100;
    return in.op(c, &in);
}

static int run(const u8 *bytes)
{
    return run_mode(bytes, MODE_64);
}

/* The vector raised, or -1 when the instruction completes. */
static int raised(const u8 *bytes)
{
    int rc = run(bytes);

    return rc == OP_FAULT ? c->exc.vector : rc >= 0 ? -1 : rc;
}

static void set_f32(unsigned reg, unsigned i, float v)
{
    memcpy(&c->vec.zmm[reg][4 * i], &v, 4);
}

static u32 lane(unsigned reg, unsigned i)
{
    u32 v;

    memcpy(&v, &c->vec.zmm[reg][4 * i], 4);
    return v;
}

static void set_lane(unsigned reg, unsigned i, u32 v)
{
    memcpy(&c->vec.zmm[reg][4 * i], &v, 4);
}

static u32 word(u64 off)
{
    u32 v;

    memcpy(&v, mem + off, 4);
    return v;
}

static void fill_words(void)
{
    for (u32 i = 0; i < SCRATCH_SIZE / 4; i++)
        memcpy(mem + 4 * i, &(u32){i + 1}, 4);
}

static void test_simd_exception(void)
{
    const u8 *divps = INSN(0x0f, 0x5e, 0xca); /* xmm1, xmm2 */

    reset();
    set_f32(1, 0, 1.0f);
    is_u64(raised(divps), -1, "masked division by zero completes");
    is_u64(lane(1, 0), 0x7f800000, "with infinity");
    ok(c->vec.x87.mxcsr & MXCSR_ZE, "and ZE");
    reset();
    set_f32(1, 0, 1.0f);
    c->vec.x87.mxcsr &= ~(u32)MXCSR_ZM;
    is_u64(raised(divps), EXC_XM, "unmasked division by zero: #XM");
    is_u64(lane(1, 0), 0x3f800000, "the destination stays");
    ok(c->vec.x87.mxcsr & MXCSR_ZE, "ZE is set");
    reset();
    set_f32(1, 0, 1.0f);
    c->vec.x87.mxcsr &= ~(u32)MXCSR_ZM;
    c->cr4 &= ~CR4_OSXMMEXCPT;
    is_u64(raised(divps), EXC_UD, "without CR4.OSXMMEXCPT: #UD");
}

static void test_x87_exception(void)
{
    reset();
    c->vec.x87.fcw = 0x37f & ~4; /* ZM */
    run(INSN(0xd9, 0xe8));       /* fld1 */
    run(INSN(0xd9, 0xee));       /* fldz */
    is_u64(raised(INSN(0xde, 0xf9)), -1, "fdivp by zero, unmasked, only leaves it pending");
    ok(c->vec.x87.fsw & FSW_ES, "FSW.ES is set");
    is_u64(raised(INSN(0xdf, 0xe0)), -1, "fnstsw does not wait");
    is_u64((u16)c->r[REG_RAX], c->vec.x87.fsw, "and stores FSW to AX");
    c->r[REG_RAX] = SCRATCH_LIN;
    is_u64(raised(INSN(0xd9, 0xe8)), EXC_MF, "the next waiting instruction: #MF");
    is_u64(raised(INSN(0x9b)), EXC_MF, "fwait: #MF");
    is_u64(raised(INSN(0x0f, 0xfc, 0xc1)), EXC_MF, "an MMX instruction: #MF");
    is_u64(raised(INSN(0xd9, 0x30)), -1, "fnstenv does not wait");
    ok(!(c->vec.x87.fsw & FSW_ES), "and masks the exception");
    is_u64(raised(INSN(0xdb, 0xe2)), -1, "fnclex does not wait");
    is_u64(raised(INSN(0xd9, 0xe8)), -1, "after it there is nothing to report");
}

static void test_x87_store(void)
{
    u16 fsw;

    reset();
    c->vec.x87.fcw = 0x37f & ~1; /* IM */
    memset(mem, 0xaa, 16);
    is_u64(raised(INSN(0xd9, 0x18)), -1, "fstp from an empty register, unmasked");
    is_u64(word(0), 0xaaaaaaaa, "stores nothing");
    ok(c->vec.x87.fsw & FSW_ES, "and leaves the exception pending");
    reset();
    run(INSN(0xd9, 0xe8));
    fsw = c->vec.x87.fsw;
    c->r[REG_RAX] = SCRATCH_END - 4;
    is_u64(raised(INSN(0xdd, 0x18)), EXC_PF, "fstp m64 into an absent page: #PF");
    is_u64(c->exc.payload, SCRATCH_END, "at its address");
    is_u64(c->vec.x87.fsw, fsw, "nothing is popped");
    is_u64(word(SCRATCH_SIZE - 4), 0, "nothing is stored");
}

static void test_x87_pointers(void)
{
    u16 fop;

    reset();
    c->r[REG_RAX] = SCRATCH_LIN + 64;
    run(INSN(0xd9, 0x00)); /* fld dword [rax] */
    is_u64(c->vec.x87.fip, GUEST_RIP, "FIP is the guest's RIP");
    is_u64(c->vec.x87.fdp, SCRATCH_LIN + 64, "FDP is the operand's address");
    is_u64(c->vec.x87.fop, 0x100, "FOP is the opcode");
    run(INSN(0xd9, 0x30)); /* fnstenv [rax] */
    is_u64(word(64 + 12), (u32)GUEST_RIP, "fnstenv: FIP");
    memcpy(&fop, mem + 64 + 18, 2);
    is_u64(fop, 0x100, "fnstenv: FOP");
    is_u64(word(64 + 20), (u32)SCRATCH_LIN + 64, "fnstenv: FDP");
}

/* 14-byte environments hold addresses of 20 bits in real-address mode: SDM 1 figure 8-12. */
static void test_x87_real_mode(void)
{
    u16 w[7];

    reset();
    c->cr0 = CR0_NE;
    c->efer = 0;
    tlb_flush(c);
    c->vec.x87.fip = 0x54321;
    c->vec.x87.fdp = 0xfedcb;
    c->vec.x87.fop = 0x123;
    for (unsigned i = 0; i < SEG_TR; i++)
        c->seg[i] = (struct cpu_seg){.limit = 0xffff, .ar = 0x93};
    c->seg[SEG_NONE] = (struct cpu_seg){0};
    c->seg[SEG_DS].base = SCRATCH_GPA;
    c->r[REG_RBX] = 0x40;
    is_u64(run_mode(INSN(0xd9, 0x37), MODE_16), 0, "fnstenv [bx] in real-address mode");
    memcpy(w, mem + 0x40, sizeof(w));
    is_u64(w[3], 0x4321, "IP, low");
    is_u64(w[4], 0x5123, "IP, high, and opcode");
    is_u64(w[5], 0xedcb, "operand, low");
    is_u64(w[6], 0xf000, "operand, high");
    c->r[REG_RBX] = 0xfff8;
    is_u64(run_mode(INSN(0xd9, 0x37), MODE_16), FAULT, "past the segment limit it faults");
    is_u64(c->exc.vector, EXC_GP, "#GP");
    is_u64(run_mode(INSN(0xc5, 0xe8, 0x58, 0xcb), MODE_16), FAULT, "VEX in real-address mode faults");
    is_u64(c->exc.vector, EXC_UD, "#UD");
}

static void test_alignment(void)
{
    static const struct {
        u8 bytes[8];
        int vector;
        bool avx;
        const char *name;
    } rows[] = {
        {{0x0f, 0x28, 0x08}, EXC_GP, false, "movaps load"},
        {{0x0f, 0x29, 0x08}, EXC_GP, false, "movaps store"},
        {{0x0f, 0x10, 0x08}, -1, false, "movups"},
        {{0x0f, 0x58, 0x08}, EXC_GP, false, "addps m128"},
        {{0xf3, 0x0f, 0x58, 0x08}, -1, false, "addss m32"},
        {{0xf2, 0x0f, 0xf0, 0x08}, -1, false, "lddqu"},
        {{0x66, 0x0f, 0x3a, 0x63, 0x08}, -1, false, "pcmpistri m128"},
        {{0xc5, 0xe8, 0x58, 0x08}, -1, true, "vaddps m128"},
        {{0xc5, 0xfc, 0x28, 0x08}, EXC_GP, true, "vmovaps m256"},
        {{0xc5, 0xfc, 0x10, 0x08}, -1, true, "vmovups m256"},
        {{0xc5, 0xfd, 0xe7, 0x08}, EXC_GP, true, "vmovntdq m256"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].avx && !host_has_avx()) {
            skip("no AVX", "unaligned %s", rows[i].name);
            continue;
        }
        reset();
        c->r[REG_RAX] = SCRATCH_LIN + 24;
        if (strstr(rows[i].name, "256"))
            c->r[REG_RAX] = SCRATCH_LIN + 16;
        is_u64(raised(rows[i].bytes), rows[i].vector, "unaligned %s", rows[i].name);
    }
}

/* An operand whose second half lies in an absent page. */
static void test_masked(void)
{
    reset();
    fill_words();
    c->r[REG_RAX] = SCRATCH_END - 16;
    c->vec.k[1] = 0xf;
    is_u64(raised(INSN(0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x08)), -1, "vmovdqu32 {k}{z}: lanes in the absent page are off");
    is_u64(lane(1, 3), SCRATCH_SIZE / 4, "the others are loaded");
    is_u64(lane(1, 4), 0, "those are zero");
    c->vec.k[1] = 0x1f;
    set_lane(1, 0, 77);
    is_u64(raised(INSN(0x62, 0xf1, 0x7e, 0x49, 0x6f, 0x08)), EXC_PF, "with the fifth lane on: #PF");
    is_u64(c->exc.payload, SCRATCH_END, "at that lane");
    is_u64(lane(1, 0), 77, "the destination stays");
    is_u64(raised(INSN(0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x08)), EXC_PF, "a store with it: #PF");
    is_u64(word(SCRATCH_SIZE - 16), SCRATCH_SIZE / 4 - 3, "and no lane is stored");
    c->vec.k[1] = 0x5;
    is_u64(raised(INSN(0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x08)), -1, "a store without it");
    is_u64(word(SCRATCH_SIZE - 16), 77, "lane 0 is stored");
    is_u64(word(SCRATCH_SIZE - 12), SCRATCH_SIZE / 4 - 2, "lane 1 is not");
    c->r[REG_RAX] = SCRATCH_END;
    c->vec.k[1] = 0;
    is_u64(raised(INSN(0x62, 0xf1, 0x6c, 0x59, 0x58, 0x08)), -1, "a broadcast with no lane on cannot fault");
    c->vec.k[1] = 0x8000;
    is_u64(raised(INSN(0x62, 0xf1, 0x6c, 0x59, 0x58, 0x08)), EXC_PF, "with any lane on it can");
    c->r[REG_RAX] = SCRATCH_END - 16;
    c->vec.k[1] = 1;
    is_u64(raised(INSN(0x62, 0xf2, 0x6d, 0x49, 0x36, 0x08)), EXC_PF, "vpermd reads everything whatever the mask");
}

static void test_packed_lanes(void)
{
    reset();
    fill_words();
    for (unsigned i = 0; i < 16; i++)
        set_lane(1, i, 100 + i);
    c->r[REG_RAX] = SCRATCH_END - 8;
    c->vec.k[1] = 0x8001;
    is_u64(raised(INSN(0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x08)), -1, "vpcompressd of two lanes at the end of a page");
    is_u64(word(SCRATCH_SIZE - 4), 115, "stores them");
    c->vec.k[1] = 0x0180;
    is_u64(raised(INSN(0x62, 0xf2, 0x7d, 0xc9, 0x89, 0x08)), -1, "vpexpandd of two lanes there");
    is_u64(lane(1, 8), 115, "loads them");
    c->vec.k[1] = 0x0181;
    is_u64(raised(INSN(0x62, 0xf2, 0x7d, 0x49, 0x8b, 0x08)), EXC_PF, "three lanes fault");
}

static void test_maskmov(void)
{
    reset();
    fill_words();
    c->r[REG_RAX] = c->r[REG_RDI] = SCRATCH_END - 8;
    set_lane(1, 0, 5);
    set_lane(1, 1, 6);
    set_lane(2, 1, 0x80000000);
    if (host_has_avx()) {
        is_u64(raised(INSN(0xc4, 0xe2, 0x6d, 0x8e, 0x08)), -1, "vpmaskmovd store at the end of a page");
        is_u64(word(SCRATCH_SIZE - 4), 6, "stores the lane");
        is_u64(word(SCRATCH_SIZE - 8), SCRATCH_SIZE / 4 - 1, "and only that");
        is_u64(raised(INSN(0xc4, 0xe2, 0x6d, 0x8c, 0x08)), -1, "vpmaskmovd load there");
        is_u64(lane(1, 1), 6, "loads the lane");
        is_u64(lane(1, 0), 0, "and zeroes the others");
        set_lane(2, 2, 0x80000000);
        is_u64(raised(INSN(0xc4, 0xe2, 0x6d, 0x8c, 0x08)), EXC_PF, "a lane behind it faults");
        set_lane(2, 2, 0);
    }
    set_lane(1, 1, 0x11223344);
    is_u64(raised(INSN(0x66, 0x0f, 0xf7, 0xca)), -1, "maskmovdqu at the end of a page");
    is_u64(word(SCRATCH_SIZE - 4), 0x11000006, "stores the byte");
    set_lane(2, 3, 0x80);
    mem[SCRATCH_SIZE - 1] = 0;
    is_u64(raised(INSN(0x66, 0x0f, 0xf7, 0xca)), EXC_PF, "a byte behind it faults");
    is_u64(mem[SCRATCH_SIZE - 1], 0, "and then none is stored");
}

/* Index register 2 = 0, 1 … but (bad) points behind the scratch pages. */
static void gather_setup(unsigned bad)
{
    reset();
    fill_words();
    for (unsigned i = 0; i < 16; i++) {
        set_lane(2, i, i == bad ? SCRATCH_SIZE / 4 : i);
        set_lane(3, i, 0x80000000);
    }
    c->vec.k[1] = 0xffff;
}

static void test_gather(void)
{
    const u8 *vex = INSN(0xc4, 0xe2, 0x65, 0x90, 0x0c, 0x90), *evex = INSN(0x62, 0xf2, 0x7d, 0x49, 0x90, 0x0c, 0x90);
    const u8 *scatter = INSN(0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x0c, 0x90);

    gather_setup(5);
    is_u64(raised(vex), EXC_PF, "vpgatherdd ymm with a bad element 5");
    is_u64(c->exc.payload, SCRATCH_END, "faults there");
    is_u64(lane(1, 4), 5, "earlier elements are in place");
    is_u64(lane(3, 4), 0, "their mask is clear");
    is_u64(lane(3, 5), 0xffffffff, "the mask of the bad one is not");
    set_lane(2, 5, 5);
    memset(mem, 0, 4);
    is_u64(raised(vex), -1, "run again it completes");
    is_u64(lane(1, 0), 1, "without reading finished elements anew");
    is_u64(lane(1, 7), 8, "the rest is in place");
    is_u64(lane(3, 7), 0, "the mask is zero");
    if (!host_has_avx512()) {
        skip("no AVX-512", "EVEX gather and scatter");
        return;
    }
    gather_setup(11);
    is_u64(raised(evex), EXC_PF, "vpgatherdd zmm with a bad element 11");
    is_u64(c->vec.k[1], 0xf800, "leaves the mask of what is to be done");
    set_lane(2, 11, 11);
    is_u64(raised(evex), -1, "run again it completes");
    is_u64(lane(1, 15), 16, "all is in place");
    is_u64(c->vec.k[1], 0, "the mask is zero");
    gather_setup(3);
    set_lane(1, 2, 42);
    is_u64(raised(scatter), EXC_PF, "vpscatterdd with a bad element 3");
    is_u64(c->vec.k[1], 0xfff8, "leaves the mask of what is to be done");
    is_u64(word(8), 42, "earlier elements are stored");
}

struct availability {
    u8 bytes[8];
    u64 cr0_set, cr0_clear, cr4_clear, xcr0_clear, rflags_set;
    int vector;
    const char *name;
};

static const struct availability availability_rows[] = {
    {{0x0f, 0x28, 0xca}, CR0_EM, 0, 0, 0, 0, EXC_UD, "SSE, CR0.EM"},
    {{0x0f, 0x28, 0xca}, 0, 0, CR4_OSFXSR, 0, 0, EXC_UD, "SSE, no CR4.OSFXSR"},
    {{0x0f, 0x28, 0xca}, CR0_TS, 0, 0, 0, 0, EXC_NM, "SSE, CR0.TS"},
    {{0x0f, 0x28, 0xca}, CR0_TS, 0, CR4_OSFXSR, 0, 0, EXC_UD, "SSE: #UD before #NM"},
    {{0x0f, 0x28, 0xca}, 0, 0, CR4_OSXSAVE, 0xe6, 0, -1, "SSE does not need XCR0"},
    {{0xf3, 0x48, 0x0f, 0x2d, 0x00}, 0, 0, CR4_OSFXSR, 0, 0, EXC_UD, "cvtss2si r64, m32 is SSE"},
    {{0xc5, 0xe8, 0x59, 0xcb}, 0, 0, CR4_OSXSAVE, 0, 0, EXC_UD, "AVX, no CR4.OSXSAVE"},
    {{0xc5, 0xe8, 0x59, 0xcb}, 0, 0, 0, XCR0_AVX, 0, EXC_UD, "AVX, no XCR0.AVX"},
    {{0xc5, 0xe8, 0x59, 0xcb}, 0, 0, 0, XCR0_SSE, 0, EXC_UD, "AVX, no XCR0.SSE"},
    {{0xc5, 0xe8, 0x59, 0xcb}, CR0_TS, 0, 0, 0, 0, EXC_NM, "AVX, CR0.TS"},
    {{0xc5, 0xe8, 0x59, 0xcb}, 0, 0, CR4_OSFXSR, XCR0_AVX512, 0, -1, "AVX needs neither OSFXSR nor AVX-512"},
    {{0xc5, 0xf8, 0x77}, 0, 0, 0, XCR0_AVX, 0, EXC_UD, "vzeroupper, no XCR0.AVX"},
    {{0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x08}, 0, 0, 0, XCR0_ZMM_HI256, 0, EXC_UD, "AVX-512, no XCR0.ZMM_Hi256"},
    {{0xc4, 0xe1, 0xf8, 0x90, 0xca}, 0, 0, 0, XCR0_OPMASK, 0, EXC_UD, "kmovq, no XCR0.opmask"},
    {{0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x08}, CR0_TS, 0, 0, 0, 0, EXC_NM, "AVX-512, CR0.TS"},
    {{0x0f, 0xfc, 0xc1}, CR0_EM, 0, 0, 0, 0, EXC_UD, "MMX, CR0.EM"},
    {{0x0f, 0xfc, 0xc1}, CR0_TS, 0, 0, 0, 0, EXC_NM, "MMX, CR0.TS"},
    {{0x0f, 0xfc, 0xc1}, 0, 0, CR4_OSFXSR, 0, 0, -1, "MMX does not need CR4.OSFXSR"},
    {{0xd9, 0xe8}, CR0_EM, 0, 0, 0, 0, EXC_NM, "x87, CR0.EM"},
    {{0xd9, 0xe8}, CR0_TS, 0, 0, 0, 0, EXC_NM, "x87, CR0.TS"},
    {{0xdb, 0xe3}, CR0_TS, 0, 0, 0, 0, EXC_NM, "fninit, CR0.TS"},
    {{0x9b}, CR0_TS, 0, 0, 0, 0, EXC_NM, "fwait, CR0.MP and TS"},
    {{0x9b}, CR0_TS, CR0_MP, 0, 0, 0, -1, "fwait, CR0.TS alone"},
};

static void test_availability(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(availability_rows); i++) {
        const struct availability *a = &availability_rows[i];
        bool wide = a->bytes[0] == 0x62 || a->bytes[3] == 0x90;

        if ((a->bytes[0] == 0xc5 && !host_has_avx()) || (wide && !host_has_avx512())) {
            skip("not on this host", "%s", a->name);
            continue;
        }
        reset();
        c->cr0 = (c->cr0 | a->cr0_set) & ~a->cr0_clear;
        c->cr4 &= ~a->cr4_clear;
        c->xcr0 &= ~a->xcr0_clear;
        is_u64(raised(a->bytes), a->vector, "%s", a->name);
    }
}

/* Protected mode: segment limits, and per lane for masked operands. */
static void test_legacy_segments(void)
{
    reset();
    for (unsigned i = 0; i < SEG_NONE; i++)
        c->seg[i] = (struct cpu_seg){.limit = 0xffffffff, .ar = SEG_AR_P | SEG_AR_S | 0x3};
    c->seg[SEG_DS].base = SCRATCH_LIN;
    c->seg[SEG_DS].limit = 0x20f;
    fill_words();
    c->r[REG_RAX] = 0x200;
    is_u64(run_mode(INSN(0x0f, 0x28, 0x08), MODE_32), 0, "movaps up to the segment limit");
    is_u64(lane(1, 0), 0x81, "loads");
    c->r[REG_RAX] = 0x208;
    is_u64(run_mode(INSN(0x0f, 0x10, 0x08), MODE_32), FAULT, "movups across it faults");
    is_u64(c->exc.vector, EXC_GP, "#GP");
    if (!host_has_avx512()) {
        skip("no AVX-512", "masked lanes and the limit");
        return;
    }
    c->vec.k[1] = 3;
    is_u64(run_mode(INSN(0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x08), MODE_32), 0, "masked lanes behind it do not matter");
    is_u64(lane(1, 1), 0x84, "the others are loaded");
    c->vec.k[1] = 4;
    is_u64(run_mode(INSN(0x62, 0xf1, 0x7e, 0xc9, 0x6f, 0x08), MODE_32), FAULT, "a lane that is on does");
}

static void test_code_page(void)
{
    struct mem_slot *slot = mem_slot_find(g.mem, SCRATCH_GPA);

    reset();
    mmu_mark_code(c, slot, SCRATCH_GPA, 16);
    set_lane(1, 0, 9);
    is_u64(run(INSN(0x0f, 0x11, 0x08)), OP_STOP, "movups onto decoded code stops the block");
    is_u64(word(0), 9, "after storing");
    mmu_mark_code(c, slot, SCRATCH_GPA, 16);
    is_u64(run(INSN(0x66, 0x0f, 0xd6, 0x08)), OP_STOP, "so does movq");
    if (host_has_avx512()) {
        mmu_mark_code(c, slot, SCRATCH_GPA, 16);
        c->vec.k[1] = 1;
        is_u64(run(INSN(0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x08)), OP_STOP, "so does a masked store");
    }
}

/* --- code memory --- */

static bool code_is_never_writable(void)
{
    char line[512];
    unsigned rx = 0, rwx = 0;
    FILE *f = fopen("/proc/self/maps", "r");

    while (f && fgets(line, sizeof(line), f)) {
        if (!strstr(line, "uvirt-code"))
            continue;
        rx += strstr(line, "r-xs") != NULL;
        rwx += strstr(line, "rwxs") != NULL;
    }
    if (f)
        fclose(f);
    return rx && !rwx;
}

/* Lower the same 4096 forms from two threads. */
static void *lower_many(void *arg)
{
    const void **out = arg;

    for (unsigned i = 0; i < 4096; i++) {
        u8 bytes[16] = {0x66, (u8)(0x40 | (i >> 8 & 5)), 0x0f, 0x70, (u8)(0xc0 | (i & 0x3f)), (u8)(i >> 6)};
        struct decoded d;
        struct insn in;

        out[i] = guest_decode(bytes, 15, MODE_64, &d, &in) ? NULL : in.aux;
    }
    return NULL;
}

static void test_cache(void)
{
    static const void *a[4096], *b[4096];
    pthread_t t;
    unsigned bad = 0;

    pthread_create(&t, NULL, lower_many, a);
    lower_many(b);
    pthread_join(t, NULL);
    for (unsigned i = 0; i < 4096; i++)
        bad += !a[i] || a[i] != b[i];
    is_u64(bad, 0, "two threads get the same stub for the same form");
    ok(code_is_never_writable(), "no mapping of code is writable and executable");
}

/* With no room for another stub, instructions still run: from their bytes in memory. */
static void test_no_room(void)
{
    const u8 code[] = {0x66, 0x0f, 0xfe, 0x18,        /* paddd xmm3, [rax] */
                       0xd9, 0xff,                    /* fcos */
                       0x66, 0x44, 0x0f, 0xd7, 0xd1}; /* pmovmskb r10d, xmm1 */
    struct decoded d;
    struct insn in;
    u64 at = 0;

    reset();
    codebuf_limit(0);
    memcpy(mem + 0x100, code, sizeof(code));
    c->r[REG_IPBASE] = SCRATCH_LIN;
    memcpy(mem, &(u32){40}, 4);
    set_lane(3, 0, 2);
    set_lane(1, 3, 0x80808080);
    c->vec.x87.ftw = 0x01;
    c->mode = MODE_64;
    for (unsigned i = 0; i < 3; i++) {
        bool gp;

        decode_one(code + at, sizeof(code) - (unsigned)at, MODE_64, true, &d, &gp);
        insn_from_decoded(&d, &in, 0x100 + (unsigned)at);
        at += d.len;
        is_u64(vec_lower(&d, &in), 0, "lowered without room for a stub");
        is_u64(in.op(c, &in), OP_NEXT, "runs");
    }
    is_u64(lane(3, 0), 42, "paddd from memory");
    is_u64(c->r[REG_R10], 0xf000, "pmovmskb to a general register");
    is_u64(c->vec.x87.st[0][7], 0x80, "fcos of 0");
    codebuf_limit(CODEBUF_MAX);
}

int main(void)
{
    if (!ok(guest_create(&g, 3) == 0, "guest made"))
        return tap_done();
    c = g.c;
    mem = g.ram + SCRATCH_GPA;
    test_simd_exception();
    test_x87_exception();
    test_x87_store();
    test_x87_pointers();
    test_x87_real_mode();
    test_alignment();
    if (host_has_avx512()) {
        test_masked();
        test_packed_lanes();
    } else {
        skip("no AVX-512", "masked operands");
    }
    test_maskmov();
    if (host_runs(ZYDIS_ISA_SET_AVX2GATHER))
        test_gather();
    else
        skip("no AVX2", "gathers");
    test_availability();
    test_legacy_segments();
    test_code_page();
    test_cache();
    test_no_room();
    guest_free(&g);
    return tap_done();
}
