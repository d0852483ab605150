// SPDX-License-Identifier: MIT
// Vector and tile registers at guest entry and exit: nothing of the host's in the guest, nothing of the guest's in
// the host or in another vCPU; and what tiles cost in memory, before and after a vCPU first uses them.

#include "longmode.h"

#include <pthread.h>

#define RAM_SIZE   0x200000
#define CODE_SAVE  0x10000 /* store all registers to [rdi], tiles not; exit */
#define CODE_LOAD  0x11000 /* load all registers from [rdi], tiles from [rbx]; exit */
#define CODE_TILES 0x12000 /* store all tiles to [rbx], registers to [rdi]; exit */
#define CODE_PLAIN 0x13000 /* nothing but an exit */
#define CFG_AT     0x20000
#define REGS_AT    0x30000 /* struct regs of the guest */
#define TILES_AT   0x40000
#define OUT_AT     0x50000
#define TILES_OUT  0x60000
#define STEP       0x80000 /* between the areas of two vCPUs */

#define XCR0_BASE   7u
#define XCR0_AVX512 0xe0u
#define XCR0_AMX    0x60000u

#define MSR_XFD     0x1c4
#define MSR_XFD_ERR 0x1c5
#define XFD_TILES   (1ull << 18)

/* What the guest's code loads and stores. */
struct regs {
    uint8_t vec[32][64];
    uint64_t k[8];
    uint32_t mxcsr;
    uint16_t fcw;
};

static int have_avx512;

/* --- the guest's code, put together here because an assembler may not know all of it --- */

struct code {
    uint8_t *p;
};

static void put(struct code *c, const void *bytes, unsigned n)
{
    memcpy(c->p, bytes, n);
    c->p += n;
}
#define PUT(c, ...) put(c, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void put_disp32(struct code *c, uint32_t d)
{
    put(c, &d, 4);
}

/* Vector register (r) to or from 64 * r beyond RDI: VMOVDQU64 with an 8-bit displacement in 64 bytes, or MOVUPS. */
static void put_vector(struct code *c, unsigned r, int store)
{
    uint8_t reg = (uint8_t)((r & 7) << 3);

    if (have_avx512) {
        PUT(c, 0x62, (uint8_t)(0x61 | (r & 8 ? 0 : 0x80) | (r & 16 ? 0 : 0x10)), 0xfe, 0x48);
        PUT(c, store ? 0x7f : 0x6f, 0x47 | reg, (uint8_t)r);
        return;
    }
    if (r & 8)
        PUT(c, 0x44);
    PUT(c, 0x0f, store ? 0x11 : 0x10, 0x87 | reg);
    put_disp32(c, r * 64);
}

static void put_regs(struct code *c, int store)
{
    for (unsigned r = 0; r < (have_avx512 ? 32 : 16); r++)
        put_vector(c, r, store);
    for (unsigned k = 0; k < 8 && have_avx512; k++) { /* KMOVQ */
        PUT(c, 0xc4, 0xe1, 0xf8, store ? 0x91 : 0x90, (uint8_t)(0x87 | k << 3));
        put_disp32(c, (uint32_t)(offsetof(struct regs, k) + k * 8));
    }
    PUT(c, 0x0f, 0xae, store ? 0x9f : 0x97); /* STMXCSR, LDMXCSR */
    put_disp32(c, offsetof(struct regs, mxcsr));
    PUT(c, 0xd9, store ? 0xbf : 0xaf); /* FNSTCW, FLDCW */
    put_disp32(c, offsetof(struct regs, fcw));
}

/* All eight tiles at [rbx + rsi], RBX going on by a tile's size; RSI is 64. */
static void put_tiles(struct code *c, int store)
{
    for (unsigned t = 0; t < 8; t++) {
        PUT(c, 0xc4, 0xe2, store ? 0x7a : 0x7b, 0x4b, (uint8_t)(0x04 | t << 3), 0x33);
        PUT(c, 0x48, 0x81, 0xc3, 0x00, 0x04, 0x00, 0x00); /* add $1024, %rbx */
    }
}

static void put_exit(struct code *c)
{
    PUT(c, 0xe6, 0x10, 0xf4); /* out %al, $0x10; hlt */
}

static void write_code(const struct vm *m)
{
    struct code c = {m->ram + CODE_SAVE};

    put_regs(&c, 1);
    put_exit(&c);
    c.p = m->ram + CODE_LOAD;
    PUT(&c, 0xc4, 0xe2, 0x78, 0x49, 0x00); /* ldtilecfg (%rax) */
    put_tiles(&c, 0);
    put_regs(&c, 0);
    put_exit(&c);
    c.p = m->ram + CODE_TILES;
    put_tiles(&c, 1);
    put_regs(&c, 1);
    put_exit(&c);
    c.p = m->ram + CODE_PLAIN;
    put_exit(&c);
    m->ram[CFG_AT] = 1;
    for (unsigned i = 0; i < 8; i++) {
        m->ram[CFG_AT + 16 + 2 * i] = 64;
        m->ram[CFG_AT + 48 + i] = 16;
    }
}

/* --- the host's registers --- */

/* Fill the thread's vector registers with (byte); what calls do to them later is the calls' affair. */
static inline __attribute__((always_inline)) void host_vectors(uint8_t byte)
{
    uint64_t v = 0x0101010101010101 * byte;

    __asm__ volatile("movq %0, %%xmm0\n\tpunpcklqdq %%xmm0, %%xmm0\n\t"
                     "movdqa %%xmm0, %%xmm1\n\tmovdqa %%xmm0, %%xmm2\n\tmovdqa %%xmm0, %%xmm3\n\t"
                     "movdqa %%xmm0, %%xmm7\n\tmovdqa %%xmm0, %%xmm8\n\tmovdqa %%xmm0, %%xmm15"
                     :
                     : "r"(v)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm7", "xmm8", "xmm15");
    if (have_avx512) {
        __asm__ volatile(".byte 0x62,0xf2,0xfd,0x48,0x59,0xc0\n\t" /* vpbroadcastq %xmm0, %zmm0 */
                         ".byte 0x62,0xe1,0xfd,0x48,0x6f,0xc0\n\t" /* vmovdqa64 %zmm0, %zmm16 */
                         ".byte 0x62,0x61,0xfd,0x48,0x6f,0xf8\n\t" /* vmovdqa64 %zmm0, %zmm31 */
                         ".byte 0xc4,0xe1,0xfb,0x92,0xc8\n\t"      /* kmovq %rax, %k1 */
                         ".byte 0xc4,0xe1,0xfb,0x92,0xf8"          /* kmovq %rax, %k7 */
                         :
                         : "a"(v)
                         : "xmm0");
    }
}

#define HOST_MXCSR 0x3f80u /* rounds down */
#define HOST_FCW   0x067fu /* rounds down, 53 bits */

static void host_control(uint32_t mxcsr, uint16_t fcw)
{
    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(fcw));
}

static int host_control_is(uint32_t mxcsr, uint16_t fcw)
{
    uint32_t m;
    uint16_t f, status;

    __asm__ volatile("stmxcsr %0\n\tfnstcw %1\n\tfnstsw %2" : "=m"(m), "=m"(f), "=m"(status));
    return (m & ~0x3fu) == mxcsr && f == fcw && (status & 0x3800) == 0;
}

/* --- a vCPU --- */

static void vcpu_setup(const struct vm *m, const struct vcpu *v)
{
    struct kvm_xcrs x = {
        .nr_xcrs = 1, .xcrs[0] = {.value = XCR0_BASE | XCR0_AMX | (have_avx512 ? XCR0_AVX512 : 0)}};
    struct kvm_sregs s;

    if (vcpu_cpuid(m, v, 0))
        printf("Bail out! no CPUID: %s\n", strerror(errno));
    kv(v->fd, KVM_GET_SREGS, &s);
    long_mode_sregs(&s);
    s.cr4 |= 1 << 18;
    ok(!kv(v->fd, KVM_SET_SREGS, &s) && !kv(v->fd, KVM_SET_XCRS, &x), "a vCPU with XCR0 %#llx",
       (unsigned long long)x.xcrs[0].value);
}

/* Run (code) of the vCPU whose areas are (base) further, up to its exit. */
static int run(const struct vcpu *v, uint64_t code, uint64_t base, uint64_t regs, uint64_t tiles)
{
    struct kvm_regs r = {.rip = code,
                         .rflags = 2,
                         .rsp = STACK64_AT,
                         .rax = CFG_AT,
                         .rsi = 64,
                         .rdi = base + regs,
                         .rbx = base + tiles};

    kv(v->fd, KVM_SET_REGS, &r);
    host_vectors(0xa5);
    if (kv(v->fd, KVM_RUN, 0) || v->run->exit_reason != KVM_EXIT_IO) {
        printf("# exit %u\n", v->run->exit_reason);
        return 0;
    }
    return 1;
}

static void pattern(const struct vm *m, unsigned number)
{
    uint64_t base = number * STEP;
    struct regs *r = (struct regs *)(m->ram + base + REGS_AT);

    for (unsigned i = 0; i < sizeof(r->vec) + sizeof(r->k); i++)
        ((uint8_t *)r)[i] = (uint8_t)(i * 7 + number * 91 + 1);
    r->mxcsr = number ? 0x5f80 : 0x9fc0;
    r->fcw = number ? 0x0b7f : 0x0c7f;
    for (unsigned i = 0; i < 8192; i++)
        m->ram[base + TILES_AT + i] = (uint8_t)(i * 13 + number * 57 + (i >> 8));
}

static int same_regs(const struct regs *a, const struct regs *b)
{
    for (unsigned r = 0; r < (have_avx512 ? 32 : 16); r++)
        if (memcmp(a->vec[r], b->vec[r], have_avx512 ? 64 : 16))
            return 0;
    return (!have_avx512 || !memcmp(a->k, b->k, sizeof(a->k))) &&
           (a->mxcsr & ~0x3fu) == (b->mxcsr & ~0x3fu) && a->fcw == b->fcw;
}

/* A binary statistic of the vCPU. */
static uint64_t stat_of(const struct vcpu *v, const char *name)
{
    int fd = kv(v->fd, KVM_GET_STATS_FD, 0);
    struct kvm_stats_header h = {0};
    uint64_t value = ~0ull;
    char entry[sizeof(struct kvm_stats_desc) + 64] = {0};

    if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || h.name_size > 64)
        h.num_desc = 0;
    for (uint32_t i = 0; i < h.num_desc; i++) {
        const struct kvm_stats_desc *d = (void *)entry;
        size_t size = sizeof(*d) + h.name_size;

        if (pread(fd, entry, size, (off_t)(h.desc_offset + i * size)) == (ssize_t)size &&
            !strcmp(entry + sizeof(*d), name) &&
            pread(fd, &value, 8, h.data_offset + d->offset) != 8)
            value = ~0ull;
    }
    close(fd);
    return value;
}

struct other {
    const struct vcpu *v;
    int done;
};

/* The vCPU's last step on another thread, which has registers of its own. */
static void *other_thread(void *arg)
{
    struct other *o = arg;

    host_control(0x7f80, 0x0c7f);
    o->done = run(o->v, CODE_TILES, 0, OUT_AT, TILES_OUT) && host_control_is(0x7f80, 0x0c7f);
    return NULL;
}

static void test_leaks(const struct vm *m, struct vcpu v[2])
{
    const struct regs zero = {.mxcsr = 0x1f80, .fcw = 0x40};
    struct other other = {&v[0], 0};
    pthread_t t;

    for (unsigned i = 0; i < 2; i++) {
        ok(run(&v[i], CODE_SAVE, i * STEP, OUT_AT, 0) &&
               same_regs((struct regs *)(m->ram + i * STEP + OUT_AT), &zero),
           "vCPU %u starts with registers of its own, none of the host's", i);
        ok(host_control_is(HOST_MXCSR, HOST_FCW),
           "and leaves MXCSR and the x87 unit as the host had them");
    }
    for (unsigned i = 0; i < 2; i++) {
        pattern(m, i);
        ok(run(&v[i], CODE_LOAD, i * STEP, REGS_AT, TILES_AT), "vCPU %u loads registers and tiles",
           i);
        ok(host_control_is(HOST_MXCSR, HOST_FCW), "and the host's rounding is the host's");
    }
    run(&v[1], CODE_PLAIN, STEP, REGS_AT, TILES_AT);
    pthread_create(&t, NULL, other_thread, &other);
    pthread_join(t, NULL);
    ok(other.done, "vCPU 0 goes on in another thread, whose rounding stays too");
    ok(run(&v[1], CODE_TILES, STEP, OUT_AT, TILES_OUT), "vCPU 1 in the first");
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *ram = m->ram + i * STEP;

        ok(same_regs((const struct regs *)(ram + OUT_AT), (const struct regs *)(ram + REGS_AT)),
           "vCPU %u finds its vector, mask and control registers", i);
        ok(!memcmp(ram + TILES_OUT, ram + TILES_AT, 8192), "and its eight tiles");
    }
}

static uint64_t msr(const struct vcpu *v, uint32_t index)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } m = {{.nmsrs = 1}, {.index = index}};

    return kv(v->fd, KVM_GET_MSRS, &m) == 1 ? m.e.data : ~0ull;
}

/* XFD and XFD_ERR are one vCPU's, and neither the host's nor another's. Last, because vCPU 0 ends in a triple fault. */
static void test_xfd(struct vcpu v[2])
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry e;
    } m = {{.nmsrs = 1}, {.index = MSR_XFD, .data = XFD_TILES}};

    ok(kv(v[0].fd, KVM_SET_MSRS, &m) == 1, "vCPU 0 gets XFD[18]");
    ok(run(&v[1], CODE_TILES, STEP, OUT_AT, TILES_OUT), "vCPU 1 stores tiles nevertheless");
    ok(msr(&v[1], MSR_XFD) == 0 && msr(&v[1], MSR_XFD_ERR) == 0, "and its XFD and XFD_ERR are 0");
    ok(!run(&v[0], CODE_TILES, 0, OUT_AT, TILES_OUT) && v[0].run->exit_reason == KVM_EXIT_SHUTDOWN,
       "vCPU 0 does not: #NM, for which it has no handler");
    ok(msr(&v[0], MSR_XFD_ERR) == XFD_TILES && msr(&v[1], MSR_XFD_ERR) == 0,
       "with XFD_ERR of its own");
}

static void test_memory(const struct vm *m)
{
    struct vcpu v = vcpu_new(m, 2);
    uint64_t before, image[11008 / 8];

    vcpu_setup(m, &v);
    run(&v, CODE_SAVE, 0, OUT_AT, 0);
    kv(v.fd, KVM_GET_XSAVE2, image);
    before = stat_of(&v, "state_bytes");
    ok(before > sizeof(struct regs) && before < 1 << 16, "a vCPU's state takes %llu bytes",
       (unsigned long long)before);
    is_u64(stat_of(&v, "tile_bytes"), 0, "none of them for tiles");
    memcpy(m->ram + CODE_PLAIN + 0x100, "\xc4\xe2\x78\x49\x00\xe6\x10\xf4",
           8); /* ldtilecfg (%rax), exit */
    run(&v, CODE_PLAIN + 0x100, 0, OUT_AT, 0);
    is_u64(stat_of(&v, "tile_bytes"), 0, "nor after LDTILECFG");
    run(&v, CODE_LOAD, 0, REGS_AT, TILES_AT);
    is_u64(stat_of(&v, "tile_bytes"), 8192, "the first TILELOADD gives them 8 KiB");
    is_u64(stat_of(&v, "state_bytes"), before + 8192, "and nothing else");
    vcpu_free(&v);
}

int main(void)
{
    struct vm m = vm_new(RAM_SIZE);
    struct vcpu v[2] = {vcpu_new(&m, 0), vcpu_new(&m, 1)};

    __builtin_cpu_init();
    have_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    long_mode_tables(&m);
    write_code(&m);
    vcpu_setup(&m, &v[0]);
    vcpu_setup(&m, &v[1]);
    host_control(HOST_MXCSR, HOST_FCW);
    test_leaks(&m, v);
    test_memory(&m);
    test_xfd(v);
    host_control(0x1f80, 0x37f);
    for (unsigned i = 0; i < 2; i++)
        vcpu_free(&v[i]);
    vm_free(&m);
    return tap_done();
}
