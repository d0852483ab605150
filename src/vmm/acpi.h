// SPDX-License-Identifier: MIT
// The ACPI tables that describe the machine to the guest.
#pragma once

#include "base/types.h"

struct acpi_config {
    unsigned cpus;   /* APIC ids 0 … cpus - 1 */
    unsigned virtio; /* virtio-mmio devices, see vmm/board.h for where they are */
};

/*
 * Write RSDP, XSDT, FADT, FACS, DSDT and MADT to (buf), which the guest sees at (base), 16-byte
 * aligned and below 4 GiB. The RSDP comes first. Returns the bytes used, or -ENOSPC.
 */
long acpi_build(const struct acpi_config *cfg, void *buf, size_t size, u32 base);
