// SPDX-License-Identifier: MIT
// Guest AMX at the ABI, rule by rule: XSAVE images and their sizes, XCR0, XFD, the forms of the first proposal.

#include "client.h"

#define IMAGE       11008
#define BV_AT       512
#define XCOMP_AT    520
#define TILE_AT     2816
#define XTILECFG    (1ull << 17)
#define XTILEDATA   (1ull << 18)
#define MSR_XFD     0x1c4
#define MSR_XFD_ERR 0x1c5

static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 e[256];
} table;

static uint8_t image[16384], got[16384];

static struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    for (uint32_t i = 0; i < table.head.nent; i++) {
        if (table.e[i].function == function && table.e[i].index == index)
            return &table.e[i];
    }
    return NULL;
}

static void supported(const struct vm *m)
{
    table.head.nent = 256;
    kv(m->sys, KVM_GET_SUPPORTED_CPUID, &table);
}

/* A vCPU whose CPUID offers what is supported but for (without). */
static struct vcpu vcpu_with(const struct vm *m, unsigned id, uint64_t without)
{
    struct vcpu v = vcpu_new(m, id);

    supported(m);
    leaf(0xd, 0)->eax &= ~(uint32_t)without;
    ok(!kv(v.fd, KVM_SET_CPUID2, &table), "CPUID without XCR0 bits %#llx",
       (unsigned long long)without);
    return v;
}

static uint64_t bv_of(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p + BV_AT, 8);
    return v;
}

static void image_new(uint64_t bv)
{
    memset(image, 0, sizeof(image));
    memcpy(image + BV_AT, &bv, 8);
    memcpy(image, "\x7f\x03", 2);
    memcpy(image + 24, "\x80\x1f", 2);
    image[2752] = 1; /* palette */
    image[2752 + 16] = 64;
    image[2752 + 48] = 16;
    for (unsigned i = 0; i < 1024; i++)
        image[TILE_AT + i] = (uint8_t)(i * 7 + 1);
}

static int msr_set(const struct vcpu *v, uint32_t index, uint64_t data)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } m = {.head.nmsrs = 1, .e = {.index = index, .data = data}};

    return kv(v->fd, KVM_SET_MSRS, &m);
}

static uint64_t msr_get(const struct vcpu *v, uint32_t index)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } m = {.head.nmsrs = 1, .e.index = index};

    return kv(v->fd, KVM_GET_MSRS, &m) == 1 ? m.e.data : ~0ull;
}

/* The last (size) bytes before a page that is not there. */
static uint8_t *edge(size_t size)
{
    uint8_t *p = mmap(NULL, 8 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    munmap(p + 7 * 4096, 4096);
    return p + 7 * 4096 - size;
}

/* How much is read and written: never a byte more. */
static void test_sizes(const struct vm *m)
{
    struct vcpu small = vcpu_with(m, 0, XTILECFG | XTILEDATA), big = vcpu_with(m, 1, 0);

    ok(!kv(small.fd, KVM_GET_XSAVE, edge(4096)),
       "without tile data KVM_GET_XSAVE gives 4096 bytes");
    ok(!kv(small.fd, KVM_GET_XSAVE2, edge(4096)), "KVM_GET_XSAVE2 too");
    ok(!kv(small.fd, KVM_SET_XSAVE, edge(4096)), "and KVM_SET_XSAVE reads as many");
    fails(kv(small.fd, KVM_GET_XSAVE, edge(4095)), EFAULT, "4095 are not enough to give");
    fails(kv(small.fd, KVM_SET_XSAVE, edge(4095)), EFAULT, "nor to take");
    fails(kv(big.fd, KVM_GET_XSAVE, image), EINVAL, "with tile data KVM_GET_XSAVE is refused");
    ok(!kv(big.fd, KVM_GET_XSAVE2, edge(IMAGE)), "KVM_GET_XSAVE2 gives 11008 bytes");
    ok(!kv(big.fd, KVM_SET_XSAVE, edge(IMAGE)), "KVM_SET_XSAVE reads as many");
    fails(kv(big.fd, KVM_GET_XSAVE2, edge(IMAGE - 1)), EFAULT, "11007 are not enough to give");
    fails(kv(big.fd, KVM_SET_XSAVE, edge(IMAGE - 1)), EFAULT, "nor to take");
    vcpu_free(&small);
    vcpu_free(&big);
}

static void test_set_rules(const struct vm *m)
{
    struct vcpu small = vcpu_with(m, 2, XTILECFG | XTILEDATA), v = vcpu_with(m, 3, 0);
    static const struct {
        unsigned at;
        uint8_t val;
        const char *what;
    } bad[] = {
        {BV_AT, 1 << 3, "XSTATE_BV: MPX"},         {BV_AT + 1, 2, "XSTATE_BV: PKRU"},
        {BV_AT + 7, 0x80, "XSTATE_BV bit 63"},     {XCOMP_AT, 1, "XCOMP_BV"},
        {XCOMP_AT + 7, 0x80, "a compacted image"}, {528, 1, "the first reserved byte"},
        {575, 0x80, "the last reserved byte"},     {26, 1, "a reserved bit of MXCSR"},
    };

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        image_new(3);
        kv(v.fd, KVM_SET_XSAVE, image);
        kv(v.fd, KVM_GET_XSAVE2, got);
        image[bad[i].at] |= bad[i].val;
        image[32]++;
        fails(kv(v.fd, KVM_SET_XSAVE, image), EINVAL, "%s", bad[i].what);
        kv(v.fd, KVM_GET_XSAVE2, image);
        ok(!memcmp(image, got, IMAGE), "%s: nothing has changed", bad[i].what);
    }
    image_new(XTILECFG | XTILEDATA);
    memset(image + 24, 0xff, 4);
    ok(!kv(v.fd, KVM_SET_XSAVE, image), "MXCSR does not count without x87, SSE or AVX");
    fails(kv(small.fd, KVM_SET_XSAVE, image), EINVAL,
          "tile data for a vCPU that has no room for them");
    image_new(XTILECFG);
    ok(!kv(small.fd, KVM_SET_XSAVE, image), "what may be set is KVM's XCR0, not the guest's");
    kv(small.fd, KVM_GET_XSAVE, got);
    is_u64(bv_of(got) & XTILECFG, 0, "what is given is the guest's");
    image_new(0);
    ok(!kv(v.fd, KVM_SET_XSAVE, image) && !kv(v.fd, KVM_GET_XSAVE2, got), "an image with nothing");
    is_u64(bv_of(got) & ~1ull, 0, "makes everything initial");
    vcpu_free(&small);
    vcpu_free(&v);
}

static void test_xfd(const struct vm *m)
{
    struct vcpu small = vcpu_with(m, 4, XTILECFG | XTILEDATA), v = vcpu_with(m, 5, 0);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs[0] = {.value = 0x60007}};

    is_u64(msr_get(&v, MSR_XFD), 0, "XFD is 0 at reset");
    is_u64(msr_get(&v, MSR_XFD_ERR), 0, "XFD_ERR too");
    is_u64((uint64_t)msr_set(&v, MSR_XFD, 1 << 17), 0, "XFD[17] is refused");
    is_u64((uint64_t)msr_set(&v, MSR_XFD_ERR, 1), 0, "XFD_ERR[0] too");
    is_u64((uint64_t)msr_set(&small, MSR_XFD, XTILEDATA), 0,
           "XFD[18] of a guest without tile data");
    is_u64((uint64_t)msr_set(&small, MSR_XFD, 0), 1, "0 can be written even there");
    is_u64((uint64_t)msr_set(&v, MSR_XFD_ERR, XTILEDATA), 1, "XFD_ERR[18] can be set");
    is_u64(msr_get(&v, MSR_XFD_ERR), XTILEDATA, "and is not ignored, as in the first proposal");
    is_u64((uint64_t)msr_set(&v, MSR_XFD_ERR, 0), 1, "and cleared");

    ok(!kv(v.fd, KVM_SET_XCRS, &x), "XCR0");
    image_new(3 | XTILECFG | XTILEDATA);
    ok(!kv(v.fd, KVM_SET_XSAVE, image) && !kv(v.fd, KVM_GET_XSAVE2, got), "tiles go in");
    ok(bv_of(got) & XTILEDATA && !memcmp(got + TILE_AT, image + TILE_AT, 8192), "and come out");
    is_u64((uint64_t)msr_set(&v, MSR_XFD, XTILEDATA), 1, "XFD[18]");
    kv(v.fd, KVM_GET_XSAVE2, got);
    is_u64(bv_of(got) & (XTILECFG | XTILEDATA), XTILECFG, "hides them");
    ok(!kv(v.fd, KVM_SET_XSAVE, image), "tiles of an image are accepted");
    msr_set(&v, MSR_XFD, 0);
    kv(v.fd, KVM_GET_XSAVE2, got);
    is_u64(bv_of(got) & (XTILECFG | XTILEDATA), XTILECFG, "and dropped");
    vcpu_free(&small);
    vcpu_free(&v);
}

static void test_xcr0(const struct vm *m)
{
    struct vcpu v = vcpu_with(m, 6, 0), small = vcpu_with(m, 7, XTILECFG | XTILEDATA);
    static const struct {
        uint64_t xcr0;
        int good;
    } cases[] = {{0, 0},       {1, 1},       {2, 0},       {3, 1},
                 {5, 0},       {7, 1},       {0xb, 0},     {0x1b, 0},
                 {0x27, 0},    {0xe3, 0},    {0x207, 0},   {0x20007, 0},
                 {0x40007, 0}, {0x60001, 1}, {0x60007, 1}, {1ull << 63 | 1, 0}};
    struct kvm_xcrs x = {.nr_xcrs = 1}, out;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        x.xcrs[0].value = cases[i].xcr0;
        if (cases[i].good)
            ok(!kv(v.fd, KVM_SET_XCRS, &x), "XCR0 = %#llx", (unsigned long long)cases[i].xcr0);
        else
            fails(kv(v.fd, KVM_SET_XCRS, &x), EINVAL, "XCR0 = %#llx",
                  (unsigned long long)cases[i].xcr0);
    }
    kv(v.fd, KVM_GET_XCRS, &out);
    is_u64(out.xcrs[0].value, 0x60007, "the last good one stays");
    table.head.nent = 256;
    ok(!kv(v.fd, KVM_GET_CPUID2, &table), "CPUID as the guest reads it");
    is_u64(leaf(0xd, 0)->ebx, IMAGE, "0D.0:EBX follows XCR0");
    is_u64(leaf(0xd, 1)->ebx, 576 + 256 + 64 + 8192, "0D.1:EBX too, tiles aligned to 64");
    x.xcrs[0].value = 0x60007;
    fails(kv(small.fd, KVM_SET_XCRS, &x), EINVAL, "tiles in XCR0 of a guest whose CPUID has none");
    vcpu_free(&v);
    vcpu_free(&small);
}

static void test_extension(const struct vm *m)
{
    struct vcpu v = vcpu_with(m, 8, 0), small = vcpu_with(m, 9, XTILECFG | XTILEDATA);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs[0] = {.value = 0x60007}};

    is_u64((uint64_t)kv(m->sys, KVM_CHECK_EXTENSION, KVM_CAP_X86_XSAVE_EXTENSION), 1,
           "KVM_CAP_X86_XSAVE_EXTENSION");
    kv(v.fd, KVM_SET_XCRS, &x);
    image_new(3 | XTILECFG | XTILEDATA);
    memset(image + IMAGE, 0xee, 12288 - IMAGE);
    ok(!kv(v.fd, KVM_SET_XSAVE_EXTENSION, image), "KVM_SET_XSAVE_EXTENSION");
    memset(got, 0xcc, sizeof(got));
    ok(!kv(v.fd, KVM_GET_XSAVE_EXTENSION, got), "KVM_GET_XSAVE_EXTENSION");
    ok(bv_of(got) & XTILEDATA && !memcmp(got + TILE_AT, image + TILE_AT, 8192), "tiles come back");
    ok(!got[IMAGE] && !memcmp(got + IMAGE, got + IMAGE + 1, 12288 - IMAGE - 1) &&
           got[12288] == 0xcc,
       "with zeros to 12288 bytes and nothing after");
    ok(!kv(small.fd, KVM_GET_XSAVE_EXTENSION, edge(12288)),
       "a vCPU without tile data gives as much");
    is_u64(bv_of(got) & 2, bv_of(image) & 0, "XMM registers are initial");
    fails(kv(small.fd, KVM_SET_XSAVE_EXTENSION, image), EINVAL, "and takes no tiles");
    image_new(1ull << 62);
    fails(kv(v.fd, KVM_SET_XSAVE_EXTENSION, image), EINVAL, "a component that is not supported");
    image_new(3);
    image[27] = 0xff;
    fails(kv(v.fd, KVM_SET_XSAVE_EXTENSION, image), EINVAL, "reserved bits of MXCSR");
    fails(kv(v.fd, KVM_GET_XSAVE_EXTENSION, edge(12287)), EFAULT, "a buffer that is too short");
    fails(kv(v.fd, KVM_SET_XSAVE_EXTENSION, edge(12287)), EFAULT, "to take from as well");
    vcpu_free(&v);
    vcpu_free(&small);
}

static void test_attributes(const struct vm *m)
{
    uint64_t supp = 0;
    struct kvm_device_attr a = {.attr = KVM_X86_XCOMP_GUEST_SUPP, .addr = (uintptr_t)&supp};

    ok(!kv(m->sys, KVM_HAS_DEVICE_ATTR, &a) && !kv(m->sys, KVM_GET_DEVICE_ATTR, &a),
       "KVM_X86_XCOMP_GUEST_SUPP");
    is_u64(supp & (XTILECFG | XTILEDATA), XTILECFG | XTILEDATA, "tile components are supported");
    a.addr = 8;
    fails(kv(m->sys, KVM_GET_DEVICE_ATTR, &a), EFAULT, "a bad address");
    a.attr = 1;
    fails(kv(m->sys, KVM_GET_DEVICE_ATTR, &a), ENXIO, "another attribute");
    a.attr = 0;
    a.group = 1;
    fails(kv(m->sys, KVM_HAS_DEVICE_ATTR, &a), ENXIO, "another group");
}

/* A layout of the client's own: images and CPUID agree on it. */
static void test_layout(const struct vm *m)
{
    struct vcpu v = vcpu_new(m, 10);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs[0] = {.value = 0x60007}};

    supported(m);
    is_u64(leaf(0xd, 18)->ebx, TILE_AT, "Intel's layout is offered");
    leaf(0xd, 17)->ebx = 0;
    leaf(0xd, 18)->ebx = 2692; /* past AVX-512 */
    ok(!kv(v.fd, KVM_SET_CPUID2, &table) && !kv(v.fd, KVM_SET_XCRS, &x),
       "CPUID with other offsets");
    table.head.nent = 256;
    kv(v.fd, KVM_GET_CPUID2, &table);
    ok(leaf(0xd, 17)->ebx == 2752 && leaf(0xd, 18)->ebx == TILE_AT,
       "areas that overlap are not followed, and CPUID says so");
    leaf(0xd, 17)->ebx = 2692;
    leaf(0xd, 18)->ebx = 2756;
    ok(!kv(v.fd, KVM_SET_CPUID2, &table), "areas that do not");
    image_new(XTILECFG | XTILEDATA);
    memmove(image + 2692, image + 2752, 64 + 8192);
    ok(!kv(v.fd, KVM_SET_XSAVE, image) && !kv(v.fd, KVM_GET_XSAVE2, got),
       "an image laid out like that");
    ok(!memcmp(got + 2692, image + 2692, 64 + 8192), "comes back the same");
    vcpu_free(&v);
}

int main(void)
{
    struct vm m = vm_new(0x100000);

    test_sizes(&m);
    test_set_rules(&m);
    test_xfd(&m);
    test_xcr0(&m);
    test_extension(&m);
    test_attributes(&m);
    test_layout(&m);
    vm_free(&m);
    return tap_done();
}
