// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: the same socket in several descriptors, processes and programs.
#include "under_exec.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static void duplicates(void)
{
    u32 port;
    int fd[2], d, l;
    char b[8];

    vm_pair(SOCK_SEQPACKET, fd);
    d = dup(fd[0]);
    close(fd[0]);
    ok(send(d, "dup", 3, MSG_EOR) == 3 && read(fd[1], b, 8) == 3, "vsock-emulation-layer: dup()");
    ok(dup2(d, 200) == 200 && send(200, "x", 1, 0) == 1 &&
           vm_name(200, true).svm_family == AF_VSOCK,
       "dup2()");
    ok(dup3(d, 201, O_CLOEXEC) == 201 && vm_name(201, true).svm_family == AF_VSOCK, "dup3()");
    ok(fcntl(d, F_DUPFD, 300) == 300 && fcntl(d, F_DUPFD_CLOEXEC, 301) == 301 &&
           vm_name(300, true).svm_family == AF_VSOCK && vm_name(301, true).svm_family == AF_VSOCK,
       "F_DUPFD");
    close(d);
    close(200);
    close(201);
    close(300);
    ok(read(fd[1], b, 8) == 1 && fails(recv(fd[1], b, 8, MSG_DONTWAIT), EAGAIN),
       "a duplicate holds the connection");
    close(301);
    ok(read(fd[1], b, 8) == 0, "until the last is closed");
    close(fd[1]);
    l = vm_listen(SOCK_STREAM, &port);
    d = dup(l);
    close(l);
    l = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(l, 1, port), "a listener lives in its duplicate");
    close(d);
    close(l);
    l = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(fails(vm_connect(l, 1, port), ECONNRESET), "and ends with it");
    close(l);
    vm_pair(SOCK_STREAM, fd);
    d = open("/dev/null", O_RDWR);
    ok(dup2(d, fd[0]) == fd[0] && write(fd[0], "x", 1) == 1 && read(fd[1], b, 1) == 0,
       "a descriptor can be replaced by another file");
    close(d);
    close2(fd);
}

static void forks(void)
{
    int l, c, s, status;
    u32 port;
    char b[8];
    pid_t pid;

    l = vm_listen(SOCK_STREAM, &port);
    pid = fork();
    if (!pid) {
        s = accept(l, NULL, NULL);
        _exit(!(s >= 0 && read(s, b, 8) == 2 && write(s, "yes", 3) == 3));
    }
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(c, VMADDR_CID_HOST, port) && write(c, "hi", 2) == 2 && read(c, b, 8) == 3,
       "a child serves its parent's listener");
    waitpid(pid, &status, 0);
    ok(!status && read(c, b, 8) == 0, "and ends");
    close(c);
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(c, VMADDR_CID_HOST, port), "the parent still listens");
    close(c);
    close(l);
}

/* Children of vfork() close and duplicate descriptors in their parent's memory. */
static void vforks(void)
{
    struct iovec iov = {(char[16]){0}, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd[2], status;
    pid_t pid;

    vm_pair(SOCK_SEQPACKET, fd);
    pid = vfork();
    if (!pid) {
        dup2(fd[0], 280);
        close(fd[0]);
        close(fd[1]);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    ok(send(fd[0], "eor", 3, MSG_EOR) == 3 && recvmsg(fd[1], &m, 0) == 3 && m.msg_flags == MSG_EOR,
       "the parent's stay what they are");
    ok(dup2(fd[0], 280) == 280 && vm_name(280, true).svm_family == AF_VSOCK,
       "and new ones are seen");
    close(280);
    close2(fd);
}

/* The program again, behind exec(): descriptors 10 (connected) and 11 (a listener) are vsocks. */
static int second(void)
{
    struct iovec iov = {(char[16]){0}, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    u32 port = (u32)atoi(getenv("TEST_PORT"));
    u64 size = 0;
    socklen_t len = sizeof(size);
    int s;

    if (!vm_is(vm_name(10, true), VMADDR_CID_LOCAL, port) || vm_name(11, false).svm_port != 5400)
        return 2;
    if (getsockopt(10, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, &len) || size != 1000)
        return 3;
    if (!fails(send(10, iov.iov_base, 1001, 0), EMSGSIZE) || send(10, "second", 6, MSG_EOR) != 6)
        return 4;
    if (recvmsg(10, &m, 0) != 5 || !(m.msg_flags & MSG_EOR))
        return 5;
    s = accept(11, NULL, NULL);
    return s >= 0 && write(s, "served", 6) == 6 ? 0 : 6;
}

static void execs(char **argv)
{
    struct iovec iov = {(char[16]){0}, 16};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
    int fd[2], l, status, c;
    u64 size = 1000;
    char text[16];
    pid_t pid;

    vm_pair(SOCK_SEQPACKET, fd);
    setsockopt(fd[0], AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &size, sizeof(size));
    l = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_bind(l, VMADDR_CID_ANY, 5400) && !listen(l, 3), "a listener");
    snprintf(text, sizeof(text), "%u", vm_name(fd[0], true).svm_port);
    setenv("TEST_PORT", text, 1);
    send(fd[1], "first", 5, MSG_EOR);
    pid = fork();
    if (!pid) {
        dup2(fd[0], 10);
        dup2(l, 11);
        execl("/proc/self/exe", argv[0], "second", NULL);
        _exit(1);
    }
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(c, 2, 5400) && read(c, text, 16) == 6, "another program serves it after exec()");
    ok(recvmsg(fd[1], &m, 0) == 6 && m.msg_flags & MSG_EOR, "and sends records with MSG_EOR");
    waitpid(pid, &status, 0);
    is_u64(status, 0, "names, buffer size and marks survive exec()");
    close(c);
    close(l);
    close2(fd);
}

static bool pass(int over, int fd, bool give, int *got)
{
    union {
        struct cmsghdr hdr;
        char space[CMSG_SPACE(sizeof(int))];
    } c = {0};
    struct iovec iov = {(char[1]){0}, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};

    if (!give) {
        if (recvmsg(over, &m, 0) != 1)
            return false;
        memcpy(got, CMSG_DATA(&c.hdr), sizeof(int));
        return true;
    }
    c.hdr = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&c.hdr), &fd, sizeof(int));
    return sendmsg(over, &m, 0) == 1;
}

static void rights(void)
{
    char b[8], control[64];
    struct iovec iov = {b, sizeof(b)};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = control,
                       .msg_controllen = sizeof(control)};
    int fd[2], sp[2], status, got, n = 0;
    pid_t pid;

    socketpair(AF_UNIX, SOCK_STREAM, 0, sp);
    pid = fork();
    if (!pid) {
        close(sp[0]);
        if (!pass(sp[1], -1, false, &got))
            _exit(1);
        if (vm_name(got, true).svm_cid != VMADDR_CID_LOCAL || send(got, "passed", 6, MSG_EOR) != 6)
            _exit(2);
        _exit(0);
    }
    close(sp[1]);
    vm_pair(SOCK_SEQPACKET, fd);
    ok(pass(sp[0], fd[0], true, NULL), "a vsock goes to another process by SCM_RIGHTS");
    waitpid(pid, &status, 0);
    ok(!status && read(fd[1], b, 8) == 6, "which knows it for one");
    close(sp[0]);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sp);
    ok(pass(fd[0], sp[0], true, NULL) && !ioctl(fd[1], FIONREAD, &n) && n == 1 &&
           recvmsg(fd[1], &m, 0) == 1 && !m.msg_controllen && !m.msg_flags,
       "no descriptor goes over a vsock");
    close2(sp);
    close2(fd);
}

/* A number that was a vsock, and became something else without a call that the library sees. */
static void reused(void)
{
    int fd[2], p[2];
    char b[2];

    vm_pair(SOCK_STREAM, fd);
    kernel(SYS_close, fd[0], 0, 0, 0, 0);
    kernel(SYS_pipe2, (long)p, 0, 0, 0, 0);
    ok(p[0] == fd[0] || p[1] == fd[0], "a pipe in its place");
    ok(write(p[1], "x", 1) == 1 && read(p[0], b, 1) == 1, "is a pipe");
    close2(p);
    close(fd[1]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "second"))
        return second();
    under_exec(argv);
    duplicates();
    forks();
    vforks();
    execs(argv);
    rights();
    reused();
    return tap_done();
}
