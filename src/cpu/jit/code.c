// SPDX-License-Identifier: MIT
// Memory of a vCPU's translated code: one region mapped twice, never writable where it is executable.

#include "cpu/jit/code.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* What one translation can take at most, with a wide margin: BLOCK_INSNS times some 200 bytes in either half. */
#define ROOM (BLOCK_INSNS * 512u)

#define CHUNK (256u << 10) /* made present at once: far cheaper than page by page */

/* How code at (rx) can address the vCPU at (cpu), both of them some way from the ends of what 32 bits reach. */
static void note_distance(struct asm_buf *a, uintptr_t cpu, uintptr_t rx)
{
    s64 distance = (s64)(cpu - rx), reach = (s64)INT32_MAX - (1 << 28);

    a->near = distance > -reach && distance < reach;
    a->cpu = a->near ? (s32)distance : 0;
    a->low = cpu < (uintptr_t)reach ? (u32)cpu : 0;
}

int jit_code_create(struct cpu *c, struct jit *j)
{
    void *rw = MAP_FAILED, *rx = MAP_FAILED, *meta;
    int fd = memfd_create("uvirt-jit", MFD_CLOEXEC);

    if (fd < 0)
        return -ENOMEM;
    if (!ftruncate(fd, JIT_CODE_SIZE)) {
        rw = mmap(NULL, JIT_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        rx = mmap(NULL, JIT_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, fd, 0);
        if (rx == MAP_FAILED) /* there is but a gigabyte of that */
            rx = mmap(NULL, JIT_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    close(fd);
    meta = mmap(NULL, JIT_META_SIZE, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    j->hot.rw = rw == MAP_FAILED ? NULL : rw;
    j->rx = rx == MAP_FAILED ? NULL : rx;
    j->meta = meta == MAP_FAILED ? NULL : meta;
    if (!j->hot.rw || !j->rx || !j->meta) {
        jit_code_free(j);
        return -ENOMEM;
    }
    j->cold_present = JIT_CODE_SIZE / 2;
    note_distance(&j->hot, (uintptr_t)c, (uintptr_t)j->rx);
    j->cold = j->hot;
    j->cold.at = JIT_CODE_SIZE / 2;
    return 0;
}

void jit_code_free(struct jit *j)
{
    if (j->hot.rw)
        munmap(j->hot.rw, JIT_CODE_SIZE);
    if (j->rx)
        munmap((void *)j->rx, JIT_CODE_SIZE);
    if (j->meta)
        munmap(j->meta, JIT_META_SIZE);
}

/* Make code memory up to (at) and some more present, from (*present) on. */
static void populate(struct jit *j, u32 at, u32 *present)
{
    if (at + ROOM <= *present)
        return;
    madvise(j->hot.rw + *present, CHUNK, MADV_POPULATE_WRITE);
    madvise((void *)(j->rx + *present), CHUNK, MADV_POPULATE_READ);
    *present += CHUNK;
}

bool jit_has_room(struct jit *j)
{
    if (j->hot.at + ROOM > JIT_CODE_SIZE / 2 || j->cold.at + ROOM > JIT_CODE_SIZE ||
        j->meta_used + ROOM > JIT_META_SIZE)
        return false;
    populate(j, j->hot.at, &j->hot_present);
    populate(j, j->cold.at, &j->cold_present);
    return true;
}

void *jit_meta_take(struct jit *j, size_t size)
{
    void *p = j->meta + j->meta_used;

    size = ALIGN_UP(size, (size_t)16);
    if (j->meta_used + size > JIT_META_SIZE)
        return NULL;
    j->meta_used += size;
    return p;
}

void jit_meta_trim(struct jit *j, const void *end)
{
    j->meta_used = ALIGN_UP((size_t)((const u8 *)end - j->meta), (size_t)16);
}
