// SPDX-License-Identifier: MIT
// Guest memory: slot rules, lookups at edges, copies across slots and holes, dirty log, code marks.
#include "mem/mem.h"

#include "../tap.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#define MIB (1ul << 20)

static u8 *ram(size_t size)
{
    u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        exit(1);
    return p;
}

static void test_slot_rules(void)
{
    struct mem *m;
    u8 *p = ram(4 * MIB);

    is_u64(mem_create(&m), 0, "an empty map is made");
    ok(!mem_slot_find(m, 0) && !mem_slot_find(m, ~0ull), "an empty map is one hole");
    ok(!mem_slot_at(m, 0) && !mem_slot_by_id(m, 0), "an empty map has no slots");
    is_u64(mem_slot_set(m, 0, 0x1000, 0, NULL, 0), -EINVAL, "deleting what is not there");
    is_u64(mem_slot_set(m, 0, 0x1001, 0x1000, p, 0), -EINVAL, "unaligned gpa");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x1001, p, 0), -EINVAL, "unaligned size");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x1000, p + 1, 0), -EINVAL, "unaligned hva");
    is_u64(mem_slot_set(m, 0, -0x1000ull, 0x2000, p, 0), -EINVAL, "a slot that wraps");
    is_u64(mem_slot_set(m, 0, 0, 1ull << 62, p, 0), -EINVAL, "more pages than KVM takes");
    is_u64(mem_slot_set(m, 9, -0x1000ull, 0x1000, p, 0), 0, "the very last page is a valid slot");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x2000, p, 0), 0, "a plain slot");
    is_u64(mem_slot_set(m, 1, 0x2000, 0x2000, p, 0), -EEXIST, "overlap with its tail");
    is_u64(mem_slot_set(m, 1, 0x0000, 0x2000, p, 0), -EEXIST, "overlap with its head");
    is_u64(mem_slot_set(m, 1, 0x0000, 0x8000, p, 0), -EEXIST, "overlap around it");
    is_u64(mem_slot_set(m, 1, 0x3000, 0x1000, p, 0), 0, "a slot right behind it");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x1000, p, 0), -EINVAL, "a slot keeps its size");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x2000, p + 0x1000, 0), -EINVAL, "a slot keeps its hva");
    is_u64(mem_slot_set(m, 0, 0x1000, 0x2000, p, MEM_READONLY), -EINVAL, "a slot stays writable");
    is_u64(mem_slot_set(m, 0, 0x2000, 0x2000, p, 0), -EEXIST, "moving onto another slot");
    ok(mem_slot_by_id(m, 0)->gpa == 0x1000, "a failed move moves nothing");
    is_u64(mem_slot_set(m, 0, 0x0000, 0x2000, p, 0), 0, "moving over its own old range");
    is_u64(mem_slot_set(m, 0, 0x8000, 0x2000, p, 0), 0, "moving past another slot");
    ok(mem_slot_at(m, 0)->id == 1 && mem_slot_at(m, 1)->id == 0 && mem_slot_at(m, 2)->id == 9 &&
           !mem_slot_at(m, 3),
       "slots are listed by address");
    ok(!mem_slot_find(m, 0x2fff) && mem_slot_find(m, 0x3000)->id == 1 &&
           mem_slot_find(m, 0x3fff)->id == 1 && !mem_slot_find(m, 0x4000),
       "lookup at both edges");
    ok(mem_slot_find(m, ~0ull) && mem_slot_find(m, ~0ull)->id == 9, "lookup of the last byte");
    is_u64(mem_slot_set(m, 1, 0, 0, NULL, 0), 0, "deleting");
    ok(!mem_slot_find(m, 0x3000) && !mem_slot_by_id(m, 1), "a deleted slot is a hole");
    mem_free(m);
    mem_free(NULL);
    munmap(p, 4 * MIB);
}

/* Many slots in scrambled order, then every lookup against plain arithmetic. */
static void test_many_slots(void)
{
    enum { N = 509 };
    struct mem *m;
    u8 *p = ram(PAGE_SIZE);
    bool right = true;

    mem_create(&m);
    for (unsigned i = 0, at = 0; i < N; i++, at = (at + 211) % N)
        right &= !mem_slot_set(m, at, at * 0x3000ull, 0x1000, p, 0);
    ok(right, "%d slots in scrambled order", N);
    for (gpa_t gpa = 0; gpa < N * 0x3000ull; gpa += 0x800) {
        struct mem_slot *s = mem_slot_find(m, gpa);
        bool hole = gpa % 0x3000 >= 0x1000;

        right &= hole ? !s : s && s->id == gpa / 0x3000;
    }
    ok(right, "lookups among them");
    mem_free(m);
    munmap(p, PAGE_SIZE);
}

static void test_copies(void)
{
    struct mem *m;
    u8 *a = ram(MIB), *b = ram(MIB), buf[64];
    u8 *rom = ram(PAGE_SIZE);

    mem_create(&m);
    mem_slot_set(m, 0, 0x100000, MIB, a, 0);
    mem_slot_set(m, 1, 0x200000, MIB, b, 0);
    mem_slot_set(m, 2, 0xf0000, PAGE_SIZE, rom, MEM_READONLY);
    memset(buf, 0x5a, sizeof(buf));

    is_u64(mem_write(m, 0x200000 - 32, buf, 64), 0, "a write across two slots");
    ok(a[MIB - 32] == 0x5a && a[MIB - 33] == 0 && b[31] == 0x5a && b[32] == 0,
       "it lands on both sides");
    is_u64(mem_write(m, 0x300000 - 32, "x", 1), 0, "a write below a hole");
    is_u64(mem_write(m, 0x300000 - 32, buf, 33), -EFAULT, "a write into a hole");
    ok(b[MIB - 32] == 'x' && b[MIB - 31] == 0, "writes nothing");
    memset(buf, 0, sizeof(buf));
    is_u64(mem_read(m, 0x300000 - 32, buf, 33), -EFAULT, "a read into a hole");
    ok(buf[0] == 0, "reads nothing");
    is_u64(mem_read(m, 0x200000 - 32, buf, 64), 0, "a read across two slots");
    ok(buf[0] == 0x5a && buf[63] == 0x5a, "reads both sides");
    is_u64(mem_read(m, 0x100000, buf, ~0ull), -EFAULT, "a length that wraps");
    is_u64(mem_read(m, ~0ull, buf, 2), -EFAULT, "a range that wraps");
    is_u64(mem_read(m, 0x500000, buf, 0), 0, "no bytes, no fault");

    rom[7] = 7;
    is_u64(mem_read(m, 0xf0007, buf, 1), 0, "a read-only slot reads");
    ok(buf[0] == 7, "its bytes");
    is_u64(mem_write(m, 0xf0007, "x", 1), -EFAULT, "and refuses writes");
    ok(rom[7] == 7, "unchanged");

    ok(mem_span(m, 0x100000, MIB, true) == a, "a span of a whole slot");
    ok(!mem_span(m, 0x100000, MIB + 1, false), "a span never crosses slots");
    ok(!mem_span(m, 0x100000, ~0ull, false), "a span of absurd length");
    ok(!mem_span(m, 0xfffff, 1, false), "a span in a hole");
    ok(mem_span(m, 0xf0fff, 1, false) == rom + 0xfff, "a read span of a read-only slot");
    ok(!mem_span(m, 0xf0fff, 1, true), "no write span of a read-only slot");
    mem_free(m);
    munmap(a, MIB);
    munmap(b, MIB);
    munmap(rom, PAGE_SIZE);
}

static void test_dirty(void)
{
    struct mem *m;
    u8 *p = ram(100 * PAGE_SIZE), buf[2 * PAGE_SIZE];
    u64 map[3];

    mem_create(&m);
    mem_slot_set(m, 3, 0x10000, 100 * PAGE_SIZE, p, 0);
    is_u64(mem_dirty_get(m, 3, map, 2), -ENOENT, "no dirty log unless asked for");
    is_u64(mem_slot_set(m, 3, 0x10000, 100 * PAGE_SIZE, p, MEM_LOG_DIRTY), 0, "log turned on");
    is_u64(mem_dirty_get(m, 4, map, 2), -ENOENT, "no log of a slot that is not there");
    is_u64(mem_dirty_get(m, 3, map, 1), -EINVAL, "a bitmap too short");
    map[2] = 1;
    is_u64(mem_dirty_get(m, 3, map, 3), 0, "a longer bitmap");
    ok(map[0] == 0 && map[1] == 0 && map[2] == 0, "all clean at first");

    memset(buf, 0, sizeof(buf));
    mem_write(m, 0x10000 + PAGE_SIZE - 1, buf, 2);
    mem_write(m, 0x10000 + 63 * PAGE_SIZE, buf, PAGE_SIZE + 1);
    mem_written(m, 0x10000 + 99 * PAGE_SIZE + 8, 8);
    mem_read(m, 0x10000 + 5 * PAGE_SIZE, buf, 8);
    mem_dirty_get(m, 3, map, 2);
    is_u64(map[0], 3ull | 1ull << 63, "pages 0, 1 and 63");
    is_u64(map[1], 1ull | 1ull << 35, "pages 64 and 99");
    mem_dirty_get(m, 3, map, 2);
    ok(!map[0] && !map[1], "getting clears");
    mem_write(m, 0x10000 + 100 * PAGE_SIZE - 1, buf, 2);
    mem_dirty_get(m, 3, map, 2);
    ok(!map[0] && !map[1], "a write that failed marks nothing");
    mem_write(m, 0x10000, buf, 1);
    mem_slot_set(m, 3, 0x400000, 100 * PAGE_SIZE, p, MEM_LOG_DIRTY);
    mem_dirty_get(m, 3, map, 2);
    is_u64(map[0], 1, "a moved slot keeps its log");
    mem_slot_set(m, 3, 0x400000, 100 * PAGE_SIZE, p, 0);
    is_u64(mem_dirty_get(m, 3, map, 2), -ENOENT, "log turned off");
    mem_free(m);
    munmap(p, 100 * PAGE_SIZE);
}

static void test_code_lines(void)
{
    struct mem *m;
    u8 *p = ram(4 * PAGE_SIZE);
    struct mem_slot *s;
    struct mem_page *pg;

    mem_create(&m);
    mem_slot_set(m, 0, 0x4000, 4 * PAGE_SIZE, p, 0);
    s = mem_slot_find(m, 0x5000);
    pg = mem_slot_page(s, 0x5000);
    ok(pg == &s->pages[1] && mem_slot_hva(s, 0x5008) == p + 0x1008, "page and host address");
    ok(!mem_page_written(s, 0x5000, 8), "a store to a page without code");

    pg->code_lines = BIT(1) | BIT(31);
    ok(!mem_page_written(s, 0x5000 + 120, 8), "a store that ends before a marked line");
    ok(!mem_page_written(s, 0x5000 + 256, 8), "a store right behind a marked line");
    ok(!mem_page_written(s, 0x6000 + 128, 8), "the same line of another page");
    is_u64(pg->gen, 0, "gen unchanged");
    ok(mem_page_written(s, 0x5000 + 121, 8), "a store whose last byte is in a marked line");
    is_u64(pg->gen, 2, "gen moves on before and after the mark goes");
    is_u64(pg->code_lines, BIT(31), "the mark is gone, the others stay");
    ok(mem_page_written(s, 0x5fff, 1), "the last byte of a page");
    is_u64(pg->gen, 4, "gen moves on again");

    pg->code_lines = BIT(4);
    s->pages[2].code_lines = BIT(0);
    s->pages[3].code_lines = BIT(0);
    mem_written(m, 0x5000 + 4 * 128, PAGE_SIZE - 4 * 128 + 1);
    ok(pg->gen == 6 && s->pages[2].gen == 2 && s->pages[3].gen == 0,
       "a long write reaches each page it touches and no other");
    mem_write(m, 0x7000, "x", 1);
    is_u64(s->pages[3].gen, 2, "a copy in counts as a store");
    mem_free(m);
    munmap(p, 4 * PAGE_SIZE);
}

static void test_hot(void)
{
    struct mem *m;
    u8 *p = ram(PAGE_SIZE);
    struct mem_slot *s;

    mem_create(&m);
    mem_slot_set(m, 0, 0, PAGE_SIZE, p, 0);
    s = mem_slot_at(m, 0);
    for (unsigned i = 0; i < MEM_HITS_HOT; i++) {
        ok(!mem_page_hot(&s->pages[0]), "not hot after %u hits", i);
        s->pages[0].code_lines = BIT(0) | BIT(9);
        mem_page_written(s, 0, 1);
    }
    ok(mem_page_hot(&s->pages[0]), "hot");
    is_u64(s->pages[0].code_lines, 0, "no mark is left on a hot page");
    mem_page_cool(&s->pages[0]);
    ok(!mem_page_hot(&s->pages[0]), "cool again");
    mem_free(m);
    munmap(p, PAGE_SIZE);
}

/* A VMM's map and a VM's of the same memory. */
static void test_two_maps(void)
{
    struct mem *vm, *vmm;
    u8 *p = ram(2 * PAGE_SIZE);
    struct mem_page *pg;
    u32 seen = 0;

    mem_create(&vm);
    mem_create(&vmm);
    mem_slot_set(vm, 5, 0x4000, 2 * PAGE_SIZE, p, 0);
    pg = mem_slot_page(mem_slot_at(vm, 0), 0x5000);
    ok(mem_code_doubtful(vm, &seen) && mem_code_doubtful(vm, &seen),
       "without an owner there is always doubt");
    is_u64(mem_slot_set(vmm, 0, 0, 2 * PAGE_SIZE, p, MEM_OWNER), 0,
           "the same memory in another map");
    is_u64(mem_slot_set(vmm, 0, 0, 2 * PAGE_SIZE, p, 0), -EINVAL, "an owner stays one");
    ok(!mem_code_doubtful(vm, &seen), "an owner removes the doubt");
    mem_write(vmm, 0x1000, "x", 1);
    ok(!mem_code_doubtful(vm, &seen), "it writes to a page without code");
    pg->code_lines = BIT(0);
    mem_write(vmm, 0x1000, "x", 1);
    ok(pg->gen == 2 && !pg->code_lines, "it writes to code: gen moves in the other map");
    ok(mem_code_doubtful(vm, &seen), "and there is doubt");
    ok(!mem_code_doubtful(vm, &seen), "once");
    mem_free(vmm);
    ok(mem_code_doubtful(vm, &seen), "without the owner there is doubt again");
    pg->code_lines = BIT(0);
    ok(mem_page_written(mem_slot_at(vm, 0), 0x5000, 1),
       "the marks stay as long as one map has them");
    mem_free(vm);
    munmap(p, 2 * PAGE_SIZE);
}

static u64 resident(u8 *p, size_t pages)
{
    unsigned char vec[256];
    u64 n = 0;

    mincore(p, pages * PAGE_SIZE, vec);
    for (size_t i = 0; i < pages; i++)
        n += vec[i] & 1;
    return n;
}

static void test_populate(void)
{
    struct mem *m;
    u8 *p = ram(MIB);
    struct mem_slot *s;

    madvise(p, MIB, MADV_NOHUGEPAGE);
    p[70 * PAGE_SIZE] = 42;
    mem_create(&m);
    mem_slot_set(m, 0, 0x3000, MIB - PAGE_SIZE, p, 0);
    s = mem_slot_at(m, 0);
    mem_populate(s, 0x3000 + 70 * PAGE_SIZE);
    ok(p[70 * PAGE_SIZE] == 42, "populating leaves contents alone");
    if (madvise(p + MIB - PAGE_SIZE, PAGE_SIZE, 23 /* MADV_POPULATE_WRITE */)) {
        skip("this kernel has no MADV_POPULATE_WRITE", "a whole chunk is present");
    } else {
        is_u64(resident(p + 64 * PAGE_SIZE, 64), 64, "a whole chunk is present");
        is_u64(resident(p, 64) + resident(p + 128 * PAGE_SIZE, 64), 0, "and not its neighbours");
        mem_populate(s, 0x3000 + 254 * PAGE_SIZE);
        is_u64(resident(p + 192 * PAGE_SIZE, 63), 63, "the short last chunk");
    }
    mem_free(m);

    mprotect(p, PAGE_SIZE, PROT_NONE);
    mem_create(&m);
    mem_slot_set(m, 0, 0, PAGE_SIZE, p, 0);
    mem_populate(mem_slot_at(m, 0), 0);
    ok(true, "memory that cannot be populated is no error");
    mem_free(m);
    munmap(p, MIB);
}

struct litmus {
    struct mem_slot *s;
    u64 *cell;
    _Atomic u64 go, done;
    u64 seen;
};

enum { ROUNDS = 50000 };

static void wait_for(_Atomic u64 *at, u64 value)
{
    for (unsigned spins = 0; *at != value; spins++) {
        if (spins > 1000)
            sched_yield();
    }
}

/* The decoder's half of the protocol in mem.c: mark the line, then read it. */
static void *decoder(void *arg)
{
    struct litmus *k = arg;
    struct mem_page *pg = mem_slot_page(k->s, 0);

    for (u64 i = 1; i <= ROUNDS; i++) {
        wait_for(&k->go, i);
        atomic_fetch_or(&pg->code_lines, 1);
        k->seen = __atomic_load_n(k->cell, __ATOMIC_RELAXED);
        k->done = i;
    }
    return NULL;
}

/* A decoder that read the old bytes must find its page's gen moved on. */
static void test_marks_race(void)
{
    struct mem *m;
    u8 *p = ram(PAGE_SIZE);
    struct litmus k = {.cell = (u64 *)(void *)p};
    struct mem_page *pg;
    pthread_t t;
    u64 stale = 0;

    mem_create(&m);
    mem_slot_set(m, 0, 0, PAGE_SIZE, p, 0);
    k.s = mem_slot_at(m, 0);
    pg = mem_slot_page(k.s, 0);
    pthread_create(&t, NULL, decoder, &k);
    for (u64 i = 1; i <= ROUNDS; i++) {
        u32 gen = pg->gen;

        pg->code_lines = 0;
        k.go = i;
        for (u64 n = 0; n < i % 512; n++)
            __asm__ volatile("");
        __atomic_store_n(k.cell, i, __ATOMIC_RELAXED);
        mem_page_written(k.s, 0, 8);
        wait_for(&k.done, i);
        stale += k.seen != i && pg->gen == gen;
    }
    pthread_join(t, NULL);
    is_u64(stale, 0, "no store slips between a mark and the read behind it");
    mem_free(m);
    munmap(p, PAGE_SIZE);
}

int main(void)
{
    test_slot_rules();
    test_many_slots();
    test_copies();
    test_dirty();
    test_code_lines();
    test_hot();
    test_two_maps();
    test_populate();
    test_marks_race();
    return tap_done();
}
