// SPDX-License-Identifier: MIT
// A writer of ACPI Machine Language: just the terms that a static device tree needs (ACPI 6.4, 20).
#pragma once

#include "base/types.h"

#define AML_DEPTH_MAX 8

/* Terms are appended to (buf). Once it is full, (overflow) is set and nothing more is written. */
struct aml {
    u8 *buf;
    size_t size, len;
    bool overflow;
    size_t open[AML_DEPTH_MAX]; /* where the lengths of the open packages stand */
    unsigned depth;
};

void aml_init(struct aml *a, void *buf, size_t size);

/* Scope(\name), Device(name): open until aml_end(). (name) is one four-letter segment. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_end(struct aml *a);

/* Name(name, value) with an integer, a string, an EISA id ("PNP0501"), or a package of bytes. */
void aml_name_int(struct aml *a, const char *name, u64 v);
void aml_name_string(struct aml *a, const char *name, const char *v);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);
void aml_name_bytes(struct aml *a, const char *name, const u8 *v, unsigned n);

/* Name(_CRS, ResourceTemplate () {...}): either an ISA port range and IRQ, or memory and a GSI. */
void aml_crs_io_irq(struct aml *a, u16 port, u8 len, u8 irq);
void aml_crs_memory_gsi(struct aml *a, u32 base, u32 len, u32 gsi);
