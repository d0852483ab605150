// SPDX-License-Identifier: MIT
// Memory regions and the dirty log at the ABI.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES_MAX ((1ull << 31) - 1) /* of one slot */
#define USER_TOP (1ull << 47)
#define FLAGS_KNOWN (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)

static u32 mem_flags(u32 flags)
{
    return (flags & KVM_MEM_READONLY ? MEM_READONLY : 0) |
           (flags & KVM_MEM_LOG_DIRTY_PAGES ? MEM_LOG_DIRTY : 0);
}

/* The rules that need no look at the slots there are. */
static bool region_valid(const struct kvm_userspace_memory_region2 *r)
{
    u64 pages = r->memory_size >> PAGE_SHIFT;

    if (r->slot >> 16 || r->slot >= KVM_SLOTS_MAX || r->flags & ~(u32)FLAGS_KNOWN)
        return false;
    if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & ~PAGE_MASK)
        return false;
    if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr || pages > PAGES_MAX)
        return false;
    return r->userspace_addr <= USER_TOP && r->memory_size <= USER_TOP - r->userspace_addr;
}

/* KVM_DIRTY_LOG_INITIALLY_SET: a log that begins counts every page as written. */
static void log_begins(struct kvm_vm *vm, u32 slot)
{
    struct mem_slot *s = mem_slot_by_id(vm->mem, slot);
    u64 pages = s->size >> PAGE_SHIFT;

    if (!(vm->manual_dirty_log & KVM_DIRTY_LOG_INITIALLY_SET) || !s->dirty)
        return;
    for (u64 i = 0; i < pages; i += 64)
        atomic_store(&s->dirty[i / 64], pages - i >= 64 ? ~0ull : BIT(pages - i) - 1);
}

static int slot_set(struct kvm_vm *vm, const struct kvm_userspace_memory_region2 *r)
{
    bool logging;
    struct mem_slot *old;
    int rc;

    cpu_world_exclusive(vm->world, NULL);
    old = mem_slot_by_id(vm->mem, r->slot);
    logging = old && old->flags & MEM_LOG_DIRTY;
    rc = mem_slot_set(vm->mem, r->slot, r->guest_phys_addr, r->memory_size, (void *)r->userspace_addr,
                      mem_flags(r->flags));
    if (!rc && r->memory_size && r->flags & KVM_MEM_LOG_DIRTY_PAGES && !logging)
        log_begins(vm, r->slot);
    if (!rc)
        cpu_world_request(vm->world, CPU_REQ_SLOTS, NULL);
    cpu_world_exclusive_end(vm->world, NULL);
    return rc;
}

/* A slot that exists may move and change its log flag, no more. 1: nothing to do. */
static int change_check(const struct mem_slot *old, const struct kvm_userspace_memory_region2 *r)
{
    u32 flags = mem_flags(r->flags);

    if (!old)
        return r->memory_size ? 0 : -EINVAL;
    if (!r->memory_size)
        return 0;
    if ((u64)(uintptr_t)old->hva != r->userspace_addr || old->size != r->memory_size ||
        (old->flags ^ flags) & MEM_READONLY)
        return -EINVAL;
    return old->gpa == r->guest_phys_addr && old->flags == flags;
}

static int region_set(struct kvm_vm *vm, const struct kvm_userspace_memory_region2 *r)
{
    int rc;

    if (!region_valid(r))
        return -EINVAL;
    pthread_mutex_lock(&vm->lock);
    rc = change_check(mem_slot_by_id(vm->mem, r->slot), r);
    if (rc == 0)
        rc = slot_set(vm, r);
    pthread_mutex_unlock(&vm->lock);
    return rc < 0 ? rc : 0;
}

int kvm_vm_set_memory_region(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_userspace_memory_region *r = arg;
    struct kvm_userspace_memory_region2 r2 = {
        .slot = r->slot, .flags = r->flags, .guest_phys_addr = r->guest_phys_addr,
        .memory_size = r->memory_size, .userspace_addr = r->userspace_addr};

    return region_set(vm, &r2);
}

int kvm_vm_set_memory_region2(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    return region_set(vm, arg);
}

/* --- dirty log --- */

static size_t bitmap_words(const struct mem_slot *s)
{
    return ((s->size >> PAGE_SHIFT) + 63) / 64;
}

/* Have later stores to clean pages noticed again. */
static void rearm(struct kvm_vm *vm)
{
    cpu_world_request(vm->world, CPU_REQ_FLUSH, NULL);
}

/* Read the log, and clear it unless that is done by hand. vCPUs are outside. */
static int log_read(struct kvm_vm *vm, struct mem_slot *s, u64 *bitmap)
{
    size_t words = bitmap_words(s);
    int rc;

    if (vm->manual_dirty_log) {
        for (size_t i = 0; i < words; i++)
            bitmap[i] = atomic_load(&s->dirty[i]);
        return 0;
    }
    rc = mem_dirty_get(vm->mem, s->id, bitmap, words);
    if (!rc)
        rearm(vm);
    return rc;
}

int kvm_vm_get_dirty_log(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_dirty_log *l = arg;
    struct mem_slot *s;
    u64 *bitmap = NULL;
    size_t words = 0;
    int rc = -ENOENT;

    if (l->slot >> 16 || l->slot >= KVM_SLOTS_MAX)
        return -EINVAL;
    pthread_mutex_lock(&vm->lock);
    s = mem_slot_by_id(vm->mem, l->slot);
    if (!s || !s->dirty)
        goto unlock;
    words = bitmap_words(s);
    bitmap = calloc(words, sizeof(*bitmap));
    rc = -ENOMEM;
    if (!bitmap)
        goto unlock;
    cpu_world_exclusive(vm->world, NULL);
    rc = log_read(vm, s, bitmap);
    cpu_world_exclusive_end(vm->world, NULL);
unlock:
    pthread_mutex_unlock(&vm->lock);
    if (!rc)
        rc = kvm_copy_out((unsigned long)l->dirty_bitmap, bitmap, words * sizeof(*bitmap));
    free(bitmap);
    return rc;
}

/* The part of a slot that KVM_CLEAR_DIRTY_LOG may name: whole words, or to the slot's end. */
static bool clear_range_valid(const struct mem_slot *s, const struct kvm_clear_dirty_log *l)
{
    u64 pages = s->size >> PAGE_SHIFT;

    if (l->first_page & 63 || l->first_page > pages || l->num_pages > pages - l->first_page)
        return false;
    return !(l->num_pages & 63) || l->num_pages == pages - l->first_page;
}

int kvm_vm_clear_dirty_log(struct kvm_vm *vm, void *arg, unsigned long raw)
{
    const struct kvm_clear_dirty_log *l = arg;
    size_t words = (l->num_pages + 63ull) / 64;
    struct mem_slot *s;
    u64 *bitmap;
    int rc;

    if (l->slot >> 16 || l->slot >= KVM_SLOTS_MAX || l->first_page & 63)
        return -EINVAL;
    bitmap = malloc(words ? words * sizeof(*bitmap) : 1);
    if (!bitmap)
        return -ENOMEM;
    rc = kvm_copy_in(bitmap, (unsigned long)l->dirty_bitmap, words * sizeof(*bitmap));
    if (rc)
        goto free_bitmap;
    pthread_mutex_lock(&vm->lock);
    s = mem_slot_by_id(vm->mem, l->slot);
    rc = !s || !s->dirty ? -ENOENT : clear_range_valid(s, l) ? 0 : -EINVAL;
    if (!rc) {
        cpu_world_exclusive(vm->world, NULL);
        for (size_t i = 0; i < words; i++)
            atomic_fetch_and(&s->dirty[l->first_page / 64 + i], ~bitmap[i]);
        rearm(vm);
        cpu_world_exclusive_end(vm->world, NULL);
    }
    pthread_mutex_unlock(&vm->lock);
free_bitmap:
    free(bitmap);
    return rc;
}
