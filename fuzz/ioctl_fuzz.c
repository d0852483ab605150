// SPDX-License-Identifier: MIT
// Random sequences of KVM's ioctls: any row on any object, with good, bad and short arguments, runs in between.

/*
 * An input is a list of steps. Each object of a case is made at its start or by a step, and all are closed at its
 * end. Arguments lie before a page that is not there, so that a copy that is too long faults; pointers inside of
 * arguments are made to point into (arena), to its edge or nowhere, and so are memory slots: a guest may do what it
 * likes to its memory, but that must not be ours.
 */

#include "fuzz.h"
#include "kvm/kvm.h"
#include "uvirt/kvm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ARENA_SIZE (1u << 20)
#define ROOM       16384 /* for one argument */
#define VMS_MAX    2
#define VCPUS_MAX  4
#define RUN_NS     2000000 /* of guest code, then it is called out */

static u8 *arena, *argument; /* each ends where nothing is mapped */

struct object {
    int fd;
    struct kvm_run *run;
};

struct world {
    struct fuzz_input in;
    struct object of[KVM_CLASS_COUNT][VCPUS_MAX];
    unsigned count[KVM_CLASS_COUNT];
    int event;
};

/* --- calling a vCPU out --- */

static struct {
    pthread_t thread;
    _Atomic(struct kvm_run *) run;
    pthread_t runner;
    _Atomic bool stop;
} caller;

static void on_signal(int sig)
{
}

static void *call_out(void *arg)
{
    struct timespec t = {.tv_nsec = RUN_NS};
    struct kvm_run *run;

    while (!atomic_load(&caller.stop)) {
        nanosleep(&t, NULL);
        run = atomic_load(&caller.run);
        if (!run)
            continue;
        run->immediate_exit = 1;
        pthread_kill(caller.runner, SIGUSR1);
    }
    return NULL;
}

/* Before a sanitizer looks for leaks, which takes threads apart. */
static void at_end(void)
{
    atomic_store(&caller.stop, true);
    pthread_join(caller.thread, NULL);
}

static u8 *edge_of(size_t size)
{
    u8 *p = mmap(NULL, size + PAGE_SIZE, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED || munmap(p + size, PAGE_SIZE))
        abort();
    return p;
}

static void set_up(void)
{
    struct sigaction sa = {.sa_handler = on_signal};

    if (arena)
        return;
    arena = edge_of(ARENA_SIZE);
    argument = edge_of(ROOM);
    sigaction(SIGUSR1, &sa, NULL);
    caller.runner = pthread_self();
    if (pthread_create(&caller.thread, NULL, call_out, NULL) || atexit(at_end))
        abort();
}

/* --- objects --- */

static void add(struct world *w, enum kvm_class class, int fd)
{
    static const unsigned max[] = {
        [KVM_CLASS_SYSTEM] = 1, [KVM_CLASS_VM] = VMS_MAX, [KVM_CLASS_VCPU] = VCPUS_MAX};
    struct object *o = &w->of[class][w->count[class]];

    if (fd < 0)
        return;
    if (w->count[class] == max[class]) {
        uvirt_kvm_close(fd);
        return;
    }
    *o = (struct object){.fd = fd};
    if (class == KVM_CLASS_VCPU) {
        o->run = uvirt_kvm_mmap(KVM_MMAP_SIZE, fd);
        if (o->run == MAP_FAILED)
            abort();
    }
    w->count[class]++;
}

static struct object *pick(struct world *w, enum kvm_class class)
{
    u8 n = fuzz_u8(&w->in);

    return w->count[class] ? &w->of[class][n % w->count[class]] : NULL;
}

static void close_all(struct world *w)
{
    for (int class = KVM_CLASS_VCPU; class >= KVM_CLASS_SYSTEM; class --) {
        for (unsigned i = 0; i < w->count[class]; i++) {
            if (w->of[class][i].run)
                munmap(w->of[class][i].run, KVM_MMAP_SIZE);
            uvirt_kvm_close(w->of[class][i].fd);
        }
    }
}

/* --- arguments --- */

static u64 pointer(struct world *w, u8 how)
{
    static const u64 nowhere[] = {0, 8, 0x7ffffffff000, 1ull << 63, ~0ull};
    u32 at = fuzz_u32(&w->in);

    if (how & 1)
        return (u64)(uintptr_t)arena + at % ARENA_SIZE;
    return how & 2 ? (u64)(uintptr_t)arena + ARENA_SIZE - at % 64
                   : nowhere[at % ARRAY_SIZE(nowhere)];
}

static void patch(u8 *p, size_t at, const void *val, size_t size)
{
    memcpy(p + at, val, size);
}

/* Where an argument has pointers and descriptors. */
static void make_safe(struct world *w, u32 request, u8 *p)
{
    static const struct {
        u32 request;
        u16 at;
    } pointers[] = {
        {KVM_GET_DIRTY_LOG, offsetof(struct kvm_dirty_log, dirty_bitmap)},
        {KVM_CLEAR_DIRTY_LOG, offsetof(struct kvm_clear_dirty_log, dirty_bitmap)},
        {KVM_GET_DEVICE_ATTR, offsetof(struct kvm_device_attr, addr)},
        {KVM_SET_DEVICE_ATTR, offsetof(struct kvm_device_attr, addr)},
    };
    u64 addr, size;
    u8 how = fuzz_u8(&w->in);

    for (unsigned i = 0; i < ARRAY_SIZE(pointers); i++) {
        addr = pointer(w, how);
        if (request == pointers[i].request)
            patch(p, pointers[i].at, &addr, 8);
    }
    for (unsigned i = 0; request == KVM_X86_SET_MSR_FILTER && i < KVM_MSR_FILTER_MAX_RANGES; i++) {
        addr = pointer(w, how);
        patch(p,
              offsetof(struct kvm_msr_filter, ranges) + i * sizeof(struct kvm_msr_filter_range) +
                  offsetof(struct kvm_msr_filter_range, bitmap),
              &addr, 8);
    }
    if (request == KVM_SET_USER_MEMORY_REGION || request == KVM_SET_USER_MEMORY_REGION2) {
        addr = fuzz_u8(&w->in) % (ARENA_SIZE / PAGE_SIZE) * PAGE_SIZE;
        size = fuzz_u8(&w->in) * PAGE_SIZE;
        size = size < ARENA_SIZE - addr ? size : ARENA_SIZE - addr;
        addr += (u64)(uintptr_t)arena;
        patch(p, offsetof(struct kvm_userspace_memory_region, memory_size), &size, 8);
        patch(p, offsetof(struct kvm_userspace_memory_region, userspace_addr), &addr, 8);
    }
    if ((request == KVM_IRQFD || request == KVM_IOEVENTFD) && how & 1) {
        size_t at = request == KVM_IRQFD ? offsetof(struct kvm_irqfd, fd)
                                         : offsetof(struct kvm_ioeventfd, fd);

        patch(p, at, &w->event, 4);
    }
}

/* (size) bytes of the input before the edge. */
static u8 *filled(struct world *w, size_t size)
{
    u8 *p = argument + ROOM - size;

    fuzz_bytes(&w->in, p, size);
    return p;
}

/* --- steps --- */

static void call(struct world *w, const struct kvm_row *row, unsigned long arg)
{
    struct object *o = pick(w, row->class);
    int rc;

    if (!o || row->request == KVM_RUN)
        return;
    errno = 0;
    rc = uvirt_kvm_ioctl(o->fd, row->request, arg);
    if (rc < -1 || (rc == -1 && (errno <= 0 || errno > 133)))
        abort(); /* not what an ioctl returns */
    if (rc >= 0 && row->request == KVM_CREATE_VM)
        add(w, KVM_CLASS_VM, rc);
    else if (rc >= 0 && row->request == KVM_CREATE_VCPU)
        add(w, KVM_CLASS_VCPU, rc);
    else if (rc >= 0 && row->request == KVM_GET_STATS_FD)
        close(rc);
}

static void step_ioctl(struct world *w, const struct kvm_row *row)
{
    u8 how = fuzz_u8(&w->in);
    size_t size = row->arg == KVM_ARG_VAR ? fuzz_u16(&w->in) % 2048 : row->size;
    u8 *p;

    if (row->arg == KVM_ARG_NONE || row->arg == KVM_ARG_VALUE) {
        call(w, row, how & 0x80 ? fuzz_u64(&w->in) : how);
    } else if (how == 0) {
        call(w, row, pointer(w, 0));
    } else {
        size = how < 8 && size ? size - 1 : size; /* a byte too few */
        p = filled(w, size);
        if (size >= row->size)
            make_safe(w, row->request, p);
        call(w, row, (unsigned long)p);
    }
}

/* What KVM_GET_x gives, a little changed, through KVM_SET_x. */
static void step_change(struct world *w, const struct kvm_row *get, const struct kvm_row *rows,
                        unsigned n)
{
    u8 *p = argument + ROOM - 12288, changes = fuzz_u8(&w->in) % 8;

    if (strncmp(get->name, "KVM_GET_", 8) || get->class == KVM_CLASS_SYSTEM)
        return;
    if (get->arg == KVM_ARG_VAR)
        memset(p, 0x20, 4); /* room for so many entries */
    call(w, get, (unsigned long)p);
    for (u8 i = 0; i < changes; i++)
        p[fuzz_u16(&w->in) % (get->arg == KVM_ARG_VAR ? 12288 : get->size)] ^= fuzz_u8(&w->in);
    for (unsigned i = 0; i < n; i++) {
        bool same = rows[i].class == get->class && !strncmp(rows[i].name, "KVM_SET_", 8);

        if (same && !strcmp(rows[i].name + 8, get->name + 8))
            call(w, &rows[i], (unsigned long)p);
    }
}

static void step_run(struct world *w)
{
    struct object *o = pick(w, KVM_CLASS_VCPU);

    if (!o)
        return;
    uvirt_kvm_ioctl(o->fd, KVM_SET_SIGNAL_MASK, 0);
    o->run->immediate_exit = fuzz_u8(&w->in) & 1;
    atomic_store(&caller.run, o->run);
    uvirt_kvm_ioctl(o->fd, KVM_RUN, 0);
    atomic_store(&caller.run, NULL);
}

/* What a client does before it runs code: memory at 0 and real mode. */
static void step_real_mode(struct world *w)
{
    struct kvm_userspace_memory_region r = {.memory_size = ARENA_SIZE,
                                            .userspace_addr = (u64)(uintptr_t)arena};
    struct kvm_regs regs = {.rip = fuzz_u16(&w->in), .rflags = 2};
    struct object *vm = pick(w, KVM_CLASS_VM), *v = pick(w, KVM_CLASS_VCPU);
    struct kvm_sregs s;

    if (!vm || !v)
        return;
    uvirt_kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, (unsigned long)&r);
    if (uvirt_kvm_ioctl(v->fd, KVM_GET_SREGS, (unsigned long)&s))
        abort();
    s.cs.base = s.cs.selector = 0;
    uvirt_kvm_ioctl(v->fd, KVM_SET_SREGS, (unsigned long)&s);
    uvirt_kvm_ioctl(v->fd, KVM_SET_REGS, (unsigned long)&regs);
    fuzz_bytes(&w->in, arena + regs.rip % (ARENA_SIZE - 64), 64);
}

static void step_shared_page(struct world *w)
{
    struct object *v = pick(w, KVM_CLASS_VCPU);
    u16 at = fuzz_u16(&w->in) % (KVM_MMAP_SIZE - 8);

    if (v)
        fuzz_bytes(&w->in, (u8 *)v->run + at, 8);
}

static void begin(struct world *w)
{
    u8 shape = fuzz_u8(&w->in);
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
    int vm;

    uvirt_kvm_arch_prctl(0x1025 /* ARCH_REQ_XCOMP_GUEST_PERM */, 18);
    add(w, KVM_CLASS_SYSTEM, uvirt_kvm_open());
    vm = uvirt_kvm_ioctl(w->of[KVM_CLASS_SYSTEM][0].fd, KVM_CREATE_VM, 0);
    if (vm < 0)
        abort();
    add(w, KVM_CLASS_VM, vm);
    if (shape % 3 == 1)
        uvirt_kvm_ioctl(vm, KVM_CREATE_IRQCHIP, 0);
    else if (shape % 3 == 2)
        uvirt_kvm_ioctl(vm, KVM_ENABLE_CAP, (unsigned long)&split);
    for (unsigned i = 0; i < shape / 3 % 3; i++)
        add(w, KVM_CLASS_VCPU, uvirt_kvm_ioctl(vm, KVM_CREATE_VCPU, i));
    w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct world w = {.in = {data, size}};
    const struct kvm_row *rows, *row;
    unsigned n;
    u8 step;

    set_up();
    rows = kvm_rows(&n);
    begin(&w);
    for (unsigned steps = 0; w.in.size && steps < 200; steps++) {
        step = fuzz_u8(&w.in) % 10;
        if (step < 6) {
            row = &rows[fuzz_u8(&w.in) % n];
            if (step < 4)
                step_ioctl(&w, row);
            else
                step_change(&w, row, rows, n);
        } else if (step < 8) {
            step_run(&w);
        } else if (step == 8) {
            step_real_mode(&w);
        } else {
            step_shared_page(&w);
        }
    }
    close_all(&w);
    close(w.event);
    return 0;
}
