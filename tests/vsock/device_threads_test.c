// SPDX-License-Identifier: MIT
// Blocking sockets of host and guest, each in its own threads, over a device that another thread runs.
#include "seat.h"
#include "transfer.h"

#include <stdatomic.h>
#include <unistd.h>

#define BYTES    (4u << 20)
#define FEATURES (BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET))

static atomic_bool stop;

/* The only thread that touches the rings. */
static void *run_rings(void *arg)
{
    while (!stop) {
        seat_run(arg);
        usleep(200);
    }
    return NULL;
}

static void test(struct seat *s, int type, const char *name)
{
    sock *l = listener(s->host, type, PORT, 4), *p[2];

    p[0] = new_sock(s->guest, type);
    if (!ok(!do_connect(p[0], VMADDR_CID_HOST, PORT, false), "%s: connect", name))
        exit(1);
    uvirt_vsock_accept(l, false, &p[1]);
    uvirt_vsock_close(l);
    transfer(p, BYTES, name);
    close_pair(p);
}

int main(void)
{
    for (int marker = 0; marker < 2; marker++) {
        struct seat s;
        pthread_t rings;

        seat_open(&s, marker, false, FEATURES);
        stop = false;
        pthread_create(&rings, NULL, run_rings, &s);
        if (!marker)
            test(&s, SOCK_STREAM, "STREAM");
        test(&s, SOCK_SEQPACKET, marker ? "SEQPACKET, marker" : "SEQPACKET, eom");
        stop = true;
        pthread_join(rings, NULL);
        seat_close(&s);
    }
    return tap_done();
}
