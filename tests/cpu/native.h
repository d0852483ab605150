// SPDX-License-Identifier: MIT
// The host CPU as an oracle: one instruction run natively from a given state, faults caught.
#pragma once

#include "base/types.h"

/*
 * Everything lies below 2 GiB at fixed addresses, so that the code around the
 * instruction reaches its data by 32-bit absolute addresses and needs no register.
 *
 *   NATIVE_BASE           code: prologue, the instruction at NATIVE_INSN, epilogues
 *   NATIVE_BASE + 0x1000  struct native
 *   NATIVE_SCRATCH        memory for the instruction to work on
 */
#define NATIVE_BASE         0x20000000ul
#define NATIVE_INSN         (NATIVE_BASE + 0x400)
#define NATIVE_NEAR         (NATIVE_INSN - 0x20) /* a branch target, told apart by NATIVE_JUMPED */
#define NATIVE_SCRATCH      (NATIVE_BASE + 0x10000)
#define NATIVE_SCRATCH_SIZE 0x4000ul

enum native_where { NATIVE_WENT_ON, NATIVE_JUMPED, NATIVE_FAULTED };

struct native {
    u64 in[16], in_flags;
    u64 out[16], out_flags;
    u64 host_rsp;
    u32 where, sig;
};
#define NATIVE ((struct native *)(NATIVE_BASE + 0x1000))

/* Make the arena and catch SIGFPE, SIGSEGV, SIGILL, SIGBUS. False: no such memory on this host. */
bool native_init(void);

/* Put the instruction in place, followed by the way out. */
void native_set(const u8 *insn, unsigned len);

/* Run it: (in), (in_flags) to (out), (out_flags), (where), and (sig) when it faulted. */
void native_run(void);
