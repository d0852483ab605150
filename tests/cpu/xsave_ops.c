// SPDX-License-Identifier: MIT
// The XSAVE family: contents against the host's own, header rules, sizes, XFD, faults, modes.

#include "cpu/amx/amx.h"
#include "op_cpu.h"
#include "rand.h"
#include "xsave_host.h"

#define IMG  DATA
#define IMG2 (DATA + 0x8000)
#define ALL  (HOST_SET | XCR0_AMX)

/* All address [rcx]. */
#define XSAVE32()    OP(0x0f, 0xae, 0x21)
#define XSAVE64()    OP(0x48, 0x0f, 0xae, 0x21)
#define XRSTOR32()   OP(0x0f, 0xae, 0x29)
#define XRSTOR64()   OP(0x48, 0x0f, 0xae, 0x29)
#define XSAVEOPT64() OP(0x48, 0x0f, 0xae, 0x31)
#define XSAVEC64()   OP(0x48, 0x0f, 0xc7, 0x21)
#define XSAVES64()   OP(0x48, 0x0f, 0xc7, 0x29)
#define XRSTORS64()  OP(0x48, 0x0f, 0xc7, 0x19)
#define FXSAVE32()   OP(0x0f, 0xae, 0x01)
#define FXSAVE64()   OP(0x48, 0x0f, 0xae, 0x01)
#define FXRSTOR32()  OP(0x0f, 0xae, 0x09)
#define FXRSTOR64()  OP(0x48, 0x0f, 0xae, 0x09)
#define LDMXCSR()    OP(0x0f, 0xae, 0x11)
#define STMXCSR()    OP(0x0f, 0xae, 0x19)
#define VLDMXCSR()   OP(0xc5, 0xf8, 0xae, 0x11)
#define VSTMXCSR()   OP(0xc5, 0xf8, 0xae, 0x19)

static void at(u64 lin, u64 mask)
{
    c->r[REG_RCX] = lin;
    c->r[REG_RAX] = (u32)mask;
    c->r[REG_RDX] = mask >> 32;
}

static u64 bv_of(u64 img)
{
    return get64(img + XSTATE_BV_OFFSET);
}
static u64 xcomp_of(u64 img)
{
    return get64(img + XSTATE_XCOMP_OFFSET);
}

/* A valid standard image at (img) with random contents of (bv). */
static void image_random(u64 img, u64 bv)
{
    u32 mxcsr = 0x1f80 | (rnd() & 0xe07f);

    rnd_fill(ram + img, XSTATE_MAX_SIZE);
    memcpy(ram + img + XSTATE_MXCSR, &mxcsr, 4);
    memset(ram + img + XSTATE_BV_OFFSET, 0, 64);
    put64(img + XSTATE_BV_OFFSET, bv);
    memset(ram + img + 2752, 0, 64);
    ram[img + 2752] = 1;
    for (unsigned i = 0; i < 8; i++) {
        ram[img + 2752 + 16 + i * 2] = 4 * (1 + rnd() % 16);
        ram[img + 2752 + 48 + i] = 1 + rnd() % 16;
    }
}

static void load(u64 img, u64 mask)
{
    at(img, mask);
    XRSTOR64();
}

static void sizes(void)
{
    static const struct {
        u8 id;
        u32 at;
    } facts[] = {{2, 576}, {5, 832}, {6, 896}, {7, 1408}, {9, 2432}, {17, 2496}, {18, 2560}};
    const u64 intel = 0x602e7;

    is_u64(xstate_size(intel, false), 11008, "standard size of XCR0 602e7");
    is_u64(xstate_size(intel, true), 10752, "compacted size of XCR0 602e7");
    for (unsigned i = 0; i < ARRAY_SIZE(facts); i++)
        is_u64(xstate_offset(intel, true, facts[i].id), facts[i].at,
               "compacted offset of component %u", facts[i].id);
    is_u64(xstate_size(XCR0_X87 | XCR0_SSE, true), 576, "x87 and SSE need 576 bytes");
    is_u64(xstate_size(XCR0_X87, false), 576, "x87 alone too");
    is_u64(xstate_size(0xe7, false), 2688, "standard size with AVX-512");
    is_u64(xstate_offset(BIT(9) | XCR0_AMX, true, 17), 640,
           "mistake 8: the compacted TILECFG is moved up to 64-byte alignment");
}

/* The same image through us and through the host; both save it again. */
static void against_host(void)
{
    static _Alignas(64) u8 in[16384], raw[16384], host[16384], zero[XSTATE_MAX_SIZE];
    unsigned bad = 0, bad_c = 0, bad_bv = 0;
    u64 set = host_components(false);
    bool compact = host_components(true);

    if (!set) {
        skip("the host has no XSAVE", "XRSTOR and XSAVE against the host");
        return;
    }
    op_reset();
    c->xcr0 = set;
    for (unsigned i = 0; i < 300; i++) {
        u64 bv = i < 20 ? set : set & rnd(), load_mask = i & 1 ? set : set & rnd(),
            save_mask = i & 2 ? set : set & rnd();

        image_random(IMG, bv);
        if (i & 4)
            memset(ram + IMG, 0,
                   24); /* no pending x87 exception: a host may then save no pointers */
        host_translate(in, ram + IMG, set, true);
        memset(raw, 0xcc, sizeof(raw));
        memset(raw + 512, 0, 64);
        memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
        memset(ram + IMG2 + 512, 0, 64);
        xstate_set(c, zero, sizeof(zero)); /* what is not loaded is initial, there as here */
        load(IMG, load_mask);
        at(IMG2, save_mask);
        XSAVE64();
        bv &= load_mask;
        memcpy(in + 512, &bv, 8);
        if (!(load_mask & (XCR0_SSE | XCR0_AVX)))
            memcpy(in + 24, &(u32){0x1f80}, 4);
        bad += host_roundtrip(in, set, raw, save_mask, false) != 0;
        host_translate(host, raw, set, false);
        for (unsigned id = 2; id < 8; id++) {
            u32 off = xstate_components[id].offset, len = xstate_components[id].size;

            if (set & BIT(id))
                bad += memcmp(host + off, ram + IMG2 + off, len) != 0;
        }
        for (unsigned b = 0; b < 416; b++) {
            bool pending = ram[IMG2 + 2] & 0x80, high = b == 14 || b == 15 || b == 22 || b == 23;

            /* Without a pending exception a host may save no pointers; their width is its own. */
            if (b >= 6 && b < 24 && (!pending || high))
                continue;
            if (b >= 28 && b < 32)
                continue; /* MXCSR_MASK */
            if (host[b] != ram[IMG2 + b] && bad++ < 5)
                printf("# case %u byte %u: host %02x, ours %02x\n", i, b, host[b], ram[IMG2 + b]);
        }
        bad_bv += (get64(IMG2 + 512) & ~XCR0_X87) != ((*(u64 *)(host + 512)) & ~XCR0_X87);

        if (!compact)
            continue;
        memset(raw, 0xcc, sizeof(raw));
        memset(raw + 512, 0, 64);
        memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
        memset(ram + IMG2 + 512, 0, 64);
        at(IMG2, save_mask);
        XSAVEC64();
        host_roundtrip(in, set, raw, save_mask, true);
        bad_c += memcmp(raw + 32, ram + IMG2 + 32, 480) != 0;
        bad_c += memcmp(raw + 512, ram + IMG2 + 512, xstate_size(save_mask, true) - 512) != 0;
    }
    is_u64(bad, 0,
           "XRSTOR64 then XSAVE64 writes what the host writes, 300 random images and masks");
    is_u64(bad_bv, 0, "with the same XSTATE_BV");
    if (compact)
        is_u64(bad_c, 0, "XSAVEC64 writes the host's bytes, header and all");
    else
        skip("the host has no XSAVEC", "XSAVEC64 writes the host's bytes");
}

/* Is a header legal? Ask the host the same. */
static void header_rules_against_host(void)
{
    static _Alignas(64) u8 in[16384];
    u64 set = host_components(true);
    unsigned bad = 0, faults = 0;

    if (!set) {
        skip("the host has no XSAVEC", "XRSTOR's header rules against the host");
        return;
    }
    op_reset();
    c->xcr0 = set;
    for (unsigned i = 0; i < 600; i++) {
        u64 bv = set & rnd(), xcomp = 0, mask = i % 3 ? set : set & rnd();
        u8 *h = in + 512;
        bool host, ours;
        int rc;

        memset(in, 0, sizeof(in));
        memcpy(in + 24, &(u32){0x1f80}, 4);
        if (i & 1)
            xcomp = BIT(63) | (rnd() & 3 ? bv | (set & rnd()) : set & rnd());
        switch (rnd() % 8) {
        case 0:
            bv |= BIT(rnd() % 64);
            break;
        case 1:
            xcomp |= BIT(rnd() % 64);
            break;
        case 2:
            h[8 + rnd() % 56] = 1;
            break;
        case 3:
            bv |= BIT(63);
            break;
        case 4:
            in[24 + rnd() % 4] ^= 1u << rnd() % 8;
            break;
        default:
            break;
        }
        memcpy(h, &bv, 8);
        if (xcomp)
            memcpy(h + 8, &xcomp, 8);
        if (in[26] & 2)
            continue; /* MXCSR.MM exists on AMD hosts, not for guests */
        memcpy(ram + IMG, in, XSTATE_MAX_SIZE);
        host = host_roundtrip(in, mask, NULL, 0, false) != 0;
        at(IMG, mask);
        rc = XRSTOR64();
        ours = op_raised(rc, EXC_GP);
        faults += host;
        if (host != ours && bad++ < 8)
            printf("# bv %llx xcomp %llx mask %llx mxcsr %02x%02x%02x: host %d, ours %d\n",
                   (long long)bv, (long long)xcomp, (long long)mask, in[26], in[25], in[24], host,
                   ours);
    }
    is_u64(bad, 0, "XRSTOR64 faults where the host's does, 600 random headers (%u faults)", faults);
}

static void header_rules(void)
{
    static const struct {
        u64 bv, xcomp;
        u8 byte; /* of the header, made 1 */
        bool fault, fault_s;
        const char *what;
    } cases[] = {
        {7, 0, 0, false, true, "standard"},
        {BIT(3), 0, 0, true, true, "XSTATE_BV bit 3"},
        {BIT(63), 0, 0, true, true, "XSTATE_BV bit 63"},
        {7, 1, 0, true, true, "XCOMP_BV without bit 63"},
        {7, 0, 16, true, true, "standard, byte 16"},
        {7, 0, 23, true, true, "standard, byte 23"},
        {7, 0, 24, false, true, "standard, byte 24: not looked at"},
        {7, BIT(63) | 7, 0, false, false, "compacted"},
        {7, BIT(63) | 3, 0, true, true, "XSTATE_BV outside XCOMP_BV"},
        {3, BIT(63) | 7, 0, false, false, "XSTATE_BV a subset"},
        {7, BIT(63) | 7 | BIT(3), 0, true, true, "XCOMP_BV bit 3"},
        {7, BIT(63) | BIT(62) | 7, 0, true, true, "XCOMP_BV bit 62"},
        {7, BIT(63) | 7, 16, true, true, "compacted, byte 16"},
        {7, BIT(63) | 7, 63, true, true, "compacted, byte 63"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        bool f, fs;

        op_reset();
        image_random(IMG, cases[i].bv);
        put64(IMG + XSTATE_XCOMP_OFFSET, cases[i].xcomp);
        if (cases[i].byte)
            ram[IMG + 512 + cases[i].byte] = 1;
        at(IMG, 7);
        f = op_raised(XRSTOR64(), EXC_GP);
        fs = op_raised(XRSTORS64(), EXC_GP);
        ok(f == cases[i].fault && fs == cases[i].fault_s, "%s: XRSTOR %s, XRSTORS %s",
           cases[i].what, cases[i].fault ? "#GP" : "loads", cases[i].fault_s ? "#GP" : "loads");
    }

    op_reset();
    image_random(IMG, 0);
    memcpy(ram + IMG + XSTATE_MXCSR, &(u32){0x11f80}, 4);
    at(IMG, XCR0_X87);
    ok(XRSTOR64() == OP_NEXT, "MXCSR is not looked at without SSE or AVX in the mask");
    at(IMG, XCR0_AVX);
    ok(op_raised(XRSTOR64(), EXC_GP),
       "reserved MXCSR bits are #GP with AVX in the mask, XSTATE_BV or not");
    c->vec.x87.mxcsr = 0x1f80;
    memcpy(ram + IMG + XSTATE_MXCSR, &(u32){0x7f80}, 4);
    memset(c->vec.zmm, 0x11, sizeof(c->vec.zmm));
    load(IMG, XCR0_SSE);
    ok(c->vec.x87.mxcsr == 0x7f80 && c->vec.zmm[3][15] == 0 && c->vec.zmm[3][16] == 0x11,
       "the standard form loads MXCSR even where it makes XMM initial");
    put64(IMG + XSTATE_XCOMP_OFFSET, BIT(63) | 7);
    load(IMG, XCR0_SSE);
    is_u64(c->vec.x87.mxcsr, 0x1f80, "the compacted form makes it initial with XMM");
}

static void checks_before_memory(void)
{
    static const u8 code[][4] = {{0x48, 0x0f, 0xae, 0x21}, {0x48, 0x0f, 0xae, 0x29},
                                 {0x48, 0x0f, 0xae, 0x31}, {0x48, 0x0f, 0xc7, 0x21},
                                 {0x48, 0x0f, 0xc7, 0x29}, {0x48, 0x0f, 0xc7, 0x19}};
    unsigned bad[5] = {0};

    for (unsigned i = 0; i < ARRAY_SIZE(code); i++) {
        op_reset();
        at(IMG, 0);
        memset(ram + IMG, 0, XSTATE_EXT_OFFSET);
        put64(IMG + XSTATE_XCOMP_OFFSET, BIT(63));
        c->cr4 &= ~CR4_OSXSAVE;
        c->cr0 |= CR0_TS;
        bad[0] += !op_raised(op_run(code[i], 4), EXC_UD);
        c->cr4 |= CR4_OSXSAVE;
        bad[1] += !op_raised(op_run(code[i], 4), EXC_NM);
        c->cr0 &= ~CR0_TS;
        at(IMG + 32, 0);
        bad[2] += !op_raised(op_run(code[i], 4), EXC_GP) || c->exc.error;
        at(0x8000000000000000, 0);
        bad[3] += !op_raised(op_run(code[i], 4), EXC_GP);
        at(IMG, 0);
        c->cpl = 3;
        cpu_mode_update(c);
        bad[4] += op_raised(op_run(code[i], 4), EXC_GP) != (i >= 4);
    }
    is_u64(bad[0], 0, "without CR4.OSXSAVE: #UD, before CR0.TS");
    is_u64(bad[1], 0, "CR0.TS: #NM");
    is_u64(bad[2], 0, "an address off 64 bytes: #GP(0)");
    is_u64(bad[3], 0, "a non-canonical address: #GP(0)");
    is_u64(bad[4], 0, "XSAVES and XRSTORS are for CPL 0, the others not");
}

/* Initial and modified parts: what XSAVEOPT and XSAVEC leave out. */
static void init_optimisation(void)
{
    op_reset();
    image_random(IMG, XCR0_AVX | XCR0_OPMASK);
    load(IMG, ALL);
    memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
    put64(IMG2 + 512, BIT(0) | BIT(40)); /* bit 40: outside the mask, kept */
    at(IMG2, ALL);
    XSAVEOPT64();
    is_u64(bv_of(IMG2), XCR0_AVX | XCR0_OPMASK | BIT(40),
           "XSAVEOPT: XSTATE_BV says what is in use, keeps the rest");
    ok(ram[IMG2] == 0xcc && ram[IMG2 + 160] == 0xcc && ram[IMG2 + 1152] == 0xcc &&
           ram[IMG2 + 2816] == 0xcc && !memcmp(ram + IMG2 + 576, ram + IMG + 576, 256) &&
           !memcmp(ram + IMG2 + 24, ram + IMG + 24, 4),
       "XSAVEOPT writes AVX, opmask and MXCSR, nothing else");
    is_u64(xcomp_of(IMG2), 0xcccccccccccccccc, "and no XCOMP_BV");

    memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
    put64(IMG2 + 512, BIT(40));
    XSAVE64();
    ok(bv_of(IMG2) == (XCR0_AVX | XCR0_OPMASK | BIT(40)) && ram[IMG2] == 0x7f &&
           ram[IMG2 + 160] == 0 && ram[IMG2 + 1152] == 0 && ram[IMG2 + 2816 + 8191] == 0,
       "XSAVE writes initial components as well");
    ok(ram[IMG2 + 416] == 0xcc && ram[IMG2 + 511] == 0xcc && ram[IMG2 + 528] == 0xcc &&
           ram[IMG2 + 832] == 0xcc,
       "but not the gaps");

    memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
    c->vec.x87.mxcsr = 0x1f80;
    XSAVEC64();
    is_u64(bv_of(IMG2), XCR0_AVX | XCR0_OPMASK, "XSAVEC: XSTATE_BV replaces what was there");
    is_u64(xcomp_of(IMG2), BIT(63) | (c->xcr0 & ALL),
           "XSAVEC: XCOMP_BV is the mask, in use or not");
    ok(ram[IMG2 + 24] == 0xcc && ram[IMG2 + 528] == 0xcc,
       "XSAVEC writes MXCSR only with SSE, and no more of the header");
    c->vec.x87.mxcsr = 0x1f81;
    XSAVEC64();
    ok(bv_of(IMG2) & XCR0_SSE && ram[IMG2 + 24] == 0x81,
       "a changed MXCSR puts SSE in use for XSAVEC");
    XSAVES64();
    ok(bv_of(IMG2) == (XCR0_AVX | XCR0_OPMASK | XCR0_SSE) &&
           xcomp_of(IMG2) == (BIT(63) | (c->xcr0 & ALL)),
       "XSAVES as XSAVEC");
    at(IMG2, XCR0_AVX | BIT(30));
    XSAVEC64();
    is_u64(xcomp_of(IMG2), BIT(63) | XCR0_AVX, "bits outside XCR0 do not count");
}

static void random_state(void)
{
    image_random(IMG, c->xcr0);
    load(IMG, ALL);
}

/* Every format takes the whole state there and back. */
static void round_trips(void)
{
    static const struct {
        const char *save, *restore;
    } name[] = {{"XSAVE64", "XRSTOR64"},
                {"XSAVEOPT64", "XRSTOR64"},
                {"XSAVEC64", "XRSTOR64"},
                {"XSAVES64", "XRSTORS64"}};
    static _Alignas(64) u8 before[XSTATE_MAX_SIZE], after[XSTATE_MAX_SIZE];

    for (unsigned form = 0; form < ARRAY_SIZE(name); form++) {
        unsigned bad = 0;

        for (unsigned i = 0; i < 50; i++) {
            u64 drop = rnd() & c->xcr0 & (i & 1 ? -1ull : 0),
                mask = i % 5 ? ALL : (rnd() & ALL) | drop;

            op_reset();
            random_state();
            put64(IMG + 512, 0);
            load(IMG, drop); /* some components initial */
            xstate_get(c, before, sizeof(before));
            memset(ram + IMG2 + 512, 0, 64);
            at(IMG2, mask);
            bad += (form == 0   ? XSAVE64()
                    : form == 1 ? XSAVEOPT64()
                    : form == 2 ? XSAVEC64()
                                : XSAVES64()) != OP_NEXT;
            image_random(IMG, c->xcr0);
            load(IMG, mask); /* other contents in what was saved */
            at(IMG2, mask);
            bad += (form == 3 ? XRSTORS64() : XRSTOR64()) != OP_NEXT;
            xstate_get(c, after, sizeof(after));
            if (form >= 2 && mask & XCR0_AVX && !(mask & XCR0_SSE))
                memcpy(after + 24, before + 24, 4); /* compacted: MXCSR goes with SSE */
            bad += memcmp(before, after, sizeof(before)) != 0;
        }
        is_u64(bad, 0, "%s and %s bring back everything, 50 random states and masks",
               name[form].save, name[form].restore);
    }
}

static void mistakes_of_amx_images(void)
{
    static u8 image[64] = {1, 7};

    op_reset();
    for (unsigned i = 0; i < 8; i++) {
        image[16 + i * 2] = (u8)(4 + 4 * i);
        image[48 + i] = (u8)(16 - i);
    }
    image_random(IMG, XCR0_AMX);
    memcpy(ram + IMG + 2752, image, 64);
    load(IMG, ALL);
    ok(c->amx.colsb[3] == 16 && c->amx.rows[3] == 13 && c->amx.start_row == 7,
       "mistake 5: XRSTOR reads TILECFG's fields");
    at(IMG2, ALL);
    XSAVE64();
    ok(!memcmp(ram + IMG2 + 2752, image, 64), "mistake 5: XSAVE writes them back in place");
    ok(!memcmp(ram + IMG2 + 2816, ram + IMG + 2816, 8192) &&
           !memcmp(c->amx.tile, ram + IMG + 2816, 8192),
       "mistake 6: all 16 rows of all 8 tiles are saved and restored");
    ok(bv_of(IMG2) & XCR0_XTILEDATA, "mistake 7: XSTATE_BV[18] is set while tiles are in use");
    is_u64(xstate_inuse(c) & XCR0_AMX, XCR0_AMX, "mistake 7: so is XINUSE");
    OP(0xc4, 0xe2, 0x78, 0x49, 0xc0); /* TILERELEASE */
    at(IMG2, ALL);
    XSAVE64();
    is_u64(bv_of(IMG2) & XCR0_AMX, 0, "mistake 7: and clear after TILERELEASE");

    /* An image of AVX and tiles, restored with a mask without AVX. */
    image_random(IMG, c->xcr0);
    load(IMG, ALL);
    at(IMG2, XCR0_AVX | XCR0_AMX);
    XSAVEC64();
    is_u64(memcmp(ram + IMG2 + 576 + 256 + 64, ram + IMG + 2816, 8192), 0,
           "tiles follow AVX and TILECFG");
    load(IMG2, 0);
    OP(0xc4, 0xe2, 0x78, 0x49, 0xc0);
    load(IMG2, XCR0_AMX);
    ok(c->amx.tile_inuse && !memcmp(c->amx.tile, ram + IMG + 2816, 8192) &&
           !(memcmp(&c->amx.colsb, ram + IMG + 2752 + 16, 16)),
       "mistake 8: XRSTOR finds components by XCOMP_BV, not by the mask");

    image_random(IMG, XCR0_AMX);
    ram[IMG + 2752 + 48] = 17;
    load(IMG, XCR0_XTILECFG);
    ok(!c->amx.palette && !c->amx.rows[1] && c->amx.tile_inuse,
       "an invalid TILECFG image is the initial one, no fault");
}

static void xfd(void)
{
    op_reset();
    random_state();
    c->xfd = XCR0_XTILEDATA;
    memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
    put64(IMG2 + 512, 0);
    at(IMG2, ALL);
    XSAVE64();
    ok(!(bv_of(IMG2) & XCR0_XTILEDATA) && bv_of(IMG2) & XCR0_XTILECFG && !ram[IMG2 + 2816] &&
           !ram[IMG2 + 11007],
       "XSAVE under XFD saves tile data as initial");
    XSAVEC64();
    ok(!(bv_of(IMG2) & XCR0_XTILEDATA) && xcomp_of(IMG2) & XCR0_XTILEDATA,
       "XSAVEC leaves it out, XCOMP_BV keeps it");
    at(IMG, ALL);
    ok(op_raised(XRSTOR64(), EXC_NM) && c->xfd_err == XCR0_XTILEDATA && !c->exc.has_error,
       "XRSTOR of tile data under XFD: #NM, XFD_ERR");
    c->xfd_err = 0;
    at(IMG, ALL & ~XCR0_XTILEDATA);
    ok(XRSTOR64() == OP_NEXT && !c->xfd_err, "not when the mask leaves it out");
    put64(IMG + 512, XCR0_XTILECFG);
    at(IMG, ALL);
    ok(XRSTOR64() == OP_NEXT && !c->xfd_err && !c->amx.tile_inuse,
       "nor when it only makes it initial");
}

static void faults_change_nothing(void)
{
    static _Alignas(64) u8 before[XSTATE_MAX_SIZE], after[XSTATE_MAX_SIZE];
    u64 img = IMG + 0x1000 - 0x400; /* ZMM areas and tiles lie in later pages */
    bool same;

    op_reset();
    random_state();
    page_set(IMG + 0x2000, true, false);
    memset(ram + img, 0xcc, XSTATE_MAX_SIZE);
    put64(img + 512, 0);
    at(img, ALL);
    same = op_page_fault(XSAVE64(), IMG + 0x2000) && !bv_of(img);
    for (unsigned i = 0; i < 512; i++)
        same &= ram[img + i] == 0xcc;
    ok(same, "a save that faults in its third page has written nothing");
    page_set(IMG + 0x2000, true, true);
    ok(XSAVE64() == OP_NEXT, "and works once the page is there");

    xstate_get(c, before, sizeof(before));
    image_random(img, c->xcr0);
    page_set(IMG + 0x2000, false, false);
    at(img, ALL);
    same = op_page_fault(XRSTOR64(), IMG + 0x2000);
    xstate_get(c, after, sizeof(after));
    ok(same && !memcmp(before, after, sizeof(before)), "a restore that faults has changed nothing");
}

static void slow_memory(void)
{
    op_reset();
    random_state();
    page_code(IMG2 + 0x1000);
    at(IMG2 + 0x1000 - 0x200, ALL);
    put64(IMG2 + 0x1000, 0);
    ok(XSAVE64() == OP_STOP, "a save that hits decoded instructions ends the block");
    page_code(IMG2 + 0x1000);
    ok(FXSAVE64() == OP_NEXT, "FXSAVE in the page before does not");
    at(IMG2 + 0x1000, 0);
    ok(FXSAVE64() == OP_STOP, "in it it does");
    page_code(IMG2 + 0x1000);
    ok(STMXCSR() == OP_STOP, "so does STMXCSR");
}

/* Outside 64-bit mode registers 8 and up take no part. */
static void legacy_mode(void)
{
    static struct cpu_vec before;
    u32 fip, fcs;

    op_reset();
    random_state();
    before = c->vec;
    op_mode_32();
    memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
    put64(IMG2 + 512, 0);
    at(IMG2, ALL);
    ok(XSAVE32() == OP_NEXT && ram[IMG2 + 160 + 128] == 0xcc &&
           !memcmp(ram + IMG2 + 160, c->vec.zmm[0], 16),
       "32-bit mode: XSAVE writes XMM0-7 only");
    ok(ram[IMG2 + 576 + 128] == 0xcc && ram[IMG2 + 1152 + 256] == 0xcc && ram[IMG2 + 1664] == 0xcc,
       "YMM0-7, ZMM0-7, and none of Hi16_ZMM");
    ok(!(bv_of(IMG2) & XCR0_HI16_ZMM), "which is not in use there");
    memcpy(&fip, ram + IMG2 + 8, 4);
    memcpy(&fcs, ram + IMG2 + 12, 4);
    ok(fip == (u32)before.x87.fip && fcs == 0,
       "the 32-bit form has a 32-bit FIP, and FCS reads zero");
    memset(ram + IMG2 + 512, 0, 64);
    at(IMG2, ALL);
    memcpy(ram + IMG2 + 24, &(u32){0x1f80}, 4);
    XRSTOR32();
    ok(!c->vec.zmm[7][0] && !c->vec.zmm[7][16] && !c->vec.zmm[7][63] &&
           !memcmp(c->vec.zmm[8], before.zmm[8], 24 * 64),
       "32-bit mode: XRSTOR makes registers 0-7 initial and leaves the others");
    c->seg[SEG_DS].limit = IMG2 + 575;
    at(IMG2, 3);
    ok(XSAVE32() == OP_NEXT, "a segment that ends with the header holds x87 and SSE");
    at(IMG2, 7);
    ok(op_raised(XSAVE32(), EXC_GP), "but not AVX: #GP(0)");
}

static void fxsave(void)
{
    static struct cpu_vec before;
    unsigned bad = 0;

    for (unsigned i = 0; i < 50; i++) {
        op_reset();
        random_state();
        before = c->vec;
        memset(ram + IMG2, 0xcc, 512);
        at(IMG2 + 16, 0);
        bad += FXSAVE64() != OP_NEXT;
        memset(c->vec.zmm, 0x33, sizeof(c->vec.zmm));
        memset(&c->vec.x87, 0, sizeof(c->vec.x87));
        bad += FXRSTOR64() != OP_NEXT;
        before.x87.mxcsr_mask = c->vec.x87.mxcsr_mask;
        bad += memcmp(&before.x87, &c->vec.x87, sizeof(before.x87)) != 0;
        for (unsigned r = 0; r < 16; r++)
            bad += memcmp(before.zmm[r], c->vec.zmm[r], 16) || c->vec.zmm[r][16] != 0x33;
        bad += ram[IMG2 + 16 + 416] != 0xcc;
    }
    is_u64(bad, 0,
           "FXSAVE64 and FXRSTOR64 bring back x87, MXCSR and XMM, and leave the rest alone");
    op_reset();
    at(IMG2 + 8, 0);
    ok(op_raised(FXSAVE64(), EXC_GP) && op_raised(FXRSTOR64(), EXC_GP),
       "an address off 16 bytes: #GP(0)");
    at(IMG2, 0);
    c->cr0 |= CR0_TS;
    ok(op_raised(FXSAVE64(), EXC_NM), "CR0.TS: #NM");
    c->cr0 = (c->cr0 & ~CR0_TS) | CR0_EM;
    ok(op_raised(FXRSTOR64(), EXC_NM), "CR0.EM: #NM");
    c->cr0 &= ~CR0_EM;
    FXSAVE64();
    is_u64(ram[IMG2 + 28] | ram[IMG2 + 29] << 8 | ram[IMG2 + 30] << 16, 0xffff,
           "MXCSR_MASK is FFFFH");
    ram[IMG2 + 26] = 1;
    ok(op_raised(FXRSTOR64(), EXC_GP), "a reserved MXCSR bit: #GP(0)");
    op_mode_32();
    memset(ram + IMG2, 0xcc, 512);
    FXSAVE32();
    ok(ram[IMG2 + 160 + 128] == 0xcc, "32-bit mode: XMM0-7 only");
}

static void mxcsr(void)
{
    op_reset();
    at(IMG, 0);
    put64(IMG, 0xdeadbeef00009fbf);
    ok(LDMXCSR() == OP_NEXT && c->vec.x87.mxcsr == 0x9fbf, "LDMXCSR");
    put64(IMG, 0);
    ok(STMXCSR() == OP_NEXT && get64(IMG) == 0x9fbf, "STMXCSR stores 32 bits");
    put64(IMG, 0x20000);
    ok(op_raised(LDMXCSR(), EXC_GP) && op_raised(VLDMXCSR(), EXC_GP) && c->vec.x87.mxcsr == 0x9fbf,
       "a reserved bit: #GP(0), nothing changes");
    ok(VSTMXCSR() == OP_NEXT && get64(IMG) == 0x9fbf, "VSTMXCSR");
    c->cr0 |= CR0_TS;
    ok(op_raised(STMXCSR(), EXC_NM) && op_raised(VSTMXCSR(), EXC_NM), "CR0.TS: #NM");
    c->cr4 &= ~CR4_OSFXSR;
    ok(op_raised(STMXCSR(), EXC_UD) && op_raised(VSTMXCSR(), EXC_NM),
       "CR4.OSFXSR matters to the legacy form: #UD");
    c->xcr0 = 3;
    ok(op_raised(VLDMXCSR(), EXC_UD), "XCR0 matters to the VEX form: #UD");
}

static void xcr0_values(void)
{
    static const struct {
        u64 val;
        bool ok;
    } cases[] = {{1, true},       {0, false},       {2, false},
                 {3, true},       {5, false},       {7, true},
                 {0x27, false},   {0xe7, true},     {0xe3, false},
                 {0x60003, true}, {0x20003, false}, {0x40003, false},
                 {0x60001, true}, {0x602e7, false}, {0x60007 | BIT(62), false},
                 {0x1b, false},   {0x600e7, true}};
    unsigned bad = 0;

    op_reset();
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        bool want = cases[i].ok && !(cases[i].val & ~c->cpuid_xcr0);
        int rc;

        c->xcr0 = 1;
        rc = cpu_xcr0_set(c, cases[i].val);
        if (want ? rc != OP_NEXT || c->xcr0 != cases[i].val
                 : !op_raised(rc, EXC_GP) || c->xcr0 != 1) {
            bad++;
            printf("# XCR0 %llx\n", (long long)cases[i].val);
        }
    }
    is_u64(bad, 0, "XSETBV's values: legal ones stick, others are #GP");
}

int main(void)
{
    if (!op_create())
        return 1;
    sizes();
    xcr0_values();
    header_rules();
    header_rules_against_host();
    against_host();
    checks_before_memory();
    init_optimisation();
    round_trips();
    mistakes_of_amx_images();
    xfd();
    faults_change_nothing();
    slow_memory();
    legacy_mode();
    fxsave();
    mxcsr();
    op_destroy();
    return tap_done();
}
