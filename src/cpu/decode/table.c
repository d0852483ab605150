// SPDX-License-Identifier: MIT
// The index from mnemonic to the family that implements it.

#include "cpu/decode/decode.h"

#include <pthread.h>

static const struct op_row *const families[] = {
    ops_alu,    ops_mov,   ops_shift, ops_muldiv,  ops_bit,     ops_atomic,  ops_string, ops_stack, ops_flow,
    ops_far,    ops_syscall, ops_segment, ops_control, ops_io, ops_msr, ops_xsave,  ops_amx,   ops_vec,
};

static const struct op_row *index_by_mnemonic[ZYDIS_MNEMONIC_MAX_VALUE + 1];
static pthread_once_t index_once = PTHREAD_ONCE_INIT;

static void index_init(void)
{
    for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
        for (const struct op_row *row = families[f]; row->lower; row++) {
            if (!index_by_mnemonic[row->mnemonic])
                index_by_mnemonic[row->mnemonic] = row;
        }
    }
}

const struct op_row *decode_row(u16 mnemonic)
{
    pthread_once(&index_once, index_init);
    return mnemonic <= ZYDIS_MNEMONIC_MAX_VALUE ? index_by_mnemonic[mnemonic] : NULL;
}
