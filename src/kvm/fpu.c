// SPDX-License-Identifier: MIT
// Floating-point, vector and XSAVE state at the ABI.

#include "kvm/handlers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int kvm_vcpu_get_fpu(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct cpu_vec *vec = &v->cpu->vec;
    struct kvm_fpu *f = arg;

    memcpy(f->fpr, vec->x87.st, sizeof(f->fpr));
    f->fcw = vec->x87.fcw;
    f->fsw = vec->x87.fsw;
    f->ftwx = vec->x87.ftw;
    f->last_opcode = vec->x87.fop;
    f->last_ip = vec->x87.fip;
    f->last_dp = vec->x87.fdp;
    for (int i = 0; i < 16; i++)
        memcpy(f->xmm[i], vec->zmm[i], 16);
    f->mxcsr = vec->x87.mxcsr;
    return 0;
}

int kvm_vcpu_set_fpu(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct cpu_vec *vec = &v->cpu->vec;
    const struct kvm_fpu *f = arg;

    memcpy(vec->x87.st, f->fpr, sizeof(f->fpr));
    vec->x87.fcw = f->fcw;
    vec->x87.fsw = f->fsw;
    vec->x87.ftw = f->ftwx;
    vec->x87.fop = f->last_opcode;
    vec->x87.fip = f->last_ip;
    vec->x87.fdp = f->last_dp;
    for (int i = 0; i < 16; i++)
        memcpy(vec->zmm[i], f->xmm[i], 16);
    return 0; /* KVM leaves MXCSR alone here */
}

/* Intel's layout needs most, and no guest's areas lie beyond it: layout.h. */
u32 kvm_vcpu_xsave_size(const struct kvm_vcpu *v)
{
    u32 size;

    if (!(v->cpu->cpuid_xcr0 & XCR0_XTILEDATA))
        return sizeof(struct kvm_xsave);
    size = xstate_size(v->cpu->cpuid_xcr0, false);
    return size > sizeof(struct kvm_xsave) ? size : sizeof(struct kvm_xsave);
}

/* The image in (size) bytes, and zeros up to (room). */
static int xsave_out(struct kvm_vcpu *v, unsigned long to, u32 size, u32 room)
{
    void *image = calloc(1, room);
    int rc;

    if (!image)
        return -ENOMEM;
    xstate_get(v->cpu, image, size);
    rc = kvm_copy_out(to, image, room);
    free(image);
    return rc;
}

static int xsave_in(struct kvm_vcpu *v, unsigned long from, u32 size)
{
    void *image = malloc(size);
    int rc;

    if (!image)
        return -ENOMEM;
    rc = kvm_copy_in(image, from, size);
    if (!rc)
        rc = xstate_set(v->cpu, image, size);
    free(image);
    return rc;
}

int kvm_vcpu_get_xsave(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    if (kvm_vcpu_xsave_size(v) > sizeof(struct kvm_xsave))
        return -EINVAL; /* the image would be cut: KVM_GET_XSAVE2 */
    return xsave_out(v, raw, sizeof(struct kvm_xsave), sizeof(struct kvm_xsave));
}

int kvm_vcpu_get_xsave2(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return xsave_out(v, raw, kvm_vcpu_xsave_size(v), kvm_vcpu_xsave_size(v));
}

int kvm_vcpu_set_xsave(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return xsave_in(v, raw, kvm_vcpu_xsave_size(v));
}

int kvm_vcpu_get_xsave_extension(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return xsave_out(v, raw, kvm_vcpu_xsave_size(v), sizeof(struct kvm_xsave_extension));
}

int kvm_vcpu_set_xsave_extension(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    return xsave_in(v, raw, sizeof(struct kvm_xsave_extension));
}

int kvm_vcpu_get_xcrs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    struct kvm_xcrs *x = arg;

    x->nr_xcrs = 1;
    x->xcrs[0].xcr = 0;
    x->xcrs[0].value = v->cpu->xcr0;
    return 0;
}

int kvm_vcpu_set_xcrs(struct kvm_vcpu *v, void *arg, unsigned long raw)
{
    const struct kvm_xcrs *x = arg;
    struct cpu_event exc = v->cpu->exc;
    int rc = 0;

    if (x->nr_xcrs > KVM_MAX_XCRS || x->flags)
        return -EINVAL;
    for (u32 i = 0; i < x->nr_xcrs; i++) {
        if (x->xcrs[i].xcr == 0) {
            rc = cpu_xcr0_set(v->cpu, x->xcrs[i].value) < 0 ? -EINVAL : 0;
            break;
        }
    }
    v->cpu->exc = exc;
    return rc;
}
