// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: poll, select and epoll, and connecting to a guest, which takes its time.
#include "under_exec.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/un.h>

/* A guest with CID 77, or its device: a plain listener where the library looks for it. */
static int guest(const char *dir, int type)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/77%s", dir,
             type == SOCK_SEQPACKET ? "_seqpacket" : "");
    unlink(a.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 4))
        exit(1);
    return fd;
}

/* The guest's end of a call to (port): reads CONNECT. */
static int picked_up(int l, u32 port)
{
    char line[64] = "", want[64];
    int fd = accept(l, NULL, NULL);

    snprintf(want, sizeof(want), "CONNECT %u\n", port);
    if (fd < 0 || recv(fd, line, sizeof(line) - 1, 0) < 0 || strcmp(line, want)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int dial(int type, int *rc, u32 port)
{
    int fd = socket(AF_VSOCK, type | SOCK_NONBLOCK, 0);

    *rc = vm_connect(fd, 77, port);
    return fd;
}

static int so_error(int fd)
{
    int v = -1;
    socklen_t len = sizeof(v);

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len);
    return v;
}

static int poll1(int fd, short events, int ms)
{
    struct pollfd p = {.fd = fd, .events = events};

    return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

static void blocking(const char *dir)
{
    struct timeval tv = {.tv_usec = 50000};
    int l = guest(dir, SOCK_STREAM), c, s;
    char b[8], name[] = "\0uvirt-vsock/2:";
    struct sockaddr_un a;
    socklen_t len = sizeof(a);
    pid_t pid = fork();

    if (!pid) {
        s = picked_up(l, 10);
        if (s < 0 || write(s, "OK ", 3) != 3 || usleep(20000) || write(s, "1234\nearly", 10) != 10)
            _exit(1);
        getpeername(s, (struct sockaddr *)&a, &len);
        _exit(memcmp(a.sun_path, name, sizeof(name) - 1) || read(s, b, 8) != 4);
    }
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(c, 77, 10), "connect() waits for OK, also in pieces");
    ok(vm_is(vm_name(c, true), 77, 10), "the peer is the guest's port");
    ok(read(c, b, 8) == 5 && !memcmp(b, "early", 5), "bytes behind OK are data");
    ok(write(c, "done", 4) == 4 && waitpid(pid, &s, 0) == pid && !s,
       "the guest was told who we are");
    close(c);
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    setsockopt(c, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &tv, sizeof(tv));
    ok(fails(vm_connect(c, 77, 11), ETIMEDOUT), "it waits for CONNECT_TIMEOUT");
    close(picked_up(l, 11));
    pid = fork();
    if (!pid) {
        close(picked_up(l, 12));
        s = picked_up(l, 13);
        _exit(write(s, "NO\n", 3) != 3 || (s = picked_up(l, 14)) < 0 ||
              write(s, "OK 1\nx", 6) != 6);
    }
    ok(fails(vm_connect(c, 77, 12), ECONNRESET), "a guest that closes has refused");
    ok(fails(vm_connect(c, 77, 13), EPROTO), "one that says something else is at fault");
    ok(!vm_connect(c, 77, 14) && vm_is(vm_name(c, true), 77, 14) && read(c, b, 8) == 1,
       "and the socket can try again");
    waitpid(pid, &s, 0);
    close(c);
    close(l);
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(fails(vm_connect(c, 77, 15), ENODEV), "a guest that has gone leaves ENODEV");
    close(c);
}

/* A port of the program's own choice is still its own after a guest has refused. */
static void bound(const char *dir)
{
    int l = guest(dir, SOCK_STREAM), c = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int other = socket(AF_VSOCK, SOCK_STREAM, 0), s = -1;
    struct timeval tv = {.tv_sec = 3}, got;
    socklen_t len = sizeof(got);

    setsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    ok(!vm_bind(c, VMADDR_CID_ANY, 5600) && fails(vm_connect(c, 77, 16), EINPROGRESS),
       "bind(), connect()");
    close(picked_up(l, 16));
    ok(poll1(c, POLLOUT, -1) & POLLERR && so_error(c) == ECONNRESET, "refused");
    ok(vm_is(vm_name(c, false), VMADDR_CID_ANY, 5600) &&
           fails(vm_bind(other, VMADDR_CID_ANY, 5600), EADDRINUSE),
       "the port is kept");
    ok(!getsockopt(c, SOL_SOCKET, SO_RCVTIMEO, &got, &len) && got.tv_sec == 3 &&
           fcntl(c, F_GETFL) & O_NONBLOCK,
       "so are options and flags");
    ok(fails(vm_connect(c, 77, 17), EINPROGRESS) && (s = picked_up(l, 17)) >= 0 &&
           write(s, "OK 1\n", 5) == 5 && poll1(c, POLLOUT, -1) == POLLOUT,
       "the next try gets through");
    ok(vm_is(vm_name(c, true), 77, 17) && vm_is(vm_name(c, false), VMADDR_CID_ANY, 5600),
       "with both names");
    close(c);
    ok(!vm_bind(other, VMADDR_CID_ANY, 5600), "close() frees the port");
    close(other);
    close(s);
    close(l);
}

static void records(const char *dir)
{
    int l = guest(dir, SOCK_SEQPACKET), c, s, status;
    char b[8];
    pid_t pid = fork();

    if (!pid) {
        s = picked_up(l, 20);
        _exit(s < 0 || send(s, "OK 20", 5, 0) != 5 || send(s, "rec", 3, 0) != 3 ||
              recv(s, b, 8, 0) != 2 || recv(s, b, 8, 0) != 1);
    }
    c = socket(AF_VSOCK, SOCK_SEQPACKET, 0);
    ok(!vm_connect(c, 77, 20) && read(c, b, 8) == 3, "SEQPACKET: the same words as records");
    ok(send(c, "ab", 2, MSG_EOR) == 2 && send(c, "c", 1, 0) == 1 &&
           waitpid(pid, &status, 0) == pid && !status,
       "SEQPACKET: a device that knows no marks gets plain records");
    close(c);
    close(l);
}

/* What a device could send: (count) descriptors (mark) beside a record. */
static void send_marks(int fd, const char *text, int mark, unsigned count)
{
    char control[CMSG_SPACE(8 * sizeof(int))] = {0};
    struct iovec iov = {(char *)text, strlen(text)};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control};
    struct cmsghdr *c = (struct cmsghdr *)control;

    m.msg_controllen = CMSG_SPACE(count * sizeof(int));
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS,
                          .cmsg_len = CMSG_LEN(count * sizeof(int))};
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(c) + i * sizeof(int), &mark, sizeof(int));
    if (sendmsg(fd, &m, 0) < 0)
        exit(1);
}

/* A guest's device that calls us and sends marks that mean nothing. */
static void odd_marks(const char *dir)
{
    static const char name[] = "\0uvirt-vsock/9:1000/0123m";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int l, c = socket(AF_UNIX, SOCK_SEQPACKET, 0), s = -1, p[2], next;
    u32 port;
    char b[8];

    l = vm_listen(SOCK_SEQPACKET, &port);
    memcpy(a.sun_path, name, sizeof(name) - 1);
    if (bind(c, (struct sockaddr *)&a, offsetof(struct sockaddr_un, sun_path) + sizeof(name) - 1) ||
        pipe(p))
        exit(1);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/2_%u_seqpacket", dir, port);
    ok(!connect(c, (struct sockaddr *)&a, sizeof(a)) && (s = accept(l, NULL, NULL)) >= 0 &&
           vm_is(vm_name(s, true), 9, 1000) && vm_is(vm_name(s, false), VMADDR_CID_HOST, port),
       "a guest calls");
    next = dup(0);
    close(next);
    for (unsigned i = 4; i <= 8; i++)
        send_marks(c, "many", p[0], i);
    send_marks(c, "pipe", p[0], 2);
    send_marks(c, "one", p[0], 1);
    for (unsigned i = 4; i <= 8; i++)
        ok(recv(s, b, 8, MSG_DONTWAIT) == -1 && errno != EAGAIN, "%u marks are an error", i);
    ok(recv(s, b, 8, MSG_DONTWAIT) == -1 && errno != EAGAIN, "so is a record in a pipe");
    ok(recv(s, b, 8, MSG_DONTWAIT) == 3, "the next record is good");
    ok(dup(0) == next, "no descriptor is left");
    close(next);
    close2(p);
    close(c);
    close(s);
    close(l);
}

static void not_waiting(const char *dir)
{
    struct timeval tv = {.tv_usec = 30000};
    int l = guest(dir, SOCK_STREAM), c, s, rc;
    char b[8];

    c = dial(SOCK_STREAM, &rc, 30);
    ok(fails(rc, EINPROGRESS), "a connect() that does not wait");
    ok(fails(vm_connect(c, 77, 30), EALREADY), "is under way");
    ok(fails(send(c, "x", 1, 0), EAGAIN) && fails(read(c, b, 1), EAGAIN), "no data yet");
    ok(!poll1(c, POLLIN | POLLOUT, 0) && !poll1(c, POLLOUT, 20), "poll() says nothing");
    ok(so_error(c) == 0, "nor SO_ERROR");
    s = picked_up(l, 30);
    ok(s >= 0 && write(s, "OK", 2) == 2 && !poll1(c, POLLOUT, 20), "half an OK is none");
    ok(write(s, " 5\n", 3) == 3 && poll1(c, POLLIN | POLLOUT, -1) == POLLOUT && so_error(c) == 0,
       "POLLOUT when it is there");
    ok(write(s, "data", 4) == 4 && poll1(c, POLLIN, -1) == POLLIN && read(c, b, 8) == 4,
       "POLLIN for data");
    close(s);
    close(c);
    c = dial(SOCK_STREAM, &rc, 31);
    close(picked_up(l, 31));
    ok(poll1(c, POLLOUT, -1) == (POLLOUT | POLLERR) && so_error(c) == ECONNRESET &&
           so_error(c) == 0,
       "refused: POLLERR, SO_ERROR once");
    ok(fails(vm_connect(c, 77, 32), EINPROGRESS), "and again");
    close(picked_up(l, 32));
    close(c);
    c = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &tv, sizeof(tv));
    ok(fails(vm_connect(c, 77, 33), EINPROGRESS) && poll1(c, POLLOUT, -1) & POLLERR &&
           so_error(c) == ETIMEDOUT,
       "poll() wakes up for the timeout");
    close(picked_up(l, 33));
    close(c);
    close(l);
}

static void fresh_sockets(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0), sp[2];
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.events = POLLIN}};

    ok(!poll1(fd, POLLIN, 20), "a socket without a connection has nothing to read, and no POLLHUP");
    ok(poll1(fd, POLLIN | POLLOUT, 20) == POLLOUT, "but can be written to, as in Linux");
    if (pipe(sp) || write(sp[1], "x", 1) != 1)
        exit(1);
    p[1].fd = sp[0];
    ok(poll(p, 2, -1) == 1 && !p[0].revents && p[1].revents == POLLIN, "others beside it are seen");
    close2(sp);
    close(fd);
}

/* More than fit into the library's stack. */
static void many_polled(void)
{
    enum { N = 100 };
    struct pollfd p[N];
    int fd[2], high = 0;
    struct timeval tv = {.tv_usec = 20000};
    fd_set r;

    vm_pair(SOCK_STREAM, fd);
    FD_ZERO(&r);
    for (int i = 0; i < N; i++) {
        p[i] = (struct pollfd){.fd = i ? fcntl(fd[1], F_DUPFD, 300) : fd[1], .events = POLLIN};
        FD_SET(p[i].fd, &r);
        high = p[i].fd > high ? p[i].fd : high;
    }
    ok(poll(p, N, 20) == 0 && select(high + 1, &r, NULL, NULL, &tv) == 0,
       "a hundred descriptors have nothing");
    for (int i = 0; i < N; i++)
        FD_SET(p[i].fd, &r);
    ok(write(fd[0], "x", 1) == 1 && poll(p, N, -1) == N && p[N - 1].revents == POLLIN,
       "poll(): all have a byte");
    ok(select(high + 1, &r, NULL, NULL, NULL) == N && FD_ISSET(high, &r), "select() too");
    for (int i = 1; i < N; i++)
        close(p[i].fd);
    close2(fd);
}

static void selecting(void)
{
    struct timeval tv = {.tv_usec = 20000}, tv0 = {0};
    fd_set r, w, e;
    int fd[2], v = 4, high;

    vm_pair(SOCK_STREAM, fd);
    high = (fd[0] > fd[1] ? fd[0] : fd[1]) + 1;
    FD_ZERO(&r);
    FD_ZERO(&w);
    FD_ZERO(&e);
    FD_SET(fd[1], &r);
    FD_SET(fd[0], &w);
    FD_SET(fd[1], &e);
    ok(select(high, &r, &w, &e, NULL) == 1 && !FD_ISSET(fd[1], &r) && FD_ISSET(fd[0], &w) &&
           !FD_ISSET(fd[1], &e),
       "select(): writable");
    FD_SET(fd[1], &r);
    ok(select(high, &r, NULL, NULL, &tv) == 0 && !FD_ISSET(fd[1], &r) && !tv.tv_sec && !tv.tv_usec,
       "select(): time is over");
    setsockopt(fd[1], SOL_SOCKET, SO_RCVLOWAT, &v, sizeof(v));
    FD_SET(fd[1], &r);
    ok(write(fd[0], "abc", 3) == 3 && select(high, &r, NULL, NULL, &tv0) == 0,
       "select(): below SO_RCVLOWAT");
    FD_SET(fd[1], &r);
    ok(write(fd[0], "d", 1) == 1 && pselect(high, &r, NULL, NULL, NULL, NULL) == 1 &&
           FD_ISSET(fd[1], &r),
       "pselect(): readable");
    close2(fd);
    ok(fails(select(high, &r, NULL, NULL, &tv0), EBADF), "select(): a closed descriptor");
}

static int wait1(int ep, int ms, struct epoll_event *e)
{
    *e = (struct epoll_event){0};
    return epoll_wait(ep, e, 1, ms);
}

static void epolls(const char *dir)
{
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP, .data.u32 = 1};
    int ep = epoll_create1(0), fd[2], v = 4, c, rc, s, l;
    char b[8];

    vm_pair(SOCK_STREAM, fd);
    ok(!epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], &e) &&
           fails(epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], &e), EEXIST),
       "epoll_ctl()");
    ok(wait1(ep, 0, &e) == 0, "epoll: nothing");
    ok(write(fd[0], "a", 1) == 1 && wait1(ep, -1, &e) == 1 && e.events == EPOLLIN &&
           e.data.u32 == 1 && wait1(ep, -1, &e) == 1,
       "epoll: a byte, level-triggered");
    setsockopt(fd[1], SOL_SOCKET, SO_RCVLOWAT, &v, sizeof(v));
    ok(wait1(ep, 20, &e) == 0 && write(fd[0], "b", 1) == 1 && wait1(ep, 20, &e) == 0,
       "epoll: below SO_RCVLOWAT");
    ok(write(fd[0], "cd", 2) == 2 && wait1(ep, -1, &e) == 1 && e.events == EPOLLIN &&
           wait1(ep, -1, &e) == 1,
       "epoll: enough, and again");
    ok(read(fd[1], b, 8) == 4 && wait1(ep, 0, &e) == 0, "epoll: read");
    ok(!shutdown(fd[0], SHUT_WR) && wait1(ep, -1, &e) == 1 && e.events == (EPOLLIN | EPOLLRDHUP),
       "epoll: EPOLLRDHUP");
    e = (struct epoll_event){.events = EPOLLOUT | EPOLLET, .data.u32 = 2};
    ok(!epoll_ctl(ep, EPOLL_CTL_MOD, fd[1], &e) && wait1(ep, -1, &e) == 1 && e.events == EPOLLOUT &&
           e.data.u32 == 2 && wait1(ep, 0, &e) == 0,
       "epoll: EPOLLET");
    ok(!epoll_ctl(ep, EPOLL_CTL_DEL, fd[1], NULL) && wait1(ep, 0, &e) == 0, "epoll: EPOLL_CTL_DEL");
    close2(fd);
    vm_pair(SOCK_STREAM, fd);
    e = (struct epoll_event){.events = EPOLLIN | EPOLLONESHOT, .data.u32 = 3};
    ok(!epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], &e) && write(fd[0], "x", 1) == 1 &&
           wait1(ep, -1, &e) == 1 && wait1(ep, 0, &e) == 0,
       "epoll: EPOLLONESHOT");
    close2(fd);
    c = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK, 0);
    e = (struct epoll_event){.events = EPOLLIN, .data.u32 = 4};
    ok(!epoll_ctl(ep, EPOLL_CTL_ADD, c, &e) && wait1(ep, 20, &e) == 0,
       "epoll: no EPOLLHUP of a new socket");
    l = guest(dir, SOCK_STREAM);
    ok(fails(vm_connect(c, 77, 40), EINPROGRESS), "epoll: it connects");
    e = (struct epoll_event){.events = EPOLLIN | EPOLLOUT, .data.u32 = 4};
    ok(!epoll_ctl(ep, EPOLL_CTL_MOD, c, &e) && wait1(ep, 20, &e) == 0, "epoll: not yet");
    s = picked_up(l, 40);
    ok(write(s, "OK 1\n", 5) == 5 && wait1(ep, -1, &e) == 1 && e.events == EPOLLOUT &&
           so_error(c) == 0,
       "epoll: EPOLLOUT when it is connected");
    ok(write(s, "x", 1) == 1 && wait1(ep, -1, &e) == 1 && e.events == (EPOLLIN | EPOLLOUT),
       "epoll: EPOLLIN");
    close(s);
    close(c);
    c = dial(SOCK_STREAM, &rc, 41);
    e = (struct epoll_event){.events = EPOLLOUT, .data.u32 = 5};
    ok(fails(rc, EINPROGRESS) && !epoll_ctl(ep, EPOLL_CTL_ADD, c, &e), "epoll: another");
    close(picked_up(l, 41));
    ok(wait1(ep, -1, &e) == 1 && e.events & EPOLLERR && e.data.u32 == 5 &&
           so_error(c) == ECONNRESET,
       "epoll: refused, EPOLLERR");
    close(c);
    close(l);
    close(ep);
}

int main(int argc, char **argv)
{
    const char *dir = under_exec(argv);

    blocking(dir);
    bound(dir);
    records(dir);
    odd_marks(dir);
    not_waiting(dir);
    fresh_sockets();
    many_polled();
    selecting();
    epolls(dir);
    return tap_done();
}
