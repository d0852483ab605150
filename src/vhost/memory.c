// SPDX-License-Identifier: MIT
// Regions of a front end's files: checked, mapped, found by address.
#include "vhost/memory.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAPPINGS 256

/* What is mapped by whom does not matter to a signal handler: all of the process's regions. */
static struct {
    _Atomic(u8 *) at;
    _Atomic u64 size;
} mappings[MAPPINGS];

/* Room for one more; a mapping that finds none is not mended, no worse. */
static void note_mapping(u8 *at, u64 size)
{
    for (unsigned i = 0; i < MAPPINGS; i++) {
        u8 *none = NULL;

        if (atomic_compare_exchange_strong(&mappings[i].at, &none, at)) {
            mappings[i].size = size;
            return;
        }
    }
}

static void forget_mapping(const u8 *at)
{
    for (unsigned i = 0; i < MAPPINGS; i++) {
        if (mappings[i].at == at) {
            mappings[i].size = 0;
            mappings[i].at = NULL;
            return;
        }
    }
}

bool vhost_memory_mend(const void *at)
{
    for (unsigned i = 0; i < MAPPINGS; i++) {
        u8 *from = mappings[i].at;
        u64 off = (uintptr_t)at - (uintptr_t)from;

        if (from && off < mappings[i].size)
            return mmap(from + (off & PAGE_MASK), PAGE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    }
    return false;
}

int vhost_memory_init(struct vhost_regions *m)
{
    memset(m, 0, sizeof(*m));
    return mem_create(&m->mem);
}

void vhost_memory_fini(struct vhost_regions *m)
{
    vhost_memory_clear(m);
    mem_free(m->mem);
}

static int check(const struct vhost_user_region *r)
{
    u64 end;

    if (!r->size || !IS_ALIGNED(r->gpa | r->size | r->offset, PAGE_SIZE) ||
        __builtin_add_overflow(r->gpa, r->size, &end) ||
        __builtin_add_overflow(r->address, r->size, &end) ||
        __builtin_add_overflow(r->offset, r->size, &end) || end > INT64_MAX)
        return -EINVAL;
    return 0;
}

static struct vhost_region *find_free(struct vhost_regions *m)
{
    for (unsigned i = 0; i < VHOST_USER_SLOTS_MAX; i++) {
        if (!m->regions[i].wire.size)
            return &m->regions[i];
    }
    return NULL;
}

static int insert(struct vhost_regions *m, struct vhost_region *at,
                  const struct vhost_user_region *r, u8 *hva)
{
    int rc = mem_slot_set(m->mem, at - m->regions, r->gpa, r->size, hva, 0);

    if (!rc)
        at->wire = *r;
    return rc;
}

int vhost_memory_add(struct vhost_regions *m, const struct vhost_user_region *r, int fd)
{
    struct vhost_region *at = find_free(m);
    struct stat st;
    u64 size;
    u8 *map;
    int rc = check(r);

    if (rc)
        return rc;
    if (!at)
        return -ENOSPC;
    if (fstat(fd, &st))
        return -errno;
    size = r->offset + r->size;
    if (!S_ISREG(st.st_mode) || (u64)st.st_size < size)
        return -EINVAL;
    map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
               (off_t)r->offset);
    if (map == MAP_FAILED)
        return -errno;
    rc = insert(m, at, r, map);
    if (rc) {
        munmap(map, r->size);
        return rc;
    }
    at->map = map;
    at->map_size = r->size;
    note_mapping(map, r->size);
    return 0;
}

int vhost_memory_add_own(struct vhost_regions *m, const struct vhost_user_region *r)
{
    struct vhost_region *at = find_free(m);
    int rc = check(r);

    if (rc || !IS_ALIGNED(r->address, PAGE_SIZE))
        return -EINVAL;
    return at ? insert(m, at, r, (u8 *)(uintptr_t)r->address) : -ENOSPC;
}

static void drop(struct vhost_regions *m, struct vhost_region *at)
{
    mem_slot_set(m->mem, at - m->regions, at->wire.gpa, 0, NULL, 0);
    if (at->map) {
        forget_mapping(at->map);
        munmap(at->map, at->map_size);
    }
    memset(at, 0, sizeof(*at));
}

int vhost_memory_remove(struct vhost_regions *m, const struct vhost_user_region *r)
{
    for (unsigned i = 0; i < VHOST_USER_SLOTS_MAX; i++) {
        const struct vhost_user_region *w = &m->regions[i].wire;

        if (w->size && w->gpa == r->gpa && w->size == r->size && w->address == r->address) {
            drop(m, &m->regions[i]);
            return 0;
        }
    }
    return -ENOENT;
}

void vhost_memory_clear(struct vhost_regions *m)
{
    for (unsigned i = 0; i < VHOST_USER_SLOTS_MAX; i++) {
        if (m->regions[i].wire.size)
            drop(m, &m->regions[i]);
    }
}

int vhost_memory_gpa(const struct vhost_regions *m, u64 address, gpa_t *ret)
{
    for (unsigned i = 0; i < VHOST_USER_SLOTS_MAX; i++) {
        const struct vhost_user_region *w = &m->regions[i].wire;

        if (address - w->address < w->size) {
            *ret = w->gpa + (address - w->address);
            return 0;
        }
    }
    return -EFAULT;
}
