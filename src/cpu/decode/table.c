// SPDX-License-Identifier: MIT
// The index from mnemonic to the families that implement it.

#include "cpu/decode/decode.h"

#include <pthread.h>

static const struct op_row *const families[] = {
    ops_alu,    ops_mov,   ops_shift, ops_muldiv,  ops_bit,     ops_atomic,  ops_string, ops_stack, ops_flow,
    ops_far,    ops_syscall, ops_segment, ops_control, ops_io, ops_msr, ops_xsave,  ops_amx,   ops_vec,
};

/* A mnemonic such as MOV has rows in more than one family; each lowerer knows its own forms. */
#define ROWS_MAX 4

static const struct op_row *index_by_mnemonic[MNEMONIC_COUNT][ROWS_MAX];
static pthread_once_t index_once = PTHREAD_ONCE_INIT;

static void index_add(const struct op_row *row)
{
    for (size_t i = 0; i < ROWS_MAX; i++) {
        if (!index_by_mnemonic[row->mnemonic][i]) {
            index_by_mnemonic[row->mnemonic][i] = row;
            return;
        }
    }
}

static void index_init(void)
{
    for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
        for (const struct op_row *row = families[f]; row->lower; row++)
            index_add(row);
    }
}

const struct op_row *const *decode_rows(u16 mnemonic)
{
    static const struct op_row *const none[1];

    pthread_once(&index_once, index_init);
    return mnemonic < MNEMONIC_COUNT ? index_by_mnemonic[mnemonic] : none;
}

const struct op_row *decode_row(u16 mnemonic)
{
    return decode_rows(mnemonic)[0];
}

int decode_lower(const struct decoded *d, struct insn *in)
{
    const struct op_row *const *row = decode_rows(d->mnemonic);
    const struct insn common = *in;
    int rc;

    for (unsigned i = 0; i < ROWS_MAX && row[i]; i++) {
        rc = row[i]->lower(d, in, row[i]->arg);
        if (!rc)
            return 0;
        *in = common;
    }
    return vec_lower(d, in);
}
