// SPDX-License-Identifier: MIT
// AF_VSOCK under uvirt exec: creating, binding, listening, connecting, names.
#include "under_exec.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

static void create(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), v = 0, p[2];
    socklen_t len = sizeof(v);

    ok(fd >= 0, "a STREAM socket");
    ok(fcntl(fd, F_GETFD) == FD_CLOEXEC && fcntl(fd, F_GETFL) & O_NONBLOCK, "with its flags");
    ok(!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len) && v == AF_VSOCK, "SO_DOMAIN");
    ok(!getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len) && v == SOCK_STREAM, "SO_TYPE");
    ok(!getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len) && !v, "SO_ERROR");
    ok(vm_is(vm_name(fd, false), VMADDR_CID_ANY, VMADDR_PORT_ANY), "it has no address");
    ok(fails(getpeername(fd, (struct sockaddr *)&(struct sockaddr_vm){0}, &len), ENOTCONN),
       "nor a peer");
    ok(fails(send(fd, "x", 1, MSG_NOSIGNAL), ENOTCONN), "nothing can be sent");
    ok(fails(recv(fd, &v, 1, 0), ENOTCONN), "nor received");
    ok(fails(shutdown(fd, SHUT_RDWR), ENOTCONN), "nor shut down");
    ok(fails(listen(fd, 1), EINVAL), "listen() without an address");
    ok(fails(accept(fd, NULL, NULL), EINVAL), "accept() without listen()");
    close(fd);
    fd = socket(AF_VSOCK, SOCK_SEQPACKET, AF_VSOCK);
    ok(fd >= 0, "a SEQPACKET socket, protocol AF_VSOCK");
    ok(!getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len) && v == SOCK_SEQPACKET, "SO_TYPE");
    close(fd);
    ok(fails(socket(AF_VSOCK, SOCK_DGRAM, 0), ENODEV), "DGRAM: no transport");
    ok(fails(socket(AF_VSOCK, SOCK_RAW, 0), ESOCKTNOSUPPORT), "RAW");
    ok(fails(socket(AF_VSOCK, SOCK_STREAM, 1), EPROTONOSUPPORT), "another protocol");
    ok(fails(socketpair(AF_VSOCK, SOCK_STREAM, 0, p), EOPNOTSUPP), "socketpair()");
    fd = (int)syscall(SYS_socket, AF_VSOCK, SOCK_STREAM, 0);
    ok(fd >= 0 && vm_name(fd, false).svm_family == AF_VSOCK, "through syscall()");
    close(fd);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ok(!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len) && v == AF_UNIX,
       "libkrun #510: AF_UNIX is still AF_UNIX");
    close(fd);
}

static void bind_rules(void)
{
    struct sockaddr_vm a = vm_addr(VMADDR_CID_ANY, 5000), any;
    int s = socket(AF_VSOCK, SOCK_STREAM, 0), t = socket(AF_VSOCK, SOCK_STREAM, 0);
    int q = socket(AF_VSOCK, SOCK_SEQPACKET, 0);

    ok(fails(bind(s, (struct sockaddr *)&a, sizeof(a) - 1), EINVAL), "a short address");
    a.svm_family = AF_INET;
    ok(fails(bind(s, (struct sockaddr *)&a, sizeof(a)), EINVAL), "another family");
    a.svm_family = AF_VSOCK;
    a.svm_flags = 0x80;
    ok(fails(bind(s, (struct sockaddr *)&a, sizeof(a)), EINVAL), "an unknown flag");
    ok(fails(vm_bind(s, 3, 5000), EADDRNOTAVAIL), "a guest's CID");
    ok(fails(vm_bind(s, VMADDR_CID_HYPERVISOR, 5000), EADDRNOTAVAIL), "CID 0");
    ok(!vm_bind(s, VMADDR_CID_ANY, 5000), "any CID, port 5000");
    ok(vm_is(vm_name(s, false), VMADDR_CID_ANY, 5000), "getsockname()");
    ok(fails(vm_bind(s, VMADDR_CID_ANY, 5001), EINVAL), "a second bind()");
    ok(fails(vm_bind(t, VMADDR_CID_ANY, 5000), EADDRINUSE),
       "libkrun #860, vsock-emulation-layer: the port is taken");
    ok(fails(vm_bind(t, VMADDR_CID_HOST, 5000), EADDRINUSE), "for a single CID too");
    ok(fails(vm_bind(q, VMADDR_CID_ANY, 5000), EADDRINUSE), "and for SEQPACKET");
    ok(fails(vm_connect(t, VMADDR_CID_LOCAL, 5000), ECONNRESET), "bound is not listening");
    close(s);
    ok(!vm_bind(q, VMADDR_CID_LOCAL, 5000), "free again after close()");
    ok(vm_is(vm_name(q, false), VMADDR_CID_LOCAL, 5000), "CID 1 is kept");
    close(q);
    close(t);
    s = socket(AF_VSOCK, SOCK_STREAM, 0);
    t = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_bind(s, VMADDR_CID_ANY, VMADDR_PORT_ANY) &&
           !vm_bind(t, VMADDR_CID_HOST, VMADDR_PORT_ANY),
       "any port");
    any = vm_name(s, false);
    a = vm_name(t, false);
    ok(any.svm_port > 1023 && any.svm_port != VMADDR_PORT_ANY && a.svm_port > 1023 &&
           a.svm_port != any.svm_port && a.svm_cid == VMADDR_CID_HOST,
       "libkrun #818, vsock-emulation-layer: two of them, above the reserved ones, and told");
    close(s);
    close(t);
}

/* In a child, as it gives up root if it has it. */
static void reserved_ports(void)
{
    int status;
    pid_t pid = fork();

    if (!pid) {
        int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

        if (!geteuid() && (setgid(65534) || setuid(65534)))
            _exit(2);
        status = !(fails(vm_bind(fd, VMADDR_CID_ANY, 1023), EACCES) &&
                   !vm_bind(fd, VMADDR_CID_ANY, 1024));
        close(fd);
        _exit(status);
    }
    ok(waitpid(pid, &status, 0) == pid && !status, "port 1023 needs privilege, 1024 does not");
    if (!geteuid()) {
        int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

        ok(!vm_bind(fd, VMADDR_CID_ANY, 1023), "root may");
        close(fd);
    }
}

static void ports_of_others(void)
{
    int sync[2], status, fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    char c;
    pid_t pid;

    if (pipe(sync))
        exit(1);
    pid = fork();
    if (!pid) {
        int l = socket(AF_VSOCK, SOCK_STREAM, 0);

        if (vm_bind(l, VMADDR_CID_ANY, 5100) || listen(l, 1) || write(sync[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    ok(read(sync[0], &c, 1) == 1 && fails(vm_bind(fd, VMADDR_CID_ANY, 5100), EADDRINUSE),
       "another process has the port");
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    ok(!vm_bind(fd, VMADDR_CID_ANY, 5100), "until it is killed");
    close(fd);
    close2(sync);
}

static void connections(int type, const char *what)
{
    struct sockaddr_vm a;
    socklen_t len = sizeof(a);
    u32 port, own;
    int l = vm_listen(type, &port), c = socket(AF_VSOCK, type, 0), s;

    ok(l >= 0 && fails(accept4(l, NULL, NULL, SOCK_NONBLOCK | 0x40), EINVAL), "%s: accept4's flags",
       what);
    fcntl(l, F_SETFL, O_NONBLOCK);
    ok(fails(accept(l, NULL, NULL), EAGAIN), "%s: nobody has come", what);
    ok(!vm_connect(c, VMADDR_CID_HOST, port), "%s: connect() to CID 2", what);
    own = vm_name(c, false).svm_port;
    ok(own > 1023 && vm_is(vm_name(c, false), VMADDR_CID_ANY, own), "%s: it has a port", what);
    ok(vm_is(vm_name(c, true), VMADDR_CID_HOST, port), "%s: its peer", what);
    ok(fails(vm_connect(c, VMADDR_CID_HOST, port), EISCONN), "%s: again", what);
    ok(fails(listen(c, 1), EINVAL) && fails(listen(l, 1) ? -1 : (errno = 0, -1), 0),
       "%s: listen() again is for listeners", what);
    s = accept4(l, (struct sockaddr *)&a, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ok(s >= 0 && len == sizeof(a) && vm_is(a, VMADDR_CID_LOCAL, own), "%s: accept() tells who",
       what);
    ok(fcntl(s, F_GETFD) == FD_CLOEXEC && fcntl(s, F_GETFL) & O_NONBLOCK, "%s: with its flags",
       what);
    ok(vm_is(vm_name(s, true), VMADDR_CID_LOCAL, own),
       "vsock-emulation-layer: %s: so does getpeername()", what);
    ok(vm_is(vm_name(s, false), VMADDR_CID_HOST, port), "%s: its own address is what was called",
       what);
    close(c);
    close(s);
    c = socket(AF_VSOCK, type, 0);
    ok(!vm_connect(c, VMADDR_CID_LOCAL, port) && (s = accept(l, NULL, NULL)) >= 0 &&
           vm_is(vm_name(s, false), VMADDR_CID_LOCAL, port) &&
           vm_is(vm_name(c, true), VMADDR_CID_LOCAL, port),
       "%s: CID 1 is CID 1 at both ends", what);
    close(c);
    c = socket(AF_VSOCK, type, 0);
    ok(!vm_bind(c, VMADDR_CID_ANY, 5200) && !vm_connect(c, VMADDR_CID_LOCAL, port) &&
           vm_is(vm_name(accept(l, NULL, NULL), true), VMADDR_CID_LOCAL, 5200),
       "%s: a port of the caller's own choice", what);
    close(c);
    close(s);
    len = 6;
    c = socket(AF_VSOCK, type, 0);
    a = (struct sockaddr_vm){0};
    ok(!vm_connect(c, VMADDR_CID_LOCAL, port) &&
           (s = accept(l, (struct sockaddr *)&a, &len)) >= 0 && len == sizeof(a) &&
           a.svm_family == AF_VSOCK && !a.svm_cid,
       "%s: a short address is cut, its length told", what);
    close(c);
    close(s);
    close(l);
}

static void refusals(void)
{
    u32 port;
    int l = vm_listen(SOCK_STREAM, &port), fd[3], c = socket(AF_VSOCK, SOCK_SEQPACKET, 0);
    struct sockaddr_vm a = vm_addr(3, 1);

    ok(fails(vm_connect(c, VMADDR_CID_LOCAL, port), ECONNRESET), "a listener of the other type");
    close(c);
    c = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(fails(vm_connect(c, VMADDR_CID_LOCAL, port + 1), ECONNRESET), "nobody listens");
    ok(fails(vm_connect(c, 77, 1), ENODEV), "no such guest");
    ok(fails(vm_connect(c, VMADDR_CID_HYPERVISOR, 1), ENODEV), "CID 0");
    a.svm_flags = VMADDR_FLAG_TO_HOST;
    ok(fails(connect(c, (struct sockaddr *)&a, sizeof(a)), ENODEV),
       "TO_HOST: the host has no host");
    ok(fails(connect(c, (struct sockaddr *)&a, sizeof(a) - 1), EINVAL), "a short address");
    ok(!vm_connect(c, VMADDR_CID_LOCAL, port), "and then somebody who does");
    ok(vm_is(vm_name(c, true), VMADDR_CID_LOCAL, port) ||
           vm_is(vm_name(c, true), VMADDR_CID_HOST, port),
       "with its right port");
    close(c);
    close(l);
    l = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_bind(l, VMADDR_CID_ANY, 5300) && !listen(l, 1), "a backlog of one");
    for (int i = 0; i < 3; i++)
        fd[i] = socket(AF_VSOCK, SOCK_STREAM, 0);
    ok(!vm_connect(fd[0], 2, 5300) && !vm_connect(fd[1], 2, 5300) &&
           fails(vm_connect(fd[2], 2, 5300), ECONNRESET),
       "is full after two, as in Linux; the third is refused and does not wait");
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    close(l);
}

static void device(void)
{
    u32 cid = 0;
    int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

    ok(fd >= 0 && !access("/dev/vsock", R_OK), "/dev/vsock opens");
    ok(!ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) && cid == VMADDR_CID_HOST,
       "and knows our CID");
    close(fd);
    fd = open("/dev/zero", O_RDONLY);
    ok(fails(ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid), ENOTTY), "/dev/zero does not");
    close(fd);
    ok(fails(open("/dev/kvm.not", O_RDONLY), ENOENT), "other names are libc's");
}

static void many(void)
{
    static int fd[200][2];
    u32 port;
    int l = vm_listen(SOCK_STREAM, &port), good = 0;
    char c;

    for (int i = 0; i < 200; i++) {
        fd[i][0] = socket(AF_VSOCK, SOCK_STREAM, 0);
        good += !vm_connect(fd[i][0], VMADDR_CID_LOCAL, port) &&
                (fd[i][1] = accept(l, NULL, NULL)) >= 0;
    }
    for (int i = 0; i < 200; i++)
        good += write(fd[i][i & 1], "x", 1) == 1 && read(fd[i][!(i & 1)], &c, 1) == 1;
    ok(good == 400, "200 connections at a time");
    for (int i = 0; i < 200; i++)
        close2(fd[i]);
    close(l);
}

static void *wait_in_accept(void *l)
{
    int fd = accept(*(int *)l, NULL, NULL);

    close(fd);
    return NULL;
}

/* getsockname() and more while a thread waits in accept(). */
static void while_accepting(void)
{
    int n, c = socket(AF_VSOCK, SOCK_STREAM, 0);
    socklen_t len = sizeof(n);
    pthread_t thread;
    u32 port;
    int l = vm_listen(SOCK_STREAM, &port);

    pthread_create(&thread, NULL, wait_in_accept, &l);
    usleep(20000);
    ok(vm_is(vm_name(l, false), VMADDR_CID_ANY, port) &&
           !getsockopt(l, SOL_SOCKET, SO_TYPE, &n, &len) && n == SOCK_STREAM,
       "libkrun #819: a listener has its name while a thread waits in accept()");
    ok(!vm_connect(c, VMADDR_CID_LOCAL, port), "which somebody ends");
    pthread_join(thread, NULL);
    close(c);
    close(l);
}

int main(int argc, char **argv)
{
    const char *dir = under_exec(argv);

    create();
    bind_rules();
    reserved_ports();
    ports_of_others();
    connections(SOCK_STREAM, "STREAM");
    connections(SOCK_SEQPACKET, "SEQPACKET");
    refusals();
    device();
    many();
    while_accepting();
    is_u64(names_in(dir), 0, "no name is left behind");
    return tap_done();
}
