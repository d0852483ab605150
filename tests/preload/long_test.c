// SPDX-License-Identifier: MIT
// Gigabytes between a guest and programs of the host: by each name on Unix sockets, and through uvirt exec.

/*
 * usage: preload_long_test [GIGABYTES], of each of the two; 10 if not said.
 *
 * The guest is a driver's seat on a vhost-user device with a bridge, as in uvirt vsock-device.
 * This program is all of that, and the host's programs that know Unix sockets. Then it runs
 * itself under uvirt exec for those that know AF_VSOCK, to the guest and to each other. Streams
 * and records run both ways at once on all connections of a kind (../vsock/lane.h).
 */
#include "../vsock/unix_host.h"

#include "../vsock/lane.h"
#include "under_exec.h"

#include "vhost/backend.h"
#include "vhost/frontend.h"
#include "virtio/vsock.h"

#include <sys/eventfd.h>
#include <sys/uio.h>

#define CID        3
#define PORT_GUEST 1100 /* STREAM, then SEQPACKET */
#define PORT_HOST  1200 /* of Unix sockets: STREAM, SEQPACKET, framed */
#define PORT_EXEC  1300 /* of programs under uvirt exec: STREAM, SEQPACKET */
#define UNIX_ENDS  6
#define EXEC_ENDS  4
#define LONGEST    150000 /* of a record that is to fit into any Unix socket */
#define BUFFER     (1 << 20)
#define GIGABYTE   1000000000.0

/* --- ends --- */

static ssize_t sock_send(void *end, const void *buf, size_t len, int flags)
{
    return do_send(end, buf, len, flags | MSG_NOSIGNAL);
}

static ssize_t sock_recv(void *end, void *buf, size_t len, int *flags)
{
    return do_recv(end, buf, len, 0, flags);
}

static void sock_shut(void *end)
{
    uvirt_vsock_shutdown(end, SHUT_WR);
}

static ssize_t fd_send(void *end, const void *buf, size_t len, int flags)
{
    return send((int)(intptr_t)end, buf, len, flags | MSG_NOSIGNAL);
}

static ssize_t fd_recv(void *end, void *buf, size_t len, int *flags)
{
    struct iovec iov = {buf, len};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n = recvmsg((int)(intptr_t)end, &m, 0);

    *flags = m.msg_flags;
    return n;
}

static void fd_shut(void *end)
{
    shutdown((int)(intptr_t)end, SHUT_WR);
}

/* A record in fragments of the largest size. */
static ssize_t framed_send(void *end, const void *buf, size_t len, int flags)
{
    for (size_t at = 0, n; at < len; at += n) {
        u32 marks = 0;

        n = len - at < VSOCK_FRAME_LENGTH_MAX ? len - at : VSOCK_FRAME_LENGTH_MAX;
        if (at + n == len)
            marks = VSOCK_FRAME_EOM | (flags & MSG_EOR ? VSOCK_FRAME_EOR : 0);
        send_frame((int)(intptr_t)end, (const u8 *)buf + at, (u32)n, marks);
    }
    return (ssize_t)len;
}

static ssize_t framed_recv(void *end, void *buf, size_t len, int *flags)
{
    char byte;
    int eor = 0;
    ssize_t n;

    if (recv((int)(intptr_t)end, &byte, 1, MSG_PEEK) == 0)
        return 0;
    n = recv_frames((int)(intptr_t)end, buf, len, &eor);
    *flags = eor ? MSG_EOR : 0;
    return n;
}

static const struct lane sock_calls = {.send = sock_send, .recv = sock_recv, .shut = sock_shut};
static const struct lane fd_calls = {.send = fd_send, .recv = fd_recv, .shut = fd_shut};
static const struct lane framed_calls = {.send = framed_send, .recv = framed_recv, .shut = fd_shut};

/* What goes over a connection: a stream, or records, that keep MSG_EOR or not. */
static struct lane traffic(const struct lane *calls, void *end, int type, bool eor, u64 most)
{
    struct lane l = *calls;

    l.end = end;
    l.records = type == SOCK_SEQPACKET;
    l.eor = eor;
    l.longest = l.eor ? LANE_RECORD : LONGEST;
    l.most = most;
    return l;
}

/* --- the guest --- */

struct device {
    struct uvirt_vsock *host, *guest;
    struct vhost_backend *b;
    struct vsock_unix *bridge;
    struct vhost_frontend *f;
    int listener, stop;
    pthread_t thread;
};

static void pump(void *opaque)
{
    vhost_backend_run(((struct device *)opaque)->b);
}

static void *serve(void *opaque)
{
    struct device *d = opaque;

    return (void *)(intptr_t)vhost_backend_serve(d->b, d->listener, d->stop);
}

static bool device_open(struct device *d)
{
    struct vsock_unix_config bridge = {
        .guest_cid = CID, .path = directory, .pump = pump, .opaque = d};
    struct virtio_vsock_options o = {.guest_cid = CID, .kick = vsock_unix_kick};
    struct vsock_driver_options driver = {.features = BIT(VIRTIO_VSOCK_F_STREAM) |
                                                      BIT(VIRTIO_VSOCK_F_SEQPACKET) |
                                                      BIT(VIRTIO_RING_F_EVENT_IDX),
                                          .rx_size = 4096};
    struct vhost_backend_config c = {.pump = virtio_vsock_pump};
    char why[VSOCK_UNIX_WHY];

    d->host = context(VMADDR_CID_HOST, false, false);
    d->guest = context(CID, false, false);
    d->listener = listen_at(path_of("device", ""), SOCK_STREAM, 1);
    d->stop = eventfd(0, EFD_CLOEXEC);
    if (vsock_unix_create(d->host, &bridge, why, &d->bridge))
        return false;
    o.opaque = d->bridge;
    return !virtio_vsock_create(d->host, &o, &c.dev) && !vhost_backend_create(&c, &d->b) &&
           !pthread_create(&d->thread, NULL, serve, d) &&
           !vhost_frontend_create(d->guest, path_of("device", ""), &driver, &d->f);
}

static void device_close(struct device *d)
{
    void *rc;

    vhost_frontend_free(d->f);
    eventfd_write(d->stop, 1);
    pthread_join(d->thread, &rc);
    vsock_unix_stop(d->bridge);
    vhost_backend_free(d->b);
    vsock_unix_free(d->bridge);
    uvirt_vsock_free(d->guest);
    uvirt_vsock_free(d->host);
    close(d->listener);
    close(d->stop);
}

/* Room for the longest record. */
static sock *with_room(sock *s)
{
    if (s && (set_size(s, SO_VM_SOCKETS_BUFFER_MAX_SIZE, BUFFER) ||
              set_size(s, SO_VM_SOCKETS_BUFFER_SIZE, BUFFER)))
        exit(99);
    return s;
}

static sock *connected_to(struct uvirt_vsock *guest, int type, u32 port)
{
    sock *s = new_sock(guest, type);

    return do_connect(with_room(s), VMADDR_CID_HOST, port, false) ? NULL : s;
}

/* --- Unix sockets --- */

/* The names, and what each can carry. */
static const struct {
    const char *suffix;
    int type, guest_type; /* of the Unix socket, of the guest's */
    const struct lane *calls;
    bool to_host, eor;
} names[UNIX_ENDS] = {
    {"", SOCK_STREAM, SOCK_STREAM, &fd_calls, false, false},
    {VSOCK_UNIX_SEQPACKET, SOCK_SEQPACKET, SOCK_SEQPACKET, &fd_calls, false, false},
    {VSOCK_UNIX_FRAMED, SOCK_STREAM, SOCK_SEQPACKET, &framed_calls, false, true},
    {"_1200", SOCK_STREAM, SOCK_STREAM, &fd_calls, true, false},
    {"_1201_seqpacket", SOCK_SEQPACKET, SOCK_SEQPACKET, &fd_calls, true, false},
    {"_1202_framed", SOCK_STREAM, SOCK_SEQPACKET, &framed_calls, true, true},
};

static bool connect_unix(struct device *d, unsigned i, sock **guest, int *fd)
{
    int seq = names[i].guest_type == SOCK_SEQPACKET, l;
    sock *to;

    if (names[i].to_host) {
        l = listen_at(path_of("3", names[i].suffix), names[i].type, 1);
        *guest = connected_to(d->guest, names[i].guest_type, PORT_HOST + i - 3);
        *fd = *guest ? accept(l, NULL, NULL) : -1;
        close(l);
        return *fd >= 0;
    }
    to = with_room(listener(d->guest, names[i].guest_type, PORT_GUEST + (u32)seq, 1));
    *fd = dial(path_of("3", names[i].suffix), names[i].type, PORT_GUEST + (u32)seq);
    *guest = *fd >= 0 ? accept_soon(to) : NULL;
    uvirt_vsock_close(to);
    return *guest;
}

static void test_unix(struct device *d, u64 bytes)
{
    struct lane_end end[UNIX_ENDS][2];
    sock *guest[UNIX_ENDS];
    int fd[UNIX_ENDS];
    u64 most = bytes / UNIX_ENDS / 2, done[2];

    for (unsigned i = 0; i < UNIX_ENDS; i++) {
        if (!ok(connect_unix(d, i, &guest[i], &fd[i]), "PATH%s: connected", names[i].suffix))
            return;
    }
    for (unsigned i = 0; i < UNIX_ENDS; i++) {
        struct lane g = traffic(&sock_calls, guest[i], names[i].guest_type, names[i].eor, most);
        struct lane h = traffic(names[i].calls, (void *)(intptr_t)fd[i], names[i].guest_type,
                                names[i].eor, most);

        lane_start(&end[i][0], &g, i, false);
        lane_start(&end[i][1], &h, i, true);
    }
    for (unsigned i = 0; i < UNIX_ENDS; i++) {
        for (unsigned k = 0; k < 2; k++)
            done[k] = lane_join(&end[i][k]);
        ok(done[0] && done[0] == done[1], "PATH%s: %.2f GB of %s both ways", names[i].suffix,
           (double)done[0] / GIGABYTE,
           names[i].guest_type == SOCK_STREAM ? "a stream"
           : names[i].eor                     ? "records, some with MSG_EOR,"
                                              : "records");
        uvirt_vsock_close(guest[i]);
        close(fd[i]);
    }
}

/* --- uvirt exec --- */

/* The same for a program's socket. */
static int vm_socket(int type)
{
    int fd = socket(AF_VSOCK, type, 0);
    u64 size = BUFFER;

    if (setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &size, sizeof(size)) ||
        setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size)))
        exit(99);
    return fd;
}

/* The program under uvirt exec; guest's ends and its own. Writes what each connection has carried. */
static int program(double gigabytes)
{
    static const char *const what[] = {"guest's stream", "guest's records", "stream", "records"};
    struct lane_end end[EXEC_ENDS + 2];
    int fd[EXEC_ENDS + 2], l[2], type[] = {SOCK_STREAM, SOCK_SEQPACKET};
    u64 most = (u64)(gigabytes * GIGABYTE) / (EXEC_ENDS + 2) / 2;

    /* Ends 0 and 1 call the guest, 2 and 3 are called by it; pairs of programs: 4 and 5. */
    for (u32 i = 0; i < 2; i++) {
        l[i] = vm_socket(type[i]);
        if (vm_bind(l[i], VMADDR_CID_ANY, PORT_EXEC + i) || listen(l[i], 4))
            return 1;
    }
    for (u32 i = 0; i < 2; i++) {
        fd[i] = vm_socket(type[i]);
        if (vm_connect(fd[i], CID, PORT_GUEST + i))
            return 2;
    }
    for (u32 i = 0; i < 2; i++) {
        fd[2 + i] = accept(l[i], NULL, NULL);
        fd[4 + i] = vm_socket(type[i]);
        if (fd[2 + i] < 0 || vm_connect(fd[4 + i], VMADDR_CID_LOCAL, PORT_EXEC + i))
            return 3;
    }
    if (fork() == 0) { /* the other program of the pairs */
        for (u32 i = 0; i < 2; i++) {
            int c = accept(l[i], NULL, NULL);
            struct lane t = traffic(&fd_calls, (void *)(intptr_t)c, type[i], i, most);

            lane_start(&end[i], &t, 4 + i, true);
        }
        _exit(!lane_join(&end[0]) || !lane_join(&end[1]));
    }
    for (u32 i = 0; i < EXEC_ENDS + 2; i++) {
        struct lane t = traffic(&fd_calls, (void *)(intptr_t)fd[i], type[i % 2], i % 2, most);

        lane_start(&end[i], &t, i, i == 2 || i == 3);
    }
    for (u32 i = 0; i < EXEC_ENDS + 2; i++)
        printf("%s %llu\n", what[i / 4 * 2 + i % 2], (unsigned long long)lane_join(&end[i]));
    wait(&fd[0]);
    return fd[0] ? 4 : 0;
}

/* Run the program under uvirt exec: its pid, and a stream of what it says. */
static pid_t start_program(double gigabytes, FILE **said)
{
    const char *uvirt = getenv("UVIRT_TEST_UVIRT");
    char self[4096] = "", text[32];
    int p[2];
    pid_t pid;

    snprintf(text, sizeof(text), "%g", gigabytes);
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || pipe(p))
        exit(99);
    fflush(stdout);
    pid = fork();
    if (!pid) {
        dup2(p[1], 1);
        close2(p);
        if (!forbid_kernel_vsock())
            execl(uvirt, uvirt, "exec", "--vsock", directory, "--", self, text, NULL);
        _exit(125);
    }
    close(p[1]);
    *said = fdopen(p[0], "r");
    return pid;
}

static void test_exec(struct device *d, double gigabytes)
{
    u64 most = (u64)(gigabytes * GIGABYTE) / (EXEC_ENDS + 2) / 2, bytes, done[EXEC_ENDS];
    int type[] = {SOCK_STREAM, SOCK_SEQPACKET}, status;
    struct lane_end end[EXEC_ENDS];
    sock *guest[EXEC_ENDS], *l[2];
    char what[64];
    FILE *said;
    pid_t pid;

    for (u32 i = 0; i < 2; i++)
        l[i] = with_room(listener(d->guest, type[i], PORT_GUEST + i, 1));
    pid = start_program(gigabytes, &said);
    for (u32 i = 0; i < 2; i++)
        guest[i] = accept_soon(l[i]);
    for (u32 i = 0; i < 2; i++)
        guest[2 + i] = connected_to(d->guest, type[i], PORT_EXEC + i);
    if (!ok(guest[0] && guest[1] && guest[2] && guest[3], "uvirt exec: connected"))
        exit(1);
    for (u32 i = 0; i < EXEC_ENDS; i++) {
        struct lane t = traffic(&sock_calls, guest[i], type[i % 2], i % 2, most);

        lane_start(&end[i], &t, i, i < 2);
    }
    for (u32 i = 0; i < EXEC_ENDS; i++)
        done[i] = lane_join(&end[i]);
    for (u32 i = 0; i < EXEC_ENDS + 2; i++) {
        unsigned long long n = 0;

        if (fscanf(said, "%63[^0-9]%llu\n", what, &n) != 2)
            strcpy(what, "nothing ");
        bytes = n;
        ok(bytes && (i >= EXEC_ENDS || bytes == done[i]), "uvirt exec: %s%.2f GB both ways", what,
           (double)bytes / GIGABYTE);
    }
    waitpid(pid, &status, 0);
    is_u64(status, 0, "uvirt exec: both programs end well");
    fclose(said);
    for (u32 i = 0; i < EXEC_ENDS; i++)
        uvirt_vsock_close(guest[i]);
    for (u32 i = 0; i < 2; i++)
        uvirt_vsock_close(l[i]);
}

int main(int argc, char **argv)
{
    double gigabytes = argc > 1 ? strtod(argv[1], NULL) : 10;
    struct device d = {0};

    lane_begin();
    if (getenv("UVIRT_VSOCK_DIR"))
        return program(gigabytes);
    if (!getenv("UVIRT_TEST_UVIRT"))
        return tap_skip_all("UVIRT_TEST_UVIRT does not name uvirt");
    begin();
    alarm(0);
    if (!ok(device_open(&d), "a guest behind a bridge"))
        return tap_done();
    test_unix(&d, (u64)(gigabytes * GIGABYTE));
    test_exec(&d, gigabytes);
    device_close(&d);
    end();
    return tap_done();
}
