// SPDX-License-Identifier: MIT
// The back end's state: what its messages set up and its loop uses.
#pragma once

#include "vhost/backend.h"
#include "vhost/memory.h"
#include "vhost/user.h"
#include "virtio/turn.h"

#define VHOST_VRINGS_MAX 8

struct vhost_vring {
    int kick, call, err; /* -1: none */
    bool kick_set;       /* SET_VRING_KICK came, with or without a descriptor */
    bool enabled;
    bool addr_set;
    u32 base;
    struct vhost_user_vring_addr addr;
    u16 num;
};

struct vhost_backend {
    struct vhost_backend_config config;
    struct virtio_turn turn; /* its lock is the device lock */
    _Atomic u32 kicks;       /* queues to notify, one bit each */
    int epoll;

    /* The front end, on the serving thread. */
    int fd;
    struct vhost_user_rx rx;
    char why[VHOST_BACKEND_WHY];
    u64 features, protocol_features;

    /* Protected by the device lock. */
    struct vhost_regions memory;
    struct vhost_vring vrings[VHOST_VRINGS_MAX];
    unsigned nr_vrings;
    bool up; /* the device has its features and may run */
};

/*
 * One round of the loop, after at most (timeout) ms, -1: no limit. 1: go on, 0: told to stop,
 * or -errno. (listener) is used while no front end is there.
 */
int vhost_backend_round(struct vhost_backend *b, int listener, int timeout);

/* Take (fd) as the front end: 0, or -errno and (fd) stays the caller's. */
int vhost_backend_adopt(struct vhost_backend *b, int fd);

/*
 * Do what the message in b->rx asks for, and answer it. 0 or -errno: the connection is over,
 * and b->why says why.
 */
int vhost_backend_message(struct vhost_backend *b);

/* vring.c: device lock held but for kick(). */

/* Start the ring if all that it needs is there: 0 (also if it is not), -EINVAL. */
int vhost_vring_start(struct vhost_backend *b, unsigned i);

/* Stop it, and return where it stands. */
u32 vhost_vring_stop(struct vhost_backend *b, unsigned i);

/* Take (fd), -1 for none, in the place of what was there. 0 or -errno; (fd) is gone either way. */
int vhost_vring_set_kick(struct vhost_backend *b, unsigned i, int fd);
void vhost_vring_set_fd(int *at, int fd);

/* The kick descriptor of ring (i) is readable. */
void vhost_vring_kicked(struct vhost_backend *b, unsigned i);

/* Rings, memory and device as at power-on. */
void vhost_backend_reset(struct vhost_backend *b);
