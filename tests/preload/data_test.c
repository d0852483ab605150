// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: bytes, records and their flags, ends, options.
#include "under_exec.h"

#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>

static volatile sig_atomic_t pipes;

static void on_pipe(int signal)
{
    pipes++;
}

static ssize_t take(int fd, void *buf, size_t n, int flags, int *out)
{
    struct iovec iov = {buf, n};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t rc = recvmsg(fd, &m, flags);

    *out = m.msg_flags;
    return rc;
}

static void stream(void)
{
    char b[64] = "", c[8] = "";
    struct iovec out[] = {{(char *)"one ", 4}, {(char *)"two ", 4}}, in[] = {{b, 3}, {c, 5}};
    struct msghdr m = {.msg_iov = out, .msg_iovlen = 2};
    struct sockaddr_vm to = vm_addr(2, 1);
    int fd[2], flags, n;

    ok(vm_pair(SOCK_STREAM, fd), "a STREAM pair");
    ok(fails(recv(fd[1], b, 1, MSG_DONTWAIT), EAGAIN), "nothing is there");
    ok(sendmsg(fd[0], &m, 0) == 8 && write(fd[0], "three ", 6) == 6 &&
           send(fd[0], "four", 4, 0) == 4 && sendto(fd[0], " five", 5, 0, NULL, 0) == 5,
       "sendmsg, write, send, sendto");
    ok(!ioctl(fd[1], SIOCINQ, &n) && n == 23, "SIOCINQ");
    ok(readv(fd[1], in, 2) == 8 && !memcmp(b, "one", 3) && !memcmp(c, " two ", 5), "readv");
    ok(recv(fd[1], b, 6, MSG_PEEK) == 6 && recv(fd[1], c, 6, 0) == 6 && !memcmp(b, c, 6),
       "MSG_PEEK");
    ok(recvfrom(fd[1], b, 4, 0, NULL, NULL) == 4 && read(fd[1], b + 4, 60) == 5 &&
           !memcmp(b, "four five", 9),
       "recvfrom, read: no bounds are kept");
    ok(writev(fd[1], out, 2) == 8 && take(fd[0], b, 64, 0, &flags) == 8 && !flags,
       "writev the other way");
    ok(recv(fd[0], b, 0, 0) == 0, "a buffer of no bytes");
    ok(fails(sendto(fd[0], "x", 1, 0, (struct sockaddr *)&to, sizeof(to)), EISCONN),
       "a destination");
    ok(fails(send(fd[0], "x", 1, MSG_OOB), EOPNOTSUPP) &&
           fails(recv(fd[0], b, 1, MSG_OOB), EOPNOTSUPP),
       "MSG_OOB");
    ok(fails(send(fd[0], NULL, 8, 0), ENOMEM), "a bad buffer to send: ENOMEM, as Linux says");
    ok(write(fd[0], "keep", 4) == 4 && fails(recv(fd[1], NULL, 4, 0), EFAULT) &&
           read(fd[1], b, 4) == 4,
       "a bad buffer to receive into: nothing is lost");
    ok(!ioctl(fd[0], SIOCOUTQ, &n) && n == 0, "SIOCOUTQ");
    close2(fd);
}

static void *late(void *fd)
{
    usleep(20000);
    if (write(*(int *)fd, "ab", 2) != 2)
        exit(1);
    usleep(20000);
    if (write(*(int *)fd, "cd", 2) != 2)
        exit(1);
    return NULL;
}

static void waiting(void)
{
    struct timeval tv = {.tv_usec = 20000};
    pthread_t t;
    char b[8];
    int fd[2];

    vm_pair(SOCK_STREAM, fd);
    pthread_create(&t, NULL, late, &fd[0]);
    ok(recv(fd[1], b, 4, MSG_WAITALL) == 4 && !memcmp(b, "abcd", 4), "MSG_WAITALL");
    pthread_join(t, NULL);
    ok(!setsockopt(fd[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) &&
           fails(read(fd[1], b, 1), EAGAIN),
       "SO_RCVTIMEO");
    ok(!setsockopt(fd[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), "SO_SNDTIMEO");
    while (send(fd[0], b, sizeof(b), 0) > 0)
        ;
    ok(errno == EAGAIN, "ends a send() to a peer that does not read");
    close2(fd);
}

static void records(void)
{
    char b[64];
    int fd[2], flags, n;
    struct iovec iov[] = {{(char *)"six", 3}, {(char *)"teen", 4}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};

    ok(vm_pair(SOCK_SEQPACKET, fd), "a SEQPACKET pair");
    ok(send(fd[0], "first", 5, 0) == 5 && write(fd[0], "second", 6) == 6 &&
           sendmsg(fd[0], &m, MSG_EOR) == 7,
       "three records, the last with MSG_EOR");
    ok(send(fd[0], "", 0, 0) == 0, "an empty one is not sent");
    ok(!ioctl(fd[1], SIOCINQ, &n) && n == 18, "SIOCINQ");
    ok(take(fd[1], b, 3, MSG_PEEK, &flags) == 3 && flags == MSG_TRUNC, "MSG_PEEK at a part");
    ok(take(fd[1], b, 3, MSG_PEEK | MSG_TRUNC, &flags) == 5 && flags == MSG_TRUNC,
       "and for its length");
    ok(take(fd[1], b, 3, MSG_TRUNC, &flags) == 5 && flags == MSG_TRUNC && !memcmp(b, "fir", 3),
       "MSG_TRUNC");
    ok(read(fd[1], b, 64) == 6 && !memcmp(b, "second", 6),
       "the rest of a record is gone, the next is whole");
    ok(take(fd[1], b, 64, MSG_PEEK, &flags) == 7 && flags == MSG_EOR, "MSG_EOR, peeked");
    ok(take(fd[1], b, 4, 0, &flags) == 4 && flags == (MSG_EOR | MSG_TRUNC) && !memcmp(b, "sixt", 4),
       "MSG_EOR, cut");
    ok(send(fd[1], "back", 4, MSG_EOR) == 4 && take(fd[0], b, 64, 0, &flags) == 4 &&
           flags == MSG_EOR,
       "MSG_EOR the other way");
    ok(send(fd[1], "x", 1, 0) == 1 && send(fd[1], "y", 1, 0) == 1 &&
           fails(recv(fd[0], NULL, 4, 0), EFAULT) && recv(fd[0], b, 64, 0) == 1 && b[0] == 'y',
       "a bad buffer to receive into costs the record");
    ok(fails(send(fd[0], NULL, 8, 0), ENOMEM), "a bad buffer to send");
    close2(fd);
}

static void many_messages(void)
{
    char text[4][4] = {"a", "bb", "ccc", ""}, in[4][8];
    struct iovec iov[4], to[4];
    struct mmsghdr out[4] = {0}, got[4] = {0};
    struct timespec t = {0};
    int fd[2];

    vm_pair(SOCK_SEQPACKET, fd);
    for (int i = 0; i < 4; i++) {
        iov[i] = (struct iovec){text[i], (size_t)i + 1};
        to[i] = (struct iovec){in[i], 8};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
        got[i].msg_hdr = (struct msghdr){.msg_iov = &to[i], .msg_iovlen = 1};
    }
    ok(sendmmsg(fd[0], out, 3, MSG_EOR) == 3 && out[2].msg_len == 3, "sendmmsg");
    ok(recvmmsg(fd[1], got, 4, MSG_WAITFORONE, NULL) == 3 && got[1].msg_len == 2 &&
           got[2].msg_hdr.msg_flags == MSG_EOR && !memcmp(in[2], "ccc", 3),
       "recvmmsg");
    ok(fails(recvmmsg(fd[1], got, 4, MSG_DONTWAIT, &t), EAGAIN), "nothing more");
    close2(fd);
}

static u32 sum(const u8 *p, size_t n)
{
    u32 s = 1;

    for (size_t i = 0; i < n; i++)
        s = s * 31 + p[i];
    return s;
}

/* Records of all sizes in a queue that is far too small for them. */
static void large_records(void)
{
    const u64 two = 2 << 20;
    u8 *b = malloc(two + 1), *c = malloc(two + 1);
    int fd[2], flags, small = 4096, good = 0;
    u64 v = 0;
    socklen_t len = sizeof(v);

    for (size_t i = 0; i <= two; i++)
        b[i] = (u8)(i * 2654435761u >> 13);
    vm_pair(SOCK_SEQPACKET, fd);
    kernel(SYS_setsockopt, fd[0], SOL_SOCKET, SO_SNDBUF, (long)&small, sizeof(small));
    ok(!getsockopt(fd[0], AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &len) && v == 262144, "256 KiB");
    ok(fails(send(fd[0], b, v + 1, 0), EMSGSIZE), "a record cannot be larger than the buffer");
    ok(send(fd[0], b, v, MSG_EOR | MSG_DONTWAIT) == (ssize_t)v,
       "but as large, in a queue of 8 KiB");
    ok(fails(send(fd[0], b, 100000, MSG_DONTWAIT), EAGAIN), "then the buffer is full");
    ok(take(fd[1], c, 10, MSG_PEEK | MSG_TRUNC, &flags) == (ssize_t)v &&
           flags == (MSG_EOR | MSG_TRUNC) && !memcmp(b, c, 10),
       "it can be peeked at");
    ok(take(fd[1], c, two, 0, &flags) == (ssize_t)v && flags == MSG_EOR && sum(b, v) == sum(c, v),
       "and is whole");
    ok(!setsockopt(fd[0], AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &two, 8) &&
           !setsockopt(fd[0], AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &two, 8),
       "a buffer of 2 MiB");
    kernel(SYS_setsockopt, fd[0], SOL_SOCKET, SO_SNDBUF, (long)&small, sizeof(small));
    ok(send(fd[0], b, two, 0) == (ssize_t)two && read(fd[1], c, two) == (ssize_t)two &&
           sum(b, two) == sum(c, two),
       "a record of 2 MiB");
    small = 200000;
    kernel(SYS_setsockopt, fd[0], SOL_SOCKET, SO_SNDBUF, (long)&small, sizeof(small));
    for (size_t i = 0; i < 128; i++)
        good += send(fd[0], b + i, 1 + i * 127, (i & 1 ? MSG_EOR : 0) | MSG_DONTWAIT) ==
                (ssize_t)(1 + i * 127);
    is_u64(good, 128, "128 records, a megabyte, that nobody reads yet");
    for (size_t i = 0; i < 128; i++)
        good += take(fd[1], c, two, 0, &flags) == (ssize_t)(1 + i * 127) &&
                flags == (i & 1 ? MSG_EOR : 0) && !memcmp(b + i, c, 1 + i * 127);
    is_u64(good, 256, "come in order, each with its end");
    ok(fails(recv(fd[1], c, 1, MSG_DONTWAIT), EAGAIN), "and no more");
    close2(fd);
    free(b);
    free(c);
}

static void ends(int type, const char *what)
{
    struct sigaction act = {.sa_handler = on_pipe};
    struct pollfd p = {.events = POLLIN | POLLRDHUP};
    char b[8];
    int fd[2];

    sigaction(SIGPIPE, &act, NULL);
    vm_pair(type, fd);
    ok(send(fd[0], "last", 4, 0) == 4 && !shutdown(fd[0], SHUT_WR), "%s: SHUT_WR", what);
    p.fd = fd[1];
    ok(poll(&p, 1, -1) == 1 && p.revents == (POLLIN | POLLRDHUP), "%s: POLLRDHUP", what);
    ok(read(fd[1], b, 8) == 4 && read(fd[1], b, 8) == 0, "%s: what was sent, then the end", what);
    ok(send(fd[1], "on", 2, 0) == 2 && read(fd[0], b, 8) == 2, "%s: the other direction goes on",
       what);
    pipes = 0;
    ok(fails(send(fd[0], "x", 1, 0), EPIPE) && pipes == (type == SOCK_STREAM),
       "%s: EPIPE, SIGPIPE only of STREAM", what);
    ok(fails(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE) && pipes == (type == SOCK_STREAM),
       "%s: MSG_NOSIGNAL", what);
    ok(!shutdown(fd[1], SHUT_RD) && read(fd[1], b, 1) == 0, "%s: SHUT_RD", what);
    ok(fails(shutdown(fd[1], 3), EINVAL), "%s: no such direction", what);
    close2(fd);
    vm_pair(type, fd);
    ok(send(fd[0], "unread", 6, 0) == 6 && send(fd[1], "kept", 4, 0) == 4, "%s: data both ways",
       what);
    close(fd[1]);
    ok(read(fd[0], b, 8) == 4 && read(fd[0], b, 8) == 0,
       "%s: a peer that closes with data unread is an end, no error", what);
    ok(fails(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE), "%s: nothing goes there", what);
    close(fd[0]);
    vm_pair(type, fd);
    ok(send(fd[0], "unread", 6, 0) == 6 && !close(fd[1]) &&
           fails(send(fd[0], "x", 1, MSG_NOSIGNAL), EPIPE),
       "%s: nor is it an error of send()", what);
    close(fd[0]);
}

static void low_water(void)
{
    struct pollfd p = {.events = POLLIN};
    int fd[2], v = 4, big = 262145, before, after;
    socklen_t len = sizeof(v);
    char b[8];

    vm_pair(SOCK_STREAM, fd);
    p.fd = fd[1];
    ok(fails(setsockopt(fd[1], SOL_SOCKET, SO_RCVLOWAT, &big, sizeof(big)), EINVAL),
       "SO_RCVLOWAT above the buffer");
    ok(!setsockopt(fd[1], SOL_SOCKET, SO_RCVLOWAT, &v, sizeof(v)) &&
           !getsockopt(fd[1], SOL_SOCKET, SO_RCVLOWAT, &v, &len) && v == 4,
       "SO_RCVLOWAT");
    ok(write(fd[0], "abc", 3) == 3, "three bytes");
    before = poll(&p, 1, 30);
    ok(before == 0 && !p.revents, "are not enough for poll()");
    ok(write(fd[0], "d", 1) == 1, "one more");
    after = poll(&p, 1, -1);
    ok(after == 1 && p.revents == POLLIN && recv(fd[1], b, 8, MSG_DONTWAIT) == 4, "is");
    ok(write(fd[0], "e", 1) == 1 && !shutdown(fd[0], SHUT_WR) && poll(&p, 1, -1) == 1 &&
           p.revents & POLLIN,
       "and so is an end");
    close2(fd);
}

static void sizes(void)
{
    u64 v, min = 1000, max = 5000, size = 10;
    socklen_t len = sizeof(v);
    struct timeval tv = {.tv_sec = 7, .tv_usec = 5}, got;
    int fd[2], l, c, s, n = 1000;
    u32 port;

    s = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MIN_SIZE, &v, &len) && v == 128,
       "the smallest buffer");
    ok(!getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &v, &len) && v == 262144 && len == 8,
       "the largest");
    ok(!setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MIN_SIZE, &min, 8) &&
           !setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &max, 8) &&
           !setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, 8) &&
           !getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &len) && v == 1000,
       "sizes are held between them");
    ok(fails(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, 4), EINVAL),
       "a short value");
    len = 4;
    ok(fails(getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &len), EINVAL),
       "a short buffer");
    len = sizeof(got);
    ok(!setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &tv, sizeof(tv)) &&
           !getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &got, &len) && got.tv_sec == 7 &&
           got.tv_usec == 5,
       "CONNECT_TIMEOUT");
    tv.tv_usec = 1000000;
    ok(fails(setsockopt(s, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &tv, sizeof(tv)), ERANGE),
       "a bad one");
    for (int name = 3; name <= 7; name += 2)
        ok(fails(setsockopt(s, AF_VSOCK, name, &v, 8), ENOPROTOOPT) &&
               fails(getsockopt(s, AF_VSOCK, name, &v, &len), ENOPROTOOPT),
           "option %d", name);
    ok(fails(setsockopt(s, 6, 1, &n, sizeof(n)), ENOPROTOOPT), "another level");
    ok(fails(ioctl(s, SIOCOUTQ, &n), EOPNOTSUPP), "SIOCOUTQ without a connection");
    close(s);
    l = vm_listen(SOCK_STREAM, &port);
    setsockopt(l, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &max, 8);
    ok(fails(ioctl(l, SIOCOUTQ, &n), EINVAL) && fails(ioctl(l, SIOCINQ, &n), EINVAL),
       "SIOCOUTQ, SIOCINQ of a listener");
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    len = sizeof(v);
    ok(!vm_connect(c, 1, port) && (s = accept(l, NULL, NULL)) >= 0 &&
           !getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &v, &len) && v == 5000,
       "accepted sockets have their listener's sizes");
    close(s);
    close(c);
    close(l);
    vm_pair(SOCK_SEQPACKET, fd);
    n = 1;
    ok(!setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &n, sizeof(n)) && send(fd[0], &max, 8, 0) == 8,
       "SO_SNDBUF does nothing");
    close2(fd);
}

static void zerocopy(int type)
{
    char control[128], b[100] = "";
    struct msghdr m = {.msg_control = control, .msg_controllen = sizeof(control)};
    struct pollfd p = {0};
    struct sock_extended_err *e;
    int fd[2], one = 1;

    vm_pair(type, fd);
    p.fd = fd[0];
    ok(send(fd[0], b, 100, MSG_ZEROCOPY) == 100 && fails(recvmsg(fd[0], &m, MSG_ERRQUEUE), EAGAIN),
       "MSG_ZEROCOPY without SO_ZEROCOPY");
    ok(!setsockopt(fd[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), "SO_ZEROCOPY");
    ok(send(fd[0], b, 100, MSG_ZEROCOPY) == 100 && send(fd[0], b, 100, MSG_ZEROCOPY) == 100,
       "two sends");
    ok(poll(&p, 1, -1) == 1 && p.revents == POLLERR, "POLLERR");
    ok(recvmsg(fd[0], &m, MSG_ERRQUEUE) == 0 && m.msg_flags == MSG_ERRQUEUE &&
           CMSG_FIRSTHDR(&m)->cmsg_level == 287 && CMSG_FIRSTHDR(&m)->cmsg_type == 1,
       "a completion");
    e = (void *)CMSG_DATA(CMSG_FIRSTHDR(&m));
    ok(e->ee_origin == SO_EE_ORIGIN_ZEROCOPY && e->ee_info == 0 && e->ee_data == 1 && !e->ee_errno,
       "of both");
    ok(poll(&p, 1, 0) == 0, "POLLERR is gone");
    one = 2;
    ok(fails(setsockopt(fd[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one)), EINVAL), "a bad value");
    close2(fd);
}

int main(int argc, char **argv)
{
    under_exec(argv);
    stream();
    waiting();
    records();
    many_messages();
    large_records();
    ends(SOCK_STREAM, "STREAM");
    ends(SOCK_SEQPACKET, "SEQPACKET");
    low_water();
    sizes();
    zerocopy(SOCK_STREAM);
    zerocopy(SOCK_SEQPACKET);
    return tap_done();
}
