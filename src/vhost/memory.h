// SPDX-License-Identifier: MIT
// A front end's memory: regions of its files, mapped here and put into a struct mem.
#pragma once

#include "mem/mem.h"
#include "vhost/user.h"

struct vhost_region {
    struct vhost_user_region wire; /* size 0: free */
    u8 *map;                       /* NULL: the hva is the caller's (vhost_memory_add_own) */
    u64 map_size;
};

struct vhost_regions {
    struct mem *mem;
    struct vhost_region regions[VHOST_USER_SLOTS_MAX]; /* index = slot id */
};

int vhost_memory_init(struct vhost_regions *m);
void vhost_memory_fini(struct vhost_regions *m);

/*
 * Map a region of (fd), which stays the caller's. 0, -EINVAL (empty, misaligned, wraps, or
 * the file is shorter), -EEXIST (overlaps another), -ENOSPC (too many), -errno of mmap. As for
 * mem_slot_set(), nobody may be using the memory.
 */
int vhost_memory_add(struct vhost_regions *m, const struct vhost_user_region *r, int fd);

/* A region that is this process's own memory at r->address. Errors as above. */
int vhost_memory_add_own(struct vhost_regions *m, const struct vhost_user_region *r);

/* Remove the region with these addresses and size: 0 or -ENOENT; or all. */
int vhost_memory_remove(struct vhost_regions *m, const struct vhost_user_region *r);
void vhost_memory_clear(struct vhost_regions *m);

/* The guest's address of what the front end has at (address). 0 or -EFAULT. */
int vhost_memory_gpa(const struct vhost_regions *m, u64 address, gpa_t *ret);

/*
 * For a handler of SIGBUS: a file may have been cut short after it was mapped. If (at) is in
 * such a mapping, put a page of zeros there and return true. Async-signal-safe.
 */
bool vhost_memory_mend(const void *at);
