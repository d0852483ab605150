// SPDX-License-Identifier: MIT
// Marked records: MSG_EOR and large records beside the bytes of SOCK_SEQPACKET sockets.
#include "unix_host.h"
#include "vsock/transport/unix_record.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define BIG 3000000 /* above any send buffer that the bridge asks for */

/* Send (len) bytes with (count) times the descriptor (fd). */
static ssize_t send_fds(int s, const void *data, size_t len, int fd, unsigned count)
{
    char control[CMSG_SPACE(8 * sizeof(int))] = {0};
    struct iovec v = {(void *)data, len};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    struct cmsghdr *c;

    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &fd, sizeof(fd));
    return sendmsg(s, &m, 0);
}

/* Receive; the number of descriptors in (count), the first in (fd). */
static ssize_t recv_fds(int s, void *data, size_t len, int *fd, unsigned *count)
{
    char control[CMSG_SPACE(8 * sizeof(int))];
    struct iovec v = {data, len};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(s, &m, 0);
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL;

    *count = 0;
    *fd = -1;
    if (c && c->cmsg_type == SCM_RIGHTS) {
        *count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fd, CMSG_DATA(c), sizeof(*fd));
        for (unsigned i = 1; i < *count; i++) {
            int other;

            memcpy(&other, CMSG_DATA(c) + i * sizeof(int), sizeof(other));
            close(other);
        }
    }
    return n;
}

/* A client that takes marks, if (marks), and the guest's end. */
static int call(struct wire *w, bool marks, sock **guest)
{
    static unsigned number;
    struct sockaddr_un me = {.sun_family = AF_UNIX};
    struct sockaddr_un at = unix_address(path_of("v", VSOCK_UNIX_SEQPACKET));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), n;
    sock *l = listener(w->guest, SOCK_SEQPACKET, 2000, 8);
    char line[64];

    n = snprintf(me.sun_path + 1, sizeof(me.sun_path) - 1, "uvirt-vsock/2:%u/%x%s", 4000 + ++number,
                 getpid(), marks ? "m" : "");
    if (bind(fd, (struct sockaddr *)&me, offsetof(struct sockaddr_un, sun_path) + 1 + (u32)n) ||
        connect(fd, (struct sockaddr *)&at, sizeof(at)) || send(fd, "CONNECT 2000\n", 13, 0) < 0 ||
        recv(fd, line, sizeof(line), 0) <= 0)
        exit(99);
    *guest = accept_soon(l);
    set_size(*guest, SO_VM_SOCKETS_BUFFER_MAX_SIZE, 4 << 20);
    set_size(*guest, SO_VM_SOCKETS_BUFFER_SIZE, 4 << 20);
    uvirt_vsock_close(l);
    return fd;
}

static int memfd(const void *data, size_t len)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    if (write(fd, data, len) != (ssize_t)len)
        exit(99);
    return fd;
}

static void test_to_guest(struct wire *w)
{
    u8 *big = pattern(BIG), *got = malloc(BIG);
    int file = memfd(big, BIG), event = eventfd(0, 0), flags, fd;
    struct sockaddr_un name;
    socklen_t len = sizeof(name);
    sock *g;

    fd = call(w, true, &g);
    getpeername(fd, (struct sockaddr *)&name, &len);
    ok(vsock_unix_takes_marks(&name, len), "the listener says that it takes marks");
    send_fds(fd, "one", 3, event, VSOCK_RECORD_EOR);
    ok(do_recv(g, got, 100, 0, &flags) == 3 && flags & MSG_EOR, "a mark is MSG_EOR in the guest");
    send(fd, "two", 3, 0);
    ok(do_recv(g, got, 100, 0, &flags) == 3 && !(flags & MSG_EOR), "no mark is none");
    send_fds(fd, "x", 1, file, VSOCK_RECORD_FILE);
    send(fd, "after", 5, 0);
    ok(do_recv(g, got, BIG, 0, &flags) == BIG && !memcmp(got, big, BIG) && !(flags & MSG_EOR),
       "a record in a file");
    ok(do_recv(g, got, BIG, 0, &flags) == 5, "and the next one after it");
    send_fds(fd, "", 0, file, VSOCK_RECORD_FILE_EOR);
    ok(do_recv(g, got, BIG, 0, &flags) == BIG && !memcmp(got, big, BIG) && flags & MSG_EOR,
       "a record in a file with MSG_EOR");
    close(fd);
    uvirt_vsock_close(g);
    close(file);
    close(event);
    free(big);
    free(got);
}

static void test_bad(struct wire *w)
{
    static const u8 zeros[5 << 20];
    int plain = open("/etc/passwd", O_RDONLY), large = memfd(zeros, sizeof(zeros)), fd;
    int event = eventfd(0, 0), empty = memfd("", 0), flags;
    char buf[16];
    sock *g;

    fd = call(w, true, &g);
    send_fds(fd, "x", 1, empty, VSOCK_RECORD_FILE);
    send(fd, "next", 4, 0);
    ok(do_recv(g, buf, 16, 0, &flags) == 4, "an empty file is an empty record: not sent");
    send_fds(fd, "x", 1, plain, VSOCK_RECORD_FILE);
    ok(wait_closed(fd), "a file that is no memfd ends the connection");
    close(fd);
    uvirt_vsock_close(g);
    fd = call(w, true, &g);
    send_fds(fd, "x", 1, event, VSOCK_RECORD_FILE);
    ok(wait_closed(fd), "so does a descriptor that is no file");
    close(fd);
    uvirt_vsock_close(g);
    fd = call(w, true, &g);
    send_fds(fd, "x", 1, event, 7);
    ok(wait_closed(fd), "and seven of them");
    close(fd);
    uvirt_vsock_close(g);
    fd = call(w, true, &g);
    send_fds(fd, "x", 1, large, VSOCK_RECORD_FILE);
    ok(wait_closed(fd), "and a record that the guest can never hold");
    close(fd);
    uvirt_vsock_close(g);
    close(plain);
    close(large);
    close(event);
    close(empty);
}

static void test_to_host(struct wire *w)
{
    u8 *big = pattern(BIG), *got = malloc(BIG);
    unsigned count;
    struct stat st;
    sock *g;
    int fd = call(w, true, &g), mark;

    do_send(g, "one", 3, MSG_EOR);
    ok(recv_fds(fd, got, 100, &mark, &count) == 3 && count == VSOCK_RECORD_EOR,
       "MSG_EOR of the guest is a mark");
    close(mark);
    do_send(g, "two", 3, 0);
    ok(recv_fds(fd, got, 100, &mark, &count) == 3 && !count, "none is none");
    ok(do_send(g, big, BIG, MSG_EOR) == BIG && recv_fds(fd, got, 100, &mark, &count) == 1 &&
           count == VSOCK_RECORD_FILE_EOR && !fstat(mark, &st) && st.st_size == BIG &&
           pread(mark, got, BIG, 0) == BIG && !memcmp(got, big, BIG),
       "a record above the limit of datagrams comes in a file");
    close(mark);
    close(fd);
    uvirt_vsock_close(g);

    fd = call(w, false, &g);
    do_send(g, "one", 3, MSG_EOR);
    ok(recv_fds(fd, got, 100, &mark, &count) == 3 && !count,
       "a client that does not ask for marks gets none");
    close(fd);
    uvirt_vsock_close(g);
    free(big);
    free(got);
}

/* Addresses of ends that say who they are. */
static void test_names(void)
{
    static const struct {
        const char *name; /* '@' for the NUL of an abstract one */
        bool known, marks;
        u32 cid, port;
    } cases[] = {
        {"@uvirt-vsock/2:1234/00", true, false, 2, 1234},
        {"@uvirt-vsock/4294967294:4294967295/0123456789abcdefm", true, true, 4294967294u,
         4294967295u},
        {"@uvirt-vsock/2:1234", false, false, 0, 0},
        {"@uvirt-vsock/2:4294967296/m", false, false, 0, 0},
        {"@uvirt-vsock/:1/m", false, false, 0, 0},
        {"@other/2:1234/m", false, false, 0, 0},
        {"/dir/./2_1234", true, true, 2, 1234},
        {"/dir/./2_1234_seqpacket", true, true, 2, 1234},
        {"/dir/2_1234", false, false, 0, 0},
        {"/dir/./2", false, true, 0, 0},
        {"2_1234", false, false, 0, 0},
        {"@", false, false, 0, 0},
        {"", false, false, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        size_t n = strlen(cases[i].name);
        u32 cid = 0, port = 0;
        socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);

        memcpy(a.sun_path, cases[i].name, n);
        if (a.sun_path[0] == '@')
            a.sun_path[0] = 0;
        ok(!vsock_unix_peer(&a, len, &cid, &port) == cases[i].known && cid == cases[i].cid &&
               port == cases[i].port && vsock_unix_takes_marks(&a, len) == cases[i].marks,
           "the name \"%s\"", cases[i].name);
    }
}

static unsigned open_files(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

int main(void)
{
    char why[VSOCK_UNIX_WHY];
    struct wire w;
    unsigned before;

    test_names();
    begin();
    if (!ok(wire_open(&w, 3, path_of("v", ""), 0, why) == 0, "a bridge"))
        return tap_done();
    before = open_files();
    test_to_guest(&w);
    test_bad(&w);
    test_to_host(&w);
    for (int i = 0; i < 1000 && open_files() != before; i++)
        pause_ms(5);
    is_u64(open_files(), before, "no descriptor is left");
    wire_close(&w);
    end();
    return tap_done();
}
