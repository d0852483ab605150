// SPDX-License-Identifier: MIT
// A memory of instruction forms: what differs from a form seen before only in displacement and immediate is not decoded again.
#pragma once

#include "cpu/decode/decode.h"

/* Where an instruction's displacement and immediate are. */
struct decode_fields {
    bool plain; /* nothing in struct decoded depends on their values, but the values */
    u8 disp_off, disp_size, imm_off, imm_size; /* bytes; size 0: there is none */
    u8 imm_opnd; /* the operand that shows the immediate, or one that is not there */
    bool imm_signed;
};

/* decode_one() that also fills (f) on success. decode.c. */
int decode_with_fields(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32,
                       struct decoded *d, bool *gp, struct decode_fields *f);

struct decode_forms;

/* One for each vCPU, for its thread alone. 0 or -ENOMEM. */
int decode_forms_create(struct decode_forms **ret);
void decode_forms_free(struct decode_forms *m);

/* decode_one() for 64-bit mode. (m): NULL is fine, and slow. form.c. */
int decode_by_form(struct decode_forms *m, const u8 *bytes, unsigned avail, struct decoded *d,
                   bool *gp);

/* decode_insn() for 64-bit mode that leaves what it decoded in (d); d->len is 0 if that is no instruction. decode.c. */
int decode_insn64(struct decode_forms *m, const u8 *bytes, unsigned avail, unsigned off,
                  struct decoded *d, struct insn *in);
