// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: calls of libc that move data or descriptors by another way than send, recv, dup and close.
#include "under_exec.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/uio.h>

extern char **environ;

/* Bytes of (text) in a file that has no name; its offset is at the start. */
static int file_of(const char *text)
{
    FILE *f = tmpfile();
    int fd;

    if (!f || fputs(text, f) < 0 || fflush(f) || (fd = dup(fileno(f))) < 0 ||
        lseek(fd, 0, SEEK_SET))
        exit(99);
    fclose(f);
    return fd;
}

static void stdio(void)
{
    char line[64];
    FILE *a, *b;
    int fd[2];

    vm_pair(SOCK_STREAM, fd);
    a = fdopen(fd[0], "r+");
    b = fdopen(fd[1], "r+");
    ok(a && b && fprintf(a, "%s %d\n", "line", 1) == 7 && !fflush(a) && fgets(line, 64, b) &&
           !strcmp(line, "line 1\n"),
       "stdio: fprintf, fgets");
    ok(dprintf(fd[1], "two\n") == 4 && fscanf(a, "%63s", line) == 1 && !strcmp(line, "two"),
       "stdio: dprintf, fscanf");
    fclose(a);
    ok(!fgets(line, 64, b) && feof(b), "stdio: fclose() is the end");
    fclose(b);
}

static void files(void)
{
    int fd[2], file = file_of("from a file"), out = file_of(""), p[2];
    struct iovec part = {(char *)" pages", 6};
    volatile int none = -1;
    off_t at = 5;
    char b[64];

    vm_pair(SOCK_STREAM, fd);
    ok(sendfile(fd[0], file, NULL, 4) == 4 && sendfile(fd[0], file, &at, 6) == 6 && at == 11 &&
           recv(fd[1], b, 10, MSG_WAITALL) == 10 && !memcmp(b, "froma file", 10),
       "sendfile() to a stream");
    if (pipe(p))
        exit(99);
    ok(write(p[1], "piped", 5) == 5 && splice(p[0], NULL, fd[0], NULL, 5, 0) == 5 &&
           vmsplice(p[1], &part, 1, 0) == 6 && splice(p[0], NULL, fd[0], NULL, 6, 0) == 6 &&
           recv(fd[1], b, 11, MSG_WAITALL) == 11 && !memcmp(b, "piped pages", 11),
       "splice() into a stream");
    ok(send(fd[0], "out", 3, 0) == 3 && splice(fd[1], NULL, p[1], NULL, 64, 0) == 3 &&
           read(p[0], b, 64) == 3 && !memcmp(b, "out", 3),
       "splice() out of one");
    ok(send(fd[0], "on", 2, 0) == 2 && splice(fd[1], NULL, p[1], NULL, 64, 0) == 2 &&
           splice(p[0], NULL, out, NULL, 64, 0) == 2 && pread(out, b, 64, 0) == 2,
       "and on into a file");
    ok(fails(pread(fd[1], b, 1, 0), ESPIPE) && fails(lseek(fd[1], 0, SEEK_SET), ESPIPE),
       "a socket has no offset");
    ok(writev(fd[0], &part, 1) == 6 && fails(writev(fd[0], &part, none), EINVAL) &&
           fails(readv(fd[1], &part, none), EINVAL) && recv(fd[1], b, 64, 0) == 6,
       "writev(), and no negative number of parts");
    close2(fd);
    vm_pair(SOCK_SEQPACKET, fd);
    lseek(file, 0, SEEK_SET);
    ok(sendfile(fd[0], file, NULL, 11) == 11 && recv(fd[1], b, 64, 0) == 11 &&
           !memcmp(b, "from a file", 11),
       "sendfile() of a record");
    close2(fd);
    close2(p);
    close(file);
    close(out);
}

/* Is the port free, and does nobody listen at it? */
static bool is_free(u32 port)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    bool yes = fails(vm_connect(fd, VMADDR_CID_LOCAL, port), ECONNRESET);

    close(fd);
    fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    yes = yes && !vm_bind(fd, VMADDR_CID_ANY, port);
    close(fd);
    return yes;
}

/* A listener whose only descriptor has a number above all others. */
static int high_listener(u32 port, int number)
{
    int l = socket(AF_VSOCK, SOCK_STREAM, 0);

    if (vm_bind(l, VMADDR_CID_ANY, port) || listen(l, 2) || dup2(l, number) != number)
        exit(99);
    close(l);
    return number;
}

/* All ways to close a listener free its port, and leave no name. */
static void closing(const char *dir)
{
    int null = open("/dev/null", O_RDWR);
    FILE *f;

    high_listener(5500, 400);
    ok(dup2(null, 400) == 400 && !names_in(dir) && is_free(5500), "dup2() over a listener");
    high_listener(5500, 400);
    ok(dup3(null, 400, O_CLOEXEC) == 400 && !names_in(dir) && is_free(5500), "dup3() over one");
    f = fdopen(high_listener(5500, 400), "r");
    ok(!fclose(f) && !names_in(dir) && is_free(5500), "fclose() of one");
    high_listener(5500, 400);
    high_listener(5501, 402);
    ok(!close_range(400, 402, 0) && !names_in(dir) && is_free(5500) && is_free(5501),
       "close_range() over two");
    high_listener(5500, 400);
    ok(!close_range(400, ~0u, CLOSE_RANGE_CLOEXEC) && names_in(dir) == 1 &&
           fcntl(400, F_GETFD) == FD_CLOEXEC && vm_name(400, false).svm_port == 5500,
       "close_range() that only sets FD_CLOEXEC");
    closefrom(400);
    ok(!names_in(dir) && is_free(5500), "closefrom()");
    high_listener(5500, 400);
    ok(!syscall(SYS_close_range, 400, 400, 0) && !names_in(dir) && is_free(5500),
       "close_range() by its number");
    close(null);
}

/* The program again: descriptor 0 is a vsock, which came by posix_spawn(). */
static int spawned(void)
{
    char b[8];

    return !(vm_name(0, true).svm_family == AF_VSOCK && read(0, b, 8) == 4 &&
             send(1, "done", 4, MSG_EOR) == 4);
}

static void spawns(const char *name)
{
    char *argv[] = {(char *)name, (char *)"spawned", NULL};
    struct iovec iov = {(char[16]){0}, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    posix_spawn_file_actions_t act;
    int fd[2], status;
    pid_t pid;

    vm_pair(SOCK_SEQPACKET, fd);
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_adddup2(&act, fd[0], 0);
    posix_spawn_file_actions_adddup2(&act, fd[0], 1);
    posix_spawn_file_actions_addclose(&act, fd[1]);
    ok(send(fd[1], "work", 4, 0) == 4 &&
           !posix_spawn(&pid, "/proc/self/exe", &act, NULL, argv, environ) &&
           recvmsg(fd[1], &m, 0) == 4 && m.msg_flags == MSG_EOR &&
           waitpid(pid, &status, 0) == pid && !status,
       "posix_spawn() with a vsock for its standard streams");
    ok(vm_name(fd[0], true).svm_family == AF_VSOCK, "the parent's is still there");
    close2(fd);
    posix_spawn_file_actions_destroy(&act);
}

/* A sanitizer's run-time library, which the preloaded library then needs, is in programs of ours only. */
void __asan_init(void) __attribute__((weak));
void __tsan_init(void) __attribute__((weak));

static void cat(void)
{
    char *argv[] = {(char *)"cat", NULL}, back[4];
    posix_spawn_file_actions_t act;
    int fd[2], status;
    pid_t pid;

    if (__asan_init || __tsan_init) {
        skip("cat is not built with a sanitizer", "cat between two vsocks");
        return;
    }
    vm_pair(SOCK_STREAM, fd);
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_adddup2(&act, fd[0], 0);
    posix_spawn_file_actions_adddup2(&act, fd[0], 1);
    posix_spawn_file_actions_addclose(&act, fd[1]);
    ok(!posix_spawnp(&pid, "cat", &act, NULL, argv, environ) && !close(fd[0]) &&
           send(fd[1], "meow", 4, 0) == 4 && !shutdown(fd[1], SHUT_WR) &&
           recv(fd[1], back, 4, MSG_WAITALL) == 4 && waitpid(pid, &status, 0) == pid && !status,
       "cat, which knows nothing of sockets, between two vsocks");
    close(fd[1]);
    posix_spawn_file_actions_destroy(&act);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    alarms++;
}

/* SIGALRM in (ms), again and again: the first may come before the call that is to be interrupted. */
static void ring(int ms)
{
    struct itimerval t = {{0, ms * 1000}, {0, ms * 1000}};

    setitimer(ITIMER_REAL, &t, NULL);
}

static void signals(void)
{
    struct sigaction act = {.sa_handler = on_alarm};
    const struct timespec minute = {.tv_sec = 60};
    struct pollfd p = {.events = POLLIN};
    struct epoll_event e = {.events = EPOLLIN};
    int fd[2], ep = epoll_create1(0), l;
    sigset_t all, none, old;
    fd_set r;
    char b[8];
    u32 port;

    vm_pair(SOCK_STREAM, fd);
    l = vm_listen(SOCK_STREAM, &port);
    p.fd = fd[1];
    epoll_ctl(ep, EPOLL_CTL_ADD, fd[1], &e);
    sigaction(SIGALRM, &act, NULL);
    sigemptyset(&none);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    ring(10);
    ok(fails(ppoll(&p, 1, &minute, &none), EINTR),
       "ppoll() takes signals that are blocked outside");
    FD_ZERO(&r);
    FD_SET(fd[1], &r);
    ok(fails(pselect(fd[1] + 1, &r, NULL, NULL, &minute, &none), EINTR), "so does pselect()");
    ok(fails(epoll_pwait(ep, &e, 1, 60000, &none), EINTR), "so does epoll_pwait()");
    ok(fails(epoll_pwait2(ep, &e, 1, &minute, &none), EINTR), "so does epoll_pwait2()");
    alarms = 0;
    ok(poll(&p, 1, 50) == 0 && epoll_wait(ep, &e, 1, 50) == 0 && !alarms,
       "poll() and epoll_wait() do not");
    sigprocmask(SIG_SETMASK, &old, NULL);
    ok(fails(recv(fd[1], b, 1, 0), EINTR) && fails(accept(l, NULL, NULL), EINTR) &&
           fails(poll(&p, 1, -1), EINTR) && fails(epoll_wait(ep, &e, 1, -1), EINTR),
       "a signal interrupts recv, accept, poll, epoll_wait");
    while (send(fd[0], environ, 4096, MSG_DONTWAIT) > 0)
        ;
    while (send(fd[0], environ, 1, MSG_DONTWAIT) > 0)
        ;
    ok(fails(send(fd[0], environ, 4096, 0), EINTR), "and send");
    ring(0);
    close(ep);
    close(l);
    close2(fd);
}

static void modes(void)
{
    struct linger linger = {1, 3}, got = {0};
    socklen_t len = sizeof(got);
    int fd[2], one = 1, v, n = 0;
    char b[8];

    vm_pair(SOCK_STREAM, fd);
    ok(!fcntl(fd[1], F_SETFL, O_NONBLOCK) && fails(recv(fd[1], b, 1, 0), EAGAIN) &&
           fails(recv(fd[1], b, 1, MSG_WAITALL), EAGAIN) && !fcntl(fd[1], F_SETFL, 0),
       "F_SETFL: O_NONBLOCK");
    ok(!ioctl(fd[1], FIONBIO, &one) && fcntl(fd[1], F_GETFL) & O_NONBLOCK &&
           fails(read(fd[1], b, 1), EAGAIN),
       "FIONBIO");
    ok(send(fd[0], "abc", 3, MSG_MORE | MSG_NOSIGNAL | MSG_DONTWAIT) == 3 &&
           !ioctl(fd[1], FIONREAD, &n) && n == 3 && recv(fd[1], b, 8, MSG_WAITALL | MSG_TRUNC) == 3,
       "MSG_MORE, FIONREAD");
    ok(fcntl(fd[0], F_GETFD) == 0 && !fcntl(fd[0], F_SETFD, FD_CLOEXEC) &&
           fcntl(fd[0], F_GETFD) == FD_CLOEXEC,
       "F_SETFD");
    ok(!setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) &&
           !getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &got, &len) && got.l_onoff == 1 &&
           got.l_linger == 3,
       "SO_LINGER");
    len = sizeof(v);
    ok(!setsockopt(fd[0], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) &&
           !getsockopt(fd[0], SOL_SOCKET, SO_REUSEADDR, &v, &len) && v == 1 &&
           !getsockopt(fd[0], SOL_SOCKET, SO_ACCEPTCONN, &v, &len) && v == 0,
       "SO_REUSEADDR, SO_ACCEPTCONN");
    ok(!close(fd[0]) && fails(send(fd[0], "x", 1, 0), EBADF) &&
           fails(recv(fd[0], b, 1, 0), EBADF) && fails(close(fd[0]), EBADF) &&
           fails(listen(fd[0], 1), EBADF),
       "EBADF after close()");
    close(fd[1]);
}

/* Kilobytes of address space. */
static long size_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0;

    if (!f || fscanf(f, "%ld", &pages) != 1)
        exit(99);
    fclose(f);
    return pages * 4;
}

static void memory(void)
{
    struct timeval tv = {0};
    struct pollfd p[100];
    int fd[2];
    long before;
    fd_set r;

    vm_pair(SOCK_STREAM, fd);
    for (int i = 0; i < 100; i++)
        p[i] = (struct pollfd){.fd = fd[1], .events = POLLIN};
    FD_ZERO(&r);
    before = size_kib();
    for (int i = 0; i < 1000; i++) {
        FD_SET(fd[1], &r);
        select(fd[1] + 1, &r, NULL, NULL, &tv);
        FD_SET(fd[1], &r);
        select(FD_SETSIZE, &r, NULL, NULL, &tv);
        poll(p, 100, 0);
    }
    ok(size_kib() - before < 1000, "a thousand select() and poll() leave no memory behind");
    close2(fd);
}

static void device(void)
{
    u32 cid = 0;
    FILE *f = fopen("/dev/vsock", "r");
    int fd = openat(AT_FDCWD, "/dev/vsock", O_RDONLY);

    ok(f && !ioctl(fileno(f), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) && cid == VMADDR_CID_HOST,
       "/dev/vsock by fopen()");
    if (f)
        fclose(f);
    cid = 0;
    ok(!syscall(SYS_ioctl, fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) && cid == VMADDR_CID_HOST,
       "and by openat(), asked through syscall()");
    ok(fails(ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, NULL), EFAULT), "with nowhere to put it");
    close(fd);
}

/* Calls of libc by their numbers. */
static void numbers(void)
{
    struct sockaddr_vm a = vm_addr(VMADDR_CID_ANY, 5700), b = vm_addr(VMADDR_CID_LOCAL, 5700);
    int l = (int)syscall(SYS_socket, AF_VSOCK, SOCK_SEQPACKET, 0), c, s = -1;
    int c2 = (int)syscall(SYS_socket, AF_VSOCK, SOCK_SEQPACKET, 0);
    struct iovec iov = {(char[16]){0}, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    socklen_t len = sizeof(a);

    ok(!syscall(SYS_bind, l, &a, sizeof(a)) && !syscall(SYS_listen, l, 2) &&
           !syscall(SYS_connect, c2, &b, sizeof(b)) &&
           (s = (int)syscall(SYS_accept4, l, &b, &len, SOCK_CLOEXEC)) >= 0 &&
           b.svm_family == AF_VSOCK,
       "syscall(): socket, bind, listen, connect, accept4");
    c = (int)syscall(SYS_dup, c2);
    ok(syscall(SYS_sendto, c, "one", 3, MSG_EOR, NULL, 0) == 3 &&
           syscall(SYS_recvmsg, s, &m, 0) == 3 && m.msg_flags == MSG_EOR,
       "syscall(): dup, sendto, recvmsg");
    ok(!syscall(SYS_getsockname, l, &b, &len) && b.svm_port == 5700 && b.svm_family == AF_VSOCK &&
           !syscall(SYS_shutdown, c2, SHUT_WR),
       "syscall(): getsockname, shutdown");
    ok(syscall(SYS_read, s, iov.iov_base, 16) == 0 && !syscall(SYS_close, s) &&
           !syscall(SYS_close, l),
       "syscall(): read, close");
    close(c);
    close(c2);
}

int main(int argc, char **argv)
{
    const char *dir;

    if (argc > 1 && !strcmp(argv[1], "spawned"))
        return spawned();
    dir = under_exec(argv);
    stdio();
    files();
    closing(dir);
    spawns(argv[0]);
    cat();
    signals();
    modes();
    memory();
    device();
    numbers();
    is_u64(names_in(dir), 0, "no name is left behind");
    return tap_done();
}
