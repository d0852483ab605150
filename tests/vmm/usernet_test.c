// SPDX-License-Identifier: MIT
// The user network from a guest's seat, without a guest: ARP, DHCP, ping, and a connection from a forwarded port.
#include "../virtio/driver.h"
#include "vmm/usernet.h"

#include "../tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <unistd.h>

#define V1      BIT(VIRTIO_F_VERSION_1)
#define HDR     sizeof(struct virtio_net_hdr_v1)
#define OUT     DRIVER_DATA
#define IN      (DRIVER_DATA + 0x10000)
#define BUFFERS 8
#define HANG_S  60

static struct driver v;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const u8 mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
static u8 router[6];

static u16 checksum(const void *data, size_t len)
{
    const u8 *p = data;
    u32 sum = 0;

    for (size_t i = 0; i + 1 < len; i += 2)
        sum += (u32)p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((u16)~sum);
}

static void offer(unsigned i)
{
    driver_add(&v, 0, &(struct virtq_seg){IN + 0x800 * i, 0x800}, 0, 1);
    driver_kick(&v, 0);
}

static void send_frame(const void *frame, size_t len)
{
    u32 id, used;

    pthread_mutex_lock(&lock);
    memset(driver_at(&v, OUT), 0, HDR);
    memcpy(driver_at(&v, OUT + HDR), frame, len);
    driver_add(&v, 1, &(struct virtq_seg){OUT, (u32)(HDR + len)}, 1, 0);
    driver_kick(&v, 1);
    while (!driver_used(&v, 1, &id, &used)) {
        pthread_mutex_unlock(&lock);
        usleep(1000);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
}

/* The next frame of (type) for us; alarm() ends a wait in vain. */
static size_t receive(u16 type, u8 frame[2048])
{
    static unsigned next;
    u32 id, used;

    for (;;) {
        bool got;

        pthread_mutex_lock(&lock);
        got = driver_used(&v, 0, &id, &used);
        if (got) {
            memcpy(frame, driver_at(&v, IN + 0x800 * next + HDR), used - HDR);
            offer(next);
            next = (next + 1) % BUFFERS;
        }
        pthread_mutex_unlock(&lock);
        if (got && frame[12] == type >> 8 && frame[13] == (type & 0xff))
            return used - HDR;
        if (!got)
            usleep(1000);
    }
}

struct arp_frame {
    struct ether_header eth;
    struct ether_arp arp;
} __attribute__((packed));

static void fill_arp(struct arp_frame *f, u16 op, const char *who)
{
    *f = (struct arp_frame){.eth.ether_type = htons(ETHERTYPE_ARP)};
    memset(f->eth.ether_dhost, 0xff, 6);
    memcpy(f->eth.ether_shost, mac, 6);
    f->arp.arp_hrd = htons(1);
    f->arp.arp_pro = htons(ETHERTYPE_IP);
    f->arp.arp_hln = 6;
    f->arp.arp_pln = 4;
    f->arp.arp_op = htons(op);
    memcpy(f->arp.arp_sha, mac, 6);
    inet_pton(AF_INET, "10.0.2.15", f->arp.arp_spa);
    inet_pton(AF_INET, who, f->arp.arp_tpa);
}

static void test_arp(void)
{
    struct arp_frame f;
    u8 in[2048];

    fill_arp(&f, ARPOP_REQUEST, "10.0.2.2");
    send_frame(&f, sizeof(f));
    ok(receive(ETHERTYPE_ARP, in) >= sizeof(f), "the router answers ARP");
    memcpy(&f, in, sizeof(f));
    ok(ntohs(f.arp.arp_op) == ARPOP_REPLY && !memcmp(f.arp.arp_spa, "\x0a\0\2\2", 4),
       "for 10.0.2.2");
    memcpy(router, f.arp.arp_sha, 6);
}

struct ip_frame {
    struct ether_header eth;
    struct iphdr ip;
    u8 data[300];
} __attribute__((packed));

static size_t fill_ip(struct ip_frame *f, u8 protocol, const char *from, const char *to, size_t len)
{
    memset(f, 0, sizeof(*f));
    memcpy(f->eth.ether_dhost, router, 6);
    memcpy(f->eth.ether_shost, mac, 6);
    f->eth.ether_type = htons(ETHERTYPE_IP);
    f->ip.version = 4;
    f->ip.ihl = 5;
    f->ip.ttl = 64;
    f->ip.protocol = protocol;
    f->ip.tot_len = htons((u16)(sizeof(f->ip) + len));
    inet_pton(AF_INET, from, &f->ip.saddr);
    inet_pton(AF_INET, to, &f->ip.daddr);
    f->ip.check = checksum(&f->ip, sizeof(f->ip));
    return sizeof(f->eth) + sizeof(f->ip) + len;
}

static void test_dhcp(void)
{
    struct ip_frame f;
    size_t len = fill_ip(&f, IPPROTO_UDP, "0.0.0.0", "255.255.255.255", 8 + 240 + 4);
    struct udphdr udp = {.source = htons(68), .dest = htons(67), .len = htons(8 + 240 + 4)};
    u8 *bootp = f.data + sizeof(udp), in[2048];

    memset(f.eth.ether_dhost, 0xff, 6);
    memcpy(f.data, &udp, sizeof(udp));
    bootp[0] = 1; /* BOOTREQUEST */
    bootp[1] = 1;
    bootp[2] = 6;
    memcpy(bootp + 28, mac, 6);
    memcpy(bootp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8); /* magic, DISCOVER, end */
    send_frame(&f, len);
    ok(receive(ETHERTYPE_IP, in) > 14 + 20 + 8 + 240, "DHCP answers");
    ok(in[14 + 28] == 2 && !memcmp(in + 14 + 28 + 16, "\x0a\0\2\x0f", 4), "with 10.0.2.15");
}

static void test_ping(void)
{
    struct ip_frame f;
    struct icmphdr h = {.type = ICMP_ECHO, .un.echo.id = 7};
    size_t len = fill_ip(&f, IPPROTO_ICMP, "10.0.2.15", "10.0.2.2", sizeof(h));
    u8 in[2048];

    h.checksum = checksum(&h, sizeof(h));
    memcpy(f.data, &h, sizeof(h));
    send_frame(&f, len);
    do {
        receive(ETHERTYPE_IP, in);
    } while (in[14 + 9] != IPPROTO_ICMP);
    ok(in[14 + 20] == ICMP_ECHOREPLY, "the router answers a ping");
}

static void test_forward(u16 port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct arp_frame reply;
    struct tcphdr tcp;
    u8 in[2048];

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ok(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0, "a client comes in");
    do {
        receive(ETHERTYPE_IP, in);
    } while (in[14 + 9] != IPPROTO_TCP);
    memcpy(&tcp, in + 14 + 20, sizeof(tcp));
    ok(tcp.syn && !tcp.ack && ntohs(tcp.dest) == 80 && !memcmp(in + 14 + 16, "\x0a\0\2\x0f", 4),
       "the guest gets its SYN at the forwarded port");
    fill_arp(&reply, ARPOP_REPLY, "10.0.2.2"); /* it goes on to be there */
    send_frame(&reply, sizeof(reply));
    close(fd);
}

int main(void)
{
    struct usernet_forward forwards[2] = {
        {.host.in = {.sin_family = AF_INET}, .guest.in = {.sin_family = AF_INET}}};
    struct usernet_options o = {.forwards = forwards, .nr_forwards = 1};
    struct virtio_device *dev, *dev2;
    struct usernet *u, *u2;
    struct vmm_error err;
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    int taken = socket(AF_INET, SOCK_STREAM, 0);
    unsigned bad = 99;

    alarm(HANG_S);
    /* A port that was free a moment ago, and one that is not. */
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(taken, (struct sockaddr *)&a, sizeof(a)) || listen(taken, 1) ||
        getsockname(taken, (struct sockaddr *)&a, &len))
        return 99;
    forwards[0].host.in = a;
    forwards[0].guest.in.sin_port = htons(80);
    if (usernet_create(&o, &u2, &dev2, &err))
        return 99;
    ok(usernet_start(u2, &lock, &bad, &err) == -EADDRINUSE && bad == 0, "a port that is taken");
    usernet_free(u2);
    virtio_device_free(dev2);
    close(taken);

    if (usernet_create(&o, &u, &dev, &err))
        return 99;
    driver_open(&v, dev);
    if (!ok(usernet_start(u, &lock, &bad, &err) == 0, "a network"))
        return tap_done();
    pthread_mutex_lock(&lock);
    driver_start(&v, V1, 2);
    for (unsigned i = 0; i < BUFFERS; i++)
        offer(i);
    pthread_mutex_unlock(&lock);
    test_arp();
    test_dhcp();
    test_ping();
    test_forward(ntohs(a.sin_port));
    usernet_free(u);
    driver_close(&v);
    return tap_done();
}
