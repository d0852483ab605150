// SPDX-License-Identifier: MIT
// Test programs that start themselves under `uvirt exec --vsock`, where the kernel would kill them for a vsock of its own.
#pragma once

#include "base/types.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/vm_sockets.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the kernel does with socket() and socketpair() of AF_VSOCK. Inherited by all that is started. */
static inline int catch_kernel_vsock(u32 action)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/*
 * No program of the test may ever reach the kernel's own AF_VSOCK: that kills the process and
 * so fails the test.
 */
static inline int forbid_kernel_vsock(void)
{
    return catch_kernel_vsock(SECCOMP_RET_KILL_PROCESS);
}

/*
 * Outside of `uvirt exec` it runs the program again inside, with a new
 * directory, and ends with its status. Inside it returns that directory's path.
 */
static inline const char *under_exec_with(u32 action)
{
    const char *uvirt = getenv("UVIRT_TEST_UVIRT"), *dir = getenv("UVIRT_VSOCK_DIR");
    char path[] = "/tmp/uvirt-test-XXXXXX", command[64], self[4096] = {0};
    int status;
    pid_t pid;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (dir)
        return dir;
    if (!uvirt)
        exit(tap_skip_all("UVIRT_TEST_UVIRT does not name uvirt"));
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0 || !mkdtemp(path) ||
        chmod(path, 0777))
        exit(1);
    pid = fork();
    if (!pid) {
        if (!catch_kernel_vsock(action))
            execl(uvirt, uvirt, "exec", "--vsock", path, "--", self, NULL);
        _exit(125);
    }
    if (waitpid(pid, &status, 0) != pid)
        status = 1;
    if (!WIFEXITED(status))
        printf("not ok - ended by signal %d\n", WTERMSIG(status));
    snprintf(command, sizeof(command), "rm -rf %s", path);
    if (system(command))
        exit(1);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* Call first in main(). */
static inline const char *under_exec(char **argv)
{
    return under_exec_with(SECCOMP_RET_KILL_PROCESS);
}

static inline struct sockaddr_vm vm_addr(u32 cid, u32 port)
{
    return (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
}

static inline int vm_bind(int fd, u32 cid, u32 port)
{
    struct sockaddr_vm a = vm_addr(cid, port);

    return bind(fd, (struct sockaddr *)&a, sizeof(a));
}

static inline int vm_connect(int fd, u32 cid, u32 port)
{
    struct sockaddr_vm a = vm_addr(cid, port);

    return connect(fd, (struct sockaddr *)&a, sizeof(a));
}

static inline struct sockaddr_vm vm_name(int fd, bool peer)
{
    struct sockaddr_vm a = {0};
    socklen_t len = sizeof(a);

    if (peer ? getpeername(fd, (struct sockaddr *)&a, &len)
             : getsockname(fd, (struct sockaddr *)&a, &len))
        a.svm_family = AF_UNSPEC;
    return len == sizeof(a) ? a : (struct sockaddr_vm){0};
}

static inline bool vm_is(struct sockaddr_vm a, u32 cid, u32 port)
{
    return a.svm_family == AF_VSOCK && a.svm_cid == cid && a.svm_port == port;
}

/* A listener on a port that nobody else has; -1 when it could not be. */
static inline int vm_listen(int type, u32 *port)
{
    int fd = socket(AF_VSOCK, type, 0);

    if (fd < 0 || vm_bind(fd, VMADDR_CID_ANY, VMADDR_PORT_ANY) || listen(fd, 16))
        return -1;
    *port = vm_name(fd, false).svm_port;
    return fd;
}

/* A connected pair over loopback: fd[0] has connected, fd[1] was accepted. */
static inline bool vm_pair(int type, int fd[2])
{
    u32 port;
    int l = vm_listen(type, &port);

    fd[0] = socket(AF_VSOCK, type, 0);
    if (l < 0 || fd[0] < 0 || vm_connect(fd[0], VMADDR_CID_LOCAL, port))
        return false;
    fd[1] = accept(l, NULL, NULL);
    close(l);
    return fd[1] >= 0;
}

static inline void close2(const int fd[2])
{
    close(fd[0]);
    close(fd[1]);
}

/* Names of sockets in (dir). */
static inline int names_in(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;

    while ((e = readdir(d)))
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* True if (rc) is -1 with errno (e). */
#define fails(rc, e) ((rc) == -1 && errno == (e))

/* A system call that no library is under. */
static inline long kernel(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long ret;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return ret;
}
