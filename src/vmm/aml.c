// SPDX-License-Identifier: MIT
// AML byte codes (ACPI 6.4, 20.2) and resource descriptors (6.4).
#include "vmm/aml.h"

#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_EXT = 0x5b,
    OP_EXT_DEVICE = 0x82,
};

#define PKG_LENGTH_BYTES 3 /* always the three-byte form: room for 1 MiB, patched at the end */

void aml_init(struct aml *a, void *buf, size_t size)
{
    *a = (struct aml){.buf = buf, .size = size};
}

static void put(struct aml *a, const void *data, size_t len)
{
    if (a->overflow || a->size - a->len < len) {
        a->overflow = true;
        return;
    }
    memcpy(a->buf + a->len, data, len);
    a->len += len;
}

static void put8(struct aml *a, u8 v)
{
    put(a, &v, 1);
}

static void put_name(struct aml *a, const char *name)
{
    char seg[4] = {'_', '_', '_', '_'};

    memcpy(seg, name, strnlen(name, 4));
    put(a, seg, 4);
}

static void put_int(struct aml *a, u64 v)
{
    if (v <= 1) {
        put8(a, v ? OP_ONE : OP_ZERO);
    } else if (v <= UINT8_MAX) {
        put8(a, OP_BYTE);
        put(a, &v, 1);
    } else if (v <= UINT16_MAX) {
        put8(a, OP_WORD);
        put(a, &v, 2);
    } else if (v <= UINT32_MAX) {
        put8(a, OP_DWORD);
        put(a, &v, 4);
    } else {
        put8(a, OP_QWORD);
        put(a, &v, 8);
    }
}

static void open_package(struct aml *a)
{
    u8 zero[PKG_LENGTH_BYTES] = {0};

    if (a->depth == AML_DEPTH_MAX) {
        a->overflow = true;
        return;
    }
    a->open[a->depth++] = a->len;
    put(a, zero, sizeof(zero));
}

void aml_end(struct aml *a)
{
    size_t at, len;

    if (a->overflow || !a->depth)
        return;
    at = a->open[--a->depth];
    len = a->len - at;                     /* counts itself */
    a->buf[at] = (u8)(0x80 | (len & 0xf)); /* two more bytes follow */
    a->buf[at + 1] = (u8)(len >> 4);
    a->buf[at + 2] = (u8)(len >> 12);
}

void aml_scope(struct aml *a, const char *name)
{
    put8(a, OP_SCOPE);
    open_package(a);
    put8(a, '\\');
    put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
    put8(a, OP_EXT);
    put8(a, OP_EXT_DEVICE);
    open_package(a);
    put_name(a, name);
}

void aml_name_int(struct aml *a, const char *name, u64 v)
{
    put8(a, OP_NAME);
    put_name(a, name);
    put_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *v)
{
    put8(a, OP_NAME);
    put_name(a, name);
    put8(a, OP_STRING);
    put(a, v, strlen(v) + 1);
}

static u32 hex_digit(char c)
{
    return (u32)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits and four digits, big-endian (ACPI 6.4, 19.3.4). */
void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
    u32 v = ((u32)(id[0] - 0x40) & 0x1f) << 26 | ((u32)(id[1] - 0x40) & 0x1f) << 21 |
            ((u32)(id[2] - 0x40) & 0x1f) << 16;

    for (unsigned i = 0; i < 4; i++)
        v |= hex_digit(id[3 + i]) << (12 - 4 * i);
    v = __builtin_bswap32(v);
    put8(a, OP_NAME);
    put_name(a, name);
    put8(a, OP_DWORD);
    put(a, &v, 4);
}

void aml_name_bytes(struct aml *a, const char *name, const u8 *v, unsigned n)
{
    put8(a, OP_NAME);
    put_name(a, name);
    put8(a, OP_PACKAGE);
    open_package(a);
    put8(a, (u8)n);
    for (unsigned i = 0; i < n; i++)
        put_int(a, v[i]);
    aml_end(a);
}

static void put_crs(struct aml *a, const u8 *res, size_t len)
{
    static const u8 end_tag[2] = {0x79, 0}; /* checksum 0: not checked */

    put8(a, OP_NAME);
    put_name(a, "_CRS");
    put8(a, OP_BUFFER);
    open_package(a);
    put_int(a, len + sizeof(end_tag));
    put(a, res, len);
    put(a, end_tag, sizeof(end_tag));
    aml_end(a);
}

void aml_crs_io_irq(struct aml *a, u16 port, u8 len, u8 irq)
{
    const u8 lo = (u8)port, hi = (u8)(port >> 8);
    const u16 mask = (u16)(1u << irq);
    const u8 res[] = {
        0x47, 1,        lo,
        hi,   lo,       hi,
        1,    len,                       /* I/O port: 16-bit decode, min, max, alignment, length */
        0x22, (u8)mask, (u8)(mask >> 8), /* IRQ: edge, active high */
    };

    put_crs(a, res, sizeof(res));
}

void aml_crs_memory_gsi(struct aml *a, u32 base, u32 len, u32 gsi)
{
    u8 res[12 + 9] = {0x86, 9, 0, 1};               /* 32-bit fixed memory, read/write */
    static const u8 irq[5] = {0x89, 6, 0, 0x01, 1}; /* extended IRQ: consumer, level, active high */

    memcpy(res + 4, &base, 4);
    memcpy(res + 8, &len, 4);
    memcpy(res + 12, irq, sizeof(irq));
    memcpy(res + 17, &gsi, 4);
    put_crs(a, res, sizeof(res));
}
