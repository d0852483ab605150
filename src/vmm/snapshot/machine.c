// SPDX-License-Identifier: MIT
// A whole VM: what its vCPUs share, and the order of things.

/*
 * Theory of operation
 *
 * Guest time stands still from the save to the restore, as in a suspended machine: kvmclock and the TSCs go on from
 * the values that they had, in step with each other. For that the save notes kvmclock together with the host's TSC;
 * the restore sets kvmclock, asks for both again, and moves the TSC offsets by the difference (as the KVM document
 * of KVM_VCPU_TSC_OFFSET has it, with no time passed in between).
 *
 * Memory is loaded after the vCPUs' MSRs, since a KVM may write guest memory when those are set, and the saved bytes
 * are the right ones.
 */
#include "virtio/state.h"
#include "vmm/snapshot/parts.h"

#include <time.h>

#define NR_CHIPS 3 /* two 8259s and the IOAPIC */

struct machine_image {
    u32 cpus;
    u64 memory;
    u64 monotonic_ns; /* of the host: what the PIT's load times are in */
    struct kvm_clock_data clock;
    struct kvm_irqchip chips[NR_CHIPS];
    struct kvm_pit_state2 pit;
    u32 nr_devices, devices[BOARD_VIRTIO_MAX];
};

static u64 monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

static void machine_image_state(struct machine_image *m, struct state *s)
{
    STATE(s, m->cpus);
    STATE_CHECK(s, m->cpus >= 1 && m->cpus <= VM_CPUS_MAX, m->cpus);
    STATE(s, m->memory);
    STATE_CHECK(s,
                m->memory >= VM_MEMORY_MIN && m->memory <= VM_MEMORY_MAX &&
                    IS_ALIGNED(m->memory, 2ull << 20),
                m->memory);
    STATE(s, m->nr_devices);
    STATE_CHECK(s, m->nr_devices <= BOARD_VIRTIO_MAX, m->nr_devices);
    STATE(s, m->devices);
    STATE(s, m->monotonic_ns);
    STATE(s, m->clock);
    STATE(s, m->chips);
    STATE(s, m->pit);
}

/* --- saving --- */

static int get_machine(struct vm *vm, struct machine_image *m, struct vmm_error *err)
{
    int rc = vm_ioctl(vm, KVM_GET_CLOCK, (unsigned long)&m->clock, "KVM_GET_CLOCK", err);

    for (u32 i = 0; i < NR_CHIPS && rc == 0; i++) {
        m->chips[i].chip_id = i;
        rc = vm_ioctl(vm, KVM_GET_IRQCHIP, (unsigned long)&m->chips[i], "KVM_GET_IRQCHIP", err);
    }
    if (rc == 0)
        rc = vm_ioctl(vm, KVM_GET_PIT2, (unsigned long)&m->pit, "KVM_GET_PIT2", err);
    m->monotonic_ns = monotonic_ns();
    m->cpus = vm->nr_vcpus;
    m->memory = vm->ram.size;
    m->nr_devices = vm->board.nr_virtio;
    for (u32 i = 0; i < m->nr_devices; i++)
        m->devices[i] = virtio_mmio_device(vm->board.virtio[i].transport)->ops->id;
    return rc;
}

static int save_machine(struct vm *vm, struct snapshot_writer *w, struct vmm_error *err)
{
    struct state s = state_saver();
    struct machine_image m = {0};
    int rc = get_machine(vm, &m, err);

    if (rc)
        return rc;
    machine_image_state(&m, &s);
    board_state(&vm->board, &s);
    return snapshot_write_state(w, SNAPSHOT_MACHINE, 0, &s, err);
}

static int save_cpu(struct vcpu *v, struct snapshot_writer *w, struct vmm_error *err)
{
    struct state s = state_saver();
    struct vcpu_image i = {.cpuid = NULL};
    int rc = vcpu_image_get(v, &i, err);

    if (rc == 0) {
        vcpu_image_state(&i, false, &s);
        rc = snapshot_write_state(w, SNAPSHOT_CPU, v->index, &s, err);
    }
    vcpu_image_free(&i);
    return rc;
}

static int save_device(struct vm *vm, unsigned i, struct snapshot_writer *w, struct vmm_error *err)
{
    struct state s = state_saver();

    board_virtio_state(&vm->board, i, &s);
    return snapshot_write_state(w, SNAPSHOT_DEVICE, i, &s, err);
}

int snapshot_save_vm(struct vm *vm, const struct snapshot_options *o, struct snapshot_writer *w,
                     struct vmm_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < vm->board.nr_virtio; i++) {
        const struct virtio_device *d = virtio_mmio_device(vm->board.virtio[i].transport);

        if (!virtio_device_saves(d))
            return vmm_fail(err, -EOPNOTSUPP,
                            "the guest has a virtio device of type %u, which "
                            "cannot be saved",
                            d->ops->id);
    }
    rc = save_machine(vm, w, err);
    for (unsigned i = 0; i < vm->nr_vcpus && rc == 0; i++)
        rc = save_cpu(&vm->vcpus[i], w, err);
    for (unsigned i = 0; i < vm->board.nr_virtio && rc == 0; i++)
        rc = save_device(vm, i, w, err);
    return rc ? rc : memory_save(vm, o->compress, w, err);
}

/* --- the plan --- */

int snapshot_plan(const struct snapshot_file *f, struct snapshot_plan *ret, struct vmm_error *err)
{
    struct machine_image m = {0};
    struct state s;
    int rc = snapshot_section_load(f, SNAPSHOT_MACHINE, 0, &s, err);

    *ret = (struct snapshot_plan){.cpus = 0};
    if (rc)
        return rc;
    machine_image_state(&m, &s);
    if (s.error)
        return snapshot_section_done(&s, SNAPSHOT_MACHINE, 0, err);
    ret->cpus = m.cpus;
    ret->memory = m.memory;
    ret->nr_devices = m.nr_devices;
    memcpy(ret->devices, m.devices, sizeof(ret->devices));
    for (u32 n = 0; n < m.cpus; n++) {
        struct vcpu_image i = {.cpuid = NULL};

        rc = snapshot_section_load(f, SNAPSHOT_CPU, n, &s, err);
        if (rc)
            return rc;
        vcpu_image_state(&i, true, &s);
        ret->cpuid[n] = i.cpuid;
        ret->tsc_khz = i.tsc_khz;
        if (s.error)
            return snapshot_section_done(&s, SNAPSHOT_CPU, n, err);
    }
    return 0;
}

void snapshot_plan_free(struct snapshot_plan *p)
{
    for (unsigned i = 0; i < ARRAY_SIZE(p->cpuid); i++)
        free(p->cpuid[i]);
    *p = (struct snapshot_plan){.cpus = 0};
}

/* --- loading --- */

static int load_cpus(struct vm *vm, const struct snapshot_file *f, struct vcpu_image *images,
                     struct vmm_error *err)
{
    int rc = 0;

    for (unsigned n = 0; n < vm->nr_vcpus && rc == 0; n++) {
        struct vcpu *v = &vm->vcpus[n];
        struct state s;

        rc = snapshot_section_load(f, SNAPSHOT_CPU, n, &s, err);
        if (rc)
            break;
        vcpu_image_state(&images[n], false, &s);
        rc = snapshot_section_done(&s, SNAPSHOT_CPU, n, err);
        if (rc)
            break;
        /* Another frequency than the host's, if KVM cannot give it, would make all of the guest's clocks wrong. */
        if (images[n].tsc_khz && vm->be->ioctl(v->fd, KVM_SET_TSC_KHZ, images[n].tsc_khz) < 0 &&
            vm->be->ioctl(v->fd, KVM_GET_TSC_KHZ, 0) != (int)images[n].tsc_khz)
            return vmm_fail(
                err, -EINVAL, "the guest's TSC runs at %u kHz, %s on this host can only do %d kHz",
                images[n].tsc_khz, vm->be->name, vm->be->ioctl(v->fd, KVM_GET_TSC_KHZ, 0));
        rc = vcpu_image_set(v, &images[n], err);
    }
    return rc;
}

static int load_devices(struct vm *vm, const struct snapshot_file *f, struct vmm_error *err)
{
    int rc = 0;

    for (unsigned n = 0; n < vm->board.nr_virtio && rc == 0; n++) {
        struct state s;

        rc = snapshot_section_load(f, SNAPSHOT_DEVICE, n, &s, err);
        if (rc)
            break;
        board_virtio_state(&vm->board, n, &s);
        rc = snapshot_section_done(&s, SNAPSHOT_DEVICE, n, err);
    }
    return rc;
}

/*
 * Set kvmclock, and say by how much a TSC offset has to move for the guest's TSC to go on in step; (*known) is false
 * where a KVM, there or here, does not tell the host's TSC.
 */
static int load_clock(struct vm *vm, const struct machine_image *m, u32 tsc_khz, s64 *tsc_delta,
                      bool *known, struct vmm_error *err)
{
    struct kvm_clock_data set = {.clock = m->clock.clock}, now = {0};
    s64 passed;
    int rc = vm_ioctl(vm, KVM_SET_CLOCK, (unsigned long)&set, "KVM_SET_CLOCK", err);

    if (rc == 0)
        rc = vm_ioctl(vm, KVM_GET_CLOCK, (unsigned long)&now, "KVM_GET_CLOCK", err);
    if (rc)
        return rc;
    passed = (s64)((__int128)(s64)(now.clock - m->clock.clock) * tsc_khz / 1000000);
    *tsc_delta = (s64)(m->clock.host_tsc - now.host_tsc) + passed;
    *known = m->clock.flags & now.flags & KVM_CLOCK_HOST_TSC;
    return 0;
}

static int load_chips(struct vm *vm, struct machine_image *m, struct vmm_error *err)
{
    u64 shift = monotonic_ns() - m->monotonic_ns;
    int rc = 0;

    for (u32 i = 0; i < NR_CHIPS && rc == 0; i++) {
        m->chips[i].chip_id = i;
        rc = vm_ioctl(vm, KVM_SET_IRQCHIP, (unsigned long)&m->chips[i], "KVM_SET_IRQCHIP", err);
    }
    for (unsigned n = 0; n < ARRAY_SIZE(m->pit.channels); n++)
        m->pit.channels[n].count_load_time = (s64)((u64)m->pit.channels[n].count_load_time + shift);
    if (rc == 0)
        rc = vm_ioctl(vm, KVM_SET_PIT2, (unsigned long)&m->pit, "KVM_SET_PIT2", err);
    return rc;
}

/* Time, and all that depends on it. */
static int load_time(struct vm *vm, struct machine_image *m, const struct vcpu_image *images,
                     struct vmm_error *err)
{
    bool known = false;
    s64 tsc_delta = 0;
    int rc = load_clock(vm, m, images[0].tsc_khz, &tsc_delta, &known, err);

    for (unsigned n = 0; n < vm->nr_vcpus && rc == 0; n++) {
        struct vcpu_image i = images[n];

        i.has_tsc_offset = i.has_tsc_offset && known;
        rc = vcpu_image_set_time(&vm->vcpus[n], &i, tsc_delta, err);
    }
    return rc ? rc : load_chips(vm, m, err);
}

static int load_machine(struct vm *vm, const struct snapshot_file *f, struct machine_image *m,
                        struct vmm_error *err)
{
    struct state s;
    int rc = snapshot_section_load(f, SNAPSHOT_MACHINE, 0, &s, err);

    if (rc)
        return rc;
    machine_image_state(m, &s);
    STATE_CHECK(&s, m->cpus == vm->nr_vcpus, m->cpus);
    STATE_CHECK(&s, m->memory == vm->ram.size, m->memory);
    board_state(&vm->board, &s);
    return snapshot_section_done(&s, SNAPSHOT_MACHINE, 0, err);
}

int snapshot_load_vm(struct vm *vm, const struct snapshot_file *f, struct vmm_error *err)
{
    struct vcpu_image *images = calloc(vm->nr_vcpus, sizeof(*images));
    struct machine_image m = {0};
    int rc = images ? load_machine(vm, f, &m, err) : vmm_fail(err, -ENOMEM, "out of memory");

    if (rc == 0)
        rc = load_cpus(vm, f, images, err);
    if (rc == 0)
        rc = memory_load(vm, f, err);
    if (rc == 0)
        rc = load_devices(vm, f, err);
    if (rc == 0)
        rc = load_time(vm, &m, images, err);
    if (rc == 0)
        board_redrive(&vm->board);
    for (unsigned n = 0; images && n < vm->nr_vcpus; n++)
        vcpu_image_free(&images[n]);
    free(images);
    return rc;
}
