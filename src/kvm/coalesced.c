// SPDX-License-Identifier: MIT
// Coalesced MMIO and PIO: guest writes that user space reads in bulk from a ring.

/*
 * KVM shows one ring in every vCPU's mapping. Our vCPUs are memfds of their own, so the ring is in the
 * mapping of the VM's first vCPU, which is where user space looks.
 *
 * The ring is shared with user space: (first) is its index, (last) ours, though it may set both while no vCPU runs, and
 * neither is trusted. A full ring, or a bad index, makes the write an ordinary exit.
 */

#include "kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ZONES_MAX 100
#define RING_SLOTS ((PAGE_SIZE - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio))

struct coalesced {
    pthread_mutex_t lock;
    /* protected by (lock) */
    struct kvm_coalesced_mmio_zone zone[ZONES_MAX];
    _Atomic unsigned zones; /* read without the lock to see that there is none */
    struct kvm_coalesced_mmio_ring *ring;
};

int coalesced_create(struct coalesced **ret)
{
    struct coalesced *z = calloc(1, sizeof(*z));

    if (!z)
        return -ENOMEM;
    pthread_mutex_init(&z->lock, NULL);
    *ret = z;
    return 0;
}

void coalesced_free(struct coalesced *z)
{
    if (!z)
        return;
    pthread_mutex_destroy(&z->lock);
    free(z);
}

void coalesced_ring_set(struct coalesced *z, struct kvm_coalesced_mmio_ring *ring)
{
    pthread_mutex_lock(&z->lock);
    z->ring = ring;
    pthread_mutex_unlock(&z->lock);
}

int coalesced_register(struct coalesced *z, const struct kvm_coalesced_mmio_zone *zone)
{
    int rc = -ENOSPC;

    if (zone->pio > 1)
        return -EINVAL;
    pthread_mutex_lock(&z->lock);
    if (z->zones < ZONES_MAX) {
        z->zone[z->zones++] = *zone;
        rc = 0;
    }
    pthread_mutex_unlock(&z->lock);
    return rc;
}

/* Is [addr, addr + len) inside (zone)? */
static bool inside(const struct kvm_coalesced_mmio_zone *zone, bool pio, u64 addr, u64 len)
{
    return zone->pio == pio && addr >= zone->addr && len <= zone->size &&
           addr - zone->addr <= zone->size - len;
}

int coalesced_unregister(struct coalesced *z, const struct kvm_coalesced_mmio_zone *zone)
{
    unsigned kept = 0;

    if (zone->pio > 1)
        return -EINVAL;
    pthread_mutex_lock(&z->lock);
    for (unsigned i = 0; i < z->zones; i++) {
        if (!inside(&z->zone[i], zone->pio, zone->addr, zone->size))
            z->zone[kept++] = z->zone[i];
    }
    z->zones = kept;
    pthread_mutex_unlock(&z->lock);
    return 0;
}

static bool covered_locked(const struct coalesced *z, bool pio, u64 addr, unsigned len)
{
    for (unsigned i = 0; i < z->zones; i++) {
        if (inside(&z->zone[i], pio, addr, len))
            return true;
    }
    return false;
}

static bool put_locked(struct coalesced *z, bool pio, u64 addr, unsigned len, const void *data)
{
    struct kvm_coalesced_mmio_ring *ring = z->ring;
    struct kvm_coalesced_mmio *slot;
    u32 first, last, next;

    if (!ring || len > sizeof(slot->data))
        return false;
    first = __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE); /* pairs with user space's store after it has read */
    last = __atomic_load_n(&ring->last, __ATOMIC_RELAXED);
    next = (last + 1) % RING_SLOTS;
    if (last >= RING_SLOTS || next == first)
        return false;
    slot = &ring->coalesced_mmio[last];
    slot->phys_addr = addr;
    slot->len = len;
    slot->pio = pio;
    memcpy(slot->data, data, len);
    __atomic_store_n(&ring->last, next, __ATOMIC_RELEASE); /* pairs with user space's read of (last) */
    return true;
}

bool coalesced_write(struct coalesced *z, bool pio, u64 addr, unsigned len, const void *data)
{
    bool done;

    if (!atomic_load_explicit(&z->zones, memory_order_relaxed))
        return false;
    pthread_mutex_lock(&z->lock);
    done = covered_locked(z, pio, addr, len) && put_locked(z, pio, addr, len, data);
    pthread_mutex_unlock(&z->lock);
    return done;
}
