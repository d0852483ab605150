// SPDX-License-Identifier: MIT
// The device's side of a virtqueue, split or packed: chains of guest buffers in, used elements out.
#pragma once

#include "base/types.h"
#include "mem/mem.h"

#include <sys/uio.h>

/*
 * Glossary. The driver (guest) makes buffers available; the device takes a chain, reads
 * its readable part ("out"), fills its writable part ("in") and pushes it as used. A chain
 * stays valid from virtq_pop() to virtq_push(); several may be open at once.
 *
 * Ring memory and buffers belong to the guest and may change under our hands: descriptors
 * are copied once, then checked, and lengths are those of the copy. Whatever is wrong with
 * a ring or chain makes the call return -EPROTO; the caller then fails the device with
 * virtio_device_fail().
 *
 * Call everything here with the device lock held.
 */

#define VIRTQ_SIZE_MAX 256 /* entries; also the longest chain */

struct virtq {
    struct mem *mem;
    u16 size_max; /* what the device offers, a power of two <= VIRTQ_SIZE_MAX */
    bool indirect, event_idx, packed;

    /* Set by the driver through the transport. */
    u16 size;
    bool ready;
    gpa_t desc, avail, used; /* packed: the ring, the driver's events, the device's events */

    /* Where the device stands: free-running in a split ring, positions in a packed one. */
    u16 last_avail;
    u16 used_idx;
    u16 signalled; /* used_idx, or (packed) a count, since the last decision whether to interrupt */
    u16 last_nr;   /* packed: descriptors of the chain that was taken last */
    bool avail_wrap, used_wrap;

    /* Between virtq_stage() and virtq_publish(). */
    u16 staged; /* chains */
    gpa_t held; /* packed: the first one's descriptor, and the flags that it will get */
    u16 held_flags;
};

struct virtq_seg {
    gpa_t gpa;
    u32 len;
};

/* A position in one direction of a chain. */
struct virtq_cursor {
    u16 seg, end; /* into (segs) */
    u32 off;      /* within segs[seg] */
    u64 left;     /* bytes from here to the end */
};

struct virtq_chain {
    struct mem *mem;
    u16 head;    /* the driver's name for it */
    u16 nr;      /* descriptors of a packed ring that it takes up */
    u32 written; /* bytes put without a gap: the used element's length */
    bool gap;
    struct virtq_cursor out, in;
    struct virtq_seg segs[VIRTQ_SIZE_MAX]; /* the readable ones, then the writable ones */
};

/* Back to the state before the driver set it up; keeps (mem) and (size_max). */
void virtq_reset(struct virtq *q);

/*
 * The driver says the queue is ready: check size and addresses. 0, or -EINVAL if the size
 * is no power of two (split) or too large, or a part is misaligned or not in guest RAM.
 */
int virtq_start(struct virtq *q);

/*
 * Where the device stands, in the form of vhost-user's GET_VRING_BASE: an index, or for a
 * packed ring two positions with their wrap bits. virtq_resume() is virtq_start() for a ring
 * that was in use up to there, with no chain open. 0 or -EINVAL.
 */
u32 virtq_base(const struct virtq *q);
int virtq_resume(struct virtq *q, u32 base);

/*
 * Take the next available chain. 1: (c) holds it; 0: none, or queue not ready; -EPROTO:
 * the ring or the chain is malformed (loop, bad index, hole, wrong order, nested indirect).
 */
int virtq_pop(struct virtq *q, struct virtq_chain *c);

/* Put back the chain that virtq_pop() gave last: the next pop gives it again. */
void virtq_unpop(struct virtq *q);

/* The same for several, latest first: put back (c), the latest of those that are open. */
void virtq_return(struct virtq *q, const struct virtq_chain *c);

/* True if the driver has made a chain available that was not taken yet. */
bool virtq_pending(struct virtq *q);

/*
 * Ask for notifications again and say whether a chain came in meanwhile: a device that
 * found the queue empty stops only if this returns false. virtq_disable_notify() is the
 * opposite and only a hint.
 */
bool virtq_enable_notify(struct virtq *q);
void virtq_disable_notify(struct virtq *q);

/* Give (c) back to the driver. 0 or -EPROTO. */
int virtq_push(struct virtq *q, const struct virtq_chain *c);

/*
 * The same for chains that the driver must see all at once, or not yet: virtq_stage() each, then
 * virtq_publish(), with nothing else in between. 0 or -EPROTO.
 */
int virtq_stage(struct virtq *q, const struct virtq_chain *c);
int virtq_publish(struct virtq *q);

/* True if the driver wants an interrupt for what was pushed since the last one. */
bool virtq_should_signal(struct virtq *q);

/*
 * Copy the next (len) bytes out of the readable, or into the writable part, and move on.
 * 0, or -EPROTO if fewer than (len) are left; then nothing was copied or moved.
 */
int virtq_out(struct virtq_chain *c, void *buf, u64 len);
int virtq_in(struct virtq_chain *c, const void *buf, u64 len);

/*
 * The next at most (max) bytes as pieces in host memory, at most (nr) of them; does not
 * move on. Returns the number of pieces, 0 at the end. This is guest memory: what is read
 * through it may change meanwhile.
 */
unsigned virtq_out_iov(const struct virtq_chain *c, u64 max, struct iovec *iov, unsigned nr);
unsigned virtq_in_iov(const struct virtq_chain *c, u64 max, struct iovec *iov, unsigned nr);

/*
 * Move on by (len) bytes, at most what is left. virtq_in_done() also says that they have
 * been written: call it after the data is there.
 */
void virtq_out_skip(struct virtq_chain *c, u64 len);
void virtq_in_done(struct virtq_chain *c, u64 len);

/*
 * Leave (len) writable bytes as they are. The used length promises that all bytes before
 * it were written, so it stops growing here.
 */
void virtq_in_skip(struct virtq_chain *c, u64 len);
