// SPDX-License-Identifier: MIT
// The driver's side of a virtqueue, split or packed: buffers out, used buffers back.
#pragma once

#include "virtio/virtq.h"

/*
 * The driver owns the memory of rings and buffers; the device may write any of it at any
 * time. So what the driver needs to know later stands in its own memory, and what the device
 * says is checked: ids are of buffers that it has, lengths within what could be written.
 *
 * One thread at a time may use a queue.
 */

#define VIRTQ_DRIVER_TABLE 16 /* entries of a buffer's indirect table */

struct virtq_driver_config {
    u16 size; /* a power of two, or (packed) not; <= VIRTQ_SIZE_MAX */
    bool packed, event_idx, indirect, in_order;
    u8 *memory; /* virtq_driver_bytes() of it, zero, 4096-aligned; stays the caller's */
    gpa_t gpa;  /* what the device calls it */
};

struct virtq_driver_buffer {
    void *token; /* NULL: the id is free */
    u32 in_len;
    u16 nr;   /* descriptors in the ring */
    u16 next; /* free list of ids; among buffers in use, the order of (in_order) */
};

struct virtq_driver {
    struct virtq_driver_config config;
    gpa_t desc, avail, used; /* for the device, as in struct virtq */
    u8 *desc_mem, *avail_mem, *used_mem, *table_mem;
    u16 nr_free;           /* descriptors of the ring */
    u16 free_id;           /* first of the free ids, or of the free descriptors */
    u16 avail_at, used_at; /* free-running, or (packed) positions */
    bool avail_wrap, used_wrap;
    u16 fresh;               /* avail_at's advance since the last decision to kick */
    u16 head_at, head_flags; /* packed: what publish() will store */
    u16 first, last;         /* in_order: oldest and newest id */
    int batch;               /* in_order: id of a batch's last buffer; -1: none */
    struct virtq_driver_buffer buf[VIRTQ_SIZE_MAX];
    u16 desc_next[VIRTQ_SIZE_MAX]; /* split: what follows a descriptor, out of the device's reach */
};

/* Bytes of ring memory that a queue of (size) needs. */
size_t virtq_driver_bytes(u16 size);

/* Set up an empty queue. 0 or -EINVAL. */
int virtq_driver_init(struct virtq_driver *q, const struct virtq_driver_config *config);

/*
 * Offer a buffer of (out) readable and then (in) writable segments; (token), not NULL, comes
 * back with it. 0, or -ENOSPC. The device may take it at once, kicked or not.
 */
int virtq_driver_add(struct virtq_driver *q, const struct virtq_seg *segs, unsigned out,
                     unsigned in, void *token);

/* True if the device wants a kick for what was added since the last one. */
bool virtq_driver_should_kick(struct virtq_driver *q);

/*
 * The next used buffer: 1 with its token and the number of bytes written; 0: none; -EPROTO:
 * the device has used what it was not given, or more than that.
 */
int virtq_driver_used(struct virtq_driver *q, void **ret_token, u32 *ret_len);

/*
 * Ask for an interrupt at the next used buffer; true if there is one already.
 * virtq_driver_disable_signal() is the opposite and only a hint.
 */
bool virtq_driver_enable_signal(struct virtq_driver *q);
void virtq_driver_disable_signal(struct virtq_driver *q);
