// SPDX-License-Identifier: MIT
// Whole VMs on the software engine: what is saved, loaded and saved again is the same; pausing; refusals.
#include "tap.h"
#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "vmm/snapshot/parts.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (32ull << 20)
#define CPUS   2
#define DISK   65536

#define XFEATURE_TILECFG  17
#define XFEATURE_TILEDATA 18
#define MSR_XFD           0x1c4
#define MSR_KERNEL_GS     0xc0000102
#define MSR_MTRR_BASE3    0x206
#define MSR_TSC_DEADLINE  0x6e0
#define XSTATE_BV         512

static const struct kvm_backend *const be = &kvm_backend_soft;
static struct vmm_error err;

static void drop(void *opaque, const void *frame, size_t len)
{
}

static void nothing(void *opaque)
{
}

static struct vm *make_vm(const struct snapshot_plan *plan, unsigned devices)
{
    struct virtio_net_options net = {.kick = nothing, .transmit = drop};
    struct vm_config cfg = {.backend = be, .cpus = CPUS, .memory = MEMORY};
    struct virtio_blk_backend disk = {.fd = memfd_create("disk", MFD_CLOEXEC)};
    struct virtio_device *d[3] = {NULL};
    struct vm *vm;

    if (plan)
        cfg.cpu_cpuid = (const struct kvm_cpuid2 *const *)plan->cpuid;
    if (disk.fd < 0 || ftruncate(disk.fd, DISK) || vm_create(&cfg, &vm, &err) ||
        virtio_net_create(&net, &d[0]) || virtio_rng_create(&d[1]) ||
        virtio_blk_create(&disk, &d[2])) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
    for (unsigned i = 0; i < 3; i++)
        if (i >= devices)
            virtio_device_free(d[i]);
        else if (vm_add_virtio(vm, d[i]))
            exit(99);
    return vm;
}

static void cpu_ioctl(struct vm *vm, int i, unsigned long request, void *arg, const char *name)
{
    if (be->ioctl(vm_kvm_fd(vm, i), request, (unsigned long)arg) < 0) {
        printf("Bail out! %s: %s\n", name, strerror(errno));
        exit(99);
    }
}
#define CPU_IOCTL(vm, i, request, arg) cpu_ioctl(vm, i, request, arg, #request)

static void set_msr(struct vm *vm, int i, u32 index, u64 data)
{
    struct {
        struct kvm_msrs h;
        struct kvm_msr_entry e;
    } m = {.h.nmsrs = 1, .e = {.index = index, .data = data}};

    CPU_IOCTL(vm, i, KVM_SET_MSRS, &m);
}

static u8 *ram(struct vm *vm, gpa_t gpa)
{
    return mem_span(vm->mem, gpa, PAGE_SIZE, true);
}

/* --- a VM with something in every place --- */

/* Offset of a component in the images of this VM: CPUID.0DH. */
static u32 xsave_offset(struct vm *vm, unsigned id)
{
    struct {
        struct kvm_cpuid2 h;
        struct kvm_cpuid_entry2 e[256];
    } t = {.h.nent = 256};

    CPU_IOCTL(vm, 0, KVM_GET_CPUID2, &t);
    for (u32 i = 0; i < t.h.nent; i++)
        if (t.e[i].function == 0xd && t.e[i].index == id)
            return t.e[i].ebx;
    exit(99);
}

/* Tiles full of numbers, and XFD set after that: an image alone would leave them out. */
static void fill_xstate(struct vm *vm)
{
    int size = be->ioctl(vm_kvm_fd(vm, -1), KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    struct kvm_xcrs x = {.nr_xcrs = 1};
    u8 *image = calloc(1, size);
    u64 bv = BIT(0) | BIT(1) | BIT(XFEATURE_TILECFG) | BIT(XFEATURE_TILEDATA);
    u32 cfg = xsave_offset(vm, XFEATURE_TILECFG), data = xsave_offset(vm, XFEATURE_TILEDATA);

    CPU_IOCTL(vm, 0, KVM_GET_XSAVE2, image);
    memcpy(image + XSTATE_BV, &bv, sizeof(bv));
    image[cfg] = 1;       /* palette */
    image[cfg + 16] = 64; /* bytes of a row of tile 0 */
    image[cfg + 48] = 16; /* its rows */
    for (unsigned i = 0; i < 8192; i++)
        image[data + i] = (u8)(i * 31 + 7);
    memset(image + 160, 0x5a, 256); /* XMM */
    x.xcrs[0].value = BIT(0) | BIT(1) | BIT(2) | BIT(XFEATURE_TILECFG) | BIT(XFEATURE_TILEDATA);
    CPU_IOCTL(vm, 0, KVM_SET_XCRS, &x);
    CPU_IOCTL(vm, 0, KVM_SET_XSAVE, image);
    set_msr(vm, 0, MSR_XFD, BIT(XFEATURE_TILEDATA));
    free(image);
}

static void fill_cpu(struct vm *vm)
{
    struct kvm_debugregs d = {
        .db = {0x1000, 0x2000, 0x3000, 0x4000}, .dr6 = 0xffff0ff1, .dr7 = 0x400};
    struct kvm_vcpu_events e;
    struct kvm_lapic_state l;
    struct kvm_mp_state halted = {.mp_state = KVM_MP_STATE_HALTED};
    struct kvm_regs r;
    u32 v;

    CPU_IOCTL(vm, 0, KVM_GET_REGS, &r);
    for (unsigned i = 0; i < 16; i++)
        ((u64 *)&r)[i] = 0x1111111111111111u * i + 3;
    r.rip = 0x1234;
    r.rflags = 0x8d7;
    CPU_IOCTL(vm, 0, KVM_SET_REGS, &r);
    fill_xstate(vm);
    CPU_IOCTL(vm, 0, KVM_SET_DEBUGREGS, &d);
    set_msr(vm, 0, MSR_KERNEL_GS, 0xffff800012345000);
    set_msr(vm, 0, MSR_MTRR_BASE3, 0xc0000006);
    CPU_IOCTL(vm, 0, KVM_GET_LAPIC, &l);
    v = 0x1ff;
    memcpy(l.regs + 0xf0, &v, 4); /* enabled */
    v = 0x400ef;                  /* TSC-deadline mode, vector 0xef */
    memcpy(l.regs + 0x320, &v, 4);
    v = 1u << 5;
    memcpy(l.regs + 0x220, &v, 4); /* vector 0x45 is pending */
    CPU_IOCTL(vm, 0, KVM_SET_LAPIC, &l);
    set_msr(vm, 0, MSR_TSC_DEADLINE, ~0ull >> 2);
    CPU_IOCTL(vm, 0, KVM_GET_VCPU_EVENTS, &e);
    e.nmi.pending = 1;
    e.nmi.masked = 1;
    e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    CPU_IOCTL(vm, 0, KVM_SET_VCPU_EVENTS, &e);
    CPU_IOCTL(vm, 1, KVM_SET_MP_STATE, &halted);
}

static void fill(struct vm *vm)
{
    struct kvm_irqchip io = {.chip_id = KVM_IRQCHIP_IOAPIC};
    struct kvm_pit_state2 pit;
    u8 com1 = 0x5c;

    CPU_IOCTL(vm, -1, KVM_GET_IRQCHIP, &io);
    io.chip.ioapic.redirtbl[5].bits = 0x0100000000000845ull;
    io.chip.ioapic.ioregsel = 7;
    CPU_IOCTL(vm, -1, KVM_SET_IRQCHIP, &io);
    CPU_IOCTL(vm, -1, KVM_GET_PIT2, &pit);
    pit.channels[2].count = 12345;
    pit.channels[2].mode = 0;
    CPU_IOCTL(vm, -1, KVM_SET_PIT2, &pit);
    fill_cpu(vm);
    board_port(vm_board(vm), BOARD_COM1 + 7, &com1, 1, true); /* scratch register */
    for (gpa_t gpa = 2 << 20; gpa < 5 << 20; gpa += PAGE_SIZE)
        for (unsigned i = 0; i < PAGE_SIZE; i++)
            ram(vm, gpa)[i] = (u8)(gpa / PAGE_SIZE * 7 + i * i);
    ram(vm, 0x9000)[PAGE_SIZE - 1] = 1;
    ram(vm, MEMORY - PAGE_SIZE)[0] = 2;
    for (unsigned i = 0; i < PAGE_SIZE; i += 8) { /* what does not compress */
        u64 v = i * 0x9e3779b97f4a7c15u ^ (u64)i << 37;

        v = (v ^ v >> 31) * 0xbf58476d1ce4e5b9u;
        memcpy(ram(vm, 0x20000) + i, &v, 8);
    }
    memset(ram(vm, 0x21000), 0, PAGE_SIZE); /* touched, and zero */
}

/* --- saving and loading --- */

static struct blob save(struct vm *vm, bool compress)
{
    struct snapshot_options o = {.compress = compress};
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct snapshot_writer w;
    struct blob b;

    if (fd < 0 || snapshot_write_begin(&w, fd, &err) || snapshot_save_vm(vm, &o, &w, &err) ||
        snapshot_write_end(&w, &err) || blob_alloc(w.bytes, &b) ||
        pread(fd, b.data, b.size, 0) != (ssize_t)b.size) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
    close(fd);
    return b;
}

static void parse(const struct blob *b, struct snapshot_file *f)
{
    if (snapshot_parse(b, f, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(99);
    }
}

/* A VM out of (b), saved again into (again). */
static struct vm *load_and_save(const struct blob *b, struct blob *again)
{
    struct snapshot_plan plan;
    struct snapshot_file f;
    struct vm *vm;

    parse(b, &f);
    ok(snapshot_plan(&f, &plan, &err) == 0 && plan.cpus == CPUS && plan.memory == MEMORY &&
           plan.nr_devices == 3 && plan.devices[2] == VIRTIO_ID_BLOCK,
       "the plan says how to build it");
    vm = make_vm(&plan, 3);
    ok(snapshot_load_vm(vm, &f, &err) == 0, "a snapshot loads: %s", err.text);
    *again = save(vm, true);
    snapshot_plan_free(&plan);
    snapshot_file_free(&f);
    return vm;
}

static bool same_section(const struct snapshot_file *a, const struct snapshot_file *b, u32 type,
                         u32 i)
{
    const struct snapshot_section *x = snapshot_find(a, type, i), *y = snapshot_find(b, type, i);

    return x && y && x->length == y->length && !memcmp(x->data, y->data, x->length);
}

static void cpu_of(const struct snapshot_file *f, u32 n, struct vcpu_image *i)
{
    struct state s;

    *i = (struct vcpu_image){.cpuid = NULL};
    if (snapshot_section_load(f, SNAPSHOT_CPU, n, &s, &err))
        exit(99);
    vcpu_image_state(i, false, &s);
    if (snapshot_section_done(&s, SNAPSHOT_CPU, n, &err))
        exit(99);
}

#define SAME(member) ok(!memcmp(&a.member, &b.member, sizeof(a.member)), "CPU %u: " #member, n)

static void compare_cpu(const struct snapshot_file *fa, const struct snapshot_file *fb, u32 n)
{
    struct vcpu_image a, b;

    cpu_of(fa, n, &a);
    cpu_of(fb, n, &b);
    SAME(tsc_khz);
    SAME(mp_state);
    SAME(regs);
    SAME(sregs);
    SAME(xcrs);
    SAME(debugregs);
    SAME(events);
    SAME(lapic); /* TMCCT is 0 in these modes */
    SAME(tsc_deadline);
    ok(a.cpuid->nent == b.cpuid->nent &&
           !memcmp(a.cpuid->entries, b.cpuid->entries, a.cpuid->nent * sizeof(a.cpuid->entries[0])),
       "CPU %u: cpuid", n);
    ok(a.xsave_size == b.xsave_size && !memcmp(a.xsave, b.xsave, a.xsave_size), "CPU %u: xsave", n);
    ok(a.nr_msrs == b.nr_msrs && a.nr_msrs > 60 &&
           !memcmp(a.msrs, b.msrs, a.nr_msrs * sizeof(a.msrs[0])),
       "CPU %u: %u MSRs", n, a.nr_msrs);
    vcpu_image_free(&a);
    vcpu_image_free(&b);
}

/* What fill() put there must be in the file, and not only the same in both. */
static void check_contents(struct vm *vm, const struct snapshot_file *f)
{
    u32 data = xsave_offset(vm, XFEATURE_TILEDATA);
    struct vcpu_image i;
    u64 bv, xfd = 0, gs = 0;

    cpu_of(f, 0, &i);
    memcpy(&bv, i.xsave + XSTATE_BV, sizeof(bv));
    for (u32 n = 0; n < i.nr_msrs; n++) {
        xfd = i.msrs[n].index == MSR_XFD ? i.msrs[n].data : xfd;
        gs = i.msrs[n].index == MSR_KERNEL_GS ? i.msrs[n].data : gs;
    }
    is_u64(xfd, BIT(XFEATURE_TILEDATA), "XFD is saved");
    ok(bv & BIT(XFEATURE_TILEDATA) && i.xsave[data + 8191] == (u8)(8191 * 31 + 7),
       "so are tiles that it disables");
    is_u64(gs, 0xffff800012345000, "an MSR of the list");
    is_u64(i.regs.rip, 0x1234, "RIP");
    is_u64(i.events.nmi.pending, 1, "an NMI that waits");
    is_u64(i.lapic.regs[0x220] & 0x20, 0x20, "an interrupt that waits");
    is_u64(i.tsc_deadline, ~0ull >> 2, "the timer's deadline");
    vcpu_image_free(&i);
    cpu_of(f, 1, &i);
    is_u64(i.mp_state.mp_state, KVM_MP_STATE_HALTED, "CPU 1 is asleep");
    vcpu_image_free(&i);
}

static bool same_memory(struct vm *a, struct vm *b)
{
    for (gpa_t gpa = 0; gpa < MEMORY; gpa += PAGE_SIZE)
        if (memcmp(ram(a, gpa), ram(b, gpa), PAGE_SIZE))
            return false;
    return true;
}

/* Guest time as KVM says it now: kvmclock, and the TSC that goes with it. */
static void time_of(struct vm *vm, u64 *ns, u64 *tsc)
{
    struct kvm_clock_data c;
    s64 offset;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)(uintptr_t)&offset};

    CPU_IOCTL(vm, -1, KVM_GET_CLOCK, &c);
    CPU_IOCTL(vm, 1, KVM_GET_DEVICE_ATTR, &attr);
    *ns = c.clock;
    *tsc = c.host_tsc + (u64)offset;
}

static u64 host_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static void test_time(struct vm *old)
{
    u64 before_ns, saved_ns, saved_tsc, ns, tsc, khz, load;
    struct snapshot_plan plan;
    struct snapshot_file f;
    struct vm *fresh;
    struct blob b;
    s64 skew;

    time_of(old, &before_ns, &saved_tsc);
    b = save(old, true);
    time_of(old, &saved_ns, &saved_tsc);
    parse(&b, &f);
    if (snapshot_plan(&f, &plan, &err))
        exit(99);
    fresh = make_vm(&plan, 3);
    khz = plan.tsc_khz;
    usleep(200000); /* time that must not pass for the guest */
    load = host_ns();
    ok(snapshot_load_vm(fresh, &f, &err) == 0, "one more loads");
    time_of(fresh, &ns, &tsc);
    load = host_ns() - load;
    ok(ns >= before_ns && ns <= saved_ns + load, "time stood still from the save to the load");
    skew = (s64)((saved_tsc - tsc) - (u64)((__int128)(saved_ns - ns) * khz / 1000000));
    ok(skew > -(s64)khz / 100 && skew < (s64)khz / 100,
       "TSC and kvmclock are in step as before, to 10 us (%lld cycles)", (long long)skew);
    vm_free(fresh);
    snapshot_plan_free(&plan);
    snapshot_file_free(&f);
    blob_free(&b);
}

static void test_round_trip(void)
{
    struct vm *vm = make_vm(NULL, 3), *copy;
    struct blob first, second, raw;
    struct snapshot_file a, b;

    fill(vm);
    first = save(vm, true);
    raw = save(vm, false);
    parse(&first, &a);
    check_contents(vm, &a);
    copy = load_and_save(&first, &second);
    parse(&second, &b);
    for (u32 n = 0; n < CPUS; n++)
        compare_cpu(&a, &b, n);
    for (u32 n = 0; n < 3; n++)
        ok(same_section(&a, &b, SNAPSHOT_DEVICE, n), "device %u", n);
    ok(a.nr_memory == b.nr_memory && same_section(&a, &b, SNAPSHOT_MEMORY, 0), "section of memory");
    ok(same_memory(vm, copy), "memory");
    vm_free(copy);
    blob_free(&second);
    ok(raw.size > first.size + (2 << 20), "compression makes it smaller: %zu and %zu", first.size,
       raw.size);
    ok(first.size < 4 << 20, "zero pages are left out");
    copy = load_and_save(&raw, &second);
    ok(same_memory(vm, copy), "memory that is not compressed");
    test_time(vm);
    vm_free(copy);
    vm_free(vm);
    snapshot_file_free(&a);
    snapshot_file_free(&b);
    blob_free(&first);
    blob_free(&second);
    blob_free(&raw);
}

/* --- pausing --- */

/* loop: inc ecx; mov [0x2000], ecx; in al, 0x71; inc edx; mov [0x2004], edx; jmp loop */
static const u8 code[] = {0x66, 0x41, 0x66, 0x89, 0x0e, 0x00, 0x20, 0xe4, 0x71,
                          0x66, 0x42, 0x66, 0x89, 0x16, 0x04, 0x20, 0xeb, 0xee};

static void start_code(struct vm *vm)
{
    struct kvm_sregs s;
    struct kvm_regs r = {.rip = 0x1000, .rflags = 2};

    memcpy(ram(vm, 0x1000), code, sizeof(code));
    CPU_IOCTL(vm, 0, KVM_GET_SREGS, &s);
    s.cs.base = 0;
    s.cs.selector = 0;
    CPU_IOCTL(vm, 0, KVM_SET_SREGS, &s);
    CPU_IOCTL(vm, 0, KVM_SET_REGS, &r);
    if (vm_run(vm, &err))
        exit(99);
}

/* Registers and memory tell the same story: no instruction is half done. */
static bool consistent(struct vm *vm, struct kvm_regs *r)
{
    u32 in_memory[2];
    u32 ecx, edx;

    CPU_IOCTL(vm, 0, KVM_GET_REGS, r);
    memcpy(in_memory, ram(vm, 0x2000), sizeof(in_memory));
    ecx = (u32)r->rcx;
    edx = (u32)r->rdx;
    switch (r->rip - 0x1000) {
    case 0:
        return ecx == edx && in_memory[0] == ecx && in_memory[1] == edx;
    case 2:
        return ecx == edx + 1 && in_memory[0] == edx && in_memory[1] == edx;
    case 7:
    case 9:
        return ecx == edx + 1 && in_memory[0] == ecx && in_memory[1] == edx;
    case 11:
        return ecx == edx && in_memory[0] == ecx && in_memory[1] == edx - 1;
    case 16:
        return ecx == edx && in_memory[0] == ecx && in_memory[1] == edx;
    default:
        return false;
    }
}

static void test_pause(void)
{
    struct vm *vm = make_vm(NULL, 0);
    struct kvm_regs r, again;
    unsigned good = 0, still = 0, moves = 0;
    u64 before = 0;

    start_code(vm);
    for (unsigned i = 0; i < 100; i++) {
        usleep(i * 20);
        if (vm_pause(vm, &err)) {
            ok(false, "pause: %s", err.text);
            break;
        }
        good += consistent(vm, &r);
        usleep(200);
        CPU_IOCTL(vm, 0, KVM_GET_REGS, &again);
        still += !memcmp(&r, &again, sizeof(r));
        moves += r.rcx != before;
        before = r.rcx;
        vm_resume(vm);
    }
    is_u64(good, 100, "a CPU is paused between two instructions");
    is_u64(still, 100, "and stands still");
    ok(moves > 1, "and goes on (%u times of 100)", moves);
    ok(vm_pause(vm, &err) == 0, "one more pause");
    vm_stop(vm);
    ok(vm_ended(vm, NULL) == VM_STOPPED, "a paused VM can be stopped");
    ok(vm_pause(vm, &err) == -ESHUTDOWN, "one that has ended cannot be paused: %s", err.text);
    vm_free(vm);
}

/* --- refusals --- */

static void refuse(const struct snapshot_file *f, const struct snapshot_plan *plan,
                   unsigned devices, const char *want, const char *what)
{
    struct vm *vm = make_vm(plan, devices);
    int rc;

    err = (struct vmm_error){{0}};
    rc = snapshot_load_vm(vm, f, &err);
    ok(rc == -EBADMSG && strstr(err.text, want), "%s: %s", what, err.text);
    vm_free(vm);
}

/* The file without section (type, instance), or with (len) other bytes in it. */
static struct snapshot_file changed(const struct snapshot_file *f, u32 type, const u8 *data,
                                    size_t len)
{
    struct snapshot_file c = *f;

    c.sections = calloc(f->nr_sections, sizeof(*c.sections));
    if (!c.sections)
        exit(99);
    memcpy(c.sections, f->sections, f->nr_sections * sizeof(*c.sections));
    for (unsigned i = 0; i < c.nr_sections; i++) {
        if (c.sections[i].type != type)
            continue;
        c.sections[i].data = data;
        c.sections[i].length = len;
        if (!data)
            c.sections[i].type = 0;
        break;
    }
    return c;
}

static void refuse_memory(const struct snapshot_file *f, const struct snapshot_plan *plan, u64 gpa,
                          u32 pages, u32 stored, size_t len, const char *what)
{
    u8 *run = calloc(1, len < 16 ? 16 : len);
    struct snapshot_file c;

    if (!run)
        exit(99);
    memcpy(run, &gpa, 8);
    memcpy(run + 8, &pages, 4);
    memcpy(run + 12, &stored, 4);
    c = changed(f, SNAPSHOT_MEMORY, run, len);
    refuse(&c, plan, 3, "section memory 0: the run", what);
    snapshot_file_free(&c);
    free(run);
}

static void test_refusals(void)
{
    struct vm *vm = make_vm(NULL, 3);
    struct snapshot_plan plan;
    struct snapshot_file f, c;
    const struct snapshot_section *s;
    struct blob b;

    ram(vm, 0x9000)[0] = 1;
    b = save(vm, false);
    parse(&b, &f);
    if (snapshot_plan(&f, &plan, &err))
        exit(99);
    refuse(&f, &plan, 2, "nr_virtio", "another number of devices");
    c = changed(&f, SNAPSHOT_CPU, NULL, 0);
    refuse(&c, &plan, 3, "section cpu 0: it is missing", "a CPU that is missing");
    snapshot_file_free(&c);
    s = snapshot_find(&f, SNAPSHOT_CPU, 0);
    c = changed(&f, SNAPSHOT_CPU, s->data, s->length - 1);
    refuse(&c, &plan, 3, "section cpu 0: msrs", "a CPU that is cut off");
    snapshot_file_free(&c);
    s = snapshot_find(&f, SNAPSHOT_DEVICE, 2);
    c = changed(&f, SNAPSHOT_DEVICE, s->data, s->length);
    refuse(&c, &plan, 3, "section device 0: id", "a device of another type");
    snapshot_file_free(&c);
    refuse_memory(&f, &plan, MEMORY, 1, 4096, 16 + 4096, "a page behind the end of memory");
    refuse_memory(&f, &plan, MEMORY - PAGE_SIZE, 2, 8192, 16 + 8192, "a run that leaves memory");
    refuse_memory(&f, &plan, 0x9001, 1, 4096, 16 + 4096, "an odd address");
    refuse_memory(&f, &plan, 0x9000, 0, 0, 16, "a run of no pages");
    refuse_memory(&f, &plan, 0x9000, 257, 16, 32, "a run of too many");
    refuse_memory(&f, &plan, 0x9000, 1, 4097, 16 + 4097, "more bytes than pages");
    refuse_memory(&f, &plan, 0x9000, 1, 4096, 16 + 4095, "fewer bytes than said");
    refuse_memory(&f, &plan, 0x9000, 1, 20, 16 + 20, "garbage where zstd should be");
    refuse_memory(&f, &plan, 0x9000, 1, 4096, 15, "half a header");
    snapshot_plan_free(&plan);
    snapshot_file_free(&f);
    blob_free(&b);
    vm_free(vm);
}

int main(void)
{
    test_round_trip();
    test_pause();
    test_refusals();
    return tap_done();
}
