// SPDX-License-Identifier: MIT
// Memory for generated code: written through one mapping, executed through another.

/*
 * Theory of operation
 *
 * A chunk is a piece of a memfd mapped twice, read-write and read-execute: no page is ever both
 * writable and executable, and adding code costs no system call. Code is only ever appended,
 * and callers get an address after its bytes are in place, so that no thread executes bytes
 * that are being written and none needs a barrier. Chunks live as long as the process.
 *
 * After a fork both processes still share the chunks' pages. Code in them stays valid, because
 * it never changes; the child must not append to the parent's chunk, so it starts its own.
 *
 * Slots are the exception to "never changes": they belong to one thread. It writes through one
 * linear address and executes through another, which SDM 3A 8.1.3 wants a serializing
 * instruction between.
 */

#include "cpu/vec/codebuf.h"

#include <cpuid.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_ALIGN 16u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Protected by (lock). */
static u8 *chunk_rw;
static const u8 *chunk_rx;
static size_t chunk_used, total, limit = CODEBUF_MAX;
static pid_t chunk_owner;

/* Map a fresh chunk. 0 or -1. */
static int chunk_grow(void)
{
    void *rw = MAP_FAILED, *rx = MAP_FAILED;
    int fd;

    fd = memfd_create("uvirt-code", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fallocate(fd, 0, 0, CODEBUF_CHUNK) == 0 || ftruncate(fd, CODEBUF_CHUNK) == 0) {
        rw = mmap(NULL, CODEBUF_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
        rx = mmap(NULL, CODEBUF_CHUNK, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_POPULATE, fd, 0);
    }
    close(fd);
    if (rw == MAP_FAILED || rx == MAP_FAILED) {
        if (rw != MAP_FAILED)
            munmap(rw, CODEBUF_CHUNK);
        if (rx != MAP_FAILED)
            munmap(rx, CODEBUF_CHUNK);
        return -1;
    }
    chunk_rw = rw;
    chunk_rx = rx;
    chunk_used = 0;
    chunk_owner = getpid();
    return 0;
}

/* Take (len) bytes. The caller holds (lock). NULL: no memory. */
static const void *take(size_t len, void **ret_rw)
{
    const void *rx;

    if (!chunk_rw || chunk_owner != getpid() || chunk_used + len > CODEBUF_CHUNK) {
        if (chunk_grow())
            return NULL;
    }
    *ret_rw = chunk_rw + chunk_used;
    rx = chunk_rx + chunk_used;
    chunk_used += len;
    total += len;
    return rx;
}

const void *codebuf_slot(size_t len, void **ret_rw)
{
    const void *rx;

    len = ALIGN_UP(len, (size_t)CODE_ALIGN);
    if (len > CODEBUF_CHUNK)
        return NULL;
    pthread_mutex_lock(&lock);
    rx = take(len, ret_rw);
    pthread_mutex_unlock(&lock);
    return rx;
}

const void *codebuf_add(const void *code, size_t len)
{
    size_t room = ALIGN_UP(len, (size_t)CODE_ALIGN);
    const void *rx = NULL;
    void *rw;

    if (room > CODEBUF_CHUNK)
        return NULL;
    pthread_mutex_lock(&lock);
    if (total + room <= limit)
        rx = take(room, &rw);
    pthread_mutex_unlock(&lock);
    if (rx)
        memcpy(rw, code, len);
    return rx;
}

void codebuf_limit(size_t bytes)
{
    pthread_mutex_lock(&lock);
    limit = bytes;
    pthread_mutex_unlock(&lock);
}

void codebuf_sync(void)
{
    unsigned a, b, c, d;

    __cpuid(0, a, b, c, d);
}
