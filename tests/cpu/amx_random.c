// SPDX-License-Identifier: MIT
// Random AMX instructions on random state against a second model that was written from the rules alone.

#include "cpu/amx/amx.h"
#include "cpu/amx/softfloat.h"
#include "op_cpu.h"
#include "rand.h"

#define AREA      DATA
#define AREA_SIZE 0x4000u
#define HOLE_AT   (AREA + 0x2000) /* a page that comes and goes */

/* The model keeps TILECFG as its 64 bytes, and a copy of memory. */
static struct {
    u8 cfg[64];
    u8 tile[8][16][64];
    u8 mem[AREA_SIZE];
    bool hole;
} m;

enum kind { LDCFG, STCFG, RELEASE, ZERO, LOAD, STORE, DP, KINDS };
enum { NONE = 0xff };

static unsigned rows(unsigned t)
{
    return m.cfg[48 + t];
}

static unsigned colsb(unsigned t)
{
    return m.cfg[16 + t * 2] + 256u * m.cfg[17 + t * 2];
}

static bool cfg_bad(const u8 *p)
{
    unsigned reserved = 0;
    bool bad = p[0] > 1;

    for (unsigned i = 0; i < 64; i++) {
        if ((i >= 2 && i < 16) || (i >= 32 && i < 48) || i >= 56)
            reserved |= p[i];
    }
    for (unsigned t = 0; t < 8; t++) {
        unsigned r = p[48 + t], n = p[16 + t * 2] + 256u * p[17 + t * 2];

        bad |= r > 16 || n > 64 || (r == 0) != (n == 0);
    }
    return p[0] && (bad || reserved);
}

static void model_release(void)
{
    memset(m.cfg, 0, 64);
    memset(m.tile, 0, sizeof(m.tile));
}

static bool in_hole(u64 lin, unsigned len)
{
    return m.hole && lin + len > HOLE_AT && lin < HOLE_AT + PAGE_SIZE;
}

static u32 product(unsigned op, u32 sum, const u8 *a, const u8 *b)
{
    for (unsigned i = 0; i < 4; i++) {
        s64 x = op < 2 ? (s8)a[i] : a[i], y = op == 0 || op == 2 ? (s8)b[i] : b[i];

        sum = (u32)(sum + x * y);
    }
    return sum;
}

static u32 half(const u8 *p)
{
    return (u32)p[0] << 16 | (u32)p[1] << 24;
}

static void model_dp(unsigned op, unsigned d, unsigned s1, unsigned s2)
{
    u8 out[16][64] = {{0}};

    for (unsigned i = 0; i < rows(d); i++) {
        for (unsigned j = 0; j < colsb(d) / 4; j++) {
            u32 acc, even = 0, odd = 0;

            memcpy(&acc, &m.tile[d][i][j * 4], 4);
            for (unsigned k = 0; k < rows(s2); k++) {
                const u8 *a = &m.tile[s1][i][k * 4], *b = &m.tile[s2][k][j * 4];

                if (op < 4) {
                    acc = product(op, acc, a, b);
                } else {
                    even = amx_f32_fma(half(a), half(b), even);
                    odd = amx_f32_fma(half(a + 2), half(b + 2), odd);
                }
            }
            if (op == 4)
                acc = amx_f32_add(acc, amx_f32_add(even, odd));
            memcpy(&out[i][j * 4], &acc, 4);
        }
    }
    memcpy(m.tile[d], out, sizeof(out));
    m.cfg[1] = 0;
}

/* Load or store: the vector raised, NONE when all went well. */
static u8 model_move(bool store, unsigned t, u64 base, u64 stride)
{
    unsigned row = m.cfg[1], n = colsb(t);

    if (!store)
        memset(m.tile[t][row], 0, (16 - row) * 64);
    for (; row < rows(t); row++) {
        u64 lin = base + row * stride;

        if (in_hole(lin, n)) {
            m.cfg[1] = (u8)row;
            return EXC_PF;
        }
        if (store)
            memcpy(m.mem + (lin - AREA), m.tile[t][row], n);
        else
            memcpy(m.tile[t][row], m.mem + (lin - AREA), n);
    }
    m.cfg[1] = 0;
    return NONE;
}

struct step {
    enum kind kind;
    unsigned op, t[3];
    u64 base, stride;
};

static bool dwords(unsigned t)
{
    return m.cfg[0] && rows(t) && colsb(t) % 4 == 0;
}

static u8 model_step(const struct step *s)
{
    bool same = s->t[0] == s->t[1] || s->t[0] == s->t[2] || s->t[1] == s->t[2];
    unsigned d = s->t[0], s1 = s->t[1], s2 = s->t[2];

    if (!(c->cr4 & CR4_OSXSAVE) || (c->xcr0 >> 17 & 3) != 3 || (s->kind == DP && same))
        return EXC_UD;
    if (s->kind >= ZERO && c->xfd)
        return EXC_NM;
    switch (s->kind) {
    case LDCFG:
        if (in_hole(s->base, 64))
            return EXC_PF;
        if (cfg_bad(m.mem + (s->base - AREA)))
            return EXC_GP;
        model_release();
        if (m.mem[s->base - AREA])
            memcpy(m.cfg, m.mem + (s->base - AREA), 64);
        return NONE;
    case STCFG:
        if (in_hole(s->base, 64))
            return EXC_PF;
        memcpy(m.mem + (s->base - AREA), m.cfg, 64);
        return NONE;
    case RELEASE:
        model_release();
        return NONE;
    case ZERO:
        if (!m.cfg[0] || !rows(d))
            return EXC_UD;
        memset(m.tile[d], 0, 1024);
        m.cfg[1] = 0;
        return NONE;
    case LOAD:
    case STORE:
        if (!dwords(d) || m.cfg[1] >= rows(d))
            return EXC_UD;
        return model_move(s->kind == STORE, d, s->base, s->stride);
    default:
        if (!dwords(d) || !dwords(s1) || !dwords(s2) || rows(d) != rows(s1) ||
            colsb(d) != colsb(s2) || colsb(s1) != 4 * rows(s2))
            return EXC_UD;
        model_dp(s->op, d, s1, s2);
        return NONE;
    }
}

static int cpu_step_insn(const struct step *s)
{
    static const u8 pp[] = {3, 2, 1, 0, 2};
    u8 reg = (u8)(s->t[0] << 3);

    c->r[REG_RAX] = s->base;
    c->r[REG_RDX] = s->stride;
    switch (s->kind) {
    case LDCFG:
        return OP(0xc4, 0xe2, 0x78, 0x49, 0x00);
    case STCFG:
        return OP(0xc4, 0xe2, 0x79, 0x49, 0x00);
    case RELEASE:
        return OP(0xc4, 0xe2, 0x78, 0x49, 0xc0);
    case ZERO:
        return OP(0xc4, 0xe2, 0x7b, 0x49, 0xc0 | reg);
    case LOAD:
        return OP(0xc4, 0xe2, s->op & 1 ? 0x7b : 0x79, 0x4b, 0x04 | reg, 0x10);
    case STORE:
        return OP(0xc4, 0xe2, 0x7a, 0x4b, 0x04 | reg, 0x10);
    default:
        return OP(0xc4, 0xe2, pp[s->op] | (~s->t[2] & 15) << 3, s->op == 4 ? 0x5c : 0x5e,
                  0xc0 | reg | s->t[1]);
    }
}

/* A configuration that is mostly legal and whose shapes often fit together. */
static void random_cfg(u8 *p)
{
    unsigned dim = rnd() % 3 ? 16 : 1 + rnd() % 16;

    memset(p, 0, 64);
    p[0] = rnd() % 16 ? 1 : (u8)(rnd() % 3);
    if (rnd() % 8 == 0)
        p[1] = (u8)(rnd() % 18);
    for (unsigned t = 0; t < 8; t++) {
        bool odd = rnd() % 4 == 0;

        p[48 + t] = (u8)(odd ? 1 + rnd() % 16 : dim);
        p[16 + t * 2] = (u8)(odd ? 1 + rnd() % 64 : 4 * dim);
        if (rnd() % 24 == 0)
            p[48 + t] = p[16 + t * 2] = 0;
    }
    if (rnd() % 12 == 0)
        p[rnd() % 64] ^= (u8)(1u << rnd() % 8);
}

static void random_step(struct step *s)
{
    static const u8 weight[] = {LDCFG, LDCFG, STCFG, RELEASE, ZERO, LOAD, LOAD, LOAD, LOAD, LOAD,
                                LOAD,  STORE, STORE, DP,      DP,   DP,   DP,   DP,   DP};
    u64 r = rnd();

    s->kind = weight[r % sizeof(weight)];
    s->op = (r >> 8) % 5;
    for (unsigned i = 0; i < 3; i++)
        s->t[i] = (r >> (16 + i * 3)) & 7;
    s->stride = (r >> 32) % 4 ? 64 : (r >> 40) % 256;
    s->base = AREA + (r >> 48) % (AREA_SIZE - 16 * 256);
    if (s->kind == LDCFG)
        random_cfg(m.mem + (s->base - AREA));
    if (rnd() % 12 == 0) {
        m.hole = !m.hole;
        page_set(HOLE_AT, !m.hole, true);
    }
    c->xfd = rnd() % 20 ? 0 : XCR0_XTILEDATA;
    c->cr4 = rnd() % 40 ? c->cr4 | CR4_OSXSAVE : c->cr4 & ~CR4_OSXSAVE;
    c->xcr0 = cpu_xcr0_supported() & ~(rnd() % 40 ? 0 : rnd() & XCR0_AMX);
    memcpy(ram + AREA, m.mem, AREA_SIZE);
}

static bool is_nan(u32 v)
{
    return (v & 0x7fffffff) > 0x7f800000;
}

/* Tiles are equal, one NaN being as good as another; the model takes over the CPU's choice. */
static bool same_tiles(void)
{
    static const u8 none[sizeof(m.tile)];
    const u8 *have = c->amx.tile && c->amx.tile_inuse ? c->amx.tile[0][0] : none;
    u8 *want = (u8 *)m.tile;

    for (unsigned i = 0; i < sizeof(m.tile); i += 4) {
        u32 a, b;

        memcpy(&a, have + i, 4);
        memcpy(&b, want + i, 4);
        if (a != b && !(is_nan(a) && is_nan(b)))
            return false;
    }
    memcpy(want, have, sizeof(m.tile));
    return true;
}

static bool same_state(void)
{
    u8 cfg[64];

    amx_cfg_pack(&c->amx, cfg);
    return !memcmp(cfg, m.cfg, 64) && !memcmp(ram + AREA, m.mem, AREA_SIZE) && same_tiles();
}

int main(void)
{
    enum { STEPS = 30000 };
    unsigned bad = 0, done[KINDS] = {0}, raised[32] = {0};

    if (!op_create())
        return 1;
    rnd_fill(m.mem, sizeof(m.mem));
    /* bfloat16 numbers without NaN, so that results can be compared as bits */
    for (unsigned i = 1; i < AREA_SIZE; i += 2)
        m.mem[i] = (u8)((m.mem[i] & 0x80) | (0x38 + m.mem[i] % 12));
    for (unsigned i = 0; i < STEPS && bad < 5; i++) {
        struct step s;
        u8 want, got;
        int rc;

        random_step(&s);
        want = model_step(&s);
        rc = cpu_step_insn(&s);
        got = rc == OP_FAULT ? c->exc.vector : rc == OP_NEXT ? NONE : 0;
        if (want == NONE)
            done[s.kind]++;
        else
            raised[want]++;
        if (want == got && same_state())
            continue;
        bad++;
        printf("# step %u: kind %d op %u tiles %u %u %u: want %u, got %u (rc %d)\n", i, s.kind,
               s.op, s.t[0], s.t[1], s.t[2], want, got, rc);
    }
    is_u64(bad, 0,
           "%d random instructions: results, faults, tiles and memory as the model has them",
           STEPS);
    for (unsigned k = 0; k < KINDS; k++)
        ok(done[k] > 100, "instructions of kind %u did complete (%u)", k, done[k]);
    ok(raised[EXC_UD] > 100 && raised[EXC_NM] > 100 && raised[EXC_GP] > 50 && raised[EXC_PF] > 100,
       "and faults came: %u #UD, %u #NM, %u #GP, %u #PF", raised[EXC_UD], raised[EXC_NM],
       raised[EXC_GP], raised[EXC_PF]);
    op_destroy();
    return tap_done();
}
