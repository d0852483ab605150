// SPDX-License-Identifier: MIT
// Random loops over memory whose pages lie anywhere: with the translator and with the interpreter alone.

/*
 * What a block checks at once, for several accesses or for many turns, shows only where pages end, change their
 * backing, or are missing. So pointers walk over shuffled pages, some of which cannot be read or written, and both
 * engines must leave the same registers and memory behind, a page fault's address and frame included.
 */

#include "op_cpu.h"
#include "rand.h"

#include <stdlib.h>

#define CODE    0x10000u /* 32 pages, by turns: one that changes often is not translated */
#define FRESH   128      /* runs of one CPU */
#define HANDLER 0x8000u
#define IDT     0x6000u
#define GDT     0x7000u
#define AREA    0x40000u /* linear: 128 pages … */
#define BACKING 0x100000u
#define PAGES   128
#define STACK   0x3f000u /* below them, for the fault's frame and for pushes */
#define TURNS   900
#define NESTED  40 /* turns of a loop with others in it: pointers should stay in the area */

static u8 code[1024];
static unsigned len, turns; /* turns: how many the outer loop makes, at most */

static void emit(const void *b, unsigned n)
{
    memcpy(code + len, b, n);
    len += n;
}
#define EMIT(...) emit((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void emit32(s32 v)
{
    emit(&v, 4);
}

/* Registers that point, that index, that hold data. */
static const u8 pointers[] = {REG_RSI, REG_RDI, REG_RBP, REG_R8, REG_R9, REG_R13};
static const u8 values[] = {REG_RAX, REG_RCX, REG_RDX, REG_R10, REG_R14};

static u8 pick(const u8 *from, size_t n)
{
    return from[rnd() % n];
}
#define PICK(from) pick(from, sizeof(from))

/* [prefix] REX op ModRM SIB disp32 */
static void emit_access(unsigned prefix, unsigned map, unsigned op, unsigned w, unsigned reg,
                        unsigned base, int index, unsigned scale, s32 disp)
{
    if (prefix)
        EMIT(prefix);
    EMIT(0x40 | w << 3 | (reg >> 3) << 2 | (index >= 0 ? index >> 3 : 0) << 1 | base >> 3);
    if (map)
        EMIT(0x0f);
    EMIT(op, 0x80 | (reg & 7) << 3 | 4,
         scale << 6 | (index >= 0 ? index & 7 : 4) << 3 | (base & 7));
    emit32(disp);
}

static s32 small(void)
{
    return (s32)(rnd() % 200) - 100;
}

/* An access off a pointer. RBX is an index that does not move, R15 one that counts turns. */
static void random_access(void)
{
    static const struct {
        u8 prefix, map, op, w;
    } forms[] = {{0, 0, 0x8b, 1}, {0, 0, 0x89, 1},    {0, 0, 0x03, 0},    {0, 0, 0x01, 1},
                 {0, 1, 0xb6, 0}, {0, 0, 0x88, 0},    {0, 0, 0x33, 1},    {0, 0, 0x00, 0},
                 {0, 1, 0x10, 0}, {0, 1, 0x11, 0},    {0xf2, 1, 0x10, 0}, {0xf2, 1, 0x58, 0},
                 {0, 1, 0xb1, 1}, {0xf0, 0, 0x01, 1}, {0x66, 1, 0x28, 0}, {0x66, 1, 0x29, 0}};
    unsigned all = sizeof(forms) / sizeof(forms[0]);
    unsigned f = rnd() % (rnd() % 6 ? all - 2 : all); /* MOVAPD ends many a loop */
    int index = rnd() % 3 ? -1 : rnd() & 1 ? REG_RBX : REG_R15;
    bool vec = forms[f].map && forms[f].op != 0xb6 && forms[f].op != 0xb1;

    emit_access(forms[f].prefix, forms[f].map, forms[f].op, forms[f].w,
                vec ? rnd() % 8 : PICK(values), PICK(pointers), index, rnd() & 3, small());
}

/* movzx ecx, al; xor eax, [pointer + rcx * scale + disp] */
static void random_table(void)
{
    EMIT(0x0f, 0xb6, 0xc8);
    emit_access(0, 0, 0x33, 0, REG_RAX, PICK(pointers), REG_RCX, rnd() & 3, small());
}

/* A pointer moves on by a constant: ADD, SUB, LEA, INC, or by what nobody can tell. */
static void random_step(void)
{
    unsigned r = PICK(pointers), by = (unsigned)(8u << rnd() % 6), hi = r >> 3;

    switch (rnd() % 6) {
    case 0:
    case 1:
        EMIT(0x48 | hi, 0x81, 0xc0 | (r & 7));
        emit32((s32)by);
        break;
    case 2:
        EMIT(0x48 | hi, 0x81, 0xe8 | (r & 7));
        emit32((s32)by);
        break;
    case 3:
        EMIT(0x48 | hi << 2 | hi, 0x8d, 0x84 | (r & 7) << 3, 0x20 | (r & 7));
        code[len - 1] = 0x20 | (r & 7);
        emit32((s32)(rnd() % 65) - 32);
        break;
    case 4:
        EMIT(0x48 | hi, 0xff, 0xc0 | (r & 7));
        break;
    default: /* and eax, 24; add pointer, rax */
        EMIT(0x83, 0xe0, 24, 0x48 | hi, 0x01, 0xc0 | (r & 7));
        break;
    }
}

static void random_stack(void)
{
    unsigned r = PICK(values) & 3;

    EMIT(0x50 | r);
    if (rnd() & 1)
        emit_access(0, 0, 0x01, 1, REG_RAX, REG_RSP, -1, 0, (s32)(rnd() % 8) * 8);
    EMIT(0x58 | r);
}

static void random_body(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        unsigned what = rnd() % 12;

        if (what < 7)
            random_access();
        else if (what == 7)
            random_table();
        else if (what == 8)
            random_stack();
        else
            random_step();
    }
}

/* jne head */
static void emit_back(unsigned head)
{
    EMIT(0x0f, 0x85);
    emit32(-(s32)(len + 4 - head));
}

/* A loop of few turns in another: it counts R11 down, or RBX up, which is an index meanwhile, by 32 or 64 bits. */
static void random_inner(void)
{
    unsigned count = 1 + rnd() % 9, head;

    switch (rnd() % 4) {
    case 0: /* mov r11d, count; head: …; sub r11, 1 */
        EMIT(0x41, 0xbb, count, 0, 0, 0);
        head = len;
        random_body(1 + rnd() % 4);
        EMIT(0x49, 0x83, 0xeb, 1);
        break;
    case 1: /* xor ebx, ebx; head: …; add rbx, 8; cmp rbx, 8 * count */
        EMIT(0x31, 0xdb);
        head = len;
        random_body(1 + rnd() % 4);
        EMIT(0x48, 0x83, 0xc3, 8, 0x48, 0x83, 0xfb, 8 * count);
        break;
    case 2: /* mov ebx, count; head: …; dec ebx */
        EMIT(0xbb, count, 0, 0, 0);
        head = len;
        random_body(1 + rnd() % 4);
        EMIT(0xff, 0xcb);
        break;
    default: /* xor ebx, ebx; head: …; add ebx, 1; …; cmp ebx, count */
        EMIT(0x31, 0xdb);
        head = len;
        random_body(rnd() % 3);
        EMIT(0x83, 0xc3, 1);
        random_body(rnd() % 3);
        EMIT(0x83, 0xfb, count);
        break;
    }
    emit_back(head);
}

/* …; head: …; add r15, 1; cmp r15, r12; jne head; then once more some accesses; hlt. Loops may lie in it. */
static void random_loop(void)
{
    bool nest = rnd() & 1;
    unsigned head;

    len = 0;
    turns = nest ? NESTED : TURNS;
    if (rnd() % 3 == 0)
        random_body(1 + rnd() % 3);
    head = len;
    random_body((nest ? 0 : 1) + rnd() % (nest ? 4 : 12));
    for (unsigned i = nest ? 1 + rnd() % 2 : 0; i--;) {
        random_inner();
        random_body(rnd() % 3);
    }
    EMIT(0x49, 0x83, 0xc7, 1, 0x4d, 0x39, 0xe7);
    emit_back(head);
    for (unsigned i = 0; i < 3; i++)
        random_access();
    EMIT(0xf4);
}

static u64 backing[PAGES];

static void map_area(void)
{
    for (unsigned i = 0; i < PAGES; i++)
        backing[i] = BACKING + i * PAGE_SIZE;
    for (unsigned i = PAGES - 1; i > 0; i--) {
        unsigned k = rnd() % (i + 1);
        u64 t = backing[i];

        backing[i] = backing[k];
        backing[k] = t;
    }
    for (unsigned i = 0; i < PAGES; i++)
        put64(PT + ((AREA >> 12) + i) * 8, backing[i] | 7);
    if (rnd() % 3 == 0) {
        unsigned bad = rnd() % PAGES;

        put64(PT + ((AREA >> 12) + bad) * 8, rnd() & 1 ? 0 : backing[bad] | 5);
    }
    tlb_flush(c);
}

static void prepare(void)
{
    op_reset();
    op_handler(HANDLER, IDT, GDT);
    map_area();
    for (unsigned i = 0; i < 16; i++)
        c->r[i] = rnd();
    for (unsigned i = 0; i < sizeof(pointers); i++)
        c->r[pointers[i]] =
            (AREA + PAGES / 2 * PAGE_SIZE + rnd() % (64 * PAGE_SIZE) - 32 * PAGE_SIZE) &
            (rnd() & 1 ? ~15ull : ~0ull);
    c->r[REG_RBX] = rnd() % 64;
    c->r[REG_R15] = 0;
    c->r[REG_R12] = 1 + rnd() % turns;
    c->r[REG_RSP] = STACK - rnd() % 64 * 8;
    for (u64 at = BACKING; at < BACKING + PAGES * PAGE_SIZE; at += 8)
        put64(at, rnd());
    memset(c->vec.zmm, 0, sizeof(c->vec.zmm));
}

static u64 mix(u64 h, const void *p, size_t n)
{
    const u8 *b = p;

    while (n--)
        h = (h ^ *b++) * 0x100000001b3ull;
    return h;
}

/* Where the frame of a fault is, its arithmetic flags may be old where the program overwrites them unread. */
static void forget_frame_flags(void)
{
    u64 at = c->r[REG_RSP] + 24;

    if (c->rip == HANDLER + 1 && at < STACK)
        put64(at, get64(at) & ~(u64)RFLAGS_ARITH);
}

static u64 run_one(u64 at)
{
    u64 h = 0xcbf29ce484222325ull;
    int e;

    random_loop();
    prepare();
    memcpy(ram + at, code, len);
    mem_written(mem, at, len);
    cpu_request(c, CPU_REQ_RECHECK);
    c->rip = at;
    e = cpu_run(c);
    c->halted = false;
    forget_frame_flags();
    h = mix(h, &e, sizeof(e));
    h = mix(h, &c->rip, 8);
    h = mix(h, &c->cr2, 8);
    h = mix(h, c->r, 16 * 8);
    h = mix(h, c->vec.zmm, 8 * 64);
    h = mix(h, ram + STACK - 0x2000, 0x2000);
    return mix(h, ram + BACKING, PAGES * PAGE_SIZE);
}

static u64 *outcomes(const char *engine, unsigned n, u64 seed, u64 *translated)
{
    u64 *h = calloc(n, sizeof(*h));

    setenv("UVIRT_ENGINE", engine, 1);
    rnd_state = seed;
    *translated = 0;
    for (unsigned i = 0; i < n && h; i++) {
        if (i % FRESH == 0 && !op_create())
            return NULL;
        h[i] = run_one(CODE + i % 32 * PAGE_SIZE);
        if (i % FRESH != FRESH - 1 && i != n - 1)
            continue;
        *translated += c->stats.translated;
        op_destroy();
    }
    return h;
}

int main(int argc, char **argv)
{
    unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 400, differ = 0;
    u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, none, some;
    u64 *interp = outcomes("interp", n, seed, &none), *jit = outcomes("", n, seed, &some);

    if (!ok(interp && jit, "a CPU with each engine"))
        return tap_done();
    for (unsigned i = 0; i < n; i++) {
        if (interp[i] != jit[i] && !differ++)
            fprintf(stderr, "# run %u of seed %llu differs\n", i, (unsigned long long)seed);
    }
    ok(differ == 0, "loops end alike in both");
    ok(none == 0 && some > n / 2, "and the translator ran them in one of the two");
    free(interp);
    free(jit);
    return tap_done();
}
