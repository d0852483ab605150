// SPDX-License-Identifier: MIT
// Which vector instructions this host can run.
#pragma once

#include "base/types.h"

/* May an instruction of (isa_set), a ZydisISASet, be run on this host? False for every set that src/cpu/vec does not do. */
bool host_runs(u16 isa_set);

bool host_has_avx(void);
bool host_has_avx512(void); /* F and BW: 64-byte registers and 64-bit masks can be moved */
