// SPDX-License-Identifier: MIT
// Instruction forms: keyed by prefixes, opcode, ModRM and SIB, each remembers what Zydis made of the first instruction of it.

/*
 * Theory of operation
 *
 * The key is the instruction up to its displacement. Where that begins is found by the plain rules of the encoding
 * (SDM 2A 2.1, 2.2), without knowing any instruction but those that have no ModRM byte. For one that
 * the rules get wrong the key has a byte too many, which does no harm: it is more special than need be.
 *
 * How long a key is follows from the bytes in it, so no key is the beginning of another, and zeroes may follow it.
 * A hit is a copy of the form with displacement, immediate and bytes put in. EVEX, whose displacements are scaled,
 * and what else is not plain goes to Zydis each time.
 */

#include "cpu/decode/form.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FORMS   4096u
#define KEY_MAX 8

struct form {
    u64 key;
    struct decode_fields fields; /* plain: the entry is in use */
    struct decoded d;
};

struct decode_forms {
    struct form form[FORMS];
};

int decode_forms_create(struct decode_forms **ret)
{
    *ret = calloc(1, sizeof(**ret));
    return *ret ? 0 : -ENOMEM;
}

void decode_forms_free(struct decode_forms *m)
{
    free(m);
}

/* What a byte is, in the place of an opcode of the one-byte map. */
enum {
    MODRM,
    ALONE /* no ModRM follows */,
    PREFIX,
    REX,
    ESC_0F,
    VEX2,
    VEX3,
    OTHER /* not for us */
};

/* clang-format off */
static const u8 one_byte[256] = {
#define ROW8(a) [(a) + 4] = ALONE, [(a) + 5] = ALONE
    ROW8(0x00), ROW8(0x08), ROW8(0x10), ROW8(0x18), ROW8(0x20), ROW8(0x28), ROW8(0x30), ROW8(0x38),
#undef ROW8
    [0x0f] = ESC_0F,
    [0x26] = PREFIX, [0x2e] = PREFIX, [0x36] = PREFIX, [0x3e] = PREFIX,
    [0x40 ... 0x4f] = REX,
    [0x50 ... 0x5f] = ALONE,
    [0x62] = OTHER,
    [0x64 ... 0x67] = PREFIX,
    [0x68] = ALONE, [0x6a] = ALONE, [0x6c ... 0x6f] = ALONE,
    [0x70 ... 0x7f] = ALONE,
    [0x8f] = OTHER,
    [0x90 ... 0x99] = ALONE, [0x9a] = OTHER, [0x9b ... 0x9f] = ALONE,
    [0xa0 ... 0xa3] = OTHER, [0xa4 ... 0xaf] = ALONE,
    [0xb0 ... 0xbf] = ALONE,
    [0xc2 ... 0xc3] = ALONE, [0xc4] = VEX3, [0xc5] = VEX2, [0xc8] = OTHER, [0xc9 ... 0xcd] = ALONE, [0xcf] = ALONE,
    [0xe0 ... 0xe9] = ALONE, [0xea] = OTHER, [0xeb ... 0xef] = ALONE,
    [0xf0] = PREFIX, [0xf1] = ALONE, [0xf2 ... 0xf3] = PREFIX, [0xf4 ... 0xf5] = ALONE, [0xf8 ... 0xfd] = ALONE,
};
/* clang-format on */

/* The same of the map behind 0F, where 38 and 3A lead to others, all of whose opcodes have ModRM. */
static bool alone_0f(u8 op)
{
    return (op >= 0x80 && op <= 0x8f) || (op >= 0xc8 && op <= 0xcf) || op == 0x05 || op == 0x07 ||
           op == 0x0b || (op >= 0x30 && op <= 0x37) || op == 0xa2;
}

/* Bytes up to and with the opcode; (*modrm): there may be one behind. 0: not for us. */
static unsigned opcode_end(const u8 *b, unsigned avail, bool *modrm)
{
    unsigned i = 0;

    while (i < avail && one_byte[b[i]] == PREFIX)
        i++;
    if (i < avail && one_byte[b[i]] == REX)
        i++;
    if (i + 3 >= avail)
        return 0;
    *modrm = true;
    switch (one_byte[b[i]]) {
    case ALONE:
        *modrm = false;
        return i + 1;
    case MODRM:
        return i + 1;
    case VEX2:
        return i + 3;
    case VEX3:
        return i + 4;
    case ESC_0F:
        if (b[i + 1] == 0x0f)
            return 0;
        if (b[i + 1] == 0x38 || b[i + 1] == 0x3a)
            return i + 3;
        *modrm = !alone_0f(b[i + 1]);
        return i + 2;
    default:
        return 0;
    }
}

/* False: not for us, or it may not be all there. */
static bool key_of(const u8 *b, unsigned avail, u64 *key)
{
    bool modrm;
    unsigned n = opcode_end(b, avail, &modrm);

    if (!n || n + 2 > avail)
        return false;
    if (modrm) {
        u8 m = b[n++];

        n += m < 0xc0 && (m & 7) == 4; /* SIB */
    }
    if (n > KEY_MAX)
        return false;
    *key = 0;
    memcpy(key, b, n);
    return true;
}

/* (size) bytes at (b). */
static s64 number(const u8 *b, unsigned size, bool is_signed)
{
    unsigned unused = 64 - 8 * size;
    u64 v = 0;

    memcpy(&v, b, size);
    return is_signed ? (s64)(v << unused) >> unused : (s64)v;
}

static void put_in(const struct form *f, const u8 *bytes, struct decoded *d)
{
    *d = f->d;
    memcpy(d->bytes, bytes, d->len);
    if (f->fields.disp_size)
        d->mem_disp = number(bytes + f->fields.disp_off, f->fields.disp_size, true);
    if (f->fields.imm_size && f->fields.imm_opnd < d->nopnd)
        d->op[f->fields.imm_opnd].imm =
            number(bytes + f->fields.imm_off, f->fields.imm_size, f->fields.imm_signed);
}

int decode_by_form(struct decode_forms *m, const u8 *bytes, unsigned avail, struct decoded *d,
                   bool *gp)
{
    struct decode_fields fields;
    struct form *f;
    u64 key;
    int rc;

    if (!m || !key_of(bytes, avail, &key))
        return decode_one(bytes, avail, MODE_64, true, d, gp);
    f = &m->form[key * 0x9e3779b97f4a7c15ull >> 52];
    if (likely(f->key == key && f->fields.plain && f->d.len <= avail)) {
        put_in(f, bytes, d);
        *gp = false;
        return 0;
    }
    rc = decode_with_fields(bytes, avail, MODE_64, true, d, gp, &fields);
    if (!rc && fields.plain)
        *f = (struct form){key, fields, *d};
    return rc;
}
_Static_assert(FORMS == 1u << (64 - 52), "the hash above");
