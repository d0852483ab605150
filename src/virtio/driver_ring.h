// SPDX-License-Identifier: MIT
// What a ring format offers to driver_queue.c, and what it uses of it.
#pragma once

#include "virtio/driver_queue.h"

struct virtq_driver_ops {
    /*
     * Write the descriptors of a buffer for which there is room and choose its id; the device
     * sees it with publish().
     */
    u16 (*add)(struct virtq_driver *q, const struct virtq_seg *segs, unsigned out, unsigned in,
               bool indirect);
    void (*publish)(struct virtq_driver *q);

    /* (fresh) descriptors were published: does the device want to hear of it? */
    bool (*should_kick)(struct virtq_driver *q, u16 fresh);

    /* Look at the next used element: 1, 0 or -EPROTO; skip() moves past its (nr) descriptors. */
    int (*used)(struct virtq_driver *q, u16 *ret_id, u32 *ret_len);
    void (*skip)(struct virtq_driver *q, u16 nr);
    bool (*pending)(struct virtq_driver *q);

    /* The buffer's id and descriptors may be used again. */
    void (*free)(struct virtq_driver *q, u16 id);

    /* Includes the barrier before the next look at the ring. */
    void (*enable_signal)(struct virtq_driver *q);
    void (*disable_signal)(struct virtq_driver *q);
};

extern const struct virtq_driver_ops virtq_driver_split, virtq_driver_packed;

/* The memory for the indirect table of buffer (id). */
void *virtq_driver_table(struct virtq_driver *q, u16 id, gpa_t *ret_gpa);
