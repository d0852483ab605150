// SPDX-License-Identifier: MIT
// Driver's and device's virtqueues against each other, in every layout: random traffic, suppression, bad devices.
#include "../tap.h"

#include "virtio/driver_queue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define RAM_SIZE 0x400000
#define RAM_GPA  0x10000000ul
#define DATA     0x200000 /* offset of the buffers */
#define SLOT     256      /* bytes of a buffer */
#define STEPS    20000

struct layout {
    const char *name;
    u16 size;
    bool packed, event_idx, indirect, in_order;
};

static const struct layout layouts[] = {
    {"split", 16, false, false, false, false},
    {"split, one entry", 1, false, true, false, false},
    {"split, event_idx", 64, false, true, false, false},
    {"split, indirect", 8, false, true, true, false},
    {"split, in order", 256, false, true, true, true},
    {"packed", 16, true, false, false, false},
    {"packed, one entry", 1, true, true, false, false},
    {"packed, event_idx", 64, true, true, false, false},
    {"packed, odd size", 37, true, true, false, false},
    {"packed, indirect", 8, true, true, true, false},
    {"packed, in order", 256, true, true, true, true},
};

static u8 *ram;
static struct mem *m;
static unsigned seed = 7;

static unsigned rnd(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static void attach(struct virtq_driver *d, struct virtq *q, const struct layout *l)
{
    struct virtq_driver_config c = {.size = l->size,
                                    .packed = l->packed,
                                    .event_idx = l->event_idx,
                                    .indirect = l->indirect,
                                    .in_order = l->in_order,
                                    .memory = ram,
                                    .gpa = RAM_GPA};

    memset(ram, 0, virtq_driver_bytes(l->size));
    if (virtq_driver_init(d, &c))
        exit(99);
    *q = (struct virtq){.mem = m, .size_max = VIRTQ_SIZE_MAX, .size = l->size};
    q->packed = l->packed;
    q->event_idx = l->event_idx;
    q->indirect = l->indirect;
    q->desc = d->desc;
    q->avail = d->avail;
    q->used = d->used;
    if (virtq_start(q))
        exit(99);
}

/* What is known of the buffer in slot (i). */
struct job {
    bool busy;
    u8 out[SLOT], reply[SLOT];
    u32 out_len, in_len, reply_len;
};

static struct job jobs[VIRTQ_SIZE_MAX];
static struct virtq_chain open_chains[VIRTQ_SIZE_MAX];

static gpa_t slot_gpa(unsigned i)
{
    return RAM_GPA + DATA + 2ul * SLOT * i;
}

static unsigned cut(struct virtq_seg *segs, gpa_t gpa, u32 len, unsigned most)
{
    unsigned n = 0;

    while (len) {
        u32 piece = n + 1 < most ? 1 + rnd(len) : len;

        segs[n++] = (struct virtq_seg){gpa, piece};
        gpa += piece;
        len -= piece;
    }
    return n;
}

/* Offer one buffer; false if it does not fit now. */
static bool offer(struct virtq_driver *d, unsigned most)
{
    struct virtq_seg segs[8];
    unsigned i = 0, out, in;
    struct job *j;

    while (i < VIRTQ_SIZE_MAX && jobs[i].busy)
        i++;
    if (i == VIRTQ_SIZE_MAX)
        return false;
    j = &jobs[i];
    j->out_len = rnd(SLOT);
    j->in_len = rnd(SLOT);
    if (most < 2)
        j->in_len = 0;
    j->out_len += !j->out_len && !j->in_len;
    for (u32 k = 0; k < j->out_len; k++)
        j->out[k] = rnd(256);
    memcpy(ram + DATA + 2 * SLOT * i, j->out, j->out_len);
    out = cut(segs, slot_gpa(i), j->out_len, most > 1 ? most / 2 : 1);
    in = cut(segs + out, slot_gpa(i) + SLOT, j->in_len, most > 1 ? most / 2 : 1);
    if (virtq_driver_add(d, segs, out, in, j))
        return false;
    j->busy = true;
    return true;
}

/* Take a chain, check what is in it, and write its reply. 1, 0: there is none, -1: wrong. */
static int serve(struct virtq *q, struct virtq_chain *c)
{
    u8 buf[SLOT];
    struct job *j;
    u32 len;
    int rc = virtq_pop(q, c);

    if (rc <= 0)
        return rc;
    if (!rnd(8)) {
        virtq_unpop(q);
        if (virtq_pop(q, c) != 1)
            return -1;
    }
    j = &jobs[((c->out.end ? c->segs[0].gpa : c->segs[0].gpa - SLOT) - slot_gpa(0)) / (2 * SLOT)];
    len = c->out.left;
    if (len != j->out_len || c->in.left != j->in_len || virtq_out(c, buf, len) ||
        memcmp(buf, j->out, len))
        return -1;
    j->reply_len = rnd(j->in_len + 1);
    for (u32 k = 0; k < j->reply_len; k++)
        j->reply[k] = rnd(256);
    return virtq_in(c, j->reply, j->reply_len) ? -1 : 1;
}

static bool collect(struct virtq_driver *d, u64 *done)
{
    struct job *j;
    void *token;
    u32 len;
    int rc;

    while ((rc = virtq_driver_used(d, &token, &len)) > 0) {
        j = token;
        if (!j->busy || len != j->reply_len ||
            memcmp(ram + DATA + 2 * SLOT * (j - jobs) + SLOT, j->reply, len))
            return false;
        j->busy = false;
        (*done)++;
    }
    return !rc;
}

struct bench {
    struct virtq_driver d;
    struct virtq q;
    bool in_order, good, device_up, driver_up;
    unsigned most, nr_open;
    u64 done, kicks, signals;
};

static void step_driver(struct bench *b)
{
    b->good = collect(&b->d, &b->done);
    for (unsigned n = rnd(4); n && offer(&b->d, b->most); n--)
        ;
    if (virtq_driver_should_kick(&b->d)) {
        b->device_up = true;
        b->kicks++;
    }
    /* Goes to sleep unless it has much room to send more. */
    b->driver_up = virtq_driver_enable_signal(&b->d) || b->d.nr_free > b->d.config.size / 2;
}

static void step_device(struct bench *b)
{
    int rc = b->nr_open < 8 ? serve(&b->q, &open_chains[b->nr_open]) : 0;
    unsigned at;

    b->good = rc >= 0;
    b->nr_open += rc > 0;
    if (!b->nr_open) {
        b->device_up = virtq_enable_notify(&b->q);
        return;
    }
    if (rnd(2) && rc > 0)
        return;
    at = b->in_order ? 0 : rnd(b->nr_open);
    b->good = b->good && !virtq_push(&b->q, &open_chains[at]);
    memmove(&open_chains[at], &open_chains[at + 1], (--b->nr_open - at) * sizeof(open_chains[0]));
    if (virtq_should_signal(&b->q)) {
        b->driver_up = true;
        b->signals++;
    }
}

/*
 * Each side sleeps whenever it finds nothing to do, and only a wanted kick or interrupt wakes
 * it: a suppression rule that loses one ends the traffic.
 */
static void test_traffic(const struct layout *l)
{
    static struct bench b;

    b = (struct bench){.in_order = l->in_order, .good = true, .device_up = true, .driver_up = true};
    b.most = l->size < 4 ? l->size : 4;
    memset(jobs, 0, sizeof(jobs));
    attach(&b.d, &b.q, l);
    for (unsigned step = 0; step < STEPS && b.good; step++) {
        if (b.driver_up && rnd(2))
            step_driver(&b);
        else if (b.device_up)
            step_device(&b);
        if (!rnd(500) && !b.nr_open) /* the device is stopped, and goes on where it was */
            b.good = !virtq_resume(&b.q, virtq_base(&b.q));
    }
    ok(b.good, "%s: all that came back is what was sent", l->name);
    ok(b.done > STEPS / 20, "%s: traffic did not stop (%llu buffers, %llu kicks, %llu interrupts)",
       l->name, (unsigned long long)b.done, (unsigned long long)b.kicks,
       (unsigned long long)b.signals);
}

/* A batch: one used element for several buffers in order (virtio 2.7.9, 2.8.9). */
static void test_batch(const struct layout *l)
{
    static struct virtq_driver d;
    struct virtq_seg s = {slot_gpa(0), 100};
    struct virtq_chain *c = &open_chains[0];
    int tokens[3];
    struct virtq q;
    void *token;
    bool good = true;
    u32 len;

    attach(&d, &q, l);
    for (int round = 0; round < 300; round++) {
        u16 nr = 0;

        for (int i = 0; i < 3; i++)
            good &= !virtq_driver_add(&d, &s, 0, 1, &tokens[i]);
        for (int i = 0; i < 3; i++) {
            good &= virtq_pop(&q, c) == 1;
            nr += c->nr;
        }
        good &= !virtq_in(c, "abc", 3);
        c->nr = nr;
        if (!l->packed) { /* the element stands where the batch begins */
            u8 *used = ram + (q.used - RAM_GPA) + 4 + 8 * (q.used_idx & (q.size - 1));
            u32 id = c->head;

            memcpy(used, &id, sizeof(id));
            q.used_idx += 2;
        }
        good &= !virtq_push(&q, c);
        for (int i = 0; i < 3; i++)
            good &= virtq_driver_used(&d, &token, &len) == 1 && token == &tokens[i];
        good &= !virtq_driver_used(&d, &token, &len);
    }
    ok(good && d.nr_free == l->size, "%s: one used element ends three buffers", l->name);
}

/* What a device may not do to a driver (virtio 2.7.8; MigTD #943, #989). */
static void test_bad_device(bool packed)
{
    const struct layout l = {packed ? "packed" : "split", 16, packed, false, false, false};
    struct virtq_seg s = {slot_gpa(0), 100};
    static struct virtq_driver d;
    struct virtq_chain c = {.nr = 1};
    struct virtq q;
    void *token;
    u32 len;

    attach(&d, &q, &l);
    c.mem = m;
    virtq_push(&q, &c);
    is_u64(virtq_driver_used(&d, &token, &len), -EPROTO, "MigTD #989: %s: used, but never given",
           l.name);
    attach(&d, &q, &l);
    virtq_driver_add(&d, &s, 0, 1, &c);
    c.head = 999;
    virtq_push(&q, &c);
    is_u64(virtq_driver_used(&d, &token, &len), -EPROTO, "%s: an id out of range", l.name);
    attach(&d, &q, &l);
    virtq_driver_add(&d, &s, 0, 1, &c);
    c.head = 0;
    c.written = 101;
    virtq_push(&q, &c);
    is_u64(virtq_driver_used(&d, &token, &len), -EPROTO,
           "MigTD #943: %s: more written than there is room", l.name);
    attach(&d, &q, &l);
    virtq_driver_add(&d, &s, 1, 0, &c);
    virtq_push(&q, &c);
    is_u64(virtq_driver_used(&d, &token, &len), -EPROTO,
           "%s: written to a buffer that is to be read", l.name);
}

/* Packed rings that no driver makes. */
static void test_bad_driver(void)
{
    static const struct {
        const char *what;
        u16 flags[3];
        u32 len;
    } cases[] = {
        {"a chain that goes on into nothing", {1, 0, 0}, 16},
        {"indirect without the feature", {4, 0, 0}, 16},
        {"readable behind writable", {3, 0x80, 0}, 16},
        {"indirect within a chain", {1, 0x84, 0}, 16},
        {"a buffer that is no memory", {0, 0, 0}, RAM_SIZE + 1},
    };
    const struct layout l = {"packed", 4, true, false, false, false};
    static struct virtq_driver d;
    struct virtq_chain *c = &open_chains[0];
    struct virtq q;

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct vring_packed_desc *ring = (void *)ram;

        attach(&d, &q, &l);
        for (unsigned k = 0; k < 3; k++)
            ring[k] = (struct vring_packed_desc){
                .addr = RAM_GPA, .len = cases[i].len, .flags = cases[i].flags[k]};
        ring[0].flags |= BIT(VRING_PACKED_DESC_F_AVAIL);
        is_u64(virtq_pop(&q, c), -EPROTO, "packed: %s", cases[i].what);
    }
    attach(&d, &q, &l);
    for (unsigned k = 0; k < 4; k++)
        ((struct vring_packed_desc *)ram)[k] =
            (struct vring_packed_desc){.addr = RAM_GPA,
                                       .len = 16,
                                       .flags = VRING_DESC_F_NEXT | BIT(VRING_PACKED_DESC_F_AVAIL)};
    is_u64(virtq_pop(&q, c), -EPROTO, "packed: a chain without end");
    q.size = 0;
    is_u64(virtq_start(&q), -EINVAL, "packed: no descriptors at all");
    q.size = 4;
    is_u64(virtq_resume(&q, 4), -EINVAL, "packed: a position behind the end");
}

/* (n) buffers of one driver's offer: put back and taken again, then given back as one. */
static void group(struct virtq_driver *d, struct virtq *q, unsigned n, bool *ok_return,
                  bool *ok_stage, bool *ok_publish)
{
    unsigned back = rnd(n + 1);
    void *token;
    u32 len;

    for (unsigned i = 0; i < n; i++) {
        struct virtq_seg seg = {slot_gpa(i), SLOT};

        *ok_return &= !virtq_driver_add(d, &seg, 0, 1, &jobs[i]);
    }
    for (unsigned i = 0; i < n; i++)
        *ok_return &= virtq_pop(q, &open_chains[i]) == 1;
    for (unsigned i = 0; i < back; i++)
        virtq_return(q, &open_chains[n - 1 - i]);
    for (unsigned i = n - back; i < n; i++)
        *ok_return &=
            virtq_pop(q, &open_chains[i]) == 1 && open_chains[i].segs[0].gpa == slot_gpa(i);
    *ok_return &= !virtq_pop(q, &open_chains[n]);
    for (unsigned i = 0; i < n; i++) {
        *ok_stage &= !virtq_in(&open_chains[i], &i, 1 + i) && !virtq_stage(q, &open_chains[i]);
        *ok_stage &= !virtq_driver_used(d, &token, &len);
    }
    *ok_publish &= !virtq_publish(q);
    for (unsigned i = 0; i < n; i++)
        *ok_publish &= virtq_driver_used(d, &token, &len) == 1 && token == &jobs[i] && len == 1 + i;
    *ok_publish &= !virtq_driver_used(d, &token, &len);
}

static void test_groups(const struct layout *l)
{
    bool ok_return = true, ok_stage = true, ok_publish = true;
    static struct virtq_driver d;
    struct virtq q;

    attach(&d, &q, l);
    for (unsigned i = 0; i < 2000; i++)
        group(&d, &q, 1 + rnd(l->size < 4 ? l->size : 4), &ok_return, &ok_stage, &ok_publish);
    ok(ok_return, "%s: chains that are put back come again, in order", l->name);
    ok(ok_stage, "%s: chains that are staged are not seen", l->name);
    ok(ok_publish, "%s: and all are, once published", l->name);
}

int main(void)
{
    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ram == MAP_FAILED || mem_create(&m) || mem_slot_set(m, 0, RAM_GPA, RAM_SIZE, ram, 0))
        return 99;
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
        test_traffic(&layouts[i]);
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
        test_groups(&layouts[i]);
    for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
        if (layouts[i].in_order)
            test_batch(&layouts[i]);
    }
    test_bad_device(false);
    test_bad_device(true);
    test_bad_driver();
    mem_free(m);
    return tap_done();
}
