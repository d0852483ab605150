// SPDX-License-Identifier: MIT
// The public calls, and the way of an ioctl: descriptor, row, copy in, handler, copy out.

#include "uvirt/kvm.h"

#include "kvm/handlers.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define ARG_MAX_SIZE 1024 /* of arguments copied here; the handler copies what is longer */

/* Names are made at the first level, before the arguments are expanded. */
#define ROW(class_, member, number, name_, arg_, type_, type_name, fn_, cap_, cap_name_, doc_)       \
    {.class = class_, .request = (u32)(number), .name = name_, .arg = KVM_ARG_##arg_,              \
     .type = type_name, .size = sizeof(type_), .cap = cap_, .cap_name = cap_name_, .doc = doc_,    \
     .fn.member = fn_},
#define KVM_ROW_SYSTEM(r, a, t, f, c, d) ROW(KVM_CLASS_SYSTEM, system, r, #r, a, t, #t, f, c, #c, d)
#define KVM_ROW_VM(r, a, t, f, c, d) ROW(KVM_CLASS_VM, vm, r, #r, a, t, #t, f, c, #c, d)
#define KVM_ROW_VCPU(r, a, t, f, c, d) ROW(KVM_CLASS_VCPU, vcpu, r, #r, a, t, #t, f, c, #c, d)

static const struct kvm_row rows[] = {
#include "kvm/ioctl_table.h"
};

static struct {
    kvm_trace_fn fn;
    void *arg;
} trace;

const struct kvm_row *kvm_rows(unsigned *count)
{
    *count = ARRAY_SIZE(rows);
    return rows;
}

void kvm_trace_set(kvm_trace_fn fn, void *arg)
{
    trace.arg = arg;
    trace.fn = fn;
}

static const struct kvm_row *find_row(enum kvm_class class, u32 request)
{
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (rows[i].request == request && rows[i].class == class)
            return &rows[i];
    }
    return NULL;
}

static int call(struct kvm_object *o, const struct kvm_row *row, void *arg, unsigned long raw)
{
    struct kvm_vcpu *v;
    int rc;

    switch (row->class) {
    case KVM_CLASS_SYSTEM:
        return row->fn.system(arg, raw);
    case KVM_CLASS_VM:
        return row->fn.vm(kvm_vm_of(o), arg, raw);
    default:
        v = kvm_vcpu_of(o);
        pthread_mutex_lock(&v->mutex);
        rc = row->fn.vcpu(v, arg, raw);
        pthread_mutex_unlock(&v->mutex);
        return rc;
    }
}

static int dispatch(struct kvm_object *o, const struct kvm_row *row, unsigned long raw)
{
    _Alignas(16) u8 buf[ARG_MAX_SIZE];
    bool in = row->arg == KVM_ARG_IN || row->arg == KVM_ARG_INOUT;
    bool out = row->arg == KVM_ARG_OUT || row->arg == KVM_ARG_INOUT;
    int rc;

    if (in && kvm_copy_in(buf, raw, row->size))
        return -EFAULT;
    if (row->arg == KVM_ARG_OUT)
        memset(buf, 0, row->size);
    rc = call(o, row, buf, raw);
    if (rc >= 0 && out && kvm_copy_out(raw, buf, row->size))
        return -EFAULT;
    return rc;
}

static int ioctl_on(int fd, u32 request, unsigned long raw)
{
    struct kvm_object *o = kvm_fd_get(fd, request == KVM_RUN);
    const struct kvm_row *row;
    kvm_trace_fn fn = trace.fn;
    int rc;

    if (!o)
        return -EBADF;
    row = find_row(o->class, request);
    if (kvm_object_foreign(o))
        rc = -EIO;
    else
        rc = row ? dispatch(o, row, raw) : -ENOTTY;
    if (fn)
        fn(trace.arg, fd, request, row, rc);
    kvm_object_put(o);
    return rc;
}

static int result(int rc)
{
    if (rc >= 0)
        return rc;
    errno = -rc;
    return -1;
}

int uvirt_kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
    return result(ioctl_on(fd, (u32)request, arg));
}

int uvirt_kvm_open(void)
{
    return result(kvm_system_open());
}

void *uvirt_kvm_mmap(size_t len, int fd)
{
    return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
}

int uvirt_kvm_close(int fd)
{
    return result(kvm_fd_close(fd));
}
