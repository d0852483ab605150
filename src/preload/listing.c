// SPDX-License-Identifier: MIT
// Directories that show what is ours, and stdio's way to files: opendir and its kin, fopen.

/*
 * A listing is the host's directory, if there is one, without the names that we decide on, and then our names. Its
 * DIR is not libc's: the calls below tell the two apart by looking it up among the open listings.
 */

/* The headers would give readdir() and fopen() the names of their 64-bit forms, which are defined here too. */
#undef _FILE_OFFSET_BITS

#include "base/types.h"
#include "preload/libc.h"
#include "preload/preload.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define NAMES_MAX 32

struct listing {
    struct listing *next;
    DIR *host; /* NULL: the directory is all ours */
    bool hide; /* names of KVM's that the host's directory may have */
    bool host_done;
    unsigned at, count;
    struct {
        const char *name;
        unsigned char type;
    } names[NAMES_MAX];
    struct dirent entry;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct listing *open_listings; /* protected by (lock) */

static struct listing *listing_of(DIR *d)
{
    struct listing *l;

    if (!atomic_load_explicit((_Atomic(struct listing *) *)&open_listings, memory_order_relaxed))
        return NULL;
    pthread_mutex_lock(&lock);
    l = open_listings;
    while (l && (DIR *)l != d)
        l = l->next;
    pthread_mutex_unlock(&lock);
    return l;
}

static void add(struct listing *l, const char *name, unsigned char type)
{
    if (l->count == NAMES_MAX)
        return;
    l->names[l->count].name = name;
    l->names[l->count++].type = type;
}

/* Our part of directory (path): false when it has none. */
static bool fill(struct listing *l, const char *path)
{
    static const char parameters[] = "/sys/module/kvm/parameters";
    const struct preload_file *f;
    size_t n = strlen(path), count;

    while (n > 1 && path[n - 1] == '/')
        n--;
    l->hide = true;
    if (n == 4 && !strncmp(path, "/dev", n)) {
        add(l, "kvm", DT_CHR);
        return true;
    }
    if (n == 11 && !strncmp(path, "/sys/module", n)) {
        add(l, "kvm", DT_DIR);
        return true;
    }
    l->host_done = true;
    add(l, ".", DT_DIR);
    add(l, "..", DT_DIR);
    if (n == 15 && !strncmp(path, parameters, n)) {
        add(l, "parameters", DT_DIR);
        return true;
    }
    if (n != sizeof(parameters) - 1 || strncmp(path, parameters, n))
        return false;
    f = preload_sysfs_files(&count);
    for (size_t i = 0; i < count; i++) {
        if (!strncmp(f[i].path, parameters, n))
            add(l, f[i].path + n + 1, DT_REG);
    }
    return true;
}

PRELOAD_EXPORT DIR *opendir(const char *path)
{
    struct listing *l;

    if (preload_inside || !preload_has_kvm() || *path != '/')
        return LIBC(opendir)(path);
    if (preload_kind(AT_FDCWD, path) == PRELOAD_ABSENT) {
        errno = ENOENT;
        return NULL;
    }
    l = calloc(1, sizeof(*l));
    if (!l || !fill(l, path)) {
        free(l);
        return LIBC(opendir)(path);
    }
    if (!l->host_done) {
        l->host = LIBC(opendir)(path);
        l->host_done = !l->host;
    }
    pthread_mutex_lock(&lock);
    l->next = open_listings;
    open_listings = l;
    pthread_mutex_unlock(&lock);
    return (DIR *)l;
}

/* The names of /dev and /sys/module that are ours to show or not. */
static bool hidden(const struct listing *l, const char *name)
{
    return l->hide &&
           (!strcmp(name, "kvm") || !strcmp(name, "kvm_amd") || !strcmp(name, "kvm_intel"));
}

static struct dirent *next(struct listing *l)
{
    struct dirent *e;

    while (!l->host_done) {
        e = LIBC(readdir)(l->host);
        if (e && !hidden(l, e->d_name))
            return e;
        l->host_done = !e;
    }
    if (l->at == l->count)
        return NULL;
    e = &l->entry;
    e->d_ino = 0x6b766d10u + l->at;
    e->d_off = (off_t)l->at + 1;
    e->d_reclen = sizeof(*e);
    e->d_type = l->names[l->at].type;
    strncpy(e->d_name, l->names[l->at++].name, sizeof(e->d_name) - 1);
    return e;
}

PRELOAD_EXPORT struct dirent *readdir(DIR *d)
{
    struct listing *l = listing_of(d);

    return l ? next(l) : LIBC(readdir)(d);
}

/* The same struct on 64-bit machines. */
PRELOAD_EXPORT struct dirent64 *readdir64(DIR *d)
{
    return (struct dirent64 *)readdir(d);
}

PRELOAD_EXPORT int closedir(DIR *d)
{
    struct listing *l = listing_of(d), **p = &open_listings;
    int rc = 0;

    if (!l)
        return LIBC(closedir)(d);
    pthread_mutex_lock(&lock);
    while (*p != l)
        p = &(*p)->next;
    *p = l->next;
    pthread_mutex_unlock(&lock);
    if (l->host)
        rc = LIBC(closedir)(l->host);
    free(l);
    return rc;
}

PRELOAD_EXPORT void rewinddir(DIR *d)
{
    struct listing *l = listing_of(d);

    if (!l) {
        LIBC(rewinddir)(d);
        return;
    }
    l->at = 0;
    l->host_done = !l->host;
    if (l->host)
        LIBC(rewinddir)(l->host);
}

/* A place in a listing: past the host's names it is below zero. */
PRELOAD_EXPORT long telldir(DIR *d)
{
    struct listing *l = listing_of(d);

    if (!l)
        return LIBC(telldir)(d);
    return l->host_done ? -(long)l->at - 1 : LIBC(telldir)(l->host);
}

PRELOAD_EXPORT void seekdir(DIR *d, long where)
{
    struct listing *l = listing_of(d);

    if (!l) {
        LIBC(seekdir)(d, where);
        return;
    }
    l->host_done = where < 0;
    l->at = where < 0 ? (unsigned)(-(where + 1)) : 0;
    if (where >= 0 && l->host)
        LIBC(seekdir)(l->host, where);
}

PRELOAD_EXPORT int dirfd(DIR *d)
{
    struct listing *l = listing_of(d);

    if (!l)
        return LIBC(dirfd)(d);
    if (l->host)
        return LIBC(dirfd)(l->host);
    errno = ENOTSUP;
    return -1;
}

/* --- stdio opens files without open() --- */

static FILE *open_stream(const char *path, const char *mode)
{
    bool update = strchr(mode, '+');
    int flags = update ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    FILE *f;
    int fd;

    fd = preload_open(AT_FDCWD, path, flags | (strchr(mode, 'e') ? O_CLOEXEC : 0), 0);
    f = fd < 0 ? NULL : fdopen(fd, mode);
    if (fd >= 0 && !f)
        close(fd);
    return f;
}

static bool stream_is_ours(const char *path)
{
    enum preload_kind kind = preload_kind(AT_FDCWD, path);

    return kind == PRELOAD_FILE || kind == PRELOAD_DEVICE || kind == PRELOAD_ABSENT ||
           preload_vsock_is_device(path);
}

PRELOAD_EXPORT FILE *fopen(const char *restrict path, const char *restrict mode)
{
    return stream_is_ours(path) ? open_stream(path, mode) : LIBC(fopen)(path, mode);
}

PRELOAD_EXPORT FILE *fopen64(const char *restrict path, const char *restrict mode)
{
    return stream_is_ours(path) ? open_stream(path, mode) : LIBC(fopen64)(path, mode);
}
