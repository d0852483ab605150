// SPDX-License-Identifier: MIT
// A guest's connections on Unix sockets: handshakes, names, streams, records, ends, limits.
#include "unix_host.h"
#include "vsock/transport/unix_name.h"

#include <sys/stat.h>

#define GUEST 3

/* A connection from the host and the guest's end of it. */
static int call_guest(struct wire *w, const char *suffix, int type, int guest_type, u32 port,
                      sock **guest)
{
    sock *l = listener(w->guest, guest_type, port, 8);
    int fd = dial(path_of("v", suffix), type, port);

    *guest = fd >= 0 ? accept_soon(l) : NULL;
    uvirt_vsock_close(l);
    return fd;
}

static void test_stream(struct wire *w)
{
    struct sockaddr_vm a;
    char buf[100];
    sock *g;
    int fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);

    if (!ok(fd >= 0 && g, "a client connects to the guest's port"))
        return;
    uvirt_vsock_getpeername(g, &a);
    ok(a.svm_cid == 2, "its CID is the host's");
    ok(do_send(g, "from guest", 10, 0) == 10 && read_all(fd, buf, 10) == 10 &&
           !memcmp(buf, "from guest", 10),
       "bytes of the guest arrive");
    ok(send(fd, "from host", 9, 0) == 9 && do_recv(g, buf, 9, MSG_WAITALL, NULL) == 9 &&
           !memcmp(buf, "from host", 9),
       "bytes of the host arrive");
    shutdown(fd, SHUT_WR);
    ok(do_recv(g, buf, sizeof(buf), 0, NULL) == 0, "the host's half-close reaches the guest");
    ok(do_send(g, "more", 4, 0) == 4 && read_all(fd, buf, 4) == 4, "the other direction goes on");
    uvirt_vsock_shutdown(g, SHUT_WR);
    ok(read(fd, buf, sizeof(buf)) == 0, "the guest's half-close reaches the host");
    uvirt_vsock_close(g);
    close(fd);

    fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);
    uvirt_vsock_shutdown(g, SHUT_WR);
    ok(read(fd, buf, sizeof(buf)) == 0 && send(fd, "late", 4, 0) == 4 &&
           do_recv(g, buf, 4, MSG_WAITALL, NULL) == 4,
       "the guest's half-close first, then bytes of the host");
    uvirt_vsock_close(g);
    ok(wait_write_fails(fd), "close() in the guest ends the host's writing");
    close(fd);

    fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);
    uvirt_vsock_shutdown(g, SHUT_RD);
    ok(wait_write_fails(fd), "a guest that reads no more ends the host's writing");
    ok(do_send(g, "still", 5, 0) == 5 && read_all(fd, buf, 5) == 5, "and can write itself");
    close(fd);
    ok(do_recv(g, buf, 1, 0, NULL) == 0 && guest_write_fails(g), "close() of the host ends it all");
    uvirt_vsock_close(g);
}

static bool told_deaf(sock *g)
{
    struct vsock_sock *sk = (struct vsock_sock *)g;
    bool yes;

    vsock_lock(sk->ctx);
    yes = sk->peer_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV;
    vsock_unlock(sk->ctx);
    return yes;
}

/* Linux's vsock_test counts on both: "SOCK_STREAM server close", "SOCK_STREAM SHUT_RD". */
static void test_ends(struct wire *w)
{
    unsigned at_once = 0;
    char buf[8];
    sock *g;
    int fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);

    shutdown(fd, SHUT_RD);
    while (!told_deaf(g))
        pause_ms(1);
    ok(do_send(g, "y", 1, 0) < 0, "a host that reads no more ends the guest's writing, unwritten");
    ok(send(fd, "still", 5, 0) == 5 && do_recv(g, buf, 5, MSG_WAITALL, NULL) == 5,
       "and can write itself");
    close(fd);
    uvirt_vsock_close(g);
    for (unsigned i = 0; i < 200; i++) {
        fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);
        send(fd, "x", 1, 0);
        close(fd);
        at_once += do_recv(g, buf, 1, 0, NULL) == 1 && do_recv(g, buf, 1, 0, NULL) == 0 &&
                   do_send(g, "y", 1, 0) < 0;
        uvirt_vsock_close(g);
    }
    is_u64(at_once, 200, "close() of the host ends both ways at once");
}

/* CONNECT in pieces, with company, and in forms that are refused. */
static void test_hello(struct wire *w)
{
    static const char *const bad[] = {"CONNECT\n",
                                      "CONNECT \n",
                                      "CONNECT x\n",
                                      "CONNECT 1052x\n",
                                      "CONNECT -1\n",
                                      "CONNECT 4294967296\n",
                                      "CONNECT 99999999999999999999\n",
                                      "CONNECT1052\n",
                                      "HELLO 1052\n",
                                      "\n",
                                      "CONNECT 1052 53\n",
                                      "CONNECT                        1052\n"};
    static const char line[] = "connect 1052\npayload";
    sock *l = listener(w->guest, SOCK_STREAM, 1052, 64), *g;
    char buf[64];
    bool good = true;
    int fd;

    for (size_t cut = 1; cut < sizeof(line) - 1; cut++) {
        fd = dial_raw(path_of("v", ""), SOCK_STREAM);
        send(fd, line, cut, 0);
        pause_ms(2);
        send(fd, line + cut, sizeof(line) - 1 - cut, 0);
        g = accept_soon(l);
        good = good && read_line(fd, buf) && !strncmp(buf, "OK ", 3) && g &&
               do_recv(g, buf, 7, MSG_WAITALL, NULL) == 7 && !memcmp(buf, "payload", 7);
        if (g)
            uvirt_vsock_close(g);
        close(fd);
    }
    ok(good, "Cloud Hypervisor #7195, Firecracker, vhost-device: CONNECT cut at every byte, "
             "payload behind it: nothing is lost");

    fd = dial_raw(path_of("v", ""), SOCK_STREAM);
    send(fd, line, sizeof(line) - 1, 0);
    shutdown(fd, SHUT_WR);
    g = accept_soon(l);
    ok(g && do_recv(g, buf, sizeof(buf), MSG_WAITALL, NULL) == 7 && read_line(fd, buf) &&
           !strncmp(buf, "OK ", 3) && do_send(g, "answer", 6, 0) == 6 && read_all(fd, buf, 6) == 6,
       "a half-close right behind the payload leaves OK and the answer intact");
    uvirt_vsock_close(g);
    close(fd);

    fd = dial_raw(path_of("v", ""), SOCK_STREAM);
    send(fd, line, sizeof(line) - 1, 0);
    close(fd);
    g = accept_soon(l);
    ok(g && do_recv(g, buf, 7, MSG_WAITALL, NULL) == 7 && do_recv(g, buf, 1, 0, NULL) <= 0,
       "vhost-device: a client that is gone before OK: its bytes arrive, then the end");
    uvirt_vsock_close(g);

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        fd = dial_raw(path_of("v", ""), SOCK_STREAM);
        send(fd, bad[i], strlen(bad[i]), 0);
        ok(wait_closed(fd), "refused: %.*s", (int)strcspn(bad[i], "\n"), bad[i]);
        close(fd);
    }
    fd = dial_raw(path_of("v", ""), SOCK_STREAM);
    send(fd, "CONN", 4, 0);
    shutdown(fd, SHUT_WR);
    ok(wait_closed(fd), "refused: a line that ends too early");
    close(fd);
    fd = dial_raw(path_of("v", ""), SOCK_STREAM);
    send(fd, "CONNECT 1053\n", 13, 0);
    ok(wait_closed(fd), "refused: a port where nobody listens in the guest");
    close(fd);
    fd = dial_raw(path_of("v", VSOCK_UNIX_SEQPACKET), SOCK_SEQPACKET);
    send(fd, "CONNECT 1052\n", 13, 0);
    ok(wait_closed(fd), "type mismatch: refused: a port with the other type");
    close(fd);
    vsock_device_stop(w->dev);
    fd = dial_raw(path_of("v", ""), SOCK_STREAM);
    send(fd, "CONNECT 1052\n", 13, 0);
    ok(wait_closed(fd), "refused: no guest is there");
    close(fd);
    vsock_device_start(w->dev, true, true);
    uvirt_vsock_close(l);
}

static void test_records(struct wire *w)
{
    u8 *big = pattern(300000), *got = malloc(300000);
    char buf[100];
    int flags, fd;
    sock *g;

    fd = call_guest(w, VSOCK_UNIX_SEQPACKET, SOCK_SEQPACKET, SOCK_SEQPACKET, 1060, &g);
    if (!ok(fd >= 0 && g, "a client connects for records"))
        return;
    send(fd, "one", 3, 0);
    send(fd, "", 0, 0);
    send(fd, "three", 5, 0);
    ok(do_recv(g, buf, 100, 0, NULL) == 3 && do_recv(g, buf, 100, 0, NULL) == 5,
       "Firecracker #5595: records of the host stay apart; an empty one is neither sent nor the "
       "end");
    do_send(g, "four", 4, 0);
    do_send(g, "fifth", 5, MSG_EOR);
    ok(recv(fd, buf, 100, 0) == 4 && recv(fd, buf, 100, 0) == 5,
       "Firecracker #5595: records of the guest stay apart");
    ok(send(fd, big, 200000, 0) == 200000 && do_recv(g, got, 300000, 0, NULL) == 200000 &&
           !memcmp(got, big, 200000),
       "200,000 bytes in one record to the guest");
    ok(do_send(g, big, 262144, 0) == 262144 && recv(fd, got, 300000, 0) == 262144 &&
           !memcmp(got, big, 262144),
       "a whole vsock buffer in one record to the host");
    set_size(g, SO_VM_SOCKETS_BUFFER_SIZE, 4096);
    send(fd, "x", 1, 0);
    do_recv(g, buf, 1, 0, NULL);
    send(fd, big, 5000, 0);
    ok(wait_closed(fd), "a record that the guest can never hold ends the connection");
    close(fd);
    uvirt_vsock_close(g);

    fd = call_guest(w, VSOCK_UNIX_SEQPACKET, SOCK_SEQPACKET, SOCK_SEQPACKET, 1060, &g);
    send(fd, "last", 4, 0);
    send(fd, "", 0, 0);
    shutdown(fd, SHUT_WR);
    ok(do_recv(g, buf, 100, 0, NULL) == 4 && do_recv(g, buf, 100, 0, NULL) == 0,
       "half-close behind records");
    do_send(g, "bye", 3, 0);
    uvirt_vsock_close(g);
    ok(recv(fd, buf, 100, 0) == 3 && recv(fd, buf, 100, 0) == 0,
       "a record, then the guest's close");
    close(fd);

    fd = call_guest(w, VSOCK_UNIX_FRAMED, SOCK_STREAM, SOCK_SEQPACKET, 1061, &g);
    if (!ok(fd >= 0 && g, "a client connects in framed mode"))
        return;
    send_frame(fd, "eor", 3, VSOCK_FRAME_EOM | VSOCK_FRAME_EOR);
    send_frame(fd, "", 0, VSOCK_FRAME_EOM);
    send_frame(fd, "in ", 3, 0);
    send_frame(fd, "pieces", 6, 0);
    send_frame(fd, "", 0, VSOCK_FRAME_EOM);
    ok(do_recv(g, buf, 100, 0, &flags) == 3 && flags & MSG_EOR, "MSG_EOR reaches the guest");
    ok(do_recv(g, buf, 100, 0, &flags) == 9 && !(flags & MSG_EOR) && !memcmp(buf, "in pieces", 9),
       "a record in fragments, the last one empty, is one");
    do_send(g, "eor", 3, MSG_EOR);
    ok(recv_frames(fd, got, 100, &flags) == 3 && flags,
       "MSG_EOR, which AF_UNIX drops, reaches the host");
    do_send(g, "none", 4, 0);
    ok(recv_frames(fd, got, 100, &flags) == 4 && !flags, "Firecracker #5595: and is not invented");
    set_size(g, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 1 << 20);
    set_size(g, SO_VM_SOCKETS_BUFFER_SIZE, 1 << 20);
    ok(do_send(g, big, 300000, 0) == 300000 && recv_frames(fd, got, 300000, &flags) == 300000 &&
           !memcmp(got, big, 300000),
       "limits: a record above AF_UNIX's of datagrams to the host");
    for (size_t at = 0; at < 300000; at += 60000)
        send_frame(fd, big + at, 60000, at == 240000 ? VSOCK_FRAME_EOM : 0);
    ok(do_recv(g, got, 300000, 0, NULL) == 300000 && !memcmp(got, big, 300000),
       "and one to the guest");
    send_frame(fd, "cut", 3, 0);
    close(fd);
    ok(do_recv(g, buf, 100, 0, NULL) <= 0 && guest_write_fails(g),
       "an end in the middle of a record resets the connection");
    uvirt_vsock_close(g);

    fd = call_guest(w, VSOCK_UNIX_FRAMED, SOCK_STREAM, SOCK_SEQPACKET, 1061, &g);
    send(fd, "\xff\xff\xff\xff", 4, 0);
    ok(wait_closed(fd), "so does a header that is none");
    close(fd);
    uvirt_vsock_close(g);
    free(big);
    free(got);
}

static void test_to_host(struct wire *w)
{
    int l, m, fd;
    u32 cid, port;
    struct sockaddr_vm a;
    char buf[100];
    sock *g = new_sock(w->guest, SOCK_STREAM);

    ok(do_connect(g, 2, 5000, false) == -ECONNRESET,
       "libkrun, vhost-device #943: nobody listens at PATH_5000: RST");
    l = listen_at(path_of("v", "_5000"), SOCK_STREAM, 4);
    ok(do_connect(g, 2, 5000, false) == 0, "a guest connects to PATH_5000");
    fd = accept_who(l, &cid, &port);
    uvirt_vsock_getsockname(g, &a);
    ok(cid == GUEST && port == a.svm_port, "whose CID and port the address tells");
    do_send(g, "hello", 5, 0);
    ok(read_all(fd, buf, 5) == 5 && send(fd, "world", 5, 0) == 5 &&
           do_recv(g, buf, 5, MSG_WAITALL, NULL) == 5,
       "bytes both ways");
    close(fd);
    ok(do_recv(g, buf, 1, 0, NULL) == 0, "the end");
    uvirt_vsock_close(g);

    g = new_sock(w->guest, SOCK_SEQPACKET);
    ok(do_connect(g, 2, 5000, false) == -ECONNRESET,
       "type mismatch: a listener of the other type: RST");
    m = listen_at(path_of("v", "_5000_seqpacket"), SOCK_SEQPACKET, 4);
    ok(do_connect(g, 2, 5000, false) == 0, "records go to PATH_5000_seqpacket beside it");
    fd = accept_who(m, &cid, &port);
    do_send(g, "a", 1, 0);
    do_send(g, "bc", 2, 0);
    ok(recv(fd, buf, 100, 0) == 1 && recv(fd, buf, 100, 0) == 2, "as records");
    close(fd);
    uvirt_vsock_close(g);
    close(l);
    close(m);
    unlink(path_of("v", "_5000"));
    unlink(path_of("v", "_5000_seqpacket"));

    l = listen_at(path_of("v", "_5001"), SOCK_SEQPACKET, 4);
    g = new_sock(w->guest, SOCK_SEQPACKET);
    ok(do_connect(g, 2, 5001, false) == 0, "records go to a PATH_5001 of their type");
    uvirt_vsock_close(g);
    close(l);
    unlink(path_of("v", "_5001"));

    g = new_sock(w->guest, SOCK_STREAM);
    ok(do_connect(g, 4, 5000, false) == -ECONNRESET, "without a group, another CID: RST");
    uvirt_vsock_close(g);
}

/* A listener whose backlog is full makes the guest wait, and nobody else. */
static void test_backlog(struct wire *w)
{
    int l = listen_at(path_of("v", "_5002"), SOCK_STREAM, 0), fd[4];
    sock *g[4];
    bool good = true;

    for (int i = 0; i < 4; i++) {
        g[i] = new_sock(w->guest, SOCK_STREAM);
        good = good && do_connect(g[i], 2, 5002, true) == -EINPROGRESS;
    }
    test_stream(w);
    for (int i = 0; i < 4; i++) {
        fd[i] = accept(l, NULL, NULL);
        good = good && fd[i] >= 0 && send(fd[i], "x", 1, 0) == 1;
    }
    for (int i = 0; i < 4; i++) {
        char byte;

        while (uvirt_vsock_poll(g[i]) == 0)
            pause_ms(1);
        good = good && get_int(g[i], SO_ERROR) == 0;
        good = good && do_recv(g[i], &byte, 1, 0, NULL) == 1;
        uvirt_vsock_close(g[i]);
    }
    ok(good, "Firecracker, Cloud Hypervisor, vhost-device: a full backlog blocks nobody else, and "
             "four requests get through");
    for (int i = 0; i < 4; i++)
        close(fd[i]);
    close(l);
    unlink(path_of("v", "_5002"));
}

/* Neither side's memory grows when the other does not read. */
static void test_pressure(struct wire *w)
{
    u8 *data = pattern(65536), *got = malloc(65536);
    size_t sent = 0, read_bytes = 0;
    bool same = true;
    ssize_t n;
    sock *g;
    int fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);

    while ((n = send_soon(fd, data, 65536 - sent % 65536)) > 0)
        sent += (size_t)n;
    ok(sent < 4 << 20, "a guest that does not read stops the host after some bytes");
    while (read_bytes < sent && (n = do_recv(g, got, 65536 - read_bytes % 65536, 0, NULL)) > 0) {
        same = same && !memcmp(got, data + read_bytes % 65536, (size_t)n);
        read_bytes += (size_t)n;
    }
    ok(read_bytes == sent && same, "and gets all of them later");
    sent = read_bytes = 0;
    for (;;) {
        n = do_send(g, data + sent % 65536, 65536 - sent % 65536, MSG_DONTWAIT);
        if (n <= 0 && !guest_writable_soon(g))
            break;
        sent += n > 0 ? (size_t)n : 0;
    }
    ok(sent < 4 << 20, "a host that does not read stops the guest");
    while (read_bytes < sent && (n = recv(fd, got, 65536 - read_bytes % 65536, 0)) > 0) {
        same = same && !memcmp(got, data + read_bytes % 65536, (size_t)n);
        read_bytes += (size_t)n;
    }
    ok(read_bytes == sent && same, "and gets all of it later");
    close(fd);
    uvirt_vsock_close(g);
    free(data);
    free(got);
}

static void test_resets(struct wire *w)
{
    char buf[16];
    sock *g;
    int fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);

    do_send(g, "unread", 6, 0);
    wait_readable(fd);
    close(fd);
    ok(guest_write_fails(g), "a client that goes with bytes unread resets the guest's end");
    uvirt_vsock_close(g);
    fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);
    do_send(g, "bye", 3, 0);
    wait_readable(fd);
    vsock_device_reset(w->dev);
    ok(read_all(fd, buf, 3) == 3 && wait_closed(fd), "a guest that restarts ends the client's");
    close(fd);
    uvirt_vsock_close(g);
}

static void test_limits(struct wire *w)
{
    int idle[VSOCK_UNIX_HANDSHAKES + 20];
    unsigned closed = 0;
    sock *g;
    int fd;

    for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
        idle[i] = dial_raw(path_of("v", ""), SOCK_STREAM);
    fd = call_guest(w, "", SOCK_STREAM, SOCK_STREAM, 1052, &g);
    ok(fd >= 0 && g, "Firecracker, Cloud Hypervisor: clients that say nothing keep nobody out");
    close(fd);
    uvirt_vsock_close(g);
    for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
        closed += is_closed(idle[i]);
    ok(closed >= 20 && closed < 40, "the oldest of them had to go");
    for (size_t i = 0; i < ARRAY_SIZE(idle); i++)
        close(idle[i]);
}

static void test_timeout(void)
{
    char why[VSOCK_UNIX_WHY];
    struct wire w;
    int fd;

    if (!ok(wire_open(&w, GUEST, path_of("t", ""), 50, why) == 0, "a short handshake timeout"))
        return;
    fd = dial_raw(path_of("t", ""), SOCK_STREAM);
    send(fd, "CONN", 4, 0);
    ok(wait_closed(fd), "Firecracker, Cloud Hypervisor: ends a client that does not go on");
    close(fd);
    wire_close(&w);
}

static void test_files(struct wire *w)
{
    char why[VSOCK_UNIX_WHY] = "", longest[200];
    struct vsock_unix_listener stale;
    struct wire other;
    struct stat st;
    int fd;

    ok(wire_open(&other, 4, path_of("v", ""), 0, why) == -EADDRINUSE && strstr(why, "listens"),
       "a path where somebody listens: %s", base_name(why));
    fd = creat(path_of("file", ""), 0600);
    close(fd);
    ok(wire_open(&other, 4, path_of("file", ""), 0, why) == -EEXIST && strstr(why, "not a socket"),
       "a path that is a file: %s", base_name(why));
    memset(longest, 'x', sizeof(longest));
    longest[VSOCK_UNIX_PATH_MAX + 1] = 0;
    ok(wire_open(&other, 4, longest, 0, why) == -ENAMETOOLONG, "a path too long: %s", why);
    ok(wire_open(&other, 4, path_of("none/v", ""), 0, why) == -ENOENT,
       "a directory that is not there");
    ok(!vsock_unix_listen(path_of("stale", ""), SOCK_STREAM, &stale, why, sizeof(why)),
       "a listener that dies and leaves its file");
    close(stale.fd);
    ok(!wire_open(&other, 4, path_of("stale", ""), 0, why), "is replaced");
    wire_close(&other);
    ok(stat(path_of("stale", ""), &st) < 0 && stat(path_of("stale", "_framed"), &st) < 0,
       "files go with their bridge");
}

int main(void)
{
    char why[VSOCK_UNIX_WHY];
    struct wire w;

    begin();
    if (!ok(wire_open(&w, GUEST, path_of("v", ""), 0, why) == 0, "a bridge"))
        return tap_done();
    test_stream(&w);
    test_ends(&w);
    test_hello(&w);
    test_records(&w);
    test_to_host(&w);
    test_backlog(&w);
    test_pressure(&w);
    test_resets(&w);
    test_limits(&w);
    test_timeout();
    test_files(&w);
    wire_close(&w);
    end();
    return tap_done();
}
