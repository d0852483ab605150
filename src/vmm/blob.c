// SPDX-License-Identifier: MIT
// Bytes in memory: mapped files and growing anonymous mappings.
#include "vmm/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_FROM (4ul << 20) /* below this, huge pages cost more memory than they save faults */

static int map_fd(int fd, struct blob *ret)
{
    struct stat st;
    void *p;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (st.st_size == 0) {
        *ret = (struct blob){0};
        return 0;
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    *ret = (struct blob){.data = p, .size = (size_t)st.st_size, .mapped = (size_t)st.st_size};
    return 0;
}

int blob_map(const char *path, struct blob *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    int rc;

    if (fd < 0)
        return -errno;
    rc = map_fd(fd, ret);
    close(fd);
    return rc;
}

int blob_alloc(size_t size, struct blob *ret)
{
    size_t mapped = ALIGN_UP(size, PAGE_SIZE);
    void *p;

    if (mapped < size || !size)
        return -ENOMEM;
    p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    if (mapped >= HUGE_FROM)
        madvise(p, mapped, MADV_HUGEPAGE);
    *ret = (struct blob){.data = p, .size = size, .mapped = mapped};
    return 0;
}

void blob_shrink(struct blob *b, size_t size)
{
    size_t keep = ALIGN_UP(size, PAGE_SIZE);

    if (size >= b->size)
        return;
    if (!keep) {
        blob_free(b);
        return;
    }
    if (keep < b->mapped) {
        munmap(b->data + keep, b->mapped - keep);
        b->mapped = keep;
    }
    b->size = size;
}

int blob_reserve(struct blob *b, size_t size)
{
    size_t want = b->mapped;
    struct blob bigger;
    void *p;
    int rc;

    if (size <= b->mapped)
        return 0;
    if (!b->mapped) {
        rc = blob_alloc(size < 65536 ? 65536 : size, &bigger);
        if (rc)
            return rc;
        bigger.size = 0;
        *b = bigger;
        return 0;
    }
    while (want < size) {
        if (want > SIZE_MAX / 2)
            return -ENOMEM;
        want *= 2;
    }
    p = mremap(b->data, b->mapped, want, MREMAP_MAYMOVE);
    if (p == MAP_FAILED)
        return -ENOMEM;
    b->data = p;
    b->mapped = want;
    return 0;
}

int blob_append(struct blob *b, const void *data, size_t len)
{
    int rc;

    if (len > SIZE_MAX / 4 - b->size)
        return -ENOMEM;
    rc = blob_reserve(b, b->size + len);
    if (rc)
        return rc;
    if (data)
        memcpy(b->data + b->size, data, len);
    else
        memset(b->data + b->size, 0, len);
    b->size += len;
    return 0;
}

void blob_free(struct blob *b)
{
    if (b->mapped)
        munmap(b->data, b->mapped);
    *b = (struct blob){0};
}
