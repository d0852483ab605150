// SPDX-License-Identifier: MIT
// Binary statistics: the file behind KVM_GET_STATS_FD.

/*
 * The file is a memfd that holds the documented layout: header, ID, descriptors, values. It is written through a
 * mapping of ours, sealed against everybody else. A vCPU's values are stored whenever KVM_RUN ends.
 */

#include "kvm/kvm.h"

#include "cpu/amx/amx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME_SIZE 48

/* struct kvm_stats_desc with its name. */
struct desc {
    struct kvm_stats_desc d;
    char name[NAME_SIZE];
};

struct layout {
    struct kvm_stats_header head;
    char id[NAME_SIZE];
    struct desc desc[];
};

struct kvm_stats_fd {
    int fd;
    void *map;
    u64 *data;
};

/*
 * struct kvm_vcpu_stats, in order, and then what the CPU counts. A name in *_bytes is a number of bytes as it is
 * now: of the state of a vCPU with its registers, and of the tiles in it, which are there from their first use on.
 */
static const char *const vcpu_names[] = {
    "exits",        "io_exits",         "mmio_exits",
    "signal_exits", "irq_window_exits", "halt_exits",
    "halt_wakeup",  "insn_emulation",   "blocks_built",
    "blocks_run",   "tlb_miss",         "tlb_refill",
    "page_walks",   "tlb_lookup",       "tlb_lookup_miss",
    "tlb_flush",    "tlb_flush_page",   "smc",
    "exceptions",   "irq_injections",   "blocks_translated",
    "translate_ns", "code_runs",        "code_blocks",
    "code_links",   "code_killed",      "code_flushed",
    "left_link",    "left_jump",        "left_request",
    "left_fault",   "left_bus",         "left_repeat",
    "left_stop",    "state_bytes",      "tile_bytes",
};
static const char *const vm_names[] = {"vcpus"};

#define STATS_OF_LAYER (sizeof(struct kvm_vcpu_stats) / sizeof(u64))

static void fill(struct layout *l, const char *id, const char *const *names, u32 n)
{
    l->head.name_size = NAME_SIZE;
    l->head.num_desc = n;
    l->head.id_offset = offsetof(struct layout, id);
    l->head.desc_offset = offsetof(struct layout, desc);
    l->head.data_offset = (u32)(sizeof(*l) + n * sizeof(struct desc));
    snprintf(l->id, sizeof(l->id), "%s", id);
    for (u32 i = 0; i < n; i++) {
        size_t len = strlen(names[i]);
        bool bytes = len > 6 && !strcmp(names[i] + len - 6, "_bytes");

        l->desc[i].d.flags = bytes ? KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BYTES | KVM_STATS_BASE_POW2
                                   : KVM_STATS_TYPE_CUMULATIVE | KVM_STATS_UNIT_NONE | KVM_STATS_BASE_POW10;
        l->desc[i].d.size = 1;
        l->desc[i].d.offset = i * (u32)sizeof(u64);
        snprintf(l->desc[i].name, NAME_SIZE, "%s", names[i]);
    }
}

static int stats_create(struct kvm_stats_fd **ret, const char *id, const char *const *names, u32 n)
{
    size_t size = sizeof(struct layout) + n * (sizeof(struct desc) + sizeof(u64));
    struct kvm_stats_fd *s = calloc(1, sizeof(*s));
    int rc;

    if (!s)
        return -ENOMEM;
    rc = s->fd = memfd_create("kvm-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (rc < 0 || ftruncate(s->fd, (off_t)size))
        goto fail;
    s->map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
    if (s->map == MAP_FAILED)
        goto fail;
    if (fcntl(s->fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)) {
        munmap(s->map, size);
        goto fail;
    }
    fill(s->map, id, names, n);
    s->data = (u64 *)((u8 *)s->map + size - n * sizeof(u64));
    *ret = s;
    return 0;

fail:
    rc = -errno;
    if (s->fd >= 0)
        close(s->fd);
    free(s);
    return rc;
}

/* A descriptor with a file position of its own. */
static int reopen(const struct kvm_stats_fd *s)
{
    char path[32];
    int fd;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

void kvm_stats_vcpu_update(struct kvm_vcpu *v)
{
    const struct cpu *c = v->cpu;
    u64 tiles = c->amx.tile ? AMX_TILES * sizeof(*c->amx.tile) : 0, *d;

    if (!v->stats_fd)
        return;
    d = v->stats_fd->data;
    memcpy(d, &v->stats, sizeof(v->stats));
    d += STATS_OF_LAYER;
    *d++ = c->insn_count;
    *d++ = c->stats.blocks_built;
    *d++ = c->stats.blocks_run;
    *d++ = c->stats.tlb_miss;
    *d++ = c->stats.tlb_refill;
    *d++ = c->stats.page_walks;
    *d++ = c->stats.tlb_lookup;
    *d++ = c->stats.tlb_lookup_miss;
    *d++ = c->stats.tlb_flush;
    *d++ = c->stats.tlb_flush_page;
    *d++ = c->stats.smc;
    *d++ = c->stats.exceptions;
    *d++ = c->stats.interrupts;
    *d++ = c->stats.translated;
    *d++ = c->stats.translate_ns;
    *d++ = c->stats.code_runs;
    *d++ = c->stats.code_blocks;
    *d++ = c->stats.code_links;
    *d++ = c->stats.code_killed;
    *d++ = c->stats.code_flushed;
    memcpy(d, c->stats.left, sizeof(c->stats.left));
    d += JIT_LEFT_COUNT;
    *d++ = sizeof(*c) + tiles;
    *d++ = tiles;
}

int kvm_stats_vcpu_fd(struct kvm_vcpu *v)
{
    char id[NAME_SIZE];
    int rc = 0;

    snprintf(id, sizeof(id), "kvm-%d/vcpu-%u", (int)getpid(), v->id);
    if (!v->stats_fd)
        rc = stats_create(&v->stats_fd, id, vcpu_names, ARRAY_SIZE(vcpu_names));
    if (rc)
        return rc;
    kvm_stats_vcpu_update(v);
    return reopen(v->stats_fd);
}

int kvm_stats_vm_fd(struct kvm_vm *vm)
{
    char id[NAME_SIZE];
    int rc = 0;

    snprintf(id, sizeof(id), "kvm-%d", (int)getpid());
    pthread_mutex_lock(&vm->lock);
    if (!vm->stats)
        rc = stats_create(&vm->stats, id, vm_names, ARRAY_SIZE(vm_names));
    if (!rc)
        vm->stats->data[0] = vm->vcpu_count;
    pthread_mutex_unlock(&vm->lock);
    return rc ? rc : reopen(vm->stats);
}

void kvm_stats_free(struct kvm_stats_fd *s)
{
    struct layout *l;

    if (!s)
        return;
    l = s->map;
    munmap(l, l->head.data_offset + l->head.num_desc * sizeof(u64));
    close(s->fd);
    free(s);
}
