// SPDX-License-Identifier: MIT
// The model of streams and records against loopback and a device, both framings, with random operations.
#include "model.h"
#include "seat.h"

static unsigned seed;
static struct seat *seat;

static u32 rnd(u32 n)
{
    return (u32)rand_r(&seed) % n;
}

static void run_seat(void)
{
    seat_run(seat);
}

/* Over loopback of (v), or over the rings of (s). */
static void run(struct uvirt_vsock *v, struct seat *s, int type, unsigned with, const char *name)
{
    sock *l = listener(s ? s->host : v, type, PORT, 4), *p[2];
    bool good;

    seed = with;
    seat = s;
    model_run = s ? run_seat : NULL;
    is_stream = type == SOCK_STREAM;
    memset(ways, 0, sizeof(ways));
    p[0] = new_sock(s ? s->guest : v, type);
    do_connect(p[0], s ? VMADDR_CID_HOST : VMADDR_CID_LOCAL, PORT, true);
    if (s)
        seat_run(s);
    p[1] = do_accept(l);
    uvirt_vsock_close(l);
    ways[0].from = ways[1].to = p[0];
    ways[1].from = ways[0].to = p[1];
    good = play(4000) && settle(&ways[0]) && settle(&ways[1]);
    ways[0].shut = true;
    uvirt_vsock_shutdown(p[0], SHUT_WR);
    good = good && settle(&ways[0]) && play(1000) && settle(&ways[0]) && settle(&ways[1]);
    ok(good, "%s, %s, seed %u: %llu and %llu bytes", name, is_stream ? "STREAM" : "SEQPACKET", with,
       (unsigned long long)ways[0].sent, (unsigned long long)ways[1].sent);
    close_pair(p);
    if (s)
        seat_run(s);
}

int main(void)
{
    static const u64 features = BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET);

    for (unsigned marker = 0; marker < 2; marker++) {
        struct uvirt_vsock *v = context(VMADDR_CID_HOST, true, marker);
        struct seat s;

        seat_open(&s, marker, true, features);
        for (unsigned i = 1; i <= 6; i++) {
            int type = i % 2 ? SOCK_SEQPACKET : SOCK_STREAM;

            run(v, NULL, type, i, marker ? "marker, loopback" : "eom, loopback");
            seat_start(&s, features, 1 + i % 3, 1 + i % 2, i % 2 ? 3776 : 200);
            run(NULL, &s, type, i, marker ? "marker, device" : "eom, device");
        }
        seat_close(&s);
        uvirt_vsock_free(v);
    }
    return tap_done();
}
