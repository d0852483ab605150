// SPDX-License-Identifier: MIT
// uvirt exec: run a program of the host with the preload library, which gives it a /dev/kvm and AF_VSOCK.
#include "cli/cli.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <asm/unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LIBRARY "libuvirt-preload.so"

/* Names below the directory of --vsock have to fit into a socket's: DIR/./2_4294967295_seqpacket. */
#define VSOCK_DIR_MAX 80

static const char usage[] = "uvirt exec [--kvm] [--vsock DIR] -- PROGRAM [ARG...]";

struct exec_options {
    bool kvm;
    const char *vsock;
};

static int set_kvm(void *opaque, const char *value, const char **why)
{
    ((struct exec_options *)opaque)->kvm = true;
    return 0;
}

static int set_vsock(void *opaque, const char *value, const char **why)
{
    *why = "a directory, which is made if it is not there";
    if (!*value)
        return -EINVAL;
    ((struct exec_options *)opaque)->vsock = value;
    return 0;
}

static const struct cli_option options[] = {
    {"kvm", NULL, "give PROGRAM the KVM API on the software CPU as /dev/kvm", set_kvm},
    {"vsock", "DIR", "give PROGRAM AF_VSOCK sockets, which reach the programs and VMs of DIR",
     set_vsock},
    {0},
};

/* The library beside this program: in a build tree, or installed. 0 or -ENOENT. */
static int find_library(char path[PATH_MAX])
{
    static const char *const places[] = {"../preload/" LIBRARY, "../lib/uvirt/" LIBRARY,
                                         "../lib/x86_64-linux-gnu/uvirt/" LIBRARY};
    char self[PATH_MAX], try[2 * PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    if (n <= 0)
        return -ENOENT;
    self[n] = 0;
    *strrchr(self, '/') = 0;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        snprintf(try, sizeof(try), "%s/%s", self, places[i]);
        if (realpath(try, path))
            return 0;
    }
    return -ENOENT;
}

/* An ELF file without PT_INTERP loads no library, so nothing can be put under it. */
static bool is_static_elf(const char *path)
{
    Elf64_Phdr ph;
    Elf64_Ehdr eh;
    bool yes = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return false;
    if (pread(fd, &eh, sizeof(eh), 0) == sizeof(eh) && !memcmp(eh.e_ident, ELFMAG, SELFMAG) &&
        eh.e_ident[EI_CLASS] == ELFCLASS64 && eh.e_phentsize == sizeof(ph)) {
        yes = true;
        for (unsigned i = 0; i < eh.e_phnum && yes; i++)
            yes = pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))) == sizeof(ph) &&
                  ph.p_type != PT_INTERP;
    }
    close(fd);
    return yes;
}

static int preload(const char *library)
{
    const char *old = getenv("LD_PRELOAD");
    char *value;
    int rc;

    if (asprintf(&value, "%s%s%s", library, old && *old ? ":" : "", old ? old : "") < 0)
        return -ENOMEM;
    rc = setenv("LD_PRELOAD", value, 1) ? -errno : 0;
    free(value);
    return rc;
}

/* Tell the library what to give. 0, or the exit status. */
static int set_environment(const struct exec_options *o)
{
    char dir[PATH_MAX];
    struct stat st;

    if (o->kvm && setenv("UVIRT_EXEC_KVM", "1", 1))
        return cli_error("exec: the environment: %s", strerror(errno));
    if (!o->vsock)
        return 0;
    if (mkdir(o->vsock, 0700) && errno != EEXIST)
        return cli_error("exec --vsock %s: %s (accepted: a directory)", o->vsock, strerror(errno));
    if (!realpath(o->vsock, dir))
        return cli_error("exec --vsock %s: %s (accepted: a directory)", o->vsock, strerror(errno));
    if (stat(dir, &st) || !S_ISDIR(st.st_mode))
        return cli_error("exec --vsock %s: not a directory (accepted: a directory)", o->vsock);
    if (strlen(dir) > VSOCK_DIR_MAX)
        return cli_error(
            "exec --vsock %s: too long for the names of sockets (accepted: at most %d bytes)", dir,
            VSOCK_DIR_MAX);
    if (access(dir, W_OK | X_OK))
        return cli_error("exec --vsock %s: %s (accepted: a directory that can be written to)", dir,
                         strerror(errno));
    if (setenv("UVIRT_VSOCK_DIR", dir, 1))
        return cli_error("exec: the environment: %s", strerror(errno));
    return 0;
}

/*
 * What the library does not see, of programs that are static or go round libc, gets no AF_VSOCK
 * socket: the kernel's own would reach another hypervisor. 0 or -errno; a kernel without
 * seccomp has no such guard.
 */
static int forbid_kernel_vsock(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~__X32_SYSCALL_BIT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socketpair, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_VSOCK, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = ARRAY_SIZE(code), .filter = code};

    /* Root may do it as it is. Others must give up set-user-ID programs, under which no library would be anyway. */
    if (!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) || errno == EINVAL)
        return 0;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) ? -errno : 0;
}

int cmd_exec(int argc, char **argv)
{
    char library[PATH_MAX], program[PATH_MAX], cwd[PATH_MAX];
    struct exec_options o = {0};
    int at = cli_parse(argc, argv, usage, options, &o), rc;

    if (at < 0)
        return EXIT_UVIRT_FAILED;
    if (at < argc && !strcmp(argv[at], "--"))
        at++;
    if (!o.kvm && !o.vsock)
        return cli_error("exec: nothing to give to the program (accepted: --kvm, --vsock DIR)");
    if (at >= argc)
        return cli_error("exec: no PROGRAM (accepted: %s)", usage);
    if (find_library(library))
        return cli_error("exec: " LIBRARY " is not beside this program");
    if (!getcwd(cwd, sizeof(cwd)))
        return cli_error("exec: the working directory: %s", strerror(errno));
    rc = cli_find_program(argv[at], cwd, program);
    if (rc)
        return rc;
    if (is_static_elf(program)) {
        cli_error("%s: it is statically linked (accepted: a program that loads shared libraries)",
                  argv[at]);
        return EXIT_CANNOT_RUN;
    }
    rc = set_environment(&o);
    if (rc)
        return rc;
    rc = preload(library);
    if (rc)
        return cli_error("exec: LD_PRELOAD: %s", strerror(-rc));
    rc = o.vsock ? forbid_kernel_vsock() : 0;
    if (rc)
        return cli_error("exec: seccomp: %s", strerror(-rc));
    execv(program, argv + at);
    cli_error("%s: %s", argv[at], strerror(errno));
    return EXIT_CANNOT_RUN;
}
