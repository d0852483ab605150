// SPDX-License-Identifier: MIT
// Bad input to every ioctl: addresses, sizes, descriptors of another kind; and two threads on one vCPU.

#include "client.h"
#include "kvm/kvm.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define BAD 8ul

static struct vm m;
static struct vcpu v;

static int fd_of(enum kvm_class class)
{
    return class == KVM_CLASS_SYSTEM ? m.sys : class == KVM_CLASS_VM ? m.fd : v.fd;
}

static const struct kvm_row *row_of(enum kvm_class class, uint32_t request)
{
    unsigned n;
    const struct kvm_row *rows = kvm_rows(&n);

    for (unsigned i = 0; i < n; i++) {
        if (rows[i].class == class && rows[i].request == request)
            return &rows[i];
    }
    return NULL;
}

static void test_addresses(void)
{
    static const unsigned long addrs[] = {0, BAD, 0x7ffffffff000, 1ul << 63, ~0ul};
    unsigned n, survived = 0, tried = 0;
    const struct kvm_row *rows = kvm_rows(&n);

    for (unsigned i = 0; i < n; i++) {
        const struct kvm_row *r = &rows[i];
        int copied_in = r->arg == KVM_ARG_IN || r->arg == KVM_ARG_INOUT;

        if (r->arg == KVM_ARG_NONE || r->arg == KVM_ARG_VALUE)
            continue;
        for (unsigned k = 0; k < sizeof(addrs) / sizeof(addrs[0]); k++) {
            if (copied_in)
                fails(kv(fd_of(r->class), r->request, addrs[k]), EFAULT, "%s from %#lx", r->name,
                      addrs[k]);
            else
                kv(fd_of(r->class), r->request, addrs[k]);
            survived++;
            tried++;
        }
    }
    is_u64(survived, tried, "no address is touched unchecked");
}

static void test_kinds(void)
{
    unsigned n, wrong = 0, odd = 0;
    const struct kvm_row *rows = kvm_rows(&n);
    int file = open("/dev/null", O_RDWR);

    for (unsigned i = 0; i < n; i++) {
        uint32_t request = rows[i].request, size = request ^ 1u << 16;

        for (int class = KVM_CLASS_SYSTEM; class < KVM_CLASS_COUNT; class ++) {
            if (!row_of((enum kvm_class) class, request))
                wrong +=
                    !(kv(fd_of((enum kvm_class) class), request, BAD) == -1 && errno == ENOTTY);
            if (!row_of((enum kvm_class) class, size))
                odd += !(kv(fd_of((enum kvm_class) class), size, BAD) == -1 && errno == ENOTTY);
        }
        wrong += !(kv(file, request, BAD) == -1 && errno == EBADF);
        wrong += !(kv(-1, request, BAD) == -1 && errno == EBADF);
        wrong += !(kv(1000, request, BAD) == -1 && errno == EBADF);
    }
    is_u64(wrong, 0, "an ioctl of another kind of descriptor: ENOTTY; of none of ours: EBADF");
    is_u64(odd, 0, "a number with another size: ENOTTY");
    close(file);
}

/* As test_addresses(), in a sandbox that forbids what usually looks at them. Returns an exit status. */
static int in_sandbox(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_writev, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    struct kvm_regs in = {.rax = 0x1234, .rflags = 2}, out = {0};
    int sys = kvm_open(), vm = kv(sys, KVM_CREATE_VM, 0), cpu = kv(vm, KVM_CREATE_VCPU, 0);
    struct kvm_xsave x;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
        return 77;
    if (kv(cpu, KVM_SET_REGS, &in) || kv(cpu, KVM_GET_REGS, &out) || out.rax != 0x1234)
        return 1;
    if (kv(cpu, KVM_GET_XSAVE, &x) || kv(cpu, KVM_SET_XSAVE, &x))
        return 2;
    if (kv(cpu, KVM_GET_REGS, BAD) != -1 || errno != EFAULT || kv(cpu, KVM_SET_REGS, BAD) != -1 ||
        errno != EFAULT)
        return 3;
    return 0;
}

static void test_sandbox(void)
{
    int status = -1;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    if (pid == 0)
        _exit(in_sandbox());
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip("no seccomp", "addresses are looked at in a sandbox too");
    else
        is_u64((uint64_t)status, 0, "addresses are looked at in a sandbox too");
}

/* --- two threads --- */

static void on_signal(int sig)
{
}

static _Atomic int asked, answered;

static void *reader(void *arg)
{
    struct kvm_regs r;
    int rc;

    atomic_store(&asked, 1);
    rc = kv(v.fd, KVM_GET_REGS, &r);
    atomic_store(&answered, rc ? -1 : 1);
    return NULL;
}

static void *runner(void *arg)
{
    v.run->immediate_exit = 0;
    atomic_store((_Atomic int *)arg, vcpu_run(&v) == -1 ? errno : 0);
    return NULL;
}

GUEST16(spin_code, "1: jmp 1b")

/* An ioctl on a vCPU that runs waits until it comes out. */
static void test_busy(void)
{
    struct sigaction sa = {.sa_handler = on_signal};
    pthread_t run, read;
    _Atomic int err = -1;

    sigaction(SIGUSR1, &sa, NULL);
    load_code(&m, CODE_AT, spin_code, spin_code_end);
    vcpu_real_mode(&v, CODE_AT);
    pthread_create(&run, NULL, runner, &err);
    pthread_create(&read, NULL, reader, NULL);
    while (!atomic_load(&asked))
        sched_yield();
    while (atomic_load(&err) == -1) {
        v.run->immediate_exit = 1;
        pthread_kill(run, SIGUSR1);
        usleep(1000);
    }
    pthread_join(run, NULL);
    pthread_join(read, NULL);
    is_u64(atomic_load(&err), EINTR, "the vCPU is called out");
    is_u64(atomic_load(&answered), 1, "what another thread asked for is answered then");
    v.run->immediate_exit = 0;
}

#define RUNS 300

GUEST16(count_code, "1: out %al, $0x10\n inc %ebx\n jmp 1b")

static void *counter(void *arg)
{
    int *good = arg;

    for (int i = 0; i < RUNS; i++)
        *good += vcpu_run(&v) == 0;
    return NULL;
}

static void test_shared_vcpu(void)
{
    pthread_t t[2];
    int good[2] = {0};
    struct kvm_regs r;

    load_code(&m, CODE_AT, count_code, count_code_end);
    vcpu_real_mode(&v, CODE_AT);
    r = regs_of(&v);
    r.rbx = 0;
    kv(v.fd, KVM_SET_REGS, &r);
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, counter, &good[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    ok(good[0] == RUNS && good[1] == RUNS, "two threads that run one vCPU take turns");
    is_u64(regs_of(&v).rbx, 2 * RUNS - 1, "and no instruction is lost or done twice");
}

int main(void)
{
    m = vm_new(0x100000);
    v = vcpu_new(&m, 0);
    test_addresses();
    test_kinds();
    test_sandbox();
    test_busy();
    test_shared_vcpu();
    vcpu_free(&v);
    vm_free(&m);
    return tap_done();
}
