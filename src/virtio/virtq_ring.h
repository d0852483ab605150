// SPDX-License-Identifier: MIT
// What a ring format offers to virtq.c, and what it uses of it.
#pragma once

#include "virtio/virtq.h"

/* One file for each format. (q) is ready but in check(). See virtq.h for what each does. */
struct virtq_ring_ops {
    /* Alignment and presence of the three areas: 0 or -EINVAL. */
    int (*check)(const struct virtq *q);
    /* Go on at (base), what base() said before: 0 or -EINVAL. */
    int (*resume)(struct virtq *q, u32 base);
    u32 (*base)(const struct virtq *q);
    int (*pop)(struct virtq *q, struct virtq_chain *c);
    void (*unpop)(struct virtq *q);
    bool (*pending)(struct virtq *q);
    bool (*enable_notify)(struct virtq *q);
    void (*disable_notify)(struct virtq *q);
    int (*stage)(struct virtq *q, const struct virtq_chain *c);
    int (*publish)(struct virtq *q);
    bool (*should_signal)(struct virtq *q);
};

extern const struct virtq_ring_ops virtq_split_ops, virtq_packed_ops;

/* Load a u16 of the driver's, acquire or relaxed; store one of ours, with release. 0 or -EPROTO. */
int virtq_load_u16(const struct virtq *q, gpa_t gpa, int order, u16 *ret);
int virtq_store_u16(const struct virtq *q, gpa_t gpa, u16 value);

/* An empty chain of one descriptor. */
void virtq_chain_begin(const struct virtq *q, struct virtq_chain *c);

/* Append a buffer. 0, or -EPROTO: too many, readable behind writable, or no guest memory. */
int virtq_chain_add(struct virtq_chain *c, gpa_t gpa, u32 len, bool write);
