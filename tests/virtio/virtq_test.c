// SPDX-License-Identifier: MIT
// Virtqueues: good chains of every shape, and every way in which a ring can be wrong.
#include "driver.h"

#include "../tap.h"

#include <errno.h>

#define DATA     DRIVER_DATA
#define TABLE    (DRIVER_RAM + 0x40000) /* an indirect table */
#define NEXT     VRING_DESC_F_NEXT
#define WRITE    VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define HOLE     0x10000000ull

static struct driver v;
static struct virtq_chain chain;

/* A fresh, started queue over fresh rings. */
static struct virtq queue(bool indirect, bool event_idx)
{
    struct virtq q = {.mem = v.mem, .size_max = 64};

    driver_rings(&v);
    virtq_reset(&q);
    q.size = DRIVER_QUEUE_SIZE;
    q.desc = v.q[0].desc;
    q.avail = v.q[0].avail;
    q.used = v.q[0].used;
    q.indirect = indirect;
    q.event_idx = event_idx;
    if (virtq_start(&q))
        exit(99);
    return q;
}

static void desc(unsigned i, gpa_t addr, u32 len, u16 flags, u16 next)
{
    driver_desc(&v, v.q[0].desc, i, addr, len, flags, next);
}

static void entry(unsigned i, gpa_t addr, u32 len, u16 flags, u16 next)
{
    driver_desc(&v, TABLE, i, addr, len, flags, next);
}

static void test_start(void)
{
    static const struct {
        const char *name;
        u16 size;
        gpa_t desc, avail, used;
        int want;
    } rows[] = {
        {"a good queue", 16, DATA, DATA + 0x400, DATA + 0x800, 0},
        {"the largest", 64, DATA, DATA + 0x400, DATA + 0x800, 0},
        {"one entry", 1, DATA, DATA + 0x400, DATA + 0x800, 0},
        {"rings in different slots", 16, DATA, DRIVER_RAM2, DATA + 0x800, 0},
        {"driver's parts in read-only memory", 16, DRIVER_ROM, DRIVER_ROM + 0x400, DATA, 0},
        {"mvm #1861: no entries", 0, DATA, DATA + 0x400, DATA + 0x800, -EINVAL},
        {"not a power of two", 12, DATA, DATA + 0x400, DATA + 0x800, -EINVAL},
        {"larger than offered", 128, DATA, DATA + 0x800, DATA + 0xc00, -EINVAL},
        {"descriptors misaligned", 16, DATA + 8, DATA + 0x400, DATA + 0x800, -EINVAL},
        {"available ring misaligned", 16, DATA, DATA + 0x401, DATA + 0x800, -EINVAL},
        {"used ring misaligned", 16, DATA, DATA + 0x400, DATA + 0x802, -EINVAL},
        {"descriptors in a hole", 16, HOLE, DATA + 0x400, DATA + 0x800, -EINVAL},
        {"available ring running into a hole", 16, DATA, DRIVER_RAM2 + PAGE_SIZE - 32, DATA,
         -EINVAL},
        {"used ring at the end of the address space", 16, DATA, DATA, -4ull, -EINVAL},
        {"used ring in read-only memory", 16, DATA, DATA + 0x400, DRIVER_ROM, -EINVAL},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct virtq q = {.mem = v.mem, .size_max = 64};

        virtq_reset(&q);
        q.size = rows[i].size;
        q.desc = rows[i].desc;
        q.avail = rows[i].avail;
        q.used = rows[i].used;
        is_u64(virtq_start(&q), rows[i].want, "start: %s", rows[i].name);
        ok(q.ready == !rows[i].want, "start: ready or not");
    }
}

static void test_chain(void)
{
    struct virtq q = queue(false, false);
    struct virtq_seg segs[] = {
        {DATA, 3}, {DATA + 0x100, 0}, {DATA + 0x200, 4}, {DATA + 0x300, 5}, {DRIVER_RAM2 - 2, 4}};
    char buf[8] = {0};
    struct iovec iov[8];
    u32 id, len;
    u16 head;

    is_u64(virtq_pop(&q, &chain), 0, "an empty queue gives nothing");
    memcpy(driver_at(&v, DATA), "abc", 3);
    memcpy(driver_at(&v, DATA + 0x200), "defg", 4);
    head = driver_add(&v, 0, segs, 3, 2);
    ok(virtq_pending(&q), "a chain is pending");
    is_u64(virtq_pop(&q, &chain), 1, "a chain of five buffers");
    is_u64(chain.head, head, "its head");
    is_u64(chain.out.left, 7, "readable bytes");
    is_u64(chain.in.left, 9, "writable bytes");
    is_u64(virtq_out(&chain, buf, 8), -EPROTO, "reading past the end");
    is_u64(virtq_out(&chain, buf, 2), 0, "reading a part");
    is_u64(virtq_out_iov(&chain, 99, iov, 8), 2, "the rest is two pieces, the empty one is none");
    is_u64(virtq_out(&chain, buf + 2, 5), 0, "reading across buffers");
    ok(!memcmp(buf, "abcdefg", 7), "the bytes of the buffers");
    is_u64(virtq_out_iov(&chain, 99, iov, 8), 0, "nothing is left to read");
    is_u64(virtq_in_iov(&chain, 99, iov, 8), 3, "a buffer across slots is two pieces");
    is_u64(virtq_in_iov(&chain, 6, iov, 8), 2, "no more than was asked for");
    is_u64(virtq_in(&chain, "0123456789", 10), -EPROTO, "writing past the end");
    is_u64(virtq_in(&chain, "01234567", 8), 0, "writing across buffers and slots");
    ok(!memcmp(driver_at(&v, DATA + 0x300), "01234", 5) && !memcmp(v.ram2, "7", 2) &&
           !memcmp(driver_at(&v, DRIVER_RAM2 - 2), "56", 2),
       "the bytes arrive");
    is_u64(virtq_push(&q, &chain), 0, "pushing");
    ok(driver_used(&v, 0, &id, &len) && id == head && len == 8, "used element: head and length");
    ok(!virtq_pending(&q), "nothing is pending");

    driver_add(&v, 0, &segs[2], 1, 1);
    ok(virtq_pop(&q, &chain) == 1 && chain.in.left == 5, "the next chain");
    virtq_unpop(&q);
    ok(virtq_pop(&q, &chain) == 1 && chain.in.left == 5, "put back and taken again");
    virtq_in_done(&chain, 2);
    virtq_in_skip(&chain, 2);
    virtq_in_done(&chain, 1);
    is_u64(chain.written, 2, "the used length ends at a gap");
}

/* Indices wrap at 65536, positions at the size. */
static void test_wrap(void)
{
    struct virtq q = queue(false, false);
    struct virtq_seg seg = {DATA, 1};
    bool right = true;
    u32 id, len;

    for (unsigned i = 0; i < 70000; i++) {
        u16 head = driver_add(&v, 0, &seg, 0, 1);

        right &= virtq_pop(&q, &chain) == 1 && chain.head == head && !virtq_in(&chain, "x", 1) &&
                 !virtq_push(&q, &chain) && driver_used(&v, 0, &id, &len) && id == head;
    }
    ok(right, "70000 chains through a ring of 16");
}

static void test_indirect(void)
{
    struct virtq q = queue(true, false);

    entry(0, DATA, 8, NEXT, 2);
    entry(2, DATA + 8, 4, NEXT | WRITE, 1);
    entry(1, DATA + 64, 4, WRITE, 0);
    desc(0, TABLE, 48, INDIRECT, 0);
    driver_offer(&v, 0, 0);
    ok(virtq_pop(&q, &chain) == 1 && chain.out.left == 8 && chain.in.left == 8,
       "an indirect table");
    desc(1, DATA, 4, NEXT, 2);
    desc(2, TABLE, 48, INDIRECT | WRITE, 0);
    driver_offer(&v, 0, 1);
    ok(virtq_pop(&q, &chain) == 1 && chain.out.left == 12 && chain.in.left == 8,
       "a table behind a plain descriptor; its own write flag means nothing");
    for (unsigned i = 0; i < VIRTQ_SIZE_MAX; i++)
        entry(i, DATA, 1, i + 1 < VIRTQ_SIZE_MAX ? NEXT : 0, i + 1);
    desc(3, TABLE, VIRTQ_SIZE_MAX * 16, INDIRECT, 0);
    driver_offer(&v, 0, 3);
    ok(virtq_pop(&q, &chain) == 1 && chain.out.left == VIRTQ_SIZE_MAX, "the longest chain");
}

static void bad(const char *name, struct virtq q)
{
    u16 before = q.last_avail;

    is_u64(virtq_pop(&q, &chain), -EPROTO, "malformed: %s", name);
    is_u64(q.last_avail, before, "malformed: nothing was taken");
}

static void test_bad_descriptors(void)
{
    static const struct {
        const char *name;
        gpa_t addr;
        u32 len;
        u16 flags, next;
    } rows[] = {
        {"points at itself", DATA, 1, NEXT, 0},
        {"mvm #1861: next out of range", DATA, 1, NEXT, DRIVER_QUEUE_SIZE},
        {"next far out of range", DATA, 1, NEXT, 0xffff},
        {"buffer in a hole", HOLE, 1, 0, 0},
        {"CVE-2018-1059: buffer that ends in a hole", DRIVER_RAM2 + PAGE_SIZE - 1, 2, WRITE, 0},
        {"buffer of 4 GiB", DATA, 0xffffffff, WRITE, 0},
        {"buffer that wraps", -8ull, 16, 0, 0},
        {"writable buffer in read-only memory", DRIVER_ROM, 8, WRITE, 0},
        {"indirect with next", TABLE, 16, INDIRECT | NEXT, 1},
        {"indirect of no entries", TABLE, 0, INDIRECT, 0},
        {"indirect of half an entry", TABLE, 24, INDIRECT, 0},
        {"indirect in a hole", HOLE, 16, INDIRECT, 0},
        {"indirect that runs into a hole", DRIVER_RAM2, PAGE_SIZE + 16, INDIRECT, 0},
        {"indirect of 4 GiB", TABLE, 0xfffffff0, INDIRECT, 0},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct virtq q = queue(true, false);

        entry(0, DATA, 1, 0, 0);
        desc(1, DATA, 1, 0, 0);
        desc(0, rows[i].addr, rows[i].len, rows[i].flags, rows[i].next);
        driver_offer(&v, 0, 0);
        bad(rows[i].name, q);
    }
}

static void test_bad_chains(void)
{
    struct virtq q = queue(true, false);

    desc(0, DATA, 1, NEXT, 1);
    desc(1, DATA, 1, NEXT, 0);
    driver_offer(&v, 0, 0);
    bad("a loop of two", q);

    q = queue(true, false);
    desc(0, DATA, 1, NEXT | WRITE, 1);
    desc(1, DATA, 1, 0, 0);
    driver_offer(&v, 0, 0);
    bad("readable behind writable", q);

    q = queue(true, false);
    entry(0, TABLE, 16, INDIRECT, 0);
    desc(0, TABLE, 16, INDIRECT, 0);
    driver_offer(&v, 0, 0);
    bad("a table within a table", q);

    q = queue(true, false);
    entry(0, DATA, 1, NEXT, 1);
    desc(0, TABLE, 16, INDIRECT, 0);
    driver_offer(&v, 0, 0);
    bad("a chain that leaves its table", q);

    q = queue(true, false);
    for (unsigned i = 0; i <= VIRTQ_SIZE_MAX; i++)
        entry(i, DATA, 1, i < VIRTQ_SIZE_MAX ? NEXT : 0, i + 1);
    desc(0, TABLE, (VIRTQ_SIZE_MAX + 1) * 16, INDIRECT, 0);
    driver_offer(&v, 0, 0);
    bad("a chain longer than any queue", q);

    q = queue(false, false);
    entry(0, DATA, 1, 0, 0);
    desc(0, TABLE, 16, INDIRECT, 0);
    driver_offer(&v, 0, 0);
    bad("indirect that was not negotiated", q);
}

static void test_bad_ring(void)
{
    struct virtq q = queue(false, false);
    u16 *avail = driver_at(&v, v.q[0].avail);

    driver_offer(&v, 0, DRIVER_QUEUE_SIZE);
    bad("head out of range", q);

    q = queue(false, false);
    avail[1] = DRIVER_QUEUE_SIZE + 1;
    bad("more chains than entries", q);

    q = queue(false, false);
    avail[1] = 0xffff;
    bad("an index that went backwards", q);

    q = queue(false, false);
    q.ready = false;
    driver_offer(&v, 0, 0);
    is_u64(virtq_pop(&q, &chain), 0, "a stopped queue gives nothing");
    is_u64(virtq_push(&q, &chain), -EPROTO, "and takes nothing");
    ok(!virtq_pending(&q) && !virtq_enable_notify(&q) && !virtq_should_signal(&q),
       "and wants nothing");

    q = queue(false, false);
    desc(0, DATA, 1, 0, 0);
    driver_offer(&v, 0, 0);
    mem_slot_set(v.mem, 0, DRIVER_RAM, 0, NULL, 0);
    is_u64(virtq_pop(&q, &chain), -EPROTO, "malformed: the ring's memory is gone");
    is_u64(virtq_push(&q, &chain), -EPROTO, "malformed: and its used ring");
    mem_slot_set(v.mem, 0, DRIVER_RAM, DRIVER_RAM_SIZE, v.ram, MEM_LOG_DIRTY);
}

static void push_one(struct virtq *q)
{
    struct virtq_seg seg = {DATA, 1};

    driver_add(&v, 0, &seg, 0, 1);
    if (virtq_pop(q, &chain) == 1)
        virtq_push(q, &chain);
}

static void test_signals(void)
{
    struct virtq q = queue(false, false);
    u16 *avail = driver_at(&v, v.q[0].avail), *used = driver_at(&v, v.q[0].used);

    ok(!virtq_should_signal(&q), "no interrupt when nothing was pushed");
    push_one(&q);
    ok(virtq_should_signal(&q), "an interrupt for a push");
    ok(!virtq_should_signal(&q), "one only");
    avail[0] = VRING_AVAIL_F_NO_INTERRUPT;
    push_one(&q);
    ok(!virtq_should_signal(&q), "none if the driver does not want it");
    virtq_disable_notify(&q);
    is_u64(used[0], VRING_USED_F_NO_NOTIFY, "kicks turned off");
    ok(!virtq_enable_notify(&q) && used[0] == 0, "and on");
    driver_offer(&v, 0, 0);
    ok(virtq_enable_notify(&q), "a chain that came in meanwhile is seen");

    q = queue(false, true);
    push_one(&q);
    ok(virtq_should_signal(&q), "event index 0: the first push");
    push_one(&q);
    ok(!virtq_should_signal(&q), "not the second");
    avail[2 + DRIVER_QUEUE_SIZE] = 4; /* used_event */
    for (int i = 0; i < 2; i++)
        push_one(&q);
    ok(!virtq_should_signal(&q), "not before the index");
    push_one(&q);
    ok(virtq_should_signal(&q), "when it is passed");
    virtq_enable_notify(&q);
    is_u64(used[2 + 4 * DRIVER_QUEUE_SIZE], 5, "avail_event is where the device stands");
}

static void test_dirty(void)
{
    u64 map[4];
    struct virtq q = queue(false, false);
    unsigned data_page = (DATA - DRIVER_RAM) >> PAGE_SHIFT;

    mem_dirty_get(v.mem, 0, map, 4);
    push_one(&q);
    mem_dirty_get(v.mem, 0, map, 4);
    ok(map[0] == 1 && !(map[data_page / 64] & BIT(data_page % 64)), "used ring alone is dirty");
    driver_add(&v, 0, &(struct virtq_seg){DATA, 4}, 0, 1);
    virtq_pop(&q, &chain);
    virtq_in(&chain, "abcd", 4);
    mem_dirty_get(v.mem, 0, map, 4);
    ok(map[data_page / 64] & BIT(data_page % 64), "a filled buffer is dirty");
}

int main(void)
{
    driver_open(&v, NULL);
    test_start();
    test_chain();
    test_wrap();
    test_indirect();
    test_bad_descriptors();
    test_bad_chains();
    test_bad_ring();
    test_signals();
    test_dirty();
    driver_close(&v);
    return tap_done();
}
