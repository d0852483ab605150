// SPDX-License-Identifier: MIT
// /dev/kvm and /sys/module/kvm by every call that takes a name, and its descriptors by every way that they travel.

#include "base/types.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KVM       "/dev/kvm"
#define MODULE    "/sys/module/kvm"
#define PARAMETER MODULE "/parameters/force_emulation_prefix"

static int version(int fd)
{
    return ioctl(fd, KVM_GET_API_VERSION, 0);
}

static bool fails_with(long rc, int want)
{
    return rc == -1 && errno == want;
}

static void test_stat(void)
{
    int dev = open("/dev", O_RDONLY | O_DIRECTORY);
    struct statx sx;
    struct stat st;

    ok(!stat(KVM, &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(10, 232), "stat of " KVM);
    ok(!lstat(KVM, &st) && S_ISCHR(st.st_mode), "lstat");
    ok(!fstatat(dev, "kvm", &st, 0) && S_ISCHR(st.st_mode), "fstatat relative to /dev");
    ok(!statx(AT_FDCWD, KVM, 0, STATX_BASIC_STATS, &sx) && S_ISCHR(sx.stx_mode) &&
           sx.stx_rdev_minor == 232,
       "statx");
    ok(fails_with(syscall(SYS_statx, 0, NULL, 0, STATX_BASIC_STATS, NULL), EFAULT),
       "statx of nothing: EFAULT");
    ok(!access(KVM, R_OK | W_OK), "access");
    ok(fails_with(access(KVM, X_OK), EACCES), "it is not executable");
    ok(!faccessat(dev, "kvm", R_OK, 0) && !euidaccess(KVM, R_OK), "faccessat, euidaccess");
    ok(fails_with(readlink(KVM, (char[8]){0}, 8), EINVAL), "it is no link");
    ok(!stat(MODULE, &st) && S_ISDIR(st.st_mode), "stat of " MODULE);
    ok(!stat(PARAMETER, &st) && S_ISREG(st.st_mode) && st.st_size == 4096, "stat of a parameter");
    ok(fails_with(stat(MODULE "_intel", &st), ENOENT) &&
           fails_with(stat(MODULE "_amd", &st), ENOENT),
       "no vendor module");
    ok(fails_with(access(MODULE "/parameters/none", F_OK), ENOENT), "no parameter of another name");
    ok(fails_with(access(PARAMETER, W_OK), EACCES), "parameters are read-only");
    ok(!stat("/dev/null", &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3),
       "other names are the host's");
    close(dev);
}

static bool lists(const char *path, const char *name)
{
    DIR *d = opendir(path);
    unsigned seen = 0;
    struct dirent *e;

    while (d && (e = readdir(d)))
        seen += !strcmp(e->d_name, name);
    if (d)
        closedir(d);
    return seen == 1;
}

static void test_listings(void)
{
    DIR *d;

    ok(lists("/dev", "kvm") && lists("/dev", "null"), "/dev lists kvm once, and what else it has");
    ok(lists("/sys/module", "kvm") && !lists("/sys/module", "kvm_intel"),
       "/sys/module lists kvm, no vendor module");
    ok(lists(MODULE, "parameters"), MODULE " has parameters");
    ok(lists(MODULE "/parameters/", "force_emulation_prefix"), "they are listed");
    d = opendir(MODULE);
    ok(d && readdir(d) && readdir(d) && readdir(d) && !readdir(d), "three names");
    rewinddir(d);
    ok(readdir(d) && telldir(d) == -2, "once more from the start");
    seekdir(d, -1);
    ok(!strcmp(readdir(d)->d_name, "."), "back to a place");
    closedir(d);
    ok(fails_with(opendir(MODULE "_intel") ? 0 : -1, ENOENT), "a directory that is absent");
}

static void test_open(void)
{
    struct open_how how = {.flags = O_RDWR};
    int dev = open("/dev", O_RDONLY | O_DIRECTORY), fd;
    char text[16] = "";
    struct stat st;
    FILE *f;

    fd = openat(dev, "kvm", O_RDWR);
    ok(version(fd) == 12, "openat relative to /dev");
    close(fd);
    fd = (int)syscall(SYS_openat2, AT_FDCWD, KVM, &how, sizeof(how));
    ok(version(fd) == 12, "openat2");
    close(fd);
    f = fopen(KVM, "r+");
    ok(f && version(fileno(f)) == 12, "fopen");
    fclose(f);
    f = fopen(PARAMETER, "r");
    ok(f && fgets(text, sizeof(text), f) && !strcmp(text, "0\n"), "a parameter through stdio");
    ok(f && !fstat(fileno(f), &st) && st.st_size == 4096, "its fstat tells what its stat does");
    fclose(f);
    ok(fails_with(open(PARAMETER, O_RDWR), EACCES), "a parameter cannot be written");
    ok(fails_with(open(MODULE "_amd/parameters/nested", O_RDONLY), ENOENT),
       "nor one of a vendor module be opened");
    close(dev);
}

static void test_dups(void)
{
    int fd = open(KVM, O_RDWR | O_CLOEXEC), vm, d[4];
    struct pollfd p;

    ok(fcntl(fd, F_GETFD) == FD_CLOEXEC, "O_CLOEXEC");
    vm = ioctl(fd, KVM_CREATE_VM, 0);
    d[0] = dup(vm);
    d[1] = dup2(vm, 200);
    d[2] = dup3(vm, 201, O_CLOEXEC);
    d[3] = fcntl(vm, F_DUPFD_CLOEXEC, 0);
    for (int i = 0; i < 4; i++)
        ok(ioctl(d[i], KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1, "duplicate %d is the VM", i);
    close(vm);
    ok(ioctl(d[0], KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1, "which lives while one is open");
    p = (struct pollfd){.fd = d[0], .events = POLLIN};
    ok(poll(&p, 1, 0) >= 0 && !(p.revents & POLLNVAL), "poll takes it");
    for (int i = 0; i < 4; i++)
        close(d[i]);
    ok(fails_with(ioctl(vm, KVM_CHECK_EXTENSION, 0), EBADF), "a closed descriptor");
    ok(fails_with(ioctl(0, KVM_CREATE_VM, 0), ENOTTY) || errno == EBADF || errno == EINVAL,
       "one of something else");
    close(fd);
}

/* What the program that inherits (sys) and (vm) finds. */
static int inherited(const char *sys, const char *vm)
{
    int fresh;

    if (version(atoi(sys)) != 12)
        return 1;
    if (!fails_with(ioctl(atoi(vm), KVM_CHECK_EXTENSION, 0), EIO))
        return 2;
    fresh = ioctl(atoi(sys), KVM_CREATE_VM, 0);
    if (fresh < 0 || ioctl(fresh, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != 1)
        return 3;
    close(fresh);
    close(atoi(sys));
    return version(atoi(sys)) == -1 ? 0 : 4;
}

static void test_processes(const char *self)
{
    int sys = open(KVM, O_RDWR), vm = ioctl(sys, KVM_CREATE_VM, 0), status = -1;
    char a[16], b[16];
    pid_t pid;

    fcntl(vm, F_SETFD, 0);
    pid = fork();
    if (pid == 0)
        _exit(version(sys) == 12 && fails_with(ioctl(vm, KVM_CHECK_EXTENSION, 0), EIO) ? 0 : 1);
    waitpid(pid, &status, 0);
    ok(status == 0,
       "a forked child can use the system descriptor, and gets EIO of its parent's VM");
    snprintf(a, sizeof(a), "%d", sys);
    snprintf(b, sizeof(b), "%d", vm);
    pid = fork();
    if (pid == 0) {
        execl(self, self, a, b, NULL);
        _exit(99);
    }
    waitpid(pid, &status, 0);
    is_u64((u64)status, 0, "so does a program that inherits them across exec");
    ok(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1, "the parent's VM is unharmed");
    close(vm);
    close(sys);
}

/* Send (fd) over (sock), or (fd < 0) receive one. */
static int pass(int sock, int fd)
{
    char byte = 0;
    struct iovec iov = {&byte, 1};
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } u = {0};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.buf, .msg_controllen = sizeof(u.buf)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);

    if (fd < 0) {
        if (recvmsg(sock, &m, 0) != 1 || !(c = CMSG_FIRSTHDR(&m)))
            return -1;
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        return fd;
    }
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    return (int)sendmsg(sock, &m, 0);
}

static void test_scm_rights(void)
{
    int sv[2], sys = open(KVM, O_RDWR), vm = ioctl(sys, KVM_CREATE_VM, 0), got, status = -1;
    pid_t pid;

    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    pass(sv[0], vm);
    got = pass(sv[1], -1);
    ok(got != vm && ioctl(got, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) == 1,
       "SCM_RIGHTS within a process: the same VM");
    pid = fork();
    if (pid == 0) {
        int fd = open(KVM, O_RDWR), own = ioctl(fd, KVM_CREATE_VM, 0);

        pass(sv[1], fd);
        pass(sv[1], own);
        _exit(own < 0);
    }
    waitpid(pid, &status, 0);
    ok(version(pass(sv[0], -1)) == 12, "a system descriptor of another process");
    ok(fails_with(ioctl(pass(sv[0], -1), KVM_CHECK_EXTENSION, 0), EIO),
       "a VM of another process: EIO");
    close(sys);
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return inherited(argv[1], argv[2]);
    if (argc == 1 && !getenv("UVIRT_UNDER_EXEC")) {
        setenv("UVIRT_UNDER_EXEC", "1", 1);
        execl(getenv("UVIRT_TEST_UVIRT"), "uvirt", "exec", "--kvm", "--", argv[0], NULL);
        return 1;
    }
    test_stat();
    test_listings();
    test_open();
    test_dups();
    fflush(stdout);
    test_processes(argv[0]);
    fflush(stdout);
    test_scm_rights();
    return tap_done();
}
