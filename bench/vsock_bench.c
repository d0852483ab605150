// SPDX-License-Identifier: MIT
// vsock without a VM: a driver's seat against a device's, and an AF_UNIX pair in the same run as the ceiling.

/*
 * Each figure is the median of ROUNDS. The kinds of pair take turns, so that a busy machine slows
 * all of them, and what is said of two kinds is the median of what each round says. Time is from
 * the first send to the last byte received, CPU that of all threads, the kernel's part included.
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
#define ROUNDS    9
#define PINGS     2000
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

static double run_seconds = 0.1;

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

static void ping(struct seats *s, int type, double *p50, double *p99)
{
    static double t[PINGS];
    struct pair p = open_pair(s, type);
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

static double median(const double *v)
{
    double sorted[ROUNDS];

    memcpy(sorted, v, sizeof(sorted));
    qsort(sorted, ROUNDS, sizeof(*sorted), by_value);
    return sorted[ROUNDS / 2];
}

/* The median of (a)'s part of (b). */
static double of(const double *a, const double *b)
{
    double r[ROUNDS];

    for (int i = 0; i < ROUNDS; i++)
        r[i] = a[i] / b[i];
    return median(r);
}

/* --- targets --- */

static struct target {
    char what[64];
    double is, wanted;
    bool most; /* (wanted) is an upper limit */
} targets[16];
static unsigned nr_targets;

static void target(double is, double wanted, bool most, const char *what)
{
    struct target *t = &targets[nr_targets++];

    *t = (struct target){.is = is, .wanted = wanted, .most = most};
    snprintf(t->what, sizeof(t->what), "%s", what);
}

static void print_targets(void)
{
    printf("\n%-56s  %7s  %9s\n", "target", "is", "wanted");
    for (unsigned i = 0; i < nr_targets; i++) {
        struct target *t = &targets[i];
        bool met = t->most ? t->is <= t->wanted : t->is >= t->wanted;

        printf("%-56s  %7.2f  %s %6.2f  %s\n", t->what, t->is, t->most ? "<=" : ">=", t->wanted,
               met ? "pass" : "FAIL");
    }
}

/* --- tables --- */

/* The kinds of pair of one direction and size; UNIX first, for each type. */
enum kind { UNIX_STREAM, VSOCK_STREAM, UNIX_SEQPACKET, VSOCK_SEQPACKET, KINDS };

#define TYPE_OF(k) ((k) / 2 ? SOCK_SEQPACKET : SOCK_STREAM)

static bool exists(enum kind k, size_t size)
{
    return k != UNIX_SEQPACKET || size <= 200000; /* a datagram's limit */
}

static void row(enum kind k, bool to_host, size_t size, const double mb[KINDS][ROUNDS],
                const double gb[KINDS][ROUNDS])
{
    enum kind u = k - 1;

    printf("%-9s  %-13s  %6zu", k == VSOCK_STREAM ? "stream" : "seqpacket",
           to_host ? "guest to host" : "host to guest", size);
    if (exists(u, size))
        printf("  %7.0f  %7.0f  %3.0f %%", median(mb[u]), median(mb[k]), 100 * of(mb[k], mb[u]));
    else
        printf("  %7s  %7.0f  %5s", "-", median(mb[k]), "");
    if (exists(u, size))
        printf("  %8.2f  %7.2f  %3.0f %%\n", median(gb[u]), median(gb[k]), 100 * of(gb[k], gb[u]));
    else
        printf("  %8s  %7.2f\n", "-", median(gb[k]));
}

static void measure(struct seats *s, bool to_host, size_t size)
{
    double mb[KINDS][ROUNDS], gb[KINDS][ROUNDS];
    const char *direction = to_host ? "guest to host" : "host to guest";
    char what[64];

    for (int r = 0; r < ROUNDS; r++) {
        for (enum kind k = 0; k < KINDS; k++) {
            struct figure f = {0, 0};

            if (exists(k, size))
                f = transfer(k % 2 ? s : NULL, TYPE_OF(k), to_host, size);
            mb[k][r] = f.mb_s;
            gb[k][r] = f.cpu_gb;
        }
    }
    row(VSOCK_STREAM, to_host, size, mb, gb);
    row(VSOCK_SEQPACKET, to_host, size, mb, gb);
    fflush(stdout);
    if (size != 65536)
        return;
    for (enum kind k = VSOCK_STREAM; k < KINDS; k += 2) {
        snprintf(what, sizeof(what), "64 KiB %s, %s: of AF_UNIX's rate",
                 k == VSOCK_STREAM ? "stream" : "seqpacket", direction);
        target(of(mb[k], mb[k - 1]), 0.8, false, what);
    }
    snprintf(what, sizeof(what), "64 KiB seqpacket, %s: of stream's rate", direction);
    target(of(mb[VSOCK_SEQPACKET], mb[VSOCK_STREAM]), 0.9, false, what);
}

static void round_trips(struct seats *s)
{
    double p50[KINDS][ROUNDS], p99[KINDS][ROUNDS];

    for (int r = 0; r < ROUNDS; r++) {
        for (enum kind k = 0; k < KINDS; k++)
            ping(k % 2 ? s : NULL, TYPE_OF(k), &p50[k][r], &p99[k][r]);
    }
    printf("\nround trip of 64 bytes, us    p50: AF_UNIX    vsock    p99: AF_UNIX    vsock\n");
    for (enum kind k = VSOCK_STREAM; k < KINDS; k += 2) {
        const char *name = k == VSOCK_STREAM ? "stream" : "seqpacket";
        char what[64];

        printf("%-26s    %12.1f  %7.1f    %12.1f  %7.1f\n", name, median(p50[k - 1]),
               median(p50[k]), median(p99[k - 1]), median(p99[k]));
        snprintf(what, sizeof(what), "round trip, %s: p50 in AF_UNIX's", name);
        target(of(p50[k], p50[k - 1]), 2, true, what);
    }
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {64, 512, 4096, 16384, 65536, 262144};
    size_t only = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    struct seats s;
    double kib;

    if (argc > 2)
        run_seconds = strtod(argv[2], NULL);
    open_seats(&s);
    printf("                                            MB/s               CPU s/GB\n");
    printf("type       direction       bytes  AF_UNIX    vsock         AF_UNIX    vsock\n");
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        if (only && sizes[i] != only)
            continue;
        measure(&s, true, sizes[i]);
        measure(&s, false, sizes[i]);
    }
    round_trips(&s);
    kib = idle(&s);
    printf("\nidle connection that was used, both ends: %.1f KiB resident\n", kib);
    target(kib, 64, true, "idle connection, both ends: KiB resident");
    print_targets();
    virtio_vsock_local_free(s.local);
    uvirt_vsock_free(s.guest);
    uvirt_vsock_free(s.host);
    return 0;
}
