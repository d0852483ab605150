// SPDX-License-Identifier: MIT
// Writes pcap records: vsockmon's header, virtio-vsock's header, payload.
#include "vsock/capture.h"
#include "vsock/sock.h"

#include <endian.h>
#include <errno.h>
#include <linux/vsockmon.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PCAP_MAGIC_NS  0xa1b23c4du
#define LINKTYPE_VSOCK 271
#define HEADERS        (sizeof(struct af_vsockmon_hdr) + VSOCK_HDR_SIZE)
#define SNAPLEN        (HEADERS + VSOCK_PAYLOAD_MAX)

/* The file's and each packet's header, in the writer's byte order. */
struct pcap_file {
    u32 magic;
    u16 major, minor;
    u32 thiszone, sigfigs, snaplen, linktype;
};

struct pcap_packet {
    u32 sec, nsec, caplen, len;
};

_Static_assert(sizeof(struct af_vsockmon_hdr) == 32, "linux/vsockmon.h");

struct vsock_capture {
    FILE *f;
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

int vsock_capture_start(struct uvirt_vsock *v, const char *path)
{
    struct pcap_file head = {.magic = PCAP_MAGIC_NS,
                             .major = 2,
                             .minor = 4,
                             .snaplen = SNAPLEN,
                             .linktype = LINKTYPE_VSOCK};
    struct vsock_ctx *ctx = (struct vsock_ctx *)v;
    struct vsock_capture *c = calloc(1, sizeof(*c));
    int rc = 0;

    if (!c)
        return -ENOMEM;
    c->f = fopen(path, "we");
    if (!c->f || fwrite(&head, sizeof(head), 1, c->f) != 1 || fflush(c->f))
        rc = -errno;
    vsock_lock(ctx);
    if (!rc && ctx->capture)
        rc = -EBUSY;
    if (!rc)
        ctx->capture = c;
    vsock_unlock(ctx);
    if (rc)
        vsock_capture_free(c);
    return rc;
}

void vsock_capture_packet(struct vsock_capture *c, const struct vsock_pkt *p)
{
    const struct vsock_hdr *h = &p->hdr;
    struct af_vsockmon_hdr mon = {.src_cid = htole64(h->src_cid),
                                  .dst_cid = htole64(h->dst_cid),
                                  .src_port = htole32(h->src_port),
                                  .dst_port = htole32(h->dst_port),
                                  .op = htole16(kind_of(h->op)),
                                  .transport = htole16(AF_VSOCK_TRANSPORT_VIRTIO),
                                  .len = htole16(VSOCK_HDR_SIZE)};
    struct pcap_packet head;
    u8 wire[VSOCK_HDR_SIZE];
    struct timespec ts;

    if (!c)
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    head = (struct pcap_packet){.sec = (u32)ts.tv_sec,
                                .nsec = (u32)ts.tv_nsec,
                                .caplen = HEADERS + p->len,
                                .len = HEADERS + p->len};
    vsock_hdr_encode(wire, h);
    fwrite(&head, sizeof(head), 1, c->f);
    fwrite(&mon, sizeof(mon), 1, c->f);
    fwrite(wire, sizeof(wire), 1, c->f);
    fwrite(p->data, 1, p->len, c->f);
}

void vsock_capture_free(struct vsock_capture *c)
{
    if (!c)
        return;
    if (c->f)
        fclose(c->f);
    free(c);
}
