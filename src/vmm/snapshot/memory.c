// SPDX-License-Identifier: MIT
// Guest memory in a snapshot: runs of pages that are not all zero, compressed.

/*
 * A run is at most RUN_PAGES consecutive pages, each with a byte that is not zero. Runs are gathered into sections of
 * about SECTION_BYTES, so that a file is written and checked piece by piece. Pages that the kernel has never given us
 * are not read at all: reading would make them present.
 */
#include "vmm/snapshot/parts.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#define RUN_PAGES     256u
#define SECTION_BYTES (4u << 20)
#define LEVEL         1 /* of zstd: memory goes at some 500 MB/s */

struct run_header {
    u64 gpa;
    u32 pages;
    u32 stored; /* bytes that follow; compressed if they are less than the pages */
};
_Static_assert(sizeof(struct run_header) == 16, "layout of the file");

struct saver {
    struct snapshot_writer *w;
    struct blob out; /* the section under way */
    u32 instance;
    ZSTD_CCtx *zstd; /* NULL: as they are */
    u8 *packed;
    size_t packed_room;
    int pagemap; /* -1: read every page */
};

/* --- which pages --- */

static bool is_zero(const u8 *page)
{
    for (size_t i = 0; i < PAGE_SIZE; i += 64) {
        u64 v[8], any = 0;

        memcpy(v, page + i, sizeof(v));
        for (int k = 0; k < 8; k++)
            any |= v[k];
        if (any)
            return false;
    }
    return true;
}

#define PAGEMAP_PRESENT                                                                            \
    (3ull << 62) /* in memory, or swapped out (Linux' admin-guide/mm/pagemap.rst) */

/* Which of (n) pages from (hva) on may be anything but zero. */
static void look_at(const struct saver *s, const u8 *hva, u32 n, bool want[RUN_PAGES])
{
    u64 map[RUN_PAGES];
    off_t at = (off_t)((uintptr_t)hva / PAGE_SIZE * sizeof(map[0]));
    bool known = s->pagemap >= 0 &&
                 pread(s->pagemap, map, n * sizeof(map[0]), at) == (ssize_t)(n * sizeof(map[0]));

    for (u32 i = 0; i < n; i++)
        want[i] = !(known && !(map[i] & PAGEMAP_PRESENT)) && !is_zero(hva + i * PAGE_SIZE);
}

/* --- saving --- */

static int flush(struct saver *s, struct vmm_error *err)
{
    int rc = 0;

    if (s->out.size)
        rc = snapshot_write(s->w, SNAPSHOT_MEMORY, s->instance++, s->out.data, s->out.size, err);
    s->out.size = 0;
    return rc;
}

static int save_run(struct saver *s, gpa_t gpa, const u8 *hva, u32 pages, struct vmm_error *err)
{
    struct run_header h = {.gpa = gpa, .pages = pages, .stored = pages * (u32)PAGE_SIZE};
    const void *bytes = hva;

    if (s->zstd) {
        size_t n = ZSTD_compressCCtx(s->zstd, s->packed, s->packed_room, hva, h.stored, LEVEL);

        if (!ZSTD_isError(n) && n < h.stored) {
            h.stored = (u32)n;
            bytes = s->packed;
        }
    }
    if (blob_append(&s->out, &h, sizeof(h)) || blob_append(&s->out, bytes, h.stored))
        return vmm_fail(err, -ENOMEM, "out of memory");
    return s->out.size >= SECTION_BYTES ? flush(s, err) : 0;
}

static int save_range(struct saver *s, gpa_t gpa, const u8 *hva, u64 size, struct vmm_error *err)
{
    bool want[RUN_PAGES];
    int rc = 0;

    for (u64 at = 0; at < size && rc == 0; at += RUN_PAGES * PAGE_SIZE) {
        u64 left = (size - at) / PAGE_SIZE;
        u32 n = left < RUN_PAGES ? (u32)left : RUN_PAGES, first;

        look_at(s, hva + at, n, want);
        for (u32 i = 0; i < n && rc == 0; i++) {
            for (first = i; i < n && want[i]; i++)
                ;
            if (i > first)
                rc = save_run(s, gpa + at + first * PAGE_SIZE, hva + at + first * PAGE_SIZE,
                              i - first, err);
        }
    }
    return rc;
}

int memory_save(struct vm *vm, bool compress, struct snapshot_writer *w, struct vmm_error *err)
{
    struct saver s = {.w = w, .packed_room = ZSTD_compressBound(RUN_PAGES * PAGE_SIZE)};
    int rc = 0;

    s.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (compress) {
        s.zstd = ZSTD_createCCtx();
        s.packed = malloc(s.packed_room);
        if (!s.zstd || !s.packed)
            rc = vmm_fail(err, -ENOMEM, "out of memory");
    }
    for (unsigned i = 0; rc == 0; i++) {
        const struct mem_slot *slot = mem_slot_at(vm->mem, i);

        if (!slot)
            break;
        rc = save_range(&s, slot->gpa, slot->hva, slot->size, err);
    }
    if (rc == 0)
        rc = flush(&s, err);
    if (s.pagemap >= 0)
        close(s.pagemap);
    ZSTD_freeCCtx(s.zstd);
    free(s.packed);
    blob_free(&s.out);
    return rc;
}

/* --- loading --- */

/* One run at the front of (data): its length there, or 0 when it is no good. */
static size_t load_run(struct mem *mem, const u8 *data, size_t left, ZSTD_DCtx *zstd, gpa_t *next)
{
    struct run_header h;
    size_t len, n;
    u8 *to;

    if (left < sizeof(h))
        return 0;
    memcpy(&h, data, sizeof(h));
    len = (size_t)h.pages * PAGE_SIZE;
    if (!h.pages || h.pages > RUN_PAGES || h.stored > left - sizeof(h) || h.stored > len ||
        h.gpa < *next || !IS_ALIGNED(h.gpa, PAGE_SIZE))
        return 0;
    to = mem_span(mem, h.gpa, len, true);
    if (!to)
        return 0;
    if (h.stored == len) {
        memcpy(to, data + sizeof(h), len);
    } else {
        n = ZSTD_decompressDCtx(zstd, to, len, data + sizeof(h), h.stored);
        if (ZSTD_isError(n) || n != len)
            return 0;
    }
    *next = h.gpa + len;
    return sizeof(h) + h.stored;
}

int memory_load(struct vm *vm, const struct snapshot_file *f, struct vmm_error *err)
{
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    gpa_t next = 0;
    int rc = zstd ? 0 : vmm_fail(err, -ENOMEM, "out of memory");

    for (unsigned i = 0; i < f->nr_sections && rc == 0; i++) {
        const struct snapshot_section *s = &f->sections[i];
        u64 at = 0;
        size_t n;

        while (s->type == SNAPSHOT_MEMORY && at < s->length) {
            n = load_run(vm->mem, s->data + at, s->length - at, zstd, &next);
            if (!n) {
                rc = vmm_fail(err, -EBADMSG,
                              "section memory %u: the run of pages at byte %llu is "
                              "not possible",
                              s->instance, (unsigned long long)at);
                break;
            }
            at += n;
        }
    }
    ZSTD_freeDCtx(zstd);
    return rc;
}
