// SPDX-License-Identifier: MIT
// Which instructions the XSAVE family is, by mnemonic.

#include "cpu/decode/decode.h"
#include "cpu/xstate/ops.h"

#include <errno.h>

struct form {
    op_fn *op;
    u8 flags;
};

static int lower(const struct decoded *d, struct insn *in, const void *arg)
{
    const struct form *f = arg;

    if (!d->has_mem)
        return -ENOENT;
    in->op = f->op;
    in->x[0] = f->flags;
    return 0;
}

#define ROW(mnemonic, op, flags)                                                                   \
    {                                                                                              \
        ZYDIS_MNEMONIC_##mnemonic, lower, &(const struct form)                                     \
        {                                                                                          \
            op, flags                                                                              \
        }                                                                                          \
    }

const struct op_row ops_xsave[] = {
    ROW(FXSAVE, op_fxsave, 0),
    ROW(FXSAVE64, op_fxsave, XS_WIDE),
    ROW(FXRSTOR, op_fxrstor, 0),
    ROW(FXRSTOR64, op_fxrstor, XS_WIDE),
    ROW(XSAVE, op_xsave, 0),
    ROW(XSAVE64, op_xsave, XS_WIDE),
    ROW(XSAVEOPT, op_xsave, XS_OPT),
    ROW(XSAVEOPT64, op_xsave, XS_OPT | XS_WIDE),
    ROW(XSAVEC, op_xsave, XS_COMPACT),
    ROW(XSAVEC64, op_xsave, XS_COMPACT | XS_WIDE),
    ROW(XSAVES, op_xsave, XS_COMPACT | XS_SUPERVISOR),
    ROW(XSAVES64, op_xsave, XS_COMPACT | XS_SUPERVISOR | XS_WIDE),
    ROW(XRSTOR, op_xrstor, 0),
    ROW(XRSTOR64, op_xrstor, XS_WIDE),
    ROW(XRSTORS, op_xrstor, XS_SUPERVISOR),
    ROW(XRSTORS64, op_xrstor, XS_SUPERVISOR | XS_WIDE),
    ROW(LDMXCSR, op_ldmxcsr, 0),
    ROW(STMXCSR, op_stmxcsr, 0),
    ROW(VLDMXCSR, op_ldmxcsr, XS_VEX),
    ROW(VSTMXCSR, op_stmxcsr, XS_VEX),
    {0},
};
