// SPDX-License-Identifier: MIT
// XSAVE images laid out as the guest's CPUID says: what is followed, what is not, and the host's own layout.

#include "op_cpu.h"
#include "rand.h"
#include "xsave_host.h"

#define IMG  DATA
#define IMG2 (DATA + 0x8000)

#define XSAVE64()  OP(0x48, 0x0f, 0xae, 0x21)
#define XRSTOR64() OP(0x48, 0x0f, 0xae, 0x29)
#define XSAVEC64() OP(0x48, 0x0f, 0xc7, 0x21)

static struct cpu_cpuid_entry table[CPU_CPUID_MAX];
static unsigned count;

static void model(void)
{
    count = (unsigned)cpu_cpuid_model("sapphirerapids", table, CPU_CPUID_MAX);
}

static struct cpu_cpuid_entry *leaf(unsigned id)
{
    for (unsigned i = 0; i < count; i++) {
        if (table[i].leaf == 0xd && table[i].index == id)
            return &table[i];
    }
    return NULL;
}

static u32 told(unsigned id, unsigned reg)
{
    u32 out[4];

    cpu_cpuid(c, 0xd, id, out);
    return out[reg];
}

/* AMX's two components are there on every host; the cases move them. */
static void what_is_followed(void)
{
    static const struct {
        u32 cfg, data;       /* what 0D.17 and 0D.18 say */
        u32 cfg_at, data_at; /* and where they are */
        const char *what;
    } cases[] = {
        {2752, 2816, 2752, 2816, "Intel's offsets"},
        {2692, 2756, 2692, 2756, "other offsets, aligned or not"},
        {0, 0, 2752, 2816, "no offsets: Intel's"},
        {0, 2816, 2752, 2816, "one is missing: Intel's"},
        {575, 2816, 2752, 2816, "an area in the header"},
        {4032, 4096, 2752, 2816, "tile data past the end of the image, and then an overlap"},
        {4033, 2816, 2752, 2816, "areas that overlap"},
        {4096, 2816, 2752, 2816, "an area past 4096 bytes"},
        {0xffffffff, 0xffffffff, 2752, 2816, "an offset that would wrap"},
        {2760, 2784, 2752, 2816, "overlapping areas: all of Intel's"},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u32 cfg_at = cases[i].cfg_at, data_at = cases[i].data_at;

        model();
        leaf(17)->ebx = cases[i].cfg;
        leaf(18)->ebx = cases[i].data;
        cpu_cpuid_set(c, table, count);
        ok(c->xlayout.offset[17] == cfg_at && c->xlayout.offset[18] == data_at, "%s",
           cases[i].what);
        ok(told(17, CPUID_EBX) == cfg_at && told(18, CPUID_EBX) == data_at,
           "%s: CPUID says the same", cases[i].what);
    }
}

static void sizes_and_flags(void)
{
    model();
    leaf(18)->eax = 4096;
    leaf(18)->ecx = 0;
    leaf(17)->ecx = 0;
    leaf(0)->ecx = 832;
    cpu_cpuid_set(c, table, count);
    is_u64(told(18, CPUID_EAX), 8192, "a size that is not the architecture's is put right");
    is_u64(told(18, CPUID_ECX), XSTATE_ALIGN64 | XSTATE_XFD, "with the flags");
    is_u64(told(17, CPUID_ECX), 0, "an alignment flag that is not set is followed");
    is_u64(told(0, CPUID_ECX), 11008, "0D.0:ECX is what the image needs");
    is_u64(xstate_offset_in(&c->xlayout, XCR0_AMX | XCR0_X87, true, 17), 576,
           "compacted, at the start");
    c->xcr0 = XCR0_X87 | XCR0_SSE;
    is_u64(told(0, CPUID_EBX), 576, "0D.0:EBX follows XCR0");

    model();
    leaf(17)->ebx = 2692;
    leaf(18)->ebx = 2756;
    cpu_cpuid_set(c, table, count);
    c->xcr0 |= XCR0_AMX;
    is_u64(told(0, CPUID_EBX), 2756 + 8192, "and the layout");
    model();
    leaf(0)->eax = 3;
    leaf(17)->ebx = 1;
    cpu_cpuid_set(c, table, count);
    is_u64(told(17, CPUID_EBX), 1, "a component that 0D.0 does not offer is nobody's business");
}

/* A standard image of (bv) at (img) in the guest's layout. */
static void image_random(u64 img, u64 bv)
{
    u32 cfg = c->xlayout.offset[XSTATE_XTILECFG];

    rnd_fill(ram + img, XSTATE_MAX_SIZE);
    memcpy(ram + img + XSTATE_MXCSR, &(u32){0x1fa0}, 4);
    memset(ram + img, 0, 24);
    ram[img] = 0x7f;
    ram[img + 1] = 3;
    memset(ram + img + XSTATE_BV_OFFSET, 0, 64);
    put64(img + XSTATE_BV_OFFSET, bv);
    memset(ram + img + cfg, 0, 64);
    ram[img + cfg] = 1;
    ram[img + cfg + 16] = 64;
    ram[img + cfg + 48] = 16;
}

static void at(u64 lin, u64 mask)
{
    c->r[REG_RCX] = lin;
    c->r[REG_RAX] = (u32)mask;
    c->r[REG_RDX] = mask >> 32;
}

static void host_layout(u64 set)
{
    for (unsigned id = 2; id < 8; id++) {
        if (set & BIT(id) && leaf(id))
            leaf(id)->ebx = host_offset(id);
    }
}

/* With the host's numbers in CPUID our images and the host's are the same bytes. */
static void against_host(void)
{
    static _Alignas(64) u8 in[16384], host[16384];
    u64 set = host_components(false);
    unsigned bad = 0;

    if (!set) {
        skip("the host has no XSAVE", "the host's layout");
        return;
    }
    model();
    host_layout(set);
    cpu_cpuid_set(c, table, count);
    for (unsigned i = 0; i < 200; i++) {
        u64 bv = i < 20 ? set : set & rnd();

        op_reset();
        c->xcr0 = set;
        image_random(IMG, bv);
        memcpy(in, ram + IMG, XSTATE_MAX_SIZE);
        memset(host, 0xcc, sizeof(host));
        memset(host + 512, 0, 64);
        memset(ram + IMG2, 0xcc, XSTATE_MAX_SIZE);
        memset(ram + IMG2 + 512, 0, 64);
        at(IMG, set);
        XRSTOR64();
        at(IMG2, set);
        XSAVE64();
        bad += host_roundtrip(in, set, host, set, false) != 0;
        bad += memcmp(host + 32, ram + IMG2 + 32, 480) != 0;
        bad += memcmp(host + 576, ram + IMG2 + 576, 4096 - 576) != 0;
    }
    is_u64(bad, 0,
           "XRSTOR64 and XSAVE64 in the host's layout write the host's bytes, 200 random images");
}

/* KVM_GET_XSAVE2's image is in the layout too, and carries everything over to a CPU with another. */
static void image_in_layout(void)
{
    static u8 moved[XSTATE_MAX_SIZE], back[XSTATE_MAX_SIZE];
    u64 all = cpu_xcr0_supported();

    op_reset();
    model();
    leaf(17)->ebx = 2700;
    leaf(18)->ebx = 2772;
    cpu_cpuid_set(c, table, count);
    image_random(IMG, all);
    is_u64(xstate_set(c, ram + IMG, XSTATE_MAX_SIZE), 0, "an image in a guest's layout is taken");
    ok(c->amx.tile_inuse && !memcmp(c->amx.tile, ram + IMG + 2772, 8192),
       "tiles come from where CPUID has them");
    xstate_get(c, moved, sizeof(moved));
    ok(!memcmp(moved + 2700, ram + IMG + 2700, 64) && !memcmp(moved + 2772, ram + IMG + 2772, 8192),
       "and are given out there");
    c->xlayout = xstate_layout_intel;
    xstate_get(c, back, sizeof(back));
    ok(!memcmp(back + 2816, moved + 2772, 8192), "Intel's layout has them in Intel's place");
}

static void mxcsr_alone(void)
{
    static u8 out[XSTATE_MAX_SIZE];
    u64 bv;

    op_reset();
    c->vec.x87.mxcsr = 0x1fa0;
    xstate_get(c, out, sizeof(out));
    memcpy(&bv, out + XSTATE_BV_OFFSET, 8);
    is_u64(bv & XCR0_SSE, XCR0_SSE, "MXCSR alone counts as SSE state");
    c->vec.x87.mxcsr = MXCSR_INIT;
    xstate_set(c, out, sizeof(out));
    is_u64(c->vec.x87.mxcsr, 0x1fa0, "so it comes back");
    memcpy(&bv, out + 464, 8);
    is_u64(bv, cpu_xcr0_supported(), "bytes 464 to 471 name the components of this machine");
}

int main(void)
{
    if (!op_create())
        return 1;
    what_is_followed();
    sizes_and_flags();
    against_host();
    image_in_layout();
    mxcsr_alone();
    return tap_done();
}
