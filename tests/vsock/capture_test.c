// SPDX-License-Identifier: MIT
// Captures byte by byte, and the counters of connections.
#include "unix_host.h"
#include "vsock/capture.h"
#include "vsock/stats.h"

#include <endian.h>

static u8 *file;
static size_t size;

static u32 le32(size_t at)
{
    u32 v;

    memcpy(&v, file + at, sizeof(v));
    return le32toh(v);
}

static u16 le16(size_t at)
{
    u16 v;

    memcpy(&v, file + at, sizeof(v));
    return le16toh(v);
}

static void read_file(const char *path)
{
    FILE *f = fopen(path, "r");

    file = malloc(1 << 20);
    size = f ? fread(file, 1, 1 << 20, f) : 0;
    if (f)
        fclose(f);
}

/* Offsets: 16 bytes of pcap's record header, 32 of vsockmon's, 44 of virtio's. */
static void check_packets(u32 port)
{
    size_t at = 24;
    unsigned connects = 0, ends = 0, payloads = 0;
    bool sane = true, data = false;

    while (at + 16 + 76 <= size) {
        u32 len = le32(at + 8);
        u16 op = le16(at + 16 + 24);

        sane = sane && len == le32(at + 12) && len == 76 + le32(at + 16 + 32 + 24) &&
               le16(at + 16 + 26) == 2 && le16(at + 16 + 28) == 44 && at + 16 + len <= size &&
               le32(at + 16) == le32(at + 48) && le32(at + 16 + 16) == le32(at + 48 + 16);
        connects += op == 1;
        ends += op == 2;
        payloads += op == 4;
        if (op == 4 && len == 76 + 5 && le32(at + 16 + 20) == port)
            data = !memcmp(file + at + 16 + 76, "hello", 5);
        at += 16 + len;
    }
    ok(at == size && sane, "every packet has its headers, lengths and payload");
    ok(connects == 2 && payloads == 2 && ends >= 1, "two to connect, two with payload, an end");
    ok(data, "CVE-2026-46207: the payload is what was sent");
}

/* Everything that waits in (fd); the packets' number, and how many were dropped before the last. */
static unsigned drain(int fd, u64 *dropped, u32 *caplen, u32 *len)
{
    static u8 record[8 + 16 + VSOCK_CAPTURE_WHOLE];
    unsigned n = 0;
    ssize_t got;

    while ((got = recv(fd, record, sizeof(record), MSG_DONTWAIT)) > 0) {
        memcpy(dropped, record, 8);
        memcpy(caplen, record + 16, 4);
        memcpy(len, record + 20, 4);
        n += (size_t)got == 8 + 16 + *caplen;
    }
    return n;
}

static void test_attach(void)
{
    char why[VSOCK_UNIX_WHY], big[4096] = {1};
    struct wire w;
    sock *l, *g, *s;
    u64 dropped = 0;
    u32 caplen = 0, len = 0, magic;
    u8 head[64];
    int sv[9][2];

    if (!ok(!wire_open(&w, 3, path_of("v2", ""), 0, why), "a guest"))
        return;
    for (unsigned i = 0; i < 9; i++)
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv[i]))
            exit(1);
    ok(vsock_capture_attach(w.host, sv[0][0], 75) == -EINVAL, "less than the headers");
    ok(vsock_capture_attach(w.host, sv[0][0], VSOCK_CAPTURE_WHOLE + 1) == -EINVAL, "too much");
    for (unsigned i = 0; i < 8; i++)
        ok(!vsock_capture_attach(w.host, sv[i][0], 100), "socket %u", i);
    ok(vsock_capture_attach(w.host, sv[8][0], 100) == -EBUSY, "one too many");
    is_u64(recv(sv[0][1], head, sizeof(head), MSG_DONTWAIT), 24, "the file's header comes first");
    memcpy(&magic, head, 4);
    is_u64(magic, 0xa1b23c4d, "it is pcap's");
    close(sv[7][1]);
    ok(!vsock_capture_attach(w.host, sv[8][0], 100), "the place of one that has gone is free");
    l = listener(w.host, SOCK_STREAM, 5000, 4);
    g = new_sock(w.guest, SOCK_STREAM);
    do_connect(g, 2, 5000, false);
    s = accept_soon(l);
    do_send(g, big, sizeof(big), 0);
    ok(do_recv(s, big, sizeof(big), MSG_WAITALL, NULL) == (ssize_t)sizeof(big), "4096 bytes pass");
    is_u64(drain(sv[0][1], &dropped, &caplen, &len) >= 3, true, "its packets are there");
    is_u64(dropped, 0, "none was dropped");
    for (unsigned i = 0; i < 20000; i++) {
        do_send(g, big, 64, 0);
        if (do_recv(s, big, 64, MSG_WAITALL, NULL) != 64)
            exit(1);
    }
    drain(sv[0][1], &dropped, &caplen, &len);
    do_send(g, big, sizeof(big), 0);
    ok(do_recv(s, big, sizeof(big), MSG_WAITALL, NULL) == (ssize_t)sizeof(big),
       "a reader that stalls stops nobody");
    drain(sv[0][1], &dropped, &caplen, &len);
    ok(dropped > 0, "but loses packets: %llu", (unsigned long long)dropped);
    ok(caplen == 100 && len >= 76, "what is kept of a packet is cut off");
    uvirt_vsock_close(g);
    uvirt_vsock_close(s);
    uvirt_vsock_close(l);
    wire_close(&w);
    for (unsigned i = 0; i < 9; i++)
        if (i != 7)
            close(sv[i][1]);
    close(sv[7][0]);
}

static void test_capture(void)
{
    char why[VSOCK_UNIX_WHY];
    struct wire w;
    sock *l, *g, *s;
    char buf[8];

    if (!ok(!wire_open(&w, 3, path_of("v", ""), 0, why), "a guest"))
        return;
    ok(!vsock_capture_start(w.host, path_of("pcap", "")), "a capture starts");
    ok(vsock_capture_start(w.host, path_of("other", "")) == -EBUSY, "a second does not");
    ok(vsock_capture_start(w.host, path_of("none/x", "")) == -ENOENT, "nor one into nowhere");
    l = listener(w.host, SOCK_STREAM, 5000, 4);
    g = new_sock(w.guest, SOCK_STREAM);
    do_connect(g, 2, 5000, false);
    s = accept_soon(l);
    do_send(g, "hello", 5, 0);
    do_recv(s, buf, 5, MSG_WAITALL, NULL);
    do_send(s, "world!!", 7, 0);
    do_recv(g, buf, 7, MSG_WAITALL, NULL);
    uvirt_vsock_close(g);
    do_recv(s, buf, 1, 0, NULL);
    uvirt_vsock_close(s);
    uvirt_vsock_close(l);
    wire_close(&w);
    read_file(path_of("pcap", ""));
    ok(size > 24 && le32(0) == 0xa1b23c4d && le16(4) == 2 && le16(6) == 4 && le32(20) == 271,
       "the file's header: nanoseconds, version 2.4, link type 271");
    check_packets(5000);
    free(file);
}

static void test_counters(void)
{
    struct vsock_connection list[8];
    struct vsock_counts sum;
    char why[VSOCK_UNIX_WHY];
    struct wire w;
    sock *l, *g, *s;
    char buf[100];
    size_t n;
    u64 ever;

    if (!ok(!wire_open(&w, 3, path_of("v", ""), 0, why), "a guest"))
        return;
    l = listener(w.host, SOCK_SEQPACKET, 5001, 4);
    g = new_sock(w.guest, SOCK_SEQPACKET);
    do_connect(g, 2, 5001, false);
    s = accept_soon(l);
    do_send(g, buf, 10, 0);
    do_send(g, buf, 20, 0);
    do_send(s, buf, 7, 0);
    do_recv(s, buf, 100, 0, NULL);
    do_recv(s, buf, 100, 0, NULL);
    do_recv(g, buf, 100, 0, NULL);
    n = vsock_stats_get(w.host, list, 8, &sum, &ever);
    ok(n == 1 && ever == 1 && list[0].open && list[0].local_cid == 2 &&
           list[0].local_port == 5001 && list[0].remote_cid == 3,
       "an open connection is listed");
    ok(list[0].counts.rx_bytes == 30 && list[0].counts.rx_pkts == 2 &&
           list[0].counts.tx_bytes == 7 && list[0].counts.tx_pkts == 1 && sum.rx_bytes == 30,
       "with its counters");
    do_recv(s, buf, 1, MSG_DONTWAIT, NULL);
    uvirt_vsock_close(s);
    uvirt_vsock_close(g);
    uvirt_vsock_close(l);
    do {
        n = vsock_stats_get(w.host, list, 8, &sum, &ever);
        pause_ms(1);
    } while (n == 1 && list[0].open);
    ok(n == 1 && ever == 1 && list[0].counts.rx_bytes == 30 && sum.tx_bytes == 7,
       "and stays so when it has ended");
    wire_close(&w);
}

int main(void)
{
    begin();
    test_capture();
    test_attach();
    test_counters();
    end();
    return tap_done();
}
