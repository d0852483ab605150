// SPDX-License-Identifier: MIT
// Guest-physical memory: the sorted slot table, checked copies, the dirty log and code-page marks.

/*
 * Theory of operation
 *
 * 1. (slots) is sorted by gpa and slots never overlap, so one binary search answers
 *    every lookup. A handful of slots is usual: two or three probes, and no shared
 *    last-hit word that vCPUs would fight over.
 * 2. A slot's address is stable from creation to deletion. mem_slot_set() is the only
 *    writer and runs while no reader does; everything else is lock-free.
 * 3. Page metadata is one anonymous mapping for each piece of host memory, shared by the
 *    slots of all maps that have that piece: so what a VMM's device writes through its map
 *    finds the marks that vCPUs have made through theirs. It costs memory only for pages
 *    that were decoded from or handed out as write mappings.
 * 4. Code marks are a Dekker protocol between two parties. The decoder sets a mark and
 *    then reads the bytes; a store writes the bytes and then reads the marks. Each has a
 *    full fence in the middle, so at least one sees the other: either the decoder reads
 *    the new bytes or the store finds the mark and increments gen.
 */
#include "mem/mem.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

#define CHUNK_SHIFT       MEM_CHUNK_SHIFT /* 256 KiB: beyond it, populating gets no cheaper per page */
#define CHUNK_SIZE        (1ull << CHUNK_SHIFT)
#define SPAN_POPULATE_MAX (4 * CHUNK_SIZE)
#define SLOT_MAX_PAGES    ((u64)INT_MAX) /* KVM's own limit */

struct mem {
    struct mem_slot **slots; /* ascending gpa */
    unsigned count;
};

/* Page metadata of [hva, hva + size). */
struct mem_marks {
    struct mem_marks *next;
    u8 *hva;
    u64 size;
    unsigned slots;          /* how many share it, */
    _Atomic unsigned owners; /* and how many of them are MEM_OWNER */
    _Atomic u32 hits;        /* writes that were no vCPU's and hit code */
    struct mem_page *pages;
};

static struct mem_marks *all_marks;
static pthread_mutex_t marks_lock = PTHREAD_MUTEX_INITIALIZER; /* all_marks, and who shares one */

int mem_create(struct mem **ret)
{
    struct mem *m = calloc(1, sizeof(*m));

    if (!m)
        return -ENOMEM;
    *ret = m;
    return 0;
}

static size_t pages_bytes(u64 size)
{
    return (size >> PAGE_SHIFT) * sizeof(struct mem_page);
}

static struct mem_marks *marks_new(u8 *hva, u64 size)
{
    struct mem_marks *k = calloc(1, sizeof(*k));
    void *pages;

    if (!k)
        return NULL;
    pages = mmap(NULL, pages_bytes(size), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        free(k);
        return NULL;
    }
    *k = (struct mem_marks){.hva = hva, .size = size, .pages = pages};
    return k;
}

/* The marks for (s), shared or new. 0 or -ENOMEM. */
static int marks_take(struct mem_slot *s)
{
    struct mem_marks *k;

    pthread_mutex_lock(&marks_lock);
    for (k = all_marks; k && (k->hva != s->hva || k->size != s->size);)
        k = k->next;
    if (!k) {
        k = marks_new(s->hva, s->size);
        if (k) {
            k->next = all_marks;
            all_marks = k;
        }
    }
    if (k) {
        k->slots++;
        k->owners += (s->flags & MEM_OWNER) != 0;
        s->marks = k;
        s->pages = k->pages;
    }
    pthread_mutex_unlock(&marks_lock);
    return k ? 0 : -ENOMEM;
}

static void marks_drop(struct mem_slot *s)
{
    struct mem_marks *k = s->marks, **p = &all_marks;

    pthread_mutex_lock(&marks_lock);
    k->owners -= (s->flags & MEM_OWNER) != 0;
    if (!--k->slots) {
        while (*p != k)
            p = &(*p)->next;
        *p = k->next;
        munmap(k->pages, pages_bytes(k->size));
        free(k);
    }
    pthread_mutex_unlock(&marks_lock);
}

static size_t dirty_words(u64 size)
{
    return ((size >> PAGE_SHIFT) + 63) / 64;
}

static void slot_free(struct mem_slot *s)
{
    if (!s)
        return;
    if (s->marks)
        marks_drop(s);
    free(s->dirty);
    free(s->populated);
    free(s);
}

static struct mem_slot *slot_new(u32 id, gpa_t gpa, u64 size, void *hva, u32 flags)
{
    struct mem_slot *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->id = id;
    s->gpa = gpa;
    s->size = size;
    s->hva = hva;
    s->flags = flags;
    if (marks_take(s))
        goto err;
    s->populated = calloc((size + CHUNK_SIZE - 1) >> CHUNK_SHIFT, 1);
    if (!s->populated)
        goto err;
    if (flags & MEM_LOG_DIRTY) {
        s->dirty = calloc(dirty_words(size), sizeof(*s->dirty));
        if (!s->dirty)
            goto err;
    }
    return s;

err:
    slot_free(s);
    return NULL;
}

void mem_free(struct mem *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->count; i++)
        slot_free(m->slots[i]);
    free(m->slots);
    free(m);
}

/* Index of the first slot that ends above (gpa); m->count if none does. */
static unsigned slot_index(const struct mem *m, gpa_t gpa)
{
    unsigned lo = 0, hi = m->count;

    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const struct mem_slot *s = m->slots[mid];

        if (gpa - s->gpa < s->size || gpa < s->gpa)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct mem_slot *mem_slot_find(struct mem *m, gpa_t gpa)
{
    unsigned i = slot_index(m, gpa);

    return i < m->count && m->slots[i]->gpa <= gpa ? m->slots[i] : NULL;
}

static unsigned id_index(const struct mem *m, u32 id)
{
    unsigned i = 0;

    while (i < m->count && m->slots[i]->id != id)
        i++;
    return i;
}

struct mem_slot *mem_slot_by_id(struct mem *m, u32 id)
{
    unsigned i = id_index(m, id);

    return i < m->count ? m->slots[i] : NULL;
}

struct mem_slot *mem_slot_at(struct mem *m, unsigned i)
{
    return i < m->count ? m->slots[i] : NULL;
}

/* True if [gpa, gpa + size) meets a slot other than (self). */
static bool overlaps(const struct mem *m, gpa_t gpa, u64 size, const struct mem_slot *self)
{
    gpa_t last = gpa + size - 1;

    for (unsigned i = slot_index(m, gpa); i < m->count && m->slots[i]->gpa <= last; i++) {
        if (m->slots[i] != self)
            return true;
    }
    return false;
}

static void slot_remove(struct mem *m, unsigned i)
{
    m->count--;
    memmove(&m->slots[i], &m->slots[i + 1], (m->count - i) * sizeof(*m->slots));
}

/* Needs room for one more in m->slots. */
static void slot_insert(struct mem *m, struct mem_slot *s)
{
    unsigned i = slot_index(m, s->gpa);

    memmove(&m->slots[i + 1], &m->slots[i], (m->count - i) * sizeof(*m->slots));
    m->slots[i] = s;
    m->count++;
}

static int slot_create(struct mem *m, u32 id, gpa_t gpa, u64 size, void *hva, u32 flags)
{
    struct mem_slot **slots, *s;

    slots = realloc(m->slots, (m->count + 1) * sizeof(*slots));
    if (!slots)
        return -ENOMEM;
    m->slots = slots;
    s = slot_new(id, gpa, size, hva, flags);
    if (!s)
        return -ENOMEM;
    slot_insert(m, s);
    return 0;
}

/* Move slot (i) to (gpa) and give it (flags); size, hva, MEM_READONLY and MEM_OWNER stay. */
static int slot_change(struct mem *m, unsigned i, gpa_t gpa, u32 flags)
{
    struct mem_slot *s = m->slots[i];

    if ((flags & MEM_LOG_DIRTY) && !s->dirty) {
        s->dirty = calloc(dirty_words(s->size), sizeof(*s->dirty));
        if (!s->dirty)
            return -ENOMEM;
    } else if (!(flags & MEM_LOG_DIRTY)) {
        free(s->dirty);
        s->dirty = NULL;
    }
    s->flags = flags;
    if (s->gpa != gpa) {
        slot_remove(m, i);
        s->gpa = gpa;
        slot_insert(m, s);
    }
    return 0;
}

int mem_slot_set(struct mem *m, u32 id, gpa_t gpa, u64 size, void *hva, u32 flags)
{
    unsigned i = id_index(m, id);
    struct mem_slot *old = i < m->count ? m->slots[i] : NULL;

    if (!size) {
        if (!old)
            return -EINVAL;
        slot_remove(m, i);
        slot_free(old);
        return 0;
    }
    if ((gpa | size | (uintptr_t)hva) & ~PAGE_MASK || gpa + (size - 1) < gpa ||
        size >> PAGE_SHIFT > SLOT_MAX_PAGES)
        return -EINVAL;
    if (old && (old->size != size || old->hva != hva ||
                ((old->flags ^ flags) & (MEM_READONLY | MEM_OWNER))))
        return -EINVAL;
    if (overlaps(m, gpa, size, old))
        return -EEXIST;
    return old ? slot_change(m, i, gpa, flags) : slot_create(m, id, gpa, size, hva, flags);
}

int mem_dirty_get(struct mem *m, u32 id, u64 *bitmap, size_t words)
{
    struct mem_slot *s = mem_slot_by_id(m, id);
    size_t n;

    if (!s || !s->dirty)
        return -ENOENT;
    n = dirty_words(s->size);
    if (words < n)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        bool any = atomic_load_explicit(&s->dirty[i], memory_order_relaxed) != 0;

        /* Acquire pairs with the release in mem_page_written(): who sees the bit sees the data. */
        bitmap[i] = any ? atomic_exchange_explicit(&s->dirty[i], 0, memory_order_acquire) : 0;
    }
    memset(bitmap + n, 0, (words - n) * sizeof(*bitmap));
    return 0;
}

void mem_populate(struct mem_slot *s, gpa_t gpa)
{
    u64 chunk = (gpa - s->gpa) >> CHUNK_SHIFT;
    u64 start = chunk << CHUNK_SHIFT;
    u64 len = s->size - start < CHUNK_SIZE ? s->size - start : CHUNK_SIZE;

    if (atomic_load_explicit(&s->populated[chunk], memory_order_relaxed))
        return;
    /*
     * Where the kernel does not know the advice (before 5.14) or the mapping forbids it,
     * pages come one by one as they are touched; that is slower and nothing else.
     */
    (void)madvise(s->hva + start, len,
                  s->flags & MEM_READONLY ? MADV_POPULATE_READ : MADV_POPULATE_WRITE);
    atomic_store_explicit(&s->populated[chunk], 1, memory_order_relaxed);
}

static void populate_range(struct mem_slot *s, gpa_t gpa, u64 len)
{
    u64 first = (gpa - s->gpa) >> CHUNK_SHIFT;
    u64 last = (gpa - s->gpa + len - 1) >> CHUNK_SHIFT;

    for (u64 i = first; i <= last; i++)
        mem_populate(s, s->gpa + (i << CHUNK_SHIFT));
}

bool mem_page_written(struct mem_slot *s, gpa_t gpa, u64 len)
{
    u64 page = (gpa - s->gpa) >> PAGE_SHIFT;
    u32 first = (gpa & ~PAGE_MASK) / MEM_CODE_LINE;
    u32 last = ((gpa + len - 1) & ~PAGE_MASK) / MEM_CODE_LINE;
    u32 lines = (u32)GENMASK(last, first);

    if (s->dirty) {
        _Atomic u64 *word = &s->dirty[page / 64];

        /* Release pairs with the acquire in mem_dirty_get(). */
        atomic_fetch_or_explicit(word, BIT(page % 64), memory_order_release);
    }
    /* Pairs with the fence between marking a line and reading its bytes (invariant 4). */
    atomic_thread_fence(memory_order_seq_cst);
    if (likely(!(atomic_load_explicit(&s->pages[page].code_lines, memory_order_relaxed) & lines)))
        return false;
    /*
     * gen before: whoever sees the mark gone must also see the blocks stale. gen after: so must
     * who found the mark (mmu_mark_code()) before it went and gen after it was moved.
     */
    atomic_fetch_add(&s->pages[page].gen, 1);
    if (atomic_fetch_add_explicit(&s->pages[page].hits, 1, memory_order_relaxed) + 1 >=
        MEM_HITS_HOT)
        lines = ~0u;
    atomic_fetch_and(&s->pages[page].code_lines, ~lines);
    atomic_fetch_add(&s->pages[page].gen, 1);
    return true;
}

/* mem_page_written() for every page of a range within one slot. */
static void slot_written(struct mem_slot *s, gpa_t gpa, u64 len)
{
    while (len) {
        u64 n = PAGE_SIZE - (gpa & ~PAGE_MASK);

        if (n > len)
            n = len;
        if (mem_page_written(s, gpa, n))
            atomic_fetch_add_explicit(&s->marks->hits, 1, memory_order_release);
        gpa += n;
        len -= n;
    }
}

/* Bytes of slot (s) from (gpa) on, at most (len). */
static u64 slot_room(const struct mem_slot *s, gpa_t gpa, u64 len)
{
    u64 room = s->size - (gpa - s->gpa);

    return room < len ? room : len;
}

static bool range_ok(struct mem *m, gpa_t gpa, u64 len, bool write)
{
    if (len && gpa + (len - 1) < gpa)
        return false;
    while (len) {
        struct mem_slot *s = mem_slot_find(m, gpa);
        u64 n;

        if (!s || (write && (s->flags & MEM_READONLY)))
            return false;
        n = slot_room(s, gpa, len);
        gpa += n;
        len -= n;
    }
    return true;
}

void *mem_span(struct mem *m, gpa_t gpa, u64 len, bool write)
{
    struct mem_slot *s = mem_slot_find(m, gpa);

    if (!s || slot_room(s, gpa, len) < len || (write && (s->flags & MEM_READONLY)))
        return NULL;
    /* A long span may be a guest's claim only; do not make all of it present on its word. */
    if (len && len <= SPAN_POPULATE_MAX)
        populate_range(s, gpa, len);
    return mem_slot_hva(s, gpa);
}

void mem_written(struct mem *m, gpa_t gpa, u64 len)
{
    while (len) {
        struct mem_slot *s = mem_slot_find(m, gpa);
        u64 n;

        if (!s)
            return;
        n = slot_room(s, gpa, len);
        slot_written(s, gpa, n);
        gpa += n;
        len -= n;
    }
}

int mem_read(struct mem *m, gpa_t gpa, void *buf, u64 len)
{
    u8 *to = buf;

    if (!range_ok(m, gpa, len, false))
        return -EFAULT;
    while (len) {
        struct mem_slot *s = mem_slot_find(m, gpa);
        u64 n = slot_room(s, gpa, len);

        populate_range(s, gpa, n);
        memcpy(to, mem_slot_hva(s, gpa), n);
        to += n;
        gpa += n;
        len -= n;
    }
    return 0;
}

int mem_write(struct mem *m, gpa_t gpa, const void *buf, u64 len)
{
    const u8 *from = buf;

    if (!range_ok(m, gpa, len, true))
        return -EFAULT;
    while (len) {
        struct mem_slot *s = mem_slot_find(m, gpa);
        u64 n = slot_room(s, gpa, len);

        populate_range(s, gpa, n);
        memcpy(mem_slot_hva(s, gpa), from, n);
        slot_written(s, gpa, n);
        from += n;
        gpa += n;
        len -= n;
    }
    return 0;
}

bool mem_code_doubtful(const struct mem *m, u32 *seen)
{
    bool unowned = false;
    u32 hits = 0;

    for (unsigned i = 0; i < m->count; i++) {
        struct mem_marks *k = m->slots[i]->marks;

        hits += atomic_load_explicit(&k->hits, memory_order_acquire);
        unowned |= k->owners == 0;
    }
    if (!unowned && hits == *seen)
        return false;
    *seen = hits;
    return true;
}
