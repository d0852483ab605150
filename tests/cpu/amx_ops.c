// SPDX-License-Identifier: MIT
// The AMX instructions: every legal and illegal configuration, the order of faults, restarts, data.

#include "cpu/amx/amx.h"
#include "cpu/amx/kernel.h"
#include "op_cpu.h"
#include "rand.h"

#define CFG DATA
#define SRC (DATA + 0x10000)
#define DST (DATA + 0x20000)

#define LDTILECFG()    OP(0xc4, 0xe2, 0x78, 0x49, 0x00) /* [rax] */
#define STTILECFG()    OP(0xc4, 0xe2, 0x79, 0x49, 0x00)
#define TILERELEASE()  OP(0xc4, 0xe2, 0x78, 0x49, 0xc0)
#define TILEZERO(t)    OP(0xc4, 0xe2, 0x7b, 0x49, 0xc0 | (t) << 3)
#define TILELOADD(t)   OP(0xc4, 0xe2, 0x7b, 0x4b, 0x04 | (t) << 3, 0x10) /* [rax + rdx] */
#define TILELOADDT1(t) OP(0xc4, 0xe2, 0x79, 0x4b, 0x04 | (t) << 3, 0x10)
#define TILESTORED(t)  OP(0xc4, 0xe2, 0x7a, 0x4b, 0x04 | (t) << 3, 0x10)
#define TDP(pp, opcode, d, a, b)                                                                   \
    OP(0xc4, 0xe2, (pp) | (~(b)&15) << 3, opcode, 0xc0 | (d) << 3 | (a))
#define TDPBSSD(d, a, b)   TDP(3, 0x5e, d, a, b)
#define TDPBF16PS(d, a, b) TDP(2, 0x5c, d, a, b)

static u8 cfg[64];

/* Palette 1, all tiles (rows) x (colsb). */
static void cfg_all(u8 rows, u16 colsb)
{
    memset(cfg, 0, sizeof(cfg));
    cfg[0] = 1;
    for (unsigned i = 0; i < 8; i++) {
        memcpy(cfg + 16 + i * 2, &colsb, 2);
        cfg[48 + i] = rows;
    }
}

static int cfg_load(void)
{
    memcpy(ram + CFG, cfg, 64);
    c->r[REG_RAX] = CFG;
    return LDTILECFG();
}

static void at(u64 base, u64 stride)
{
    c->r[REG_RAX] = base;
    c->r[REG_RDX] = stride;
}

static void fresh(u8 rows, u16 colsb)
{
    op_reset();
    cfg_all(rows, colsb);
    cfg_load();
    at(SRC, 64);
}

static u8 *tile(unsigned t)
{
    return c->amx.tile ? c->amx.tile[t][0] : NULL;
}

static void config_faults(void)
{
    static const struct {
        u8 offset, value;
        const char *what;
    } bad[] = {
        {0, 2, "palette 2"},
        {0, 255, "palette 255"},
        {2, 1, "reserved byte 2"},
        {15, 1, "reserved byte 15"},
        {32, 1, "reserved byte 32"},
        {47, 128, "reserved byte 47"},
        {56, 1, "reserved byte 56"},
        {63, 1, "reserved byte 63"},
        {48, 17, "17 rows"},
        {55, 255, "255 rows"},
        {16, 65, "65 bytes a row"},
        {17, 1, "320 bytes a row"},
        {48, 0, "columns without rows"},
        {16, 0, "rows without columns"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        struct cpu_amx before;

        fresh(16, 64);
        before = c->amx;
        cfg[bad[i].offset] = bad[i].value;
        ok(op_raised(cfg_load(), EXC_GP) && !c->exc.error &&
               !memcmp(&before, &c->amx, sizeof(before)),
           "LDTILECFG, %s: #GP(0), the old configuration stays", bad[i].what);
    }
}

static void config_legal(void)
{
    fresh(16, 64);
    memset(cfg, 0xff, 64);
    cfg[0] = 0;
    ok(cfg_load() == OP_NEXT && !c->amx.palette && !c->amx.rows[0],
       "palette 0 with garbage releases");

    op_reset();
    memset(cfg, 0, 64);
    cfg[0] = 1;
    ok(cfg_load() == OP_NEXT && c->amx.palette == 1, "palette 1 with no tile at all is legal");
    ok(op_raised(TILEZERO(0), EXC_UD), "and its tiles are unusable");

    fresh(16, 63);
    is_u64(c->amx.colsb[0], 63, "a row that is no whole number of dwords is legal to configure");
    cfg_all(16, 64);
    cfg[1] = 255;
    ok(cfg_load() == OP_NEXT && c->amx.start_row == 255, "start_row is taken as it is");

    op_reset();
    cfg_all(3, 12);
    memcpy(ram + CFG + 13, cfg, 64);
    c->r[REG_RAX] = CFG + 13;
    ok(LDTILECFG() == OP_NEXT && c->amx.rows[7] == 3, "an unaligned configuration loads");

    page_set(CFG + 0x1000, false, false);
    c->r[REG_RAX] = CFG + 0x1000 - 63;
    ok(op_page_fault(LDTILECFG(), CFG + 0x1000), "its page fault is the second page's");
}

static void mistake_5_rows_and_colsb_in_place(void)
{
    u8 want[64] = {1, 5};

    op_reset();
    for (unsigned i = 0; i < 8; i++) {
        want[16 + i * 2] = (u8)(4 * (i + 1));
        want[48 + i] = (u8)(16 - i);
    }
    memcpy(cfg, want, 64);
    cfg_load();
    memset(ram + CFG, 0xcc, 64);
    ok(STTILECFG() == OP_NEXT && !memcmp(ram + CFG, want, 64),
       "mistake 5: STTILECFG stores rows and colsb where LDTILECFG takes them");
    TILERELEASE();
    STTILECFG();
    memset(want, 0, 64);
    ok(!memcmp(ram + CFG, want, 64), "STTILECFG without a configuration stores zeros");
}

static void mistake_4_encodings(void)
{
    fresh(16, 64);
    c->r[REG_RAX] = CFG;
    ok(op_raised(OP(0xc4, 0xe2, 0xf8, 0x49, 0x00), EXC_UD), "mistake 4: LDTILECFG with W1 is #UD");
    ok(op_raised(OP(0xc4, 0xe2, 0xf9, 0x49, 0x00), EXC_UD), "mistake 4: STTILECFG with W1 is #UD");
    ok(STTILECFG() == OP_NEXT, "mistake 4: STTILECFG with W0 works");
    ok(op_raised(OP(0xc4, 0xe2, 0x78, 0x49, 0x08), EXC_UD),
       "mistake 4: LDTILECFG with ModRM.reg 1 is #UD");
    ok(op_raised(OP(0xc4, 0xe2, 0x79, 0x49, 0x38), EXC_UD),
       "mistake 4: STTILECFG with ModRM.reg 7 is #UD");
}

static void encodings(void)
{
    static const struct {
        u8 code[10], len;
        const char *what;
    } bad[] = {
        {{0xc4, 0xe2, 0x7c, 0x49, 0x00}, 5, "LDTILECFG with L1"},
        {{0xc4, 0xe2, 0x70, 0x49, 0x00}, 5, "LDTILECFG with vvvv in use"},
        {{0xf0, 0xc4, 0xe2, 0x78, 0x49, 0x00}, 6, "a LOCK prefix"},
        {{0x66, 0xc4, 0xe2, 0x78, 0x49, 0x00}, 6, "a 66 prefix"},
        {{0xf2, 0xc4, 0xe2, 0x78, 0x49, 0x00}, 6, "an F2 prefix"},
        {{0xf3, 0xc4, 0xe2, 0x78, 0x49, 0x00}, 6, "an F3 prefix"},
        {{0x48, 0xc4, 0xe2, 0x78, 0x49, 0x00}, 6, "a REX prefix"},
        {{0xc4, 0xe2, 0xfb, 0x4b, 0x04, 0x10}, 6, "TILELOADD with W1"},
        {{0xc4, 0xe2, 0x7f, 0x4b, 0x04, 0x10}, 6, "TILELOADD with L1"},
        {{0xc4, 0xe2, 0x73, 0x4b, 0x04, 0x10}, 6, "TILELOADD with vvvv in use"},
        {{0xc4, 0x62, 0x7b, 0x4b, 0x04, 0x10}, 6, "TILELOADD of tmm8"},
        {{0xc4, 0xe2, 0x7b, 0x4b, 0xc0}, 5, "TILELOADD of a register"},
        {{0xc4, 0xe2, 0x7a, 0x4b, 0xc0}, 5, "TILESTORED to a register"},
        {{0xc4, 0xe2, 0x73, 0x5e, 0x00}, 5, "TDPBSSD of memory"},
        {{0xc4, 0xe2, 0xe3, 0x5e, 0xc1}, 5, "TDPBSSD with W1"},
        {{0xc4, 0xe2, 0x67, 0x5e, 0xc1}, 5, "TDPBSSD with L1"},
        {{0xc4, 0xe2, 0x2b, 0x5e, 0xc1}, 5, "TDPBSSD with vvvv naming tmm10"},
        {{0xc4, 0xe2, 0x79, 0x49, 0xc0}, 5, "TILERELEASE with 66"},
        {{0xc4, 0xe2, 0x78, 0x49, 0xc1}, 5, "TILERELEASE with ModRM.rm 1"},
        {{0xc4, 0xe2, 0x7b, 0x49, 0xc1}, 5, "TILEZERO with ModRM.rm 1"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        fresh(16, 64);
        ok(op_raised(op_run(bad[i].code, bad[i].len), EXC_UD), "%s is #UD", bad[i].what);
    }
}

/* One instruction of each kind, for checks that all share. 0-2 do not touch data. */
static int any(unsigned i)
{
    switch (i) {
    case 0:
        c->r[REG_RAX] = CFG;
        return LDTILECFG();
    case 1:
        c->r[REG_RAX] = CFG;
        return STTILECFG();
    case 2:
        return TILERELEASE();
    case 3:
        return TILEZERO(1);
    case 4:
        return TILELOADD(1);
    case 5:
        return TILELOADDT1(1);
    case 6:
        return TILESTORED(1);
    case 7:
        return TDPBSSD(0, 1, 2);
    case 8:
        return TDP(2, 0x5e, 0, 1, 2);
    case 9:
        return TDP(1, 0x5e, 0, 1, 2);
    case 10:
        return TDP(0, 0x5e, 0, 1, 2);
    default:
        return TDPBF16PS(0, 1, 2);
    }
}

#define KINDS      12
#define FIRST_DATA 3

static void enabling(void)
{
    unsigned bad[4] = {0};

    for (unsigned i = 0; i < KINDS; i++) {
        fresh(16, 64);
        c->cr4 &= ~CR4_OSXSAVE;
        bad[0] += !op_raised(any(i), EXC_UD);
        fresh(16, 64);
        c->xcr0 &= ~XCR0_XTILEDATA;
        bad[1] += !op_raised(any(i), EXC_UD);
        fresh(16, 64);
        c->xcr0 &= ~XCR0_XTILECFG;
        bad[2] += !op_raised(any(i), EXC_UD);
        fresh(16, 64);
        op_mode_32();
        bad[3] += !op_raised(any(i), EXC_UD);
    }
    is_u64(bad[0], 0, "without CR4.OSXSAVE all are #UD");
    is_u64(bad[1], 0, "without XCR0[18] all are #UD");
    is_u64(bad[2], 0, "without XCR0[17] all are #UD");
    is_u64(bad[3], 0, "outside 64-bit mode all are #UD");
    fresh(16, 64);
    c->cr0 |= CR0_TS;
    ok(any(4) == OP_NEXT, "CR0.TS does not matter to AMX");
}

static void mistake_1_xfd(void)
{
    unsigned bad_nm = 0, bad_pass = 0;

    for (unsigned i = 0; i < KINDS; i++) {
        int rc;

        fresh(16, 64);
        c->xfd = XCR0_XTILEDATA;
        rc = any(i);
        if (i < FIRST_DATA)
            bad_pass += rc != OP_NEXT || c->xfd_err;
        else
            bad_nm += !op_raised(rc, EXC_NM) || c->exc.has_error || c->xfd_err != XCR0_XTILEDATA;
    }
    is_u64(bad_nm, 0,
           "mistake 1: XFD[18] makes tile loads, stores, TILEZERO and TDP #NM, XFD_ERR says why");
    is_u64(bad_pass, 0, "mistake 1: LDTILECFG, STTILECFG and TILERELEASE work under XFD");

    fresh(16, 64);
    c->xfd = XCR0_XTILEDATA;
    ok(op_raised(TDPBSSD(0, 1, 1), EXC_UD) && !c->xfd_err, "a duplicate operand wins over XFD");
    c->cr4 &= ~CR4_OSXSAVE;
    ok(op_raised(TILEZERO(0), EXC_UD) && !c->xfd_err, "so does missing enabling");
    op_reset();
    c->xfd = XCR0_XTILEDATA;
    ok(op_raised(TILEZERO(0), EXC_NM), "XFD wins over a missing configuration");
    c->xfd = 0;
    ok(op_raised(TILEZERO(0), EXC_UD), "which is #UD once XFD is clear");
}

static void shapes(void)
{
    static const struct {
        u8 tile, rows;
        u16 colsb;
        const char *what;
    } bad[] = {
        {0, 15, 64, "M differs"},
        {0, 16, 60, "N differs"},
        {1, 16, 60, "K differs"},
        {2, 15, 64, "K differs in B"},
        {2, 16, 60, "N differs in B"},
        {0, 0, 0, "destination unused"},
        {1, 0, 0, "A unused"},
        {2, 0, 0, "B unused"},
        {0, 16, 63, "destination of 63 bytes"},
        {1, 16, 62, "A of 62 bytes"},
    };
    unsigned dup = 0;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        fresh(16, 64);
        cfg[16 + bad[i].tile * 2] = (u8)bad[i].colsb;
        cfg[48 + bad[i].tile] = bad[i].rows;
        cfg_load();
        ok(op_raised(TDPBSSD(0, 1, 2), EXC_UD) && op_raised(TDPBF16PS(0, 1, 2), EXC_UD),
           "TDP, %s: #UD", bad[i].what);
    }
    fresh(16, 64);
    dup += !op_raised(TDPBSSD(1, 1, 2), EXC_UD);
    dup += !op_raised(TDPBSSD(2, 1, 2), EXC_UD);
    dup += !op_raised(TDPBSSD(0, 1, 1), EXC_UD);
    is_u64(dup, 0, "TDP with any operand twice is #UD");

    fresh(16, 62);
    ok(op_raised(TILELOADD(0), EXC_UD) && op_raised(TILESTORED(0), EXC_UD) &&
           TILEZERO(0) == OP_NEXT,
       "rows of 62 bytes: load and store are #UD, TILEZERO is not");
    op_reset();
    ok(op_raised(TILELOADD(0), EXC_UD) && op_raised(TDPBSSD(0, 1, 2), EXC_UD), "unconfigured: #UD");
    fresh(16, 64);
    TILERELEASE();
    ok(op_raised(TILEZERO(0), EXC_UD), "released: #UD");
}

static void start_row_rules(void)
{
    fresh(8, 64);
    c->amx.start_row = 8;
    ok(op_raised(TILELOADD(0), EXC_UD) && op_raised(TILESTORED(0), EXC_UD),
       "start_row past the rows: #UD");
    ok(TILEZERO(0) == OP_NEXT && c->amx.start_row == 0, "TILEZERO ignores and clears it");
    fresh(16, 64);
    c->amx.start_row = 200;
    ok(TDPBSSD(0, 1, 2) == OP_NEXT && c->amx.start_row == 0, "TDP ignores and clears it");

    fresh(16, 64);
    rnd_fill(ram + SRC, 1024);
    TILELOADD(0);
    memset(ram + SRC + 1024, 0x55, 1024);
    at(SRC + 1024, 64);
    c->amx.start_row = 3;
    TILELOADD(0);
    ok(!memcmp(tile(0), ram + SRC, 3 * 64) && !memcmp(tile(0) + 3 * 64, ram + SRC + 1024, 13 * 64),
       "start_row 3: a load keeps rows 0-2");
    memset(ram + DST, 0, 1024);
    at(DST, 64);
    c->amx.start_row = 3;
    TILESTORED(0);
    ok(!memcmp(ram + DST, (u8[192]){0}, 192) && !memcmp(ram + DST + 192, tile(0) + 192, 13 * 64) &&
           c->amx.start_row == 0,
       "start_row 3: a store starts at row 3");
}

static void restart(void)
{
    u64 base = SRC + 0x1000 - 8 * 64; /* row 8 is the first of the next page */

    fresh(16, 64);
    rnd_fill(ram + base, 1024);
    page_set(SRC + 0x1000, false, false);
    at(base, 64);
    ok(op_page_fault(TILELOADD(2), SRC + 0x1000) && c->amx.start_row == 8,
       "TILELOADD faults at row 8 with start_row 8");
    ok(!memcmp(tile(2), ram + base, 512), "rows 0-7 are loaded");
    page_set(SRC + 0x1000, true, true);
    memset(ram + base, 0xaa, 512);
    ok(TILELOADD(2) == OP_NEXT && c->amx.start_row == 0 && memcmp(tile(2), ram + base, 512) &&
           !memcmp(tile(2) + 512, ram + base + 512, 512),
       "the restart loads rows 8-15 and no others");

    page_set(SRC + 0x1000, true, false);
    ok(op_raised(TILESTORED(2), EXC_PF) && c->amx.start_row == 8 &&
           !memcmp(tile(2), ram + base, 512),
       "TILESTORED faults at row 8, rows 0-7 are stored");
    page_set(SRC + 0x1000, true, true);
    memset(ram + base, 0xbb, 512);
    ok(TILESTORED(2) == OP_NEXT && c->amx.start_row == 0 && ram[base] == 0xbb,
       "the restart goes on at row 8");
}

/*
 * Rows anywhere over many pages, one of them absent, read-only or code, against copies one row at
 * a time. A fault must come at the first row that touches the page, and leave it untouched.
 */
static void rows_over_pages(void)
{
    static const u64 strides[] = {64, 0, 16, 96, 256, 1000, 4096, 4160, 5000, (u64)-64, (u64)-700};
    static u8 before[RAM_SIZE];
    unsigned bad = 0, faults = 0;

    for (unsigned i = 0; i < 1000; i++) {
        u64 stride = strides[rnd() % ARRAY_SIZE(strides)], absent;
        u64 base = SRC + 0x20000 + rnd() % 0x1000, from = rnd() % 3 ? 0 : rnd() % 16;
        unsigned rows = 1 + rnd() % 16, len = rnd() % 3 ? 64 : 4 * (1 + rnd() % 16), row;
        bool store = rnd() & 1, zero = rnd() % 4 == 0;
        _Alignas(64) amx_tile_t want = {0};

        fresh((u8)rows, (u16)len);
        rnd_fill(ram + SRC, 0x40000);
        if (!zero)
            TILELOADD(0);
        if (store && rnd() % 2)
            page_code(base + 2 * stride);
        absent = rnd() % 2 ? 0 : (base + (rnd() % rows) * stride) & PAGE_MASK;
        if (absent)
            page_set(absent, store, false);
        if (c->amx.tile)
            memcpy(want, tile(0), sizeof(want));
        memcpy(before, ram, sizeof(before));
        at(base, stride);
        row = c->amx.start_row = (u8)(from < rows ? from : 0);
        for (; row < rows; row++) {
            u64 lin = base + row * stride;

            if (absent && lin < absent + PAGE_SIZE && lin + len > absent)
                break;
            if (store)
                memcpy(before + lin, want[row], len);
            else
                memset(memcpy(want[row], before + lin, len) + len, 0, 64 - len);
        }
        if (!store)
            memset(want[row], 0, (16 - row) * 64);
        c->exc.pending = false;
        if (store)
            bad += (TILESTORED(0) == OP_FAULT) != (row < rows);
        else
            bad += (TILELOADD(0) == OP_FAULT) != (row < rows);
        faults += row < rows;
        bad += c->amx.start_row != (row < rows ? row : 0);
        bad += memcmp(before + SRC, ram + SRC, 0x40000) != 0;
        bad += c->amx.tile && memcmp(want, tile(0), sizeof(want));
    }
    is_u64(bad, 0, "1000 loads and stores over pages, %u of which fault, are as row by row",
           faults);
}

/* Mistake 9, and every way to say where rows are. */
static void addressing(void)
{
    fresh(4, 16);
    for (unsigned i = 0; i < 4096; i++)
        ram[SRC + i] = (u8)(i / 16);
    ok(op_raised(OP(0xc4, 0xe2, 0x7b, 0x4b, 0x00), EXC_UD), "mistake 9: no SIB is #UD");
    ok(op_raised(OP(0xc4, 0xe2, 0x7b, 0x4b, 0x05, 0, 0, 0, 0), EXC_UD),
       "mistake 9: RIP-relative is #UD");
    ok(OP(0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x20) == OP_NEXT && tile(0)[0] == 0 && tile(0)[64] == 0 &&
           tile(0)[192] == 0,
       "mistake 9: no index is stride 0");
    c->r[REG_RSP] = SRC + 16;
    OP(0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x24);
    is_u64(tile(0)[128], 1, "mistake 9: no index with base RSP is stride 0 too");
    OP(0xc4, 0xe2, 0x7b, 0x4b, 0x44, 0x24, 0x20);
    is_u64(tile(0)[128], 3, "with a displacement");
    at(SRC, 16);
    OP(0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0xd0); /* rdx * 8 */
    ok(tile(0)[64] == 8 && tile(0)[192] == 24, "the stride is the scaled index");
    at(SRC + 64, (u64)-16);
    TILELOADD(0);
    ok(tile(0)[0] == 4 && tile(0)[64] == 3 && tile(0)[192] == 1, "a stride may be negative");
    at(0xffffffff00000000 | SRC, 0xffffffff00000010);
    OP(0x67, 0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x10);
    ok(tile(0)[0] == 0 && tile(0)[64] == 1 && tile(0)[192] == 3,
       "the address-size prefix cuts to 32 bits");
    at(0, 16);
    c->seg[SEG_FS].base = SRC;
    OP(0x64, 0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x10);
    ok(tile(0)[64] == 1, "FS counts");
    at(0x8000000000000000, 16);
    ok(op_raised(TILELOADD(0), EXC_GP) && op_raised(TILESTORED(0), EXC_GP),
       "a non-canonical row is #GP(0)");
    c->r[REG_RSP] = 0x8000000000000000;
    ok(op_raised(OP(0xc4, 0xe2, 0x7b, 0x4b, 0x04, 0x24), EXC_SS), "#SS(0) with base RSP");
    at(SRC + 0x1000 - 24, 16);
    ram[SRC + 0x1000] = 0x77;
    ok(TILELOADD(0) == OP_NEXT && tile(0)[0] == 254 && tile(0)[64] == 255 &&
           tile(0)[64 + 8] == 0x77,
       "rows cross pages");
}

static void loads_and_stores(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < 200; i++) {
        u8 rows = 1 + (u8)(rnd() % 16);
        u16 colsb = 4 * (1 + (u16)(rnd() % 16));
        u64 stride = rnd() % 200, off = rnd() % 0xff0;
        unsigned t = rnd() % 8;

        fresh(rows, colsb);
        rnd_fill(ram + SRC, 8192);
        at(SRC, 64);
        TILELOADD(t); /* something to get rid of */
        at(SRC + off, stride);
        bad += (i & 2 ? TILELOADDT1(t) : TILELOADD(t)) != OP_NEXT;
        for (unsigned row = 0; row < 16; row++) {
            u8 want[64] = {0};

            if (row < rows)
                memcpy(want, ram + SRC + off + row * stride, colsb);
            bad += memcmp(want, tile(t) + row * 64, 64) != 0;
        }
        memset(ram + DST, 0xcc, 8192);
        at(DST + off, 64 + stride);
        bad += TILESTORED(t) != OP_NEXT;
        for (unsigned row = 0; row < rows; row++) {
            bad += memcmp(ram + DST + off + row * (64 + stride), tile(t) + row * 64, colsb) != 0;
            bad += ram[DST + off + row * (64 + stride) + colsb] != 0xcc;
        }
    }
    is_u64(
        bad, 0,
        "loads fill rows and zero the rest, stores write rows and nothing else: 200 random shapes");
}

/* Rows that are devices, and rows that hold instructions. */
static void slow_memory(void)
{
    fresh(16, 64);
    rnd_fill(ram + SRC, 512);
    page_mmio(SRC + 0x1000);
    at(SRC + 0x1000 - 512, 64);
    ok(TILELOADD(1) == OP_NEXT && op_accessed == 64 && tile(1)[512] == 0xee &&
           tile(1)[1023] == 0xee,
       "TILELOADD reads MMIO in 8-byte pieces");
    op_accessed = 0;
    op_leave_at = 20; /* in row 10 */
    ok(TILELOADD(1) == OP_EXIT && c->amx.start_row == 10,
       "a row that must leave the CPU for it stays to be done");
    ok(TILELOADD(1) == OP_NEXT && op_accessed == 20 + 6 * 8 && c->amx.start_row == 0,
       "and the rest is loaded on re-entry");
    op_accessed = 0;
    ok(TILESTORED(1) == OP_STOP && op_accessed == 64 && c->amx.start_row == 0,
       "TILESTORED to MMIO ends the block");
    page_set(SRC + 0x1000, true, true);
    page_code(SRC + 0x1000);
    ok(TILESTORED(1) == OP_STOP, "mistake 2: so does one that hits decoded instructions");
    ok(TILESTORED(1) == OP_NEXT, "once");
    page_code(SRC + 0x1000);
    c->r[REG_RAX] = SRC + 0x1000 - 8;
    ok(STTILECFG() == OP_STOP, "mistake 2: STTILECFG too");
}

static void memory_is_lazy(void)
{
    op_reset();
    cfg_all(16, 64);
    cfg_load();
    at(DST, 64);
    memset(ram + DST, 0xcc, 1024);
    TILEZERO(3);
    TILESTORED(3);
    STTILECFG();
    ok(!c->amx.tile && !c->amx.tile_inuse, "configuring, zeroing and storing take no tile memory");
    ok(!memcmp(ram + DST + 64, (u8[960]){0}, 960), "a tile never written stores zeros");
    at(SRC, 64);
    ram[SRC] = 1;
    TILELOADD(3);
    ok(c->amx.tile && c->amx.tile_inuse, "a load does");
    TILERELEASE();
    ok(!c->amx.tile_inuse && !tile(3)[0], "TILERELEASE makes tile data initial and zero");
    cfg_load();
    at(SRC, 64);
    TILELOADD(3);
    cfg_load();
    ok(!c->amx.tile_inuse && !tile(3)[0], "so does LDTILECFG");
}

static void products(void)
{
    static const u8 pp[] = {3, 2, 1, 0};
    unsigned bad = 0;

    for (unsigned i = 0; i < 200; i++) {
        unsigned m = 1 + rnd() % 16, n = 1 + rnd() % 16, k = 1 + rnd() % 16,
                 op = i % (AMX_DPBF16PS + 1);
        unsigned d = rnd() % 8, a = (d + 1 + rnd() % 3) % 8, b = (a + 4) % 8;
        _Alignas(64) amx_tile_t want, ta, tb;

        if (b == d)
            b = (d + 4) % 8;
        fresh(16, 64);
        cfg[48 + d] = cfg[48 + a] = (u8)m;
        cfg[16 + d * 2] = cfg[16 + b * 2] = (u8)(n * 4);
        cfg[16 + a * 2] = (u8)(k * 4);
        cfg[48 + b] = (u8)k;
        cfg_load();
        TILELOADD(d); /* memory exists from here on */
        for (unsigned t = 0; t < 8; t++)
            rnd_fill(tile(t), 1024); /* outside the shapes too, as XRSTOR can leave it */
        memcpy(want, tile(d), 1024);
        memcpy(ta, tile(a), 1024);
        memcpy(tb, tile(b), 1024);
        amx_dp_kernel(op)(want, ta, tb, m, n, k);
        bad += (op == AMX_DPBF16PS ? TDPBF16PS(d, a, b) : TDP(pp[op], 0x5e, d, a, b)) != OP_NEXT;
        bad +=
            memcmp(want, tile(d), 1024) || memcmp(ta, tile(a), 1024) || memcmp(tb, tile(b), 1024);
    }
    is_u64(bad, 0, "TDP hands its tiles and shapes to the right kernel: 200 random cases");
    fresh(16, 64);
    ok(TDPBSSD(0, 1, 2) == OP_NEXT && tile(0) && !tile(0)[0], "TDP of tiles never written is zero");
}

int main(void)
{
    if (!op_create())
        return 1;
    config_faults();
    config_legal();
    mistake_4_encodings();
    mistake_5_rows_and_colsb_in_place();
    encodings();
    enabling();
    mistake_1_xfd();
    shapes();
    start_row_rules();
    restart();
    rows_over_pages();
    addressing();
    loads_and_stores();
    slow_memory();
    memory_is_lazy();
    products();
    op_destroy();
    return tap_done();
}
