// SPDX-License-Identifier: MIT
// Guests of one directory reach each other by CID, and host programs of it by port.
#include "transfer.h"
#include "unix_host.h"

/* (g) of (w) connects to CID (cid); the other guest's end, or NULL. */
static sock *cross(sock *g, sock *l, u32 cid, u32 port)
{
    return do_connect(g, cid, port, false) ? NULL : accept_soon(l);
}

static void test_streams(struct wire *a, struct wire *b)
{
    sock *l = listener(b->guest, SOCK_STREAM, 2000, 8), *s = new_sock(a->guest, SOCK_STREAM), *r;
    struct sockaddr_vm me, peer;
    char buf[16];

    r = cross(s, l, 4, 2000);
    if (!ok(r != NULL, "a guest connects to its sibling"))
        return;
    uvirt_vsock_getsockname(s, &me);
    uvirt_vsock_getpeername(r, &peer);
    ok(peer.svm_cid == 3 && peer.svm_port == me.svm_port,
       "iperf-vsock #7: which sees its CID and port");
    ok(do_send(s, "to b", 4, 0) == 4 && do_recv(r, buf, 4, MSG_WAITALL, NULL) == 4 &&
           do_send(r, "to a", 4, 0) == 4 && do_recv(s, buf, 4, MSG_WAITALL, NULL) == 4 &&
           !memcmp(buf, "to a", 4),
       "bytes both ways");
    uvirt_vsock_shutdown(s, SHUT_WR);
    ok(do_recv(r, buf, 1, 0, NULL) == 0 && do_send(r, "half", 4, 0) == 4 &&
           do_recv(s, buf, 4, MSG_WAITALL, NULL) == 4,
       "half-close");
    uvirt_vsock_close(r);
    ok(do_recv(s, buf, 1, 0, NULL) == 0, "close");
    uvirt_vsock_close(s);
    uvirt_vsock_close(l);
    s = new_sock(a->guest, SOCK_STREAM);
    ok(do_connect(s, 4, 2000, false) == -ECONNRESET, "nobody listens in the sibling: RST");
    ok(do_connect(s, 9, 2000, false) == -ECONNRESET, "vhost-device: no such sibling: RST");
    ok(do_connect(s, 0, 2000, false) == -ECONNRESET, "CID 0: RST");
    uvirt_vsock_close(s);
}

static void test_records(struct wire *a, struct wire *b)
{
    sock *l = listener(b->guest, SOCK_SEQPACKET, 2001, 8), *r;
    sock *s = new_sock(a->guest, SOCK_SEQPACKET);
    u8 *big = pattern(262144), *got = malloc(262144);
    int flags;

    r = cross(s, l, 4, 2001);
    if (!ok(r != NULL, "for records"))
        return;
    do_send(s, "eor", 3, MSG_EOR);
    do_send(s, "none", 4, 0);
    ok(do_recv(r, got, 100, 0, &flags) == 3 && flags & MSG_EOR, "MSG_EOR passes");
    ok(do_recv(r, got, 100, 0, &flags) == 4 && !(flags & MSG_EOR), "and only where it was");
    ok(do_send(r, big, 262144, 0) == 262144 && do_recv(s, got, 262144, 0, NULL) == 262144 &&
           !memcmp(big, got, 262144),
       "a whole buffer in one record");
    uvirt_vsock_close(s);
    uvirt_vsock_close(r);
    uvirt_vsock_close(l);
    free(big);
    free(got);
}

/* One connection stands still, its sender at the end of its credit; another goes on. */
static void test_fairness(struct wire *a, struct wire *b)
{
    sock *l = listener(b->guest, SOCK_STREAM, 2002, 8);
    sock *full = new_sock(a->guest, SOCK_STREAM), *s = new_sock(a->guest, SOCK_STREAM), *fr, *r;
    u8 *data = pattern(65536), *got = malloc(65536);
    size_t sent = 0, back = 0;
    ssize_t n;
    bool same = true;

    fr = cross(full, l, 4, 2002);
    r = cross(s, l, 4, 2002);
    if (!ok(fr && r, "two connections"))
        return;
    for (;;) {
        n = do_send(full, data + sent % 65536, 65536 - sent % 65536, MSG_DONTWAIT);
        if (n <= 0 && !guest_writable_soon(full))
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    ok(sent < 4 << 20, "vhost-device: a sibling that does not read stops the sender");
    for (unsigned i = 0; i < 64; i++) {
        same = same && do_send(s, data, 4096, 0) == 4096 &&
               do_recv(r, got, 4096, MSG_WAITALL, NULL) == 4096 && !memcmp(got, data, 4096);
    }
    ok(same, "another connection is not stopped by that");
    while (back < sent && (n = do_recv(fr, got, 65536 - back % 65536, 0, NULL)) > 0) {
        same = same && !memcmp(got, data + back % 65536, (size_t)n);
        back += (size_t)n;
    }
    ok(back == sent && same, "nothing of it was lost");
    uvirt_vsock_close(full);
    uvirt_vsock_close(fr);
    uvirt_vsock_close(s);
    uvirt_vsock_close(r);
    uvirt_vsock_close(l);
    free(data);
    free(got);
}

static sock *flooded;
static _Atomic bool stop;

/* One byte a packet, as many as go. */
static void *flood(void *arg)
{
    while (!stop) {
        if (do_send(flooded, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
            pause_ms(1);
    }
    return arg;
}

static void *drain(void *arg)
{
    char buf[500];

    while (do_recv(arg, buf, sizeof(buf), 0, NULL) > 0)
        ;
    return NULL;
}

/* Both siblings send at once, more than there is room for anywhere; and one sends tiny packets only. */
static void test_crossing(struct wire *a, struct wire *b)
{
    sock *l = listener(b->guest, SOCK_STREAM, 2004, 8), *p[2], *fr, *r;
    sock *s = new_sock(a->guest, SOCK_STREAM);
    pthread_t threads[2];
    char back[100];
    bool good = true;

    p[0] = new_sock(a->guest, SOCK_STREAM);
    p[1] = cross(p[0], l, 4, 2004);
    if (!ok(p[1] != NULL, "one more"))
        return;
    transfer(p, 4 << 20, "vhost-device #384, #494: siblings that send to each other at once");
    close_pair(p);
    flooded = new_sock(a->guest, SOCK_STREAM);
    fr = cross(flooded, l, 4, 2004);
    r = cross(s, l, 4, 2004);
    if (!ok(fr && r, "two more"))
        return;
    pthread_create(&threads[0], NULL, flood, NULL);
    pthread_create(&threads[1], NULL, drain, fr);
    for (unsigned i = 0; i < 200; i++)
        good = good && do_send(s, back, sizeof(back), 0) == sizeof(back) &&
               do_recv(r, back, sizeof(back), MSG_WAITALL, NULL) == sizeof(back);
    ok(good, "gitlab vsock #1: many small packets of one connection do not starve another");
    stop = true;
    pthread_join(threads[0], NULL);
    uvirt_vsock_close(flooded);
    pthread_join(threads[1], NULL);
    uvirt_vsock_close(fr);
    uvirt_vsock_close(s);
    uvirt_vsock_close(r);
    uvirt_vsock_close(l);
}

/* Programs of the directory listen at DIR/2_PORT, and have CID 2 and ports of their own. */
static void test_programs(struct wire *a)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct sockaddr_un at = unix_address(path_of("3", ""));
    int l = listen_at(path_of("2_3000", ""), SOCK_STREAM, 4), own, fd = -1, n;
    sock *s = new_sock(a->guest, SOCK_STREAM), *g, *gl;
    struct sockaddr_vm peer;
    u32 cid, port;
    char line[64];

    ok(do_connect(s, 2, 3000, false) == 0 && (fd = accept_who(l, &cid, &port)) >= 0 && cid == 3,
       "a guest reaches a program at DIR/2_3000");
    close(fd);
    uvirt_vsock_close(s);
    own = listen_at(path_of("3_3000", ""), SOCK_STREAM, 4);
    s = new_sock(a->guest, SOCK_STREAM);
    ok(do_connect(s, 2, 3000, false) == 0 && (fd = accept_who(own, &cid, &port)) >= 0,
       "DIR/3_3000 comes first");
    close(fd);
    uvirt_vsock_close(s);
    close(own);
    close(l);

    gl = listener(a->guest, SOCK_STREAM, 2003, 8);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "uvirt-vsock/2:7777/%x", getpid());
    ok(!bind(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + (u32)n) &&
           !connect(fd, (struct sockaddr *)&at, sizeof(at)) &&
           send(fd, "CONNECT 2003\n", 13, 0) == 13 && read_line(fd, line) &&
           !strcmp(line, "OK 7777"),
       "a program that says its port gets that");
    g = accept_soon(gl);
    uvirt_vsock_getpeername(g, &peer);
    ok(peer.svm_cid == 2 && peer.svm_port == 7777, "and the guest sees it");
    close(fd);
    uvirt_vsock_close(g);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    n = snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "uvirt-vsock/3:1/%x", getpid());
    ok(!bind(fd, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + (u32)n) &&
           !connect(fd, (struct sockaddr *)&at, sizeof(at)) &&
           send(fd, "CONNECT 2003\n", 13, 0) == 13 && read_line(fd, line),
       "one that says it is the guest itself");
    g = accept_soon(gl);
    uvirt_vsock_getpeername(g, &peer);
    ok(peer.svm_cid == 2, "is the host");
    close(fd);
    uvirt_vsock_close(g);
    uvirt_vsock_close(gl);
}

int main(void)
{
    char why[VSOCK_UNIX_WHY] = "";
    struct wire a, b;

    begin();
    if (!ok(!wire_open(&a, 3, directory, 0, why) && !wire_open(&b, 4, directory, 0, why),
            "two guests of one directory %s", why))
        return tap_done();
    test_streams(&a, &b);
    test_records(&a, &b);
    test_fairness(&a, &b);
    test_crossing(&a, &b);
    test_programs(&a);
    wire_close(&a);
    wire_close(&b);
    end();
    return tap_done();
}
