// SPDX-License-Identifier: MIT
// One translation in the making, and the parts that make it.
#pragma once

#include "cpu/jit/code.h"

/* How an insn is translated. */
enum xlat_kind {
    XLAT_CALL, /* by calling its op */
    XLAT_LEAVE, /* by calling its op, and translated code ends there: it may change what the block's key says */
    XLAT_TAIL, /* by calling its op; goes on wherever that leads, maybe in another view of the TLB */
    XLAT_CLI,
    XLAT_STI,
    XLAT_NATIVE, /* by the host's own instruction on mapped operands */
    XLAT_VEC,    /* the same, with vector state */
    XLAT_X87,
    XLAT_X87_CONTROL, /* the same, with x87 state; control: FOP, FIP and FDP stay */
    XLAT_LEA,
    XLAT_NOTHING,
    XLAT_PUSH,
    XLAT_POP,
    XLAT_LEAVE_FRAME,
    XLAT_JCC,
    XLAT_JMP,
    XLAT_CALL_REL,
    XLAT_JMP_INDIRECT,
    XLAT_CALL_INDIRECT,
    XLAT_RET,
    XLAT_AMX,
};

/* What an insn does with the arithmetic flags, by RFLAGS bit. */
struct xlat_flags {
    u16 read;          /* may be read */
    u16 kill;          /* certainly overwritten */
    u16 touch;         /* may be changed */
    u16 before, after; /* live there: some path may read them before they are overwritten */
};

/* A slow path that is still to be emitted. */
struct xlat_slow {
    u32 from[4]; /* the jumps that lead there */
    u8 nfrom;
    u8 index; /* of the insn */
    u8 live;  /* JIT_LIVE_*: state that hot code takes to be in registers */
    bool stack, restore_flags;
    u32 resume; /* back in hot code */
};

#define XLAT_SITES (BLOCK_INSNS + 1) /* one for each insn, and the block's end */

struct xlat {
    struct jit *j;
    struct block *b;
    struct jit_page *page;
    struct jit_code *code;
    struct asm_buf *a;
    const struct decoded *d; /* of each insn of (b) */
    u8 kind[BLOCK_INSNS];
    struct xlat_flags flags[BLOCK_INSNS + 1];
    u16 self_in; /* flags live at the block's start */
    unsigned i;  /* the insn being translated */
    u32 view;    /* GS offset of the TLB view */
    u8 live;     /* JIT_LIVE_*: known to be so */
    /* Where the guest's flags are good at this point: neither when they are dead. */
    bool in_reg, in_mem;
    struct xlat_slow slow[BLOCK_INSNS];
    unsigned nslow;
};

/* --- flags.c --- */

/* Fill x->flags and x->self_in. */
void xlat_flags_analyse(struct xlat *x);

/* Host RFLAGS are about to be clobbered before the insn has run: put guest flags that are live now into memory. */
void xlat_flags_spill(struct xlat *x, u16 live);

/* Have guest flags in RFLAGS. (scratch): free for it. */
void xlat_flags_load(struct xlat *x, unsigned scratch);

/* The insn has changed flags in RFLAGS. */
static inline void xlat_flags_changed(struct xlat *x)
{
    x->in_reg = true;
    x->in_mem = false;
}

/* The code alone: AH:AL dance around RAX. */
void xlat_emit_flags_save(struct asm_buf *a, unsigned scratch);
void xlat_emit_flags_load(struct asm_buf *a, unsigned scratch);

/* --- mem.c --- */

/* A guest memory operand after its check, as the host addresses it. */
struct xlat_mem {
    u8 base, index; /* host registers; REG_ZERO: no index */
    s32 disp;
    u8 spare; /* the scratch register that is still free */
};

/* Effective address of the current insn's memory operand into (dst), cut to 32 bits unless (wide). Clobbers T0, T1. */
void xlat_mem_ea(struct xlat *x, unsigned dst, bool wide);

/*
 * Check an access of (size) bytes to the current insn's memory operand, (align) a power of two that its
 * address must be a multiple of. Flags are spilled. What misses goes to the insn's slow path.
 */
void xlat_mem_check(struct xlat *x, unsigned size, unsigned align, bool write, struct xlat_mem *m);

/* The same for 8 bytes at RSP + (disp). The address is then [HOST_SP + T1 + disp]. */
void xlat_stack_check(struct xlat *x, s32 disp, bool write);

/* The current insn's slow path: its op is called instead. One more jump leads there. */
void xlat_slow_from(struct xlat *x, u32 at);

/* Where the slow path comes back to: here. */
void xlat_slow_resume(struct xlat *x);

/* --- encode.c --- */

/* Operands of a re-encoded instruction: host registers. */
struct xlat_operands {
    u8 reg, rm, vvvv, opcode; /* for the fields that hold a general register operand */
    const struct xlat_mem *mem;
};

/* Emit (d) with these operands. AH … BH have no encoding beside memory operands or HOST_SP: not for those. */
void xlat_encode(struct asm_buf *a, const struct decoded *d, const struct xlat_operands *o);

/* --- native.c --- */

enum xlat_kind xlat_classify(const struct xlat *x, const struct decoded *d, const struct insn *in);
void xlat_native(struct xlat *x);
void xlat_lea(struct xlat *x);

/* --- stack.c --- */
void xlat_push(struct xlat *x);
void xlat_pop(struct xlat *x);
void xlat_leave_frame(struct xlat *x);

/* --- amx.c --- */
bool xlat_amx_fits(const struct insn *in);
void xlat_amx(struct xlat *x);

/* --- flow.c --- */
void xlat_jcc(struct xlat *x);
void xlat_jmp(struct xlat *x);
void xlat_call(struct xlat *x);
void xlat_jmp_indirect(struct xlat *x);
void xlat_call_indirect(struct xlat *x);
void xlat_ret(struct xlat *x);
/* Flags that the code at page offset (off), which may lie in other pages, may read. */
u16 xlat_target_live(const struct xlat *x, s64 off);
/* The block ends without a branch: go on after its last insn, at page offset (off). */
void xlat_continue(struct xlat *x, u32 off);

/* Call the current insn's op here, and go on after it; or leave translated code; or go where it leads. */
enum xlat_then { THEN_NEXT, THEN_LEAVE, THEN_TAIL };
void xlat_op(struct xlat *x, enum xlat_then then);

/* CLI, STI at CPL 0. */
void xlat_if_flag(struct xlat *x, bool set);
