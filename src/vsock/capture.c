// SPDX-License-Identifier: MIT
// Makes pcap records, vsockmon's header, virtio-vsock's header and payload, for a file and for sockets.

/*
 * A context has a list of captures, guarded by its lock, under which packets pass. One may write a file. Others are
 * sockets whose readers may be slow: nothing here ever waits for one, it loses packets and hears how many. A reader that has
 * gone leaves its place to the next.
 */
#include "vsock/capture.h"
#include "vsock/sock.h"

#include <endian.h>
#include <errno.h>
#include <linux/vsockmon.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PCAP_MAGIC_NS  0xa1b23c4du
#define LINKTYPE_VSOCK 271
#define SOCKETS_MAX    8
#define SOCKET_BYTES   (4 << 20) /* that may wait for a reader, where that is allowed */

/* The file's and each packet's header, in the writer's byte order. */
struct pcap_file {
    u32 magic;
    u16 major, minor;
    u32 thiszone, sigfigs, snaplen, linktype;
};

struct pcap_packet {
    u32 sec, nsec, caplen, len;
};

_Static_assert(sizeof(struct af_vsockmon_hdr) + VSOCK_HDR_SIZE == VSOCK_CAPTURE_HEADERS,
               "linux/vsockmon.h");

struct vsock_capture {
    struct vsock_capture *next;
    FILE *f; /* or NULL: */
    int fd;  /* a socket; -1: its reader has gone */
    u32 snaplen;
    u64 dropped;
};

static u16 kind_of(u16 op)
{
    switch (op) {
    case VIRTIO_VSOCK_OP_REQUEST:
    case VIRTIO_VSOCK_OP_RESPONSE:
        return AF_VSOCK_OP_CONNECT;
    case VIRTIO_VSOCK_OP_RST:
    case VIRTIO_VSOCK_OP_SHUTDOWN:
        return AF_VSOCK_OP_DISCONNECT;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE:
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST:
        return AF_VSOCK_OP_CONTROL;
    case VIRTIO_VSOCK_OP_RW:
    case VSOCK_OP_SEQ_BEGIN:
    case VSOCK_OP_SEQ_END:
        return AF_VSOCK_OP_PAYLOAD;
    default:
        return AF_VSOCK_OP_UNKNOWN;
    }
}

static struct pcap_file file_head(u32 snaplen)
{
    return (struct pcap_file){.magic = PCAP_MAGIC_NS,
                              .major = 2,
                              .minor = 4,
                              .snaplen = snaplen,
                              .linktype = LINKTYPE_VSOCK};
}

int vsock_capture_start(struct uvirt_vsock *v, const char *path)
{
    struct pcap_file head = file_head(VSOCK_CAPTURE_WHOLE);
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_capture *c = calloc(1, sizeof(*c));
    int rc = 0;

    if (!c)
        return -ENOMEM;
    *c = (struct vsock_capture){.fd = -1, .snaplen = VSOCK_CAPTURE_WHOLE};
    c->f = fopen(path, "we");
    if (!c->f || fwrite(&head, sizeof(head), 1, c->f) != 1 || fflush(c->f))
        rc = -errno;
    vsock_lock(ctx);
    for (struct vsock_capture *o = ctx->capture; o; o = o->next)
        if (o->f)
            rc = rc ? rc : -EBUSY;
    if (!rc) {
        c->next = ctx->capture;
        ctx->capture = c;
    }
    vsock_unlock(ctx);
    if (rc)
        vsock_capture_free(c);
    return rc;
}

static void let_go(struct vsock_capture *c)
{
    close(c->fd);
    c->fd = -1;
}

/* A free place in (ctx), or NULL. Lock held. */
static struct vsock_capture *find_place(struct vsock_ctx *ctx)
{
    unsigned n = 0;
    struct vsock_capture *c;

    for (c = ctx->capture; c; c = c->next) {
        struct pollfd p = {.fd = c->fd};

        if (c->fd >= 0 && poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR))
            let_go(c);
        if (!c->f && c->fd < 0)
            return c;
        n += !c->f;
    }
    c = n < SOCKETS_MAX ? calloc(1, sizeof(*c)) : NULL;
    if (!c)
        return NULL;
    *c = (struct vsock_capture){.fd = -1, .next = ctx->capture};
    ctx->capture = c;
    return c;
}

int vsock_capture_attach(struct uvirt_vsock *v, int fd, u32 snaplen)
{
    struct pcap_file head = file_head(snaplen);
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    const int bytes = SOCKET_BYTES;
    struct vsock_capture *c;
    int rc = 0;

    if (snaplen < VSOCK_CAPTURE_HEADERS || snaplen > VSOCK_CAPTURE_WHOLE)
        return -EINVAL;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    vsock_lock(ctx);
    c = find_place(ctx);
    if (!c)
        rc = -EBUSY;
    else if (send(fd, &head, sizeof(head), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        rc = -errno;
    if (!rc) {
        c->fd = fd;
        c->snaplen = snaplen;
        c->dropped = 0;
    }
    vsock_unlock(ctx);
    return rc;
}

/* One record of (n) pieces, which a file's does not begin with the first of. */
static void put(struct vsock_capture *c, struct iovec *v, unsigned n)
{
    struct msghdr m = {.msg_iov = v, .msg_iovlen = n};

    for (unsigned i = 1; c->f && i < n; i++)
        fwrite(v[i].iov_base, 1, v[i].iov_len, c->f);
    if (c->fd < 0 || sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return;
    c->dropped++;
    if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
        let_go(c);
}

void vsock_capture_packet(struct vsock_capture *list, const struct vsock_pkt *p)
{
    const struct vsock_hdr *h = &p->hdr;
    struct af_vsockmon_hdr mon = {.src_cid = htole64(h->src_cid),
                                  .dst_cid = htole64(h->dst_cid),
                                  .src_port = htole32(h->src_port),
                                  .dst_port = htole32(h->dst_port),
                                  .op = htole16(kind_of(h->op)),
                                  .transport = htole16(AF_VSOCK_TRANSPORT_VIRTIO),
                                  .len = htole16(VSOCK_HDR_SIZE)};
    u32 len = VSOCK_CAPTURE_HEADERS + p->len;
    u8 wire[VSOCK_HDR_SIZE];
    struct timespec ts;

    if (!list)
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    vsock_hdr_encode(wire, h);
    for (struct vsock_capture *c = list; c; c = c->next) {
        struct pcap_packet head = {.sec = (u32)ts.tv_sec,
                                   .nsec = (u32)ts.tv_nsec,
                                   .caplen = len < c->snaplen ? len : c->snaplen,
                                   .len = len};
        struct iovec v[] = {{&c->dropped, sizeof(c->dropped)},
                            {&head, sizeof(head)},
                            {&mon, sizeof(mon)},
                            {wire, sizeof(wire)},
                            {(void *)(uintptr_t)p->data, head.caplen - VSOCK_CAPTURE_HEADERS}};

        put(c, v, ARRAY_SIZE(v));
    }
}

void vsock_capture_free(struct vsock_capture *c)
{
    struct vsock_capture *next;

    for (; c; c = next) {
        next = c->next;
        if (c->f)
            fclose(c->f);
        if (c->fd >= 0)
            close(c->fd);
        free(c);
    }
}
