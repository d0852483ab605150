// SPDX-License-Identifier: MIT
// AMX instructions as a guest has them: encodings, what is #UD and #NM, features that it lacks, the table in docs.

#include "amx_codes.h"
#include "cpu/amx/kernel.h"

#include <errno.h>

/* --- encodings, as other people's assemblers have them --- */

static bool decodes(const struct code *k)
{
    const struct amx_form *f = form_of(k);
    struct insn in = {0};
    u8 bytes[15] = {0};
    u64 last;

    memcpy(bytes, k->byte, k->len);
    if (!f || decode_insn(bytes, 15, MODE_64, true, 0, &in) != k->len || in.op != f->op ||
        in.x[0] != f->arg || in.x[1] != f->feature || in.reg != k->reg || in.rm != k->rm)
        return false;
    last = !is_row(f) ? in.vvvv : in.x[2] ? in.imm : in.vvvv / 8u;
    for (unsigned n = 1; n < k->len; n++) { /* no more and no fewer bytes than it has */
        struct insn part;

        if (decode_insn(bytes, n, MODE_64, true, 0, &part) != -EAGAIN)
            return false;
    }
    return last == k->vvvv && decode_insn(bytes, k->len, MODE_64, true, 0, &in) == k->len;
}

static void encodings(void)
{
    unsigned seen = 0, forms = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        ok(decodes(&codes[i]), "%s: %02x %02x %02x … is it, with these operands", codes[i].name,
           codes[i].byte[0], codes[i].byte[1], codes[i].byte[2]);
    }
    for (const struct amx_form *f = amx_forms; f->name; f++, forms++) {
        for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
            if (form_of(&codes[i]) == f) {
                seen++;
                break;
            }
        }
    }
    is_u64(seen, forms, "every form of the table is among them");
}

/* What the compiler's own assembler makes of the instructions that it knows. */
#define ASSEMBLE(label, text)                                                                      \
    __asm__(".pushsection .rodata\n" label ":\n" text "\n" label "_end:\n.popsection");

extern const u8 as_first[], as_first_end[], as_fp16[], as_fp16_end[], as_complex[],
    as_complex_end[], as_fp8[], as_fp8_end[], as_tf32[], as_tf32_end[], as_movrs[], as_movrs_end[],
    as_avx512[], as_avx512_end[];

#if AS_AMX_INT8
ASSEMBLE("as_first", "ldtilecfg (%rax)\nsttilecfg (%rax)\ntilerelease\ntilezero %tmm3\n"
                     "tileloadd (%rax,%rdx), %tmm6\ntileloaddt1 (%rax,%rdx), %tmm6\n"
                     "tilestored %tmm6, (%rax,%rdx)\ntdpbssd %tmm4, %tmm5, %tmm6\n"
                     "tdpbsud %tmm4, %tmm5, %tmm6\ntdpbusd %tmm4, %tmm5, %tmm6\n"
                     "tdpbuud %tmm4, %tmm5, %tmm6\ntdpbf16ps %tmm4, %tmm5, %tmm6")
#endif
#if AS_AMX_FP16
ASSEMBLE("as_fp16", "tdpfp16ps %tmm4, %tmm5, %tmm6")
#endif
#if AS_AMX_COMPLEX
ASSEMBLE("as_complex", "tcmmimfp16ps %tmm4, %tmm5, %tmm6\ntcmmrlfp16ps %tmm4, %tmm5, %tmm6")
#endif
#if AS_AMX_FP8
ASSEMBLE("as_fp8", "tdpbf8ps %tmm4, %tmm5, %tmm6\ntdpbhf8ps %tmm4, %tmm5, %tmm6\n"
                   "tdphbf8ps %tmm4, %tmm5, %tmm6\ntdphf8ps %tmm4, %tmm5, %tmm6")
#endif
#if AS_AMX_TF32
ASSEMBLE("as_tf32", "tmmultf32ps %tmm4, %tmm5, %tmm6")
#endif
#if AS_AMX_MOVRS
ASSEMBLE("as_movrs", "tileloaddrs (%rax,%rdx), %tmm6\ntileloaddrst1 (%rax,%rdx), %tmm6")
#endif
#if AS_AMX_AVX512
ASSEMBLE("as_avx512", "tcvtrowd2ps %ecx, %tmm5, %zmm22\ntcvtrowd2ps $123, %tmm5, %zmm22\n"
                      "tcvtrowps2bf16h %edx, %tmm2, %zmm30\ntcvtrowps2bf16h $123, %tmm5, %zmm30\n"
                      "tcvtrowps2bf16l %edx, %tmm5, %zmm30\ntcvtrowps2bf16l $123, %tmm2, %zmm30\n"
                      "tcvtrowps2phh %ecx, %tmm5, %zmm22\ntcvtrowps2phh $123, %tmm2, %zmm22\n"
                      "tcvtrowps2phl %ecx, %tmm5, %zmm22\ntcvtrowps2phl $123, %tmm2, %zmm22\n"
                      "tilemovrow %ecx, %tmm3, %zmm22\ntilemovrow $123, %tmm2, %zmm22")
#endif

/* Codes from the one called (name) on are the bytes [from, to). */
static void assembled(const char *name, const u8 *from, const u8 *to)
{
    const u8 *at = from;
    unsigned i = 0;

    while (strcmp(codes[i].name, name))
        i++;
    for (; at < to && i < ARRAY_SIZE(codes); i++) {
        if (codes[i].byte[1] == 0xa5) /* no assembler makes this one */
            continue;
        if (memcmp(at, codes[i].byte, codes[i].len))
            break;
        at += codes[i].len;
    }
    ok(at == to, "from %s on: as the assembler has them", name);
}

static void assembler(void)
{
#if AS_AMX_INT8
    assembled("LDTILECFG", as_first, as_first_end);
#else
    skip("the assembler does not know them", "AMX-TILE, INT8, BF16 by the assembler");
#endif
#if AS_AMX_FP16
    assembled("TDPFP16PS", as_fp16, as_fp16_end);
#else
    skip("the assembler does not know it", "AMX-FP16 by the assembler");
#endif
#if AS_AMX_COMPLEX
    assembled("TCMMIMFP16PS", as_complex, as_complex_end);
#else
    skip("the assembler does not know them", "AMX-COMPLEX by the assembler");
#endif
#if AS_AMX_FP8
    assembled("TDPBF8PS", as_fp8, as_fp8_end);
#else
    skip("the assembler does not know them", "AMX-FP8 by the assembler");
#endif
#if AS_AMX_TF32
    assembled("TMMULTF32PS", as_tf32, as_tf32_end);
#else
    skip("the assembler does not know it", "AMX-TF32 by the assembler");
#endif
#if AS_AMX_MOVRS
    assembled("TILELOADDRS", as_movrs, as_movrs_end);
#else
    skip("the assembler does not know them", "AMX-MOVRS by the assembler");
#endif
#if AS_AMX_AVX512
    assembled("TCVTROWD2PS", as_avx512, as_avx512_end);
#else
    skip("the assembler does not know them", "AMX-AVX512 by the assembler");
#endif
}

/* --- what is #UD --- */

/* Change byte (at) of each code by XOR; all must be #UD. (which): a shape, or -1 for all of ours; (enc): VEX or EVEX. */
static void mutate(int which, u8 enc, unsigned at, u8 change, const char *what)
{
    unsigned bad = 0, count = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        const struct amx_form *f = form_of(&codes[i]);
        u8 bytes[15] = {0};

        if (f->mnemonic <= ZYDIS_MNEMONIC_MAX_VALUE || f->enc != enc ||
            (which >= 0 && f->shape != which))
            continue;
        memcpy(bytes, codes[i].byte, codes[i].len);
        bytes[at] ^= change;
        fresh(16, 64);
        count++;
        if (op_raised(op_run(bytes, sizeof(bytes)), EXC_UD))
            continue;
        bad++;
        printf("# %s\n", codes[i].name);
    }
    ok(count && !bad, "%s: #UD, %u forms", what, count);
}

static void undefined_encodings(void)
{
    mutate(-1, AMX_ENC_VEX, 2, 0x80, "VEX.W1");
    mutate(-1, AMX_ENC_VEX, 2, 0x04, "VEX.L1");
    mutate(-1, AMX_ENC_VEX, 1, 0x80, "VEX.R: tmm8 and up");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 1, 0x20, "VEX.B: tmm8 and up");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 2, 0x40, "VEX.vvvv naming tmm8 and up");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 4, 0xc0, "memory in place of a tile");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 4, 0x18, "destination and first source the same");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 4, 0x01, "the sources the same");
    mutate(AMX_SHAPE_TILES, AMX_ENC_VEX, 4, 0x10, "destination and second source the same");
    mutate(AMX_SHAPE_SIB, AMX_ENC_VEX, 2, 0x08, "VEX.vvvv in use");
    mutate(AMX_SHAPE_SIB, AMX_ENC_VEX, 4, 0x04, "no SIB byte");
    mutate(AMX_SHAPE_SIB, AMX_ENC_VEX, 4, 0xc0, "a register in place of memory");
    mutate(-1, AMX_ENC_EVEX, 1, 0x08, "EVEX byte 1 bit 3, which is APX's");
    mutate(-1, AMX_ENC_EVEX, 2, 0x04, "EVEX byte 2 bit 2, which is APX's");
    mutate(-1, AMX_ENC_EVEX, 2, 0x80, "EVEX.W1");
    mutate(-1, AMX_ENC_EVEX, 3, 0x80, "EVEX.z");
    mutate(-1, AMX_ENC_EVEX, 3, 0x40, "EVEX.L'L 0");
    mutate(-1, AMX_ENC_EVEX, 3, 0x60, "EVEX.L'L 1");
    mutate(-1, AMX_ENC_EVEX, 3, 0x20, "EVEX.L'L 3");
    mutate(-1, AMX_ENC_EVEX, 3, 0x10, "EVEX.b");
    mutate(-1, AMX_ENC_EVEX, 3, 0x08, "EVEX.V'");
    mutate(-1, AMX_ENC_EVEX, 3, 0x01, "a mask register");
    mutate(-1, AMX_ENC_EVEX, 1, 0x20, "EVEX.B: tmm8 and up");
    mutate(-1, AMX_ENC_EVEX, 1, 0x40, "EVEX.X: tmm16 and up");
    mutate(-1, AMX_ENC_EVEX, 5, 0xc0, "memory in place of a tile");
    mutate(AMX_SHAPE_ROW_IMM, AMX_ENC_EVEX, 2, 0x08, "EVEX.vvvv in use beside an immediate");
}

static void prefixes(void)
{
    static const u8 bad[] = {0x66, 0xf2, 0xf3, 0xf0, 0x48, 0x41},
                    fine[] = {0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x67};
    unsigned wrong = 0, refused = 0;
    u8 bytes[15];

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        memset(bytes, 0, sizeof(bytes));
        memcpy(bytes + 1, codes[i].byte, codes[i].len);
        for (unsigned p = 0; p < sizeof(bad); p++) {
            fresh(16, 64);
            bytes[0] = bad[p];
            wrong += !op_raised(op_run(bytes, sizeof(bytes)), EXC_UD);
        }
        for (unsigned p = 0; p < sizeof(fine); p++) {
            fresh(16, 64);
            bytes[0] = fine[p];
            refused += op_run(bytes, sizeof(bytes)) != OP_NEXT;
        }
    }
    is_u64(wrong, 0, "66, F2, F3, LOCK and REX before any of them are #UD");
    is_u64(refused, 0, "segment and address-size prefixes are not");
    fresh(16, 64);
    memset(bytes, 0x2e, sizeof(bytes));
    memcpy(bytes + 11, "\xc4\xe2\x5b\x5c", 4);
    ok(op_raised(op_run(bytes, sizeof(bytes)), EXC_GP), "more than 15 bytes are #GP");
}

/* --- enabling --- */

/* How the instruction of each code fares after (change) has been made to a CPU that runs it. */
static unsigned not_raised(void (*change)(const struct amx_form *f), u8 vector,
                           bool (*concerns)(const struct amx_form *f))
{
    unsigned bad = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        const struct amx_form *f = form_of(&codes[i]);

        fresh(16, 64);
        c->r[REG_RAX] = f->shape == AMX_SHAPE_MEM ? CFG : SRC;
        change(f);
        if (concerns && !concerns(f))
            bad += run_code(&codes[i]) != OP_NEXT;
        else
            bad += !op_raised(run_code(&codes[i]), vector);
    }
    return bad;
}

static void lack_feature(const struct amx_form *f)
{
    c->amx_missing = (u32)BIT(f->feature);
}
static void lack_others(const struct amx_form *f)
{
    c->amx_missing = ~(u32)BIT(f->feature);
}
static void lack_osxsave(const struct amx_form *f)
{
    c->cr4 &= ~CR4_OSXSAVE;
}
static void lack_tiledata(const struct amx_form *f)
{
    c->xcr0 &= ~XCR0_XTILEDATA;
}
static void lack_zmm(const struct amx_form *f)
{
    c->xcr0 &= ~XCR0_HI16_ZMM;
}
static void lack_ymm(const struct amx_form *f)
{
    c->xcr0 &= ~(XCR0_AVX | XCR0_AVX512);
}
static void set_ts(const struct amx_form *f)
{
    c->cr0 |= CR0_TS;
}
static void set_xfd(const struct amx_form *f)
{
    c->xfd = XCR0_XTILEDATA;
}
static void unconfigure(const struct amx_form *f)
{
    memset(&c->amx.palette, 0, offsetof(struct cpu_amx, tile));
}
static void nothing(const struct amx_form *f)
{
}
static bool on_data(const struct amx_form *f)
{
    return f->shape != AMX_SHAPE_MEM && f->shape != AMX_SHAPE_NONE;
}
static bool none(const struct amx_form *f)
{
    return false;
}

static unsigned outside_64(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        if (codes[i].byte[1] < 0xc0) /* LES or BOUND there */
            continue;
        fresh(16, 64);
        op_mode_32();
        bad += !op_raised(run_code(&codes[i]), EXC_UD);
    }
    return bad;
}

static void enabling(void)
{
    bool zmm = cpu_xcr0_supported() & XCR0_AVX512;

    if (!zmm) {
        skip("the host has no AVX-512, so its guests have no AMX-AVX512",
             "what enables instructions");
        return;
    }
    is_u64(not_raised(nothing, 0, none), 0, "all instructions run when all is enabled");
    is_u64(not_raised(lack_feature, EXC_UD, NULL), 0, "without its own CPUID bit each is #UD");
    is_u64(not_raised(lack_others, 0, none), 0, "and only its own counts");
    is_u64(not_raised(lack_osxsave, EXC_UD, NULL), 0, "without CR4.OSXSAVE: #UD");
    is_u64(not_raised(lack_tiledata, EXC_UD, NULL), 0, "without XCR0[18]: #UD");
    is_u64(not_raised(lack_zmm, EXC_UD, is_row), 0,
           "without XCR0[7] rows to zmm are #UD, no others");
    is_u64(not_raised(lack_ymm, EXC_UD, is_row), 0, "without XCR0[2] the same");
    is_u64(not_raised(set_ts, EXC_NM, is_row), 0, "with CR0.TS rows to zmm are #NM, no others");
    is_u64(not_raised(set_xfd, EXC_NM, on_data), 0, "with XFD[18] all on tile data are #NM");
    is_u64(not_raised(unconfigure, EXC_UD, on_data), 0, "unconfigured all on tile data are #UD");
    is_u64(outside_64(), 0, "outside 64-bit mode all are #UD");

    fresh(16, 64);
    c->cr0 |= CR0_TS;
    c->xfd = XCR0_XTILEDATA;
    ok(op_raised(run_code(&codes[ARRAY_SIZE(codes) - 1]), EXC_NM) && !c->xfd_err,
       "the #NM of CR0.TS comes before that of XFD: XFD_ERR stays");
    c->cr0 &= ~CR0_TS;
    ok(op_raised(run_code(&codes[ARRAY_SIZE(codes) - 1]), EXC_NM) && c->xfd_err == XCR0_XTILEDATA,
       "which then says why");
    c->xcr0 &= ~XCR0_HI16_ZMM;
    ok(op_raised(run_code(&codes[ARRAY_SIZE(codes) - 1]), EXC_UD), "XCR0 comes before both");
}

/* The guest's table decides, bit by bit. */
static void by_cpuid(void)
{
    static struct cpu_cpuid_entry table[CPU_CPUID_MAX];
    static const struct {
        const char *model;
        u32 missing;
    } want[] = {
        {"sapphirerapids", BIT(AMX_FP16) | BIT(AMX_COMPLEX) | BIT(AMX_FP8) | BIT(AMX_TF32) |
                               BIT(AMX_MOVRS) | BIT(AMX_AVX512)},
        {"graniterapids",
         BIT(AMX_COMPLEX) | BIT(AMX_FP8) | BIT(AMX_TF32) | BIT(AMX_MOVRS) | BIT(AMX_AVX512)},
        {"diamondrapids", BIT(AMX_TF32)},
        {"host", 0},
    };
    u32 no_zmm = cpu_xcr0_supported() & XCR0_AVX512 ? 0 : (u32)BIT(AMX_AVX512);

    for (unsigned i = 0; i < ARRAY_SIZE(want); i++) {
        int n = cpu_cpuid_model(want[i].model, table, CPU_CPUID_MAX);

        cpu_cpuid_set(c, table, (unsigned)n);
        is_u64(c->amx_missing, want[i].missing | no_zmm,
               "%s has the AMX instructions of its generation", want[i].model);
    }
    cpu_cpuid_set(c, NULL, 0);
    is_u64(c->amx_missing, 0, "a CPU without a table has them all");
    cpu_cpuid_set(c, table, (unsigned)cpu_cpuid_model("host", table, CPU_CPUID_MAX));
}

/* --- the others --- */

/* ModRM and the rest of tmm(reg), [rdx * 2 + SRC + 16] */
#define LOW(reg) (u8)(0x04 | (reg) << 3), 0x55, (SRC + 16) & 0xff, (SRC >> 8) & 0xff, SRC >> 16, 0

static void read_shared_loads(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < 200; i++) {
        u8 reg = (u8)(rnd() % 8), t1 = rnd() & 1 ? 0x79 : 0x7b;
        u8 was[16][64];

        fresh(1 + (u8)(rnd() % 16), 4 * (1 + (u16)(rnd() % 16)));
        rnd_fill(ram + SRC, 4096);
        c->r[REG_RDX] = rnd() % 200;
        load(reg);
        memcpy(was, tile(reg), 1024);
        memset(tile(reg), 0xee, 1024);
        bad += OP(0xc4, 0xe2, t1, 0x4a, (u8)(0x04 | reg << 3), 0x10) != OP_NEXT;
        bad += memcmp(was, tile(reg), 1024) != 0;
        c->r[REG_R12] = SRC; /* [r12 + rdx * 2 + disp8], and disp32 without base */
        bad += OP(0xc4, 0xc2, t1, 0x4a, (u8)(0x44 | reg << 3), 0x54, 0x10) != OP_NEXT;
        memcpy(was, tile(reg), 1024);
        bad += OP(0xc4, 0xe2, t1, 0x4b, LOW(reg)) != OP_NEXT;
        bad += memcmp(was, tile(reg), 1024) != 0;
        memset(tile(reg), 0xee, 1024);
        bad += OP(0xc4, 0xe2, t1, 0x4a, LOW(reg)) != OP_NEXT;
        bad += memcmp(was, tile(reg), 1024) != 0;
    }
    is_u64(bad, 0, "TILELOADDRS and TILELOADDRST1 load as TILELOADD does");
    fresh(16, 64);
    page_set(SRC + 0x1000, false, false);
    c->r[REG_RAX] = SRC + 0x1000 - 512;
    ok(op_page_fault(OP(0xc4, 0xe2, 0x7b, 0x4a, 0x04, 0x10), SRC + 0x1000) && c->amx.start_row == 8,
       "and can be restarted");
    c->r[REG_RSP] = 0x8000000000000000;
    ok(op_raised(OP(0xc4, 0xe2, 0x7b, 0x4a, 0x04, 0x24), EXC_SS), "#SS(0) with base RSP");
    c->r[REG_RAX] = 0x8000000000000000;
    ok(op_raised(OP(0xc4, 0xe2, 0x7b, 0x4a, 0x04, 0x10), EXC_GP), "#GP(0) without");
}

/* Each product hands its tiles to the kernel of its name. */
static void products(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
        const struct amx_form *f = form_of(&codes[i]);
        _Alignas(64) amx_tile_t want, a, b;
        unsigned m = 1 + rnd() % 16, n = 1 + rnd() % 16, k = 1 + rnd() % 16;

        if (f->shape != AMX_SHAPE_TILES)
            continue;
        fresh(16, 64);
        load(6);
        cfg[48 + 6] = cfg[48 + 5] = (u8)m;
        cfg[16 + 6 * 2] = cfg[16 + 4 * 2] = (u8)(n * 4);
        cfg[16 + 5 * 2] = (u8)(k * 4);
        cfg[48 + 4] = (u8)k;
        memcpy(ram + CFG, cfg, 64);
        c->r[REG_RAX] = CFG;
        OP(0xc4, 0xe2, 0x78, 0x49, 0x00);
        load(6);
        for (unsigned t = 4; t < 7; t++) {
            for (unsigned d = 0; d < 1024; d++)
                tile(t)[d] = (u8)(rnd() & 0xb7); /* no NaN in any format */
        }
        memcpy(want, tile(6), 1024);
        memcpy(a, tile(5), 1024);
        memcpy(b, tile(4), 1024);
        amx_kernels_scalar.dp[f->arg](want, a, b, m, n, k);
        ok(run_code(&codes[i]) == OP_NEXT && !memcmp(want, tile(6), 1024),
           "%s computes what its kernel does", f->name);
    }
}

/* --- docs/amx.md --- */

static const char *const pp_name[] = {"NP", "66", "F3", "F2"};

/* The row that the document must have for (f), up to its last column. */
static void document_row(const struct amx_form *f, char *out, size_t size)
{
    static const char *const operands[] = {
        [AMX_SHAPE_MEM] = " m512",
        [AMX_SHAPE_SIB] = " tmm1, sibmem",
        [AMX_SHAPE_NONE] = "",
        [AMX_SHAPE_TILE] = " tmm1",
        [AMX_SHAPE_TILES] = " tmm1, tmm2, tmm3",
        [AMX_SHAPE_ROW_REG] = " zmm1, tmm2, r32",
        [AMX_SHAPE_ROW_IMM] = " zmm1, tmm2, imm8",
    };
    static const char *const modrm[] = {
        [AMX_SHAPE_MEM] = "!(11):000:bbb",
        [AMX_SHAPE_SIB] = "!(11):rrr:100",
        [AMX_SHAPE_NONE] = "C0",
        [AMX_SHAPE_TILE] = "11:rrr:000",
        [AMX_SHAPE_TILES] = "11:rrr:bbb",
        [AMX_SHAPE_ROW_REG] = "11:rrr:bbb",
        [AMX_SHAPE_ROW_IMM] = "11:rrr:bbb ib",
    };
    const char *what = !strcmp(f->name, "TILESTORED") ? " sibmem, tmm1" : operands[f->shape];

    snprintf(out, size, "| `%s%s` | %s | `%s.%s.%s.W0 %02X %s` | %s |", f->name, what,
             amx_features[f->feature], f->enc == AMX_ENC_VEX ? "VEX.128" : "EVEX.512",
             pp_name[f->pp],
             f->map == AMX_MAP_0F38   ? "0F38"
             : f->map == AMX_MAP_0F3A ? "0F3A"
                                      : "MAP5",
             f->opcode, modrm[f->shape], f->exceptions);
}

static void feature_row(const char *name, char *out, size_t size)
{
    static const char *const reg[] = {"EAX", "EBX", "ECX", "EDX"};
    const struct cpuid_feature *f = cpuid_feature(name);

    snprintf(out, size, "| %s | %XH.%u:%s[%u] |", name, f->leaf, f->index, reg[f->reg], f->bit);
}

static void document(const char *path)
{
    static char text[65536];
    FILE *file = fopen(path, "r");
    unsigned rows = 0, forms = 0;
    char row[160];

    if (!ok(file, "%s opens", path))
        return;
    text[fread(text, 1, sizeof(text) - 1, file)] = 0;
    fclose(file);
    for (const struct amx_form *f = amx_forms; f->name; f++, forms++) {
        document_row(f, row, sizeof(row));
        ok(strstr(text, row), "docs: %s", row);
    }
    for (unsigned i = 0; i < AMX_FEATURES; i++) {
        feature_row(amx_features[i], row, sizeof(row));
        ok(strstr(text, row), "docs: %s", row);
    }
    for (const char *p = text; (p = strstr(p, "VEX.")); p += strcspn(p, "\n"))
        rows++;
    is_u64(rows, forms, "docs: no instruction beside those of the table");
}

int main(int argc, char **argv)
{
    if (!op_create())
        return 1;
    encodings();
    assembler();
    undefined_encodings();
    prefixes();
    enabling();
    by_cpuid();
    read_shared_loads();
    products();
    if (argc > 1)
        document(argv[1]);
    op_destroy();
    return tap_done();
}
