// SPDX-License-Identifier: MIT
// vhost-user on the wire: requests, payloads, feature bits, and the rules that every message obeys.
#pragma once

#include "base/types.h"

/*
 * A message is a header, a payload of at most VHOST_USER_PAYLOAD_MAX bytes and, in its first
 * bytes' ancillary data, descriptors. Both ends are on one machine, so fields are in host
 * order ("Message Specification" of the vhost-user protocol).
 */

#define VHOST_USER_VERSION     0x1 /* flags, bits 0 and 1 */
#define VHOST_USER_REPLY       BIT(2)
#define VHOST_USER_NEED_REPLY  BIT(3)
#define VHOST_USER_PAYLOAD_MAX 512
#define VHOST_USER_FDS_MAX     8
#define VHOST_USER_REGIONS_MAX 8  /* in one table */
#define VHOST_USER_SLOTS_MAX   32 /* one by one */
#define VHOST_USER_CONFIG_MAX  256

#define VHOST_USER_F_PROTOCOL_FEATURES 30 /* a feature bit like a device's */

/* Bits of the protocol itself. */
enum {
    VHOST_USER_PROTOCOL_F_MQ = 0,
    VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
    VHOST_USER_PROTOCOL_F_CONFIG = 9,
    VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
    VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
};

/* What a front end may say. */
enum {
    VHOST_USER_GET_FEATURES = 1,
    VHOST_USER_SET_FEATURES,
    VHOST_USER_SET_OWNER,
    VHOST_USER_RESET_OWNER,
    VHOST_USER_SET_MEM_TABLE,
    VHOST_USER_SET_LOG_BASE,
    VHOST_USER_SET_LOG_FD,
    VHOST_USER_SET_VRING_NUM,
    VHOST_USER_SET_VRING_ADDR,
    VHOST_USER_SET_VRING_BASE,
    VHOST_USER_GET_VRING_BASE,
    VHOST_USER_SET_VRING_KICK,
    VHOST_USER_SET_VRING_CALL,
    VHOST_USER_SET_VRING_ERR,
    VHOST_USER_GET_PROTOCOL_FEATURES,
    VHOST_USER_SET_PROTOCOL_FEATURES,
    VHOST_USER_GET_QUEUE_NUM,
    VHOST_USER_SET_VRING_ENABLE,
    VHOST_USER_GET_CONFIG = 24,
    VHOST_USER_SET_CONFIG,
    VHOST_USER_RESET_DEVICE = 34,
    VHOST_USER_GET_MAX_MEM_SLOTS = 36,
    VHOST_USER_ADD_MEM_REG,
    VHOST_USER_REM_MEM_REG,
    VHOST_USER_NR_REQUESTS,
};

struct vhost_user_hdr {
    u32 request, flags, size;
};

struct vhost_user_vring_state {
    u32 index, num;
};

struct vhost_user_vring_addr {
    u32 index, flags;
    u64 desc, used, avail, log; /* the front end's own addresses; (log) is a guest's */
};

/* In the u64 of SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_USER_VRING_INDEX GENMASK(7, 0)
#define VHOST_USER_VRING_NOFD  BIT(8)

struct vhost_user_region {
    u64 gpa, size;
    u64 address; /* where the front end has it */
    u64 offset;  /* in the descriptor's file */
};

struct vhost_user_table {
    u32 nr, padding;
    struct vhost_user_region regions[VHOST_USER_REGIONS_MAX];
};

struct vhost_user_one_region {
    u64 padding;
    struct vhost_user_region region;
};

struct vhost_user_config {
    u32 offset, size, flags;
    u8 bytes[VHOST_USER_CONFIG_MAX];
};

union vhost_user_payload {
    u64 number;
    struct vhost_user_vring_state state;
    struct vhost_user_vring_addr addr;
    struct vhost_user_table table;
    struct vhost_user_one_region one;
    struct vhost_user_config config;
    u8 bytes[VHOST_USER_PAYLOAD_MAX];
};

struct vhost_user_msg {
    struct vhost_user_hdr hdr;
    union vhost_user_payload payload;
    unsigned nr_fds;
    int fds[VHOST_USER_FDS_MAX]; /* -1: taken out */
};

_Static_assert(sizeof(struct vhost_user_hdr) == 12, "the protocol's header");
_Static_assert(sizeof(struct vhost_user_vring_addr) == 40, "the protocol's layout");
_Static_assert(sizeof(struct vhost_user_region) == 32, "the protocol's layout");
_Static_assert(sizeof(union vhost_user_payload) == VHOST_USER_PAYLOAD_MAX, "payloads fit");

/*
 * A connection's receiving half. A message may come in pieces; what has come of it stays here,
 * with its descriptors.
 */
struct vhost_user_rx {
    u32 have; /* bytes of header and payload */
    struct vhost_user_msg msg;
};

/*
 * Take what (fd) has without waiting. 1: rx->msg is whole, its descriptors are the caller's
 * (vhost_user_done() closes the rest); 0: more is to come; -ECONNRESET: the other end is gone;
 * -EPROTO: too long, too many descriptors, wrong version; or -errno. After an error the
 * connection is over.
 */
int vhost_user_recv(int fd, struct vhost_user_rx *rx);

/* Close the descriptors that nobody took; and make ready for the next message. */
void vhost_user_done_fds(struct vhost_user_msg *m);
void vhost_user_done(struct vhost_user_rx *rx);

/* Send a whole message, without waiting: 0, -EAGAIN (the other end does not read), -errno. */
int vhost_user_send(int fd, const struct vhost_user_msg *m);
