// SPDX-License-Identifier: MIT
// vsock without a VM: a driver's seat against a device's, and an AF_UNIX pair in the same run as the ceiling.

/*
 * Each figure is the median of ROUNDS; the two kinds of pair take turns, so that a busy machine
 * slows both. Time is from the first send to the last byte received, CPU that of all threads.
 */
#include "base/types.h"
#include "uvirt/vsock.h"
#include "virtio/vsock.h"
#include "virtio/vsock_local.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define GUEST_CID 3
#define BUF_MAX   (256u << 10)
#define ROUNDS    5
#define PINGS     20000
#define IDLE      1000

struct end {
    int fd; /* of an AF_UNIX socket, or -1 */
    struct uvirt_vsock_socket *s;
};

struct pair {
    struct end guest, host;
};

struct seats {
    struct uvirt_vsock *host, *guest;
    struct virtio_vsock_local *local;
};

static double run_seconds = 0.25;

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double cpu(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static ssize_t put(struct end *e, const void *buf, size_t len)
{
    struct iovec v = {(void *)buf, len};

    return e->fd >= 0 ? send(e->fd, buf, len, MSG_NOSIGNAL) : uvirt_vsock_send(e->s, &v, 1, 0);
}

static ssize_t get(struct end *e, void *buf, size_t len)
{
    struct iovec v = {buf, len};
    int flags = 0;

    return e->fd >= 0 ? recv(e->fd, buf, len, 0) : uvirt_vsock_recv(e->s, &v, 1, &flags);
}

static void end_sending(struct end *e)
{
    if (e->fd >= 0)
        shutdown(e->fd, SHUT_WR);
    else
        uvirt_vsock_shutdown(e->s, SHUT_WR);
}

static void end_close(struct end *e)
{
    if (e->fd >= 0)
        close(e->fd);
    else
        uvirt_vsock_close(e->s);
}

static void open_seats(struct seats *s)
{
    struct uvirt_vsock_config host = {.size = sizeof(host), .cid = VMADDR_CID_HOST};
    struct uvirt_vsock_config guest = {.size = sizeof(guest), .cid = GUEST_CID};
    struct vsock_driver_options o = {
        .features = BIT(VIRTIO_VSOCK_F_STREAM) | BIT(VIRTIO_VSOCK_F_SEQPACKET) |
                    BIT(VIRTIO_RING_F_EVENT_IDX),
        .rx_size = 44 + 65536,
    };

    if (uvirt_vsock_create(&host, &s->host) || uvirt_vsock_create(&guest, &s->guest) ||
        virtio_vsock_local_create(s->host, s->guest, &o, &s->local))
        die("seats");
}

static struct pair open_pair(struct seats *s, int type)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 5000};
    struct pair p = {{-1, NULL}, {-1, NULL}};
    struct uvirt_vsock_socket *l;
    int fds[2];

    if (!s) {
        if (socketpair(AF_UNIX, type, 0, fds))
            die("socketpair");
        p.guest.fd = fds[0];
        p.host.fd = fds[1];
        return p;
    }
    if (uvirt_vsock_socket(s->host, type, &l) || uvirt_vsock_bind(l, &a, sizeof(a)) ||
        uvirt_vsock_listen(l, 8) || uvirt_vsock_socket(s->guest, type, &p.guest.s))
        die("listen");
    a.svm_cid = VMADDR_CID_HOST;
    if (uvirt_vsock_connect(p.guest.s, &a, sizeof(a), false) ||
        uvirt_vsock_accept(l, false, &p.host.s))
        die("connect");
    uvirt_vsock_close(l);
    return p;
}

struct job {
    struct end *e;
    size_t size;
    double until;
    u64 bytes;
};

static void *sender(void *arg)
{
    static u8 buf[BUF_MAX];
    struct job *j = arg;

    do {
        for (int i = 0; i < 16; i++) {
            ssize_t n = put(j->e, buf, j->size);

            if (n != (ssize_t)j->size)
                die("send");
            j->bytes += j->size;
        }
    } while (now() < j->until);
    end_sending(j->e);
    return NULL;
}

struct figure {
    double mb_s, cpu_gb;
};

static struct figure transfer(struct seats *s, int type, bool to_host, size_t size)
{
    static u8 buf[BUF_MAX];
    struct pair p = open_pair(s, type);
    struct end *to = to_host ? &p.host : &p.guest;
    double start = now(), cpu_start = cpu(), t;
    struct job j = {to_host ? &p.guest : &p.host, size, start + run_seconds, 0};
    pthread_t thread;
    u64 bytes = 0;
    ssize_t n;

    pthread_create(&thread, NULL, sender, &j);
    while ((n = get(to, buf, sizeof(buf))) > 0)
        bytes += (u64)n;
    t = now() - start;
    pthread_join(thread, NULL);
    if (n < 0 || bytes != j.bytes)
        die("recv");
    end_close(&p.guest);
    end_close(&p.host);
    return (struct figure){(double)bytes / t / 1e6, (cpu() - cpu_start) / ((double)bytes / 1e9)};
}

static void *ponger(void *arg)
{
    struct job *j = arg;
    u8 buf[64];

    for (int i = 0; i < PINGS && get(j->e, buf, sizeof(buf)) == sizeof(buf); i++)
        put(j->e, buf, sizeof(buf));
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double d = *(const double *)a - *(const double *)b;

    return d < 0 ? -1 : d > 0;
}

static void ping(struct seats *s, double *p50, double *p99)
{
    static double t[PINGS];
    struct pair p = open_pair(s, SOCK_STREAM);
    struct job j = {.e = &p.host};
    pthread_t thread;
    u8 buf[64] = {0};

    pthread_create(&thread, NULL, ponger, &j);
    for (int i = 0; i < PINGS; i++) {
        double start = now();

        put(&p.guest, buf, sizeof(buf));
        if (get(&p.guest, buf, sizeof(buf)) != sizeof(buf))
            die("ping");
        t[i] = (now() - start) * 1e6;
    }
    pthread_join(thread, NULL);
    end_close(&p.guest);
    end_close(&p.host);
    qsort(t, PINGS, sizeof(t[0]), by_value);
    *p50 = t[PINGS / 2];
    *p99 = t[PINGS / 100 * 99];
}

static double resident(void)
{
    long pages = 0, total;
    FILE *f = fopen("/proc/self/statm", "r");

    if (f && fscanf(f, "%ld %ld", &total, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * 4;
}

/* KiB of an idle connection that has been used, both ends together. */
static double idle(struct seats *s)
{
    static struct pair p[IDLE];
    u8 buf[64] = {0};
    double before;

    malloc_trim(0);
    before = resident();
    for (int i = 0; i < IDLE; i++) {
        p[i] = open_pair(s, SOCK_STREAM);
        put(&p[i].guest, buf, sizeof(buf));
        get(&p[i].host, buf, sizeof(buf));
    }
    before = (resident() - before) / IDLE;
    for (int i = 0; i < IDLE; i++) {
        end_close(&p[i].guest);
        end_close(&p[i].host);
    }
    return before;
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof(*v), by_value);
    return v[ROUNDS / 2];
}

static void measure(struct seats *s, int type, bool to_host, size_t size)
{
    const char *name = type == SOCK_STREAM ? "stream" : "seqpacket";
    double mb[2][ROUNDS], gb[2][ROUNDS], rate[2];
    bool has_unix = type == SOCK_STREAM || size <= 200000; /* a datagram's limit */

    for (int r = 0; r < ROUNDS; r++) {
        for (int k = 0; k < 2; k++) {
            struct figure f = {0, 0};

            if (k || has_unix)
                f = transfer(k ? s : NULL, type, to_host, size);
            mb[k][r] = f.mb_s;
            gb[k][r] = f.cpu_gb;
        }
    }
    rate[0] = median(mb[0]);
    rate[1] = median(mb[1]);
    printf("%-9s  %-13s  %7zu  %9.0f  %9.0f  %5.0f %%  %8.2f  %8.2f\n", name,
           to_host ? "guest to host" : "host to guest", size, rate[0], rate[1],
           has_unix ? 100 * rate[1] / rate[0] : 0, median(gb[0]), median(gb[1]));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {64, 512, 4096, 16384, 65536, 262144};
    size_t only = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    double p50[2], p99[2];
    struct seats s;

    if (argc > 2)
        run_seconds = strtod(argv[2], NULL);
    open_seats(&s);
    printf("                                    MB/s                        CPU s/GB\n");
    printf(
        "type       direction        bytes    AF_UNIX      vsock            AF_UNIX     vsock\n");
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (only && sizes[i] != only)
            continue;
        for (int t = 0; t < 2; t++) {
            measure(&s, t ? SOCK_SEQPACKET : SOCK_STREAM, true, sizes[i]);
            measure(&s, t ? SOCK_SEQPACKET : SOCK_STREAM, false, sizes[i]);
        }
    }
    ping(NULL, &p50[0], &p99[0]);
    ping(&s, &p50[1], &p99[1]);
    printf("\nround trip of 64 bytes, us: AF_UNIX p50 %.1f p99 %.1f, vsock p50 %.1f p99 %.1f (%.2f "
           "x)\n",
           p50[0], p99[0], p50[1], p99[1], p50[1] / p50[0]);
    printf("idle connection, both ends: %.1f KiB resident\n", idle(&s));
    virtio_vsock_local_free(s.local);
    uvirt_vsock_free(s.guest);
    uvirt_vsock_free(s.host);
    return 0;
}
