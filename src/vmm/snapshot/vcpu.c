// SPDX-License-Identifier: MIT
// A vCPU through KVM's ioctls: everything out, and in again in an order that KVM takes.

/*
 * Theory of operation
 *
 * Out: the deadline MSR before the LAPIC. A timer that fires in between is then in both, and fires once more at the
 * restore, into an IRR bit that is set already; the other way round it would be lost.
 *
 * In, first part: segments and control registers, general registers, extended state while XFD is 0, MSRs (XFD among
 * them). Second part, as late as can be so that little guest time passes: TSC, LAPIC (needs APIC_BASE of the first),
 * the deadline (needs the LAPIC's timer mode), events (KVM_SET_REGS drops pending exceptions), MP state.
 */
#include "vmm/cpuid.h"
#include "vmm/snapshot/parts.h"

#include <stdio.h>

#define MSR_IA32_TSC          0x10
#define MSR_IA32_APICBASE     0x1b
#define MSR_MCG_CAP           0x179
#define MSR_MCG_CTL           0x17b
#define MSR_IA32_XFD          0x1c4
#define MSR_MTRR_PHYS         0x200
#define MSR_MTRR_PHYS_LAST    0x20f
#define MSR_MTRR_DEF_TYPE     0x2ff
#define MSR_MC_CTL            0x400
#define MSR_IA32_TSC_DEADLINE 0x6e0
#define MSRS_MAX              1024
#define XSAVE_MIN             4096
#define XSAVE_MAX             (1u << 20)

/* --- as bytes --- */

void vcpu_image_free(struct vcpu_image *i)
{
    free(i->cpuid);
    free(i->xsave);
    free(i->msrs);
    *i = (struct vcpu_image){.cpuid = NULL};
}

/* An array of (n) elements of (size) bytes; loading allocates it with (head) bytes in front. */
static void *array_state(void *array, size_t head, u32 n, size_t size, const char *field,
                         struct state *s)
{
    if (s->loading && !s->error) {
        array = calloc(1, head + (n ? n : 1) * size);
        if (!array)
            state_fail(s, -ENOMEM, field);
    }
    if (!s->error)
        state_bytes(s, field, (u8 *)array + head, n * size);
    return array;
}

void vcpu_image_state(struct vcpu_image *i, bool cpuid_only, struct state *s)
{
    u32 nent = i->cpuid ? i->cpuid->nent : 0;

    STATE(s, i->tsc_khz);
    STATE(s, nent);
    STATE_CHECK(s, nent <= CPUID_ENTRIES_MAX, nent);
    i->cpuid =
        array_state(i->cpuid, sizeof(*i->cpuid), nent, sizeof(i->cpuid->entries[0]), "cpuid", s);
    if (i->cpuid && s->loading)
        i->cpuid->nent = nent;
    if (cpuid_only)
        return;
    STATE(s, i->mp_state);
    STATE(s, i->regs);
    STATE(s, i->sregs);
    STATE(s, i->xcrs);
    STATE(s, i->debugregs);
    STATE(s, i->events);
    STATE(s, i->lapic);
    STATE(s, i->xsave_size);
    STATE_CHECK(s, i->xsave_size >= XSAVE_MIN && i->xsave_size <= XSAVE_MAX, i->xsave_size);
    i->xsave = array_state(i->xsave, 0, i->xsave_size, 1, "xsave", s);
    STATE_BOOL(s, i->has_tsc_offset);
    STATE(s, i->tsc_offset);
    STATE(s, i->tsc);
    STATE(s, i->tsc_deadline);
    STATE(s, i->nr_msrs);
    STATE_CHECK(s, i->nr_msrs <= MSRS_MAX, i->nr_msrs);
    i->msrs = array_state(i->msrs, 0, i->nr_msrs, sizeof(i->msrs[0]), "msrs", s);
}

/* --- out of KVM --- */

static bool msr_read(struct vcpu *v, u32 index, u64 *ret)
{
    struct {
        struct kvm_msrs h;
        struct kvm_msr_entry e;
    } m = {.h.nmsrs = 1, .e.index = index};

    if (v->vm->be->ioctl(v->fd, KVM_GET_MSRS, (unsigned long)&m) != 1)
        return false;
    *ret = m.e.data;
    return true;
}

static bool msr_write(struct vcpu *v, u32 index, u64 data)
{
    struct {
        struct kvm_msrs h;
        struct kvm_msr_entry e;
    } m = {.h.nmsrs = 1, .e = {.index = index, .data = data}};

    return v->vm->be->ioctl(v->fd, KVM_SET_MSRS, (unsigned long)&m) == 1;
}

static void add_msr(struct vcpu *v, struct vcpu_image *i, u32 index)
{
    u64 data;

    if (i->nr_msrs < MSRS_MAX && msr_read(v, index, &data))
        i->msrs[i->nr_msrs++] = (struct kvm_msr_entry){.index = index, .data = data};
}

/* Those of KVM's list that others do not carry: APIC_BASE is SREGS', time comes last of all. */
static int add_listed_msrs(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err)
{
    struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));
    int e;

    if (!list)
        return vmm_fail(err, -ENOMEM, "out of memory");
    list->nmsrs = MSRS_MAX;
    if (v->vm->be->ioctl(v->vm->sys_fd, KVM_GET_MSR_INDEX_LIST, (unsigned long)list) < 0) {
        e = errno;
        free(list);
        return vmm_fail(err, -e, "%s: KVM_GET_MSR_INDEX_LIST failed: %s", v->vm->be->name,
                        strerror(e));
    }
    for (u32 n = 0; n < list->nmsrs; n++) {
        u32 index = list->indices[n];

        if (index != MSR_IA32_TSC && index != MSR_IA32_TSC_DEADLINE && index != MSR_IA32_APICBASE)
            add_msr(v, i, index);
    }
    free(list);
    return 0;
}

/* State that KVM keeps and does not list: memory types, machine-check banks. */
static void add_unlisted_msrs(struct vcpu *v, struct vcpu_image *i)
{
    static const u32 fixed[] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                0x26b, 0x26c, 0x26d, 0x26e, 0x26f, MSR_MTRR_DEF_TYPE};
    u64 mcg_cap = 0;

    for (u32 n = MSR_MTRR_PHYS; n <= MSR_MTRR_PHYS_LAST; n++)
        add_msr(v, i, n);
    for (unsigned n = 0; n < ARRAY_SIZE(fixed); n++)
        add_msr(v, i, fixed[n]);
    if (!msr_read(v, MSR_MCG_CAP, &mcg_cap))
        return;
    add_msr(v, i, MSR_MCG_CTL);
    for (u32 n = 0; n < 4 * (u32)(mcg_cap & 0xff); n++)
        add_msr(v, i, MSR_MC_CTL + n);
}

static int get_msrs(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err)
{
    int rc;

    i->msrs = calloc(MSRS_MAX, sizeof(*i->msrs));
    if (!i->msrs)
        return vmm_fail(err, -ENOMEM, "out of memory");
    rc = add_listed_msrs(v, i, err);
    if (rc)
        return rc;
    add_unlisted_msrs(v, i);
    if (!msr_read(v, MSR_IA32_TSC_DEADLINE, &i->tsc_deadline))
        i->tsc_deadline = 0;
    return 0;
}

/*
 * KVM leaves components that XFD disables out of the image, though the registers still hold them. So XFD is 0 for as
 * long as that takes.
 */
static int get_xsave(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err)
{
    int size = v->vm->be->ioctl(v->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    bool big = size > XSAVE_MIN;
    u64 xfd = 0;
    int rc;

    i->xsave_size = big ? (u32)size : XSAVE_MIN;
    if (i->xsave_size > XSAVE_MAX)
        return vmm_fail(err, -E2BIG, "%s: an XSAVE image of %u bytes", v->vm->be->name,
                        i->xsave_size);
    i->xsave = calloc(1, i->xsave_size);
    if (!i->xsave)
        return vmm_fail(err, -ENOMEM, "out of memory");
    if (msr_read(v, MSR_IA32_XFD, &xfd) && xfd)
        msr_write(v, MSR_IA32_XFD, 0);
    rc = big ? vcpu_ioctl(v, KVM_GET_XSAVE2, i->xsave, "KVM_GET_XSAVE2", err)
             : vcpu_ioctl(v, KVM_GET_XSAVE, i->xsave, "KVM_GET_XSAVE", err);
    if (xfd)
        msr_write(v, MSR_IA32_XFD, xfd);
    return rc;
}

static int get_cpuid(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err)
{
    i->cpuid = calloc(1, sizeof(*i->cpuid) + CPUID_ENTRIES_MAX * sizeof(i->cpuid->entries[0]));
    if (!i->cpuid)
        return vmm_fail(err, -ENOMEM, "out of memory");
    i->cpuid->nent = CPUID_ENTRIES_MAX;
    return vcpu_ioctl(v, KVM_GET_CPUID2, i->cpuid, "KVM_GET_CPUID2", err);
}

static void get_tsc(struct vcpu *v, struct vcpu_image *i)
{
    struct kvm_device_attr attr = {.group = KVM_VCPU_TSC_CTRL,
                                   .attr = KVM_VCPU_TSC_OFFSET,
                                   .addr = (u64)(uintptr_t)&i->tsc_offset};
    int khz = v->vm->be->ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

    i->tsc_khz = khz > 0 ? (u32)khz : 0;
    i->has_tsc_offset = v->vm->be->ioctl(v->fd, KVM_GET_DEVICE_ATTR, (unsigned long)&attr) == 0;
    if (!msr_read(v, MSR_IA32_TSC, &i->tsc))
        i->tsc = 0;
}

/* What is read by one ioctl into one structure. */
#define ROW(request, member)                                                                       \
    {                                                                                              \
        request, #request, offsetof(struct vcpu_image, member)                                     \
    }
static const struct {
    unsigned long request;
    const char *name;
    size_t offset;
} get_rows[] = {
    ROW(KVM_GET_MP_STATE, mp_state), /* first: KVM takes INIT and SIPI in with it */
    ROW(KVM_GET_REGS, regs),           ROW(KVM_GET_SREGS2, sregs), ROW(KVM_GET_XCRS, xcrs),
    ROW(KVM_GET_DEBUGREGS, debugregs), ROW(KVM_GET_LAPIC, lapic),  ROW(KVM_GET_VCPU_EVENTS, events),
};

int vcpu_image_get(struct vcpu *v, struct vcpu_image *i, struct vmm_error *err)
{
    int rc = get_cpuid(v, i, err);

    if (rc == 0)
        rc = get_xsave(v, i, err);
    if (rc == 0)
        rc = get_msrs(v, i, err);
    for (unsigned n = 0; n < ARRAY_SIZE(get_rows) && rc == 0; n++)
        rc =
            vcpu_ioctl(v, get_rows[n].request, (u8 *)i + get_rows[n].offset, get_rows[n].name, err);
    get_tsc(v, i);
    return rc;
}

/* --- into KVM --- */

/* The image may be longer or shorter than this KVM's, as long as what is beyond is not in use. */
static int set_xsave(struct vcpu *v, const struct vcpu_image *i, struct vmm_error *err)
{
    int size = v->vm->be->ioctl(v->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    size_t room = size > (int)i->xsave_size ? (size_t)size : i->xsave_size;
    u8 *image = calloc(1, room);
    int rc;

    if (!image)
        return vmm_fail(err, -ENOMEM, "out of memory");
    memcpy(image, i->xsave, i->xsave_size);
    rc = vcpu_ioctl(v, KVM_SET_XSAVE, image, "KVM_SET_XSAVE", err);
    free(image);
    return rc;
}

/* One that KVM refuses but already has that value is fine. */
static int set_msrs(struct vcpu *v, const struct vcpu_image *i, struct vmm_error *err)
{
    for (u32 n = 0; n < i->nr_msrs; n++) {
        u32 index = i->msrs[n].index;
        u64 data = i->msrs[n].data, now;

        if (!msr_write(v, index, data) && !(msr_read(v, index, &now) && now == data))
            return vmm_fail(err, -EINVAL, "%s does not take MSR 0x%x = 0x%llx on CPU %u",
                            v->vm->be->name, index, (unsigned long long)data, v->index);
    }
    return 0;
}

int vcpu_image_set(struct vcpu *v, const struct vcpu_image *i, struct vmm_error *err)
{
    int rc = vcpu_ioctl(v, KVM_SET_SREGS2, (void *)(uintptr_t)&i->sregs, "KVM_SET_SREGS2", err);

    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_REGS, (void *)(uintptr_t)&i->regs, "KVM_SET_REGS", err);
    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_XCRS, (void *)(uintptr_t)&i->xcrs, "KVM_SET_XCRS", err);
    if (rc == 0)
        rc = set_xsave(v, i, err);
    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_DEBUGREGS, (void *)(uintptr_t)&i->debugregs, "KVM_SET_DEBUGREGS",
                        err);
    return rc ? rc : set_msrs(v, i, err);
}

static int set_tsc(struct vcpu *v, const struct vcpu_image *i, s64 tsc_delta, struct vmm_error *err)
{
    s64 offset = i->tsc_offset + tsc_delta;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (u64)(uintptr_t)&offset};

    if (i->has_tsc_offset &&
        v->vm->be->ioctl(v->fd, KVM_SET_DEVICE_ATTR, (unsigned long)&attr) == 0)
        return 0;
    if (msr_write(v, MSR_IA32_TSC, i->tsc))
        return 0;
    return vmm_fail(err, -EINVAL, "%s does not let the TSC of CPU %u be set", v->vm->be->name,
                    v->index);
}

int vcpu_image_set_time(struct vcpu *v, const struct vcpu_image *i, s64 tsc_delta,
                        struct vmm_error *err)
{
    int rc = set_tsc(v, i, tsc_delta, err);

    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_LAPIC, (void *)(uintptr_t)&i->lapic, "KVM_SET_LAPIC", err);
    if (rc == 0 && i->tsc_deadline && !msr_write(v, MSR_IA32_TSC_DEADLINE, i->tsc_deadline))
        rc = vmm_fail(err, -EINVAL, "%s does not take the timer's deadline of CPU %u",
                      v->vm->be->name, v->index);
    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_VCPU_EVENTS, (void *)(uintptr_t)&i->events,
                        "KVM_SET_VCPU_EVENTS", err);
    if (rc == 0)
        rc = vcpu_ioctl(v, KVM_SET_MP_STATE, (void *)(uintptr_t)&i->mp_state, "KVM_SET_MP_STATE",
                        err);
    return rc;
}
