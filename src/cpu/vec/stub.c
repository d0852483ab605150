// SPDX-License-Identifier: MIT
// Generated stubs: one instruction between loads and stores of the guest registers it uses.

/*
 * Theory of operation
 *
 * A stub is a function (vec_code). Guest vector and mask registers go into the host registers of
 * the same number, so the instruction can be taken as it is but for its memory operand ([RSI])
 * and its general register operand (R8). Inside a stub RDI is the CPU, RDX the frame, RCX the
 * offset of the general register.
 *
 * How much of a vector register moves: a legacy SSE instruction leaves bits above 127 alone, so
 * 16 bytes each way; VEX and EVEX instructions zero what they do not write, so what they read is
 * loaded and the whole register is stored. Destinations are loaded too, for those that merge.
 *
 * MXCSR and the x87 control word are swapped in and out here and not in C, so that no C code
 * ever runs with the guest's. FXRSTOR changes MXCSR and XMM registers and thus comes first.
 * FXSAVE and FNINIT do not wait, so an unmasked x87 exception that the instruction left
 * pending never reaches the host as a signal.
 *
 * The cache maps re-encoded bytes to stubs. Thousands of insns share one; it only grows, up to
 * what codebuf holds. Protected by (lock); a stub is complete before it is linked.
 */

#include "cpu/vec/stub.h"

#include "cpu/vec/codebuf.h"
#include "cpu/vec/emit.h"
#include "cpu/vec/host.h"
#include "cpu/vec/x87_fast.h"

#include <Zydis/DecoderTypes.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define BUCKETS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vec_stub *buckets[BUCKETS]; /* protected by (lock) */

static unsigned load_width(const struct decoded *d)
{
    unsigned w = 16;

    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_EVEX)
        return 64;
    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return 16;
    for (unsigned i = 0; i < d->nopnd; i++) {
        if (d->op[i].kind == OPND_VEC && d->op[i].size > w)
            w = d->op[i].size;
    }
    return d->vl > w ? d->vl : w;
}

static unsigned store_width(const struct decoded *d)
{
    if (d->enc == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return 16;
    return host_has_avx512() ? 64 : 32;
}

#define OFF_ZMM(n) ((u32)(offsetof(struct cpu, vec.zmm) + 64 * (n)))
#define OFF_K(n) ((u32)(offsetof(struct cpu, vec.k) + 8 * (n)))
#define OFF_R(n) ((u32)(offsetof(struct cpu, r) + 8 * (n)))
#define OFF_CC ((u32)offsetof(struct cpu, cc))
_Static_assert(offsetof(struct cpu, r) == 0, "RCX is an offset in cpu->r and in the CPU");
_Static_assert(offsetof(struct vec_frame, mx_in) == 4 && offsetof(struct vec_frame, mx_out) == 8 &&
               offsetof(struct vec_frame, fcw_host) == 12 && offsetof(struct vec_frame, fx) == 64,
               "emitted code has these offsets");

static void emit_prologue(struct emit *e, const struct decoded *d, const struct vec_regs *r, unsigned flags)
{
    unsigned width = load_width(d);

    if (flags & VEC_FX) {
        EMIT(e, 0xd9, 0x7a, 12);               /* fnstcw [rdx + 12] */
        EMIT(e, 0x48, 0x0f, 0xae, 0x4a, 0x40); /* fxrstor64 [rdx + 64] */
    }
    for (unsigned n = 0; n < 32; n++) {
        if (r->vec_load & 1u << n)
            emit_vec_move(e, n, width, false, OFF_ZMM(n));
    }
    for (unsigned n = 0; n < 8; n++) {
        if (r->k_load & 1u << n)
            emit_mask_move(e, n, false, OFF_K(n));
    }
    if (r->gpr_load)
        EMIT(e, 0x4c, 0x8b, 0x04, 0x0f); /* mov r8, [rdi + rcx] */
    if (r->implicit & VEC_IMPL_LENGTHS) {
        EMIT(e, 0x48, 0x8b, 0x47, OFF_R(REG_RAX)); /* mov rax, [rdi + …] */
        EMIT(e, 0x48, 0x8b, 0x57, OFF_R(REG_RDX)); /* mov rdx, [rdi + …] */
    }
    if (flags & VEC_MXCSR)
        EMIT(e, 0x0f, 0xae, 0x52, 4); /* ldmxcsr [rdx + 4] */
    if (d->flags_read) {
        EMIT(e, 0x0f, 0xb7); /* movzx eax, word [rdi + …] */
        emit_rdi(e, REG_RAX, OFF_CC);
        EMIT(e, 0x04, 0x7f, 0x9e); /* add al, 0x7f; sahf */
    }
}

static void emit_epilogue(struct emit *e, const struct decoded *d, const struct vec_regs *r, unsigned flags)
{
    unsigned width = store_width(d);

    if (r->implicit & VEC_IMPL_INDEX)
        EMIT(e, 0x48, 0x89, 0x4f, OFF_R(REG_RCX)); /* mov [rdi + …], rcx */
    if (d->flags_written) {
        EMIT(e, 0x9f, 0x0f, 0x90, 0xc0, 0x66, 0x89); /* lahf; seto al; mov [rdi + …], ax */
        emit_rdi(e, REG_RAX, OFF_CC);
    }
    if (flags & VEC_MXCSR)
        EMIT(e, 0x0f, 0xae, 0x5a, 8); /* stmxcsr [rdx + 8] */
    if (r->gpr_store)
        EMIT(e, 0x4c, 0x89, 0x04, 0x0f); /* mov [rdi + rcx], r8 */
    for (unsigned n = 0; n < 8; n++) {
        if (r->k_store & 1u << n)
            emit_mask_move(e, n, true, OFF_K(n));
    }
    for (unsigned n = 0; n < 32; n++) {
        if (r->vec_store & 1u << n)
            emit_vec_move(e, n, width, true, OFF_ZMM(n));
    }
    if (flags & VEC_FX) {
        EMIT(e, 0x48, 0x0f, 0xae, 0x42, 0x40); /* fxsave64 [rdx + 64] */
        EMIT(e, 0xdb, 0xe3, 0xd9, 0x6a, 12);   /* fninit; fldcw [rdx + 12] */
    }
    if (flags & (VEC_MXCSR | VEC_FX))
        EMIT(e, 0x0f, 0xae, 0x12); /* ldmxcsr [rdx] */
    if (d->enc != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        EMIT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
    emit_u8(e, 0xc3);
}

unsigned vec_stub_build(const struct decoded *d, struct vec_stub *s, u8 *buf)
{
    struct emit e = {.p = buf};
    struct vec_regs r;

    *s = (struct vec_stub){0};
    s->key_len = (u8)vec_encode(d, s->key);
    vec_regs_of(d, &r);
    vec_describe(d, &r, s);
    emit_prologue(&e, d, &r, s->flags);
    emit_bytes(&e, s->key, s->key_len);
    emit_epilogue(&e, d, &r, s->flags);
    return e.n;
}

static u32 hash_key(const u8 *key, unsigned len)
{
    u32 h = 2166136261u; /* FNV-1a */

    for (unsigned i = 0; i < len; i++)
        h = (h ^ key[i]) * 16777619u;
    return (h ^ h >> 15) % BUCKETS;
}

static struct vec_stub *find(u32 h, const u8 *key, unsigned len)
{
    struct vec_stub *s = buckets[h];

    while (s && (s->key_len != len || memcmp(s->key, key, len)))
        s = s->next;
    return s;
}

/* The shortcut for x87 and MMX; without one (code) does. */
static void add_fast(const struct decoded *d, struct vec_stub *s)
{
    u8 buf[VEC_STUB_MAX];
    struct vec_regs r;
    unsigned len;

    vec_regs_of(d, &r);
    len = x87_fast_build(d, &r, s, buf);
    if (len)
        s->fast = (x87_code *)codebuf_add(buf, len);
}

/* Make and link a stub. The caller holds (lock). NULL: no memory. */
static struct vec_stub *make(const struct decoded *d, u32 h)
{
    u8 buf[VEC_STUB_MAX];
    struct vec_stub *s = malloc(sizeof(*s));

    if (!s)
        return NULL;
    s->code = (vec_code *)codebuf_add(buf, vec_stub_build(d, s, buf));
    if (!s->code) {
        free(s);
        return NULL;
    }
    add_fast(d, s);
    s->next = buckets[h];
    buckets[h] = s;
    return s;
}

int vec_stub_get(const struct decoded *d, const struct vec_stub **ret)
{
    u8 key[ENC_MAX];
    unsigned len = vec_encode(d, key);
    u32 h = hash_key(key, len);
    struct vec_stub *s;

    pthread_mutex_lock(&lock);
    s = find(h, key, len);
    if (!s)
        s = make(d, h);
    pthread_mutex_unlock(&lock);
    if (!s)
        return -ENOMEM;
    *ret = s;
    return 0;
}
