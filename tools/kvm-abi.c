// SPDX-License-Identifier: MIT
// Prints docs/kvm-abi.md from the tables that the KVM layer dispatches by.

#include "kvm/kvm.h"

#include <stdio.h>

static const char *const class_names[KVM_CLASS_COUNT] = {
    [KVM_CLASS_SYSTEM] = "System", [KVM_CLASS_VM] = "VM", [KVM_CLASS_VCPU] = "vCPU"};

static const char *const arg_names[] = {
    [KVM_ARG_NONE] = "none", [KVM_ARG_VALUE] = "number", [KVM_ARG_IN] = "in",
    [KVM_ARG_OUT] = "out", [KVM_ARG_INOUT] = "in and out", [KVM_ARG_VAR] = "variable length"};

static void print_row(const struct kvm_row *r)
{
    printf("### %s\n\n", r->name);
    printf("| Capability | Number | Argument |\n|---|---|---|\n");
    printf("| %s | `%#010x` | %s", r->cap ? r->cap_name : "basic", r->request, arg_names[r->arg]);
    if (r->arg >= KVM_ARG_IN)
        printf(", `%s`, %u bytes", r->type, r->size);
    printf(" |\n\n%s\n\n", r->doc);
}

int main(void)
{
    unsigned n;
    const struct kvm_row *rows = kvm_rows(&n);

    printf("<!-- Printed by tools/kvm-abi.c from src/kvm/ioctl_table.h; do not edit. -->\n\n# The KVM API of uvirt\n\n");
    printf("Requests, structures and results are those of `<linux/kvm.h>`. An ioctl that is not listed fails with "
           "`ENOTTY`, one on a descriptor that is not ours with `EBADF`, a bad pointer with `EFAULT`, and one on an object that "
           "another process made (before a `fork`) with `EIO`.\n\n");
    for (int class = 0; class < KVM_CLASS_COUNT; class++) {
        printf("## %s ioctls\n\n", class_names[class]);
        for (unsigned i = 0; i < n; i++) {
            if ((int)rows[i].class == class)
                print_row(&rows[i]);
        }
    }
    return 0;
}
