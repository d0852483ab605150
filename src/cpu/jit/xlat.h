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
    XLAT_DIVIDE,
    XLAT_CPUID,
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

/* A slow path that is still to be emitted: of a careful insn its op, of another its careful twin. */
struct xlat_slow {
    u32 from[6]; /* the jumps that lead there */
    u8 nfrom;
    u8 index; /* of the insn */
    u8 live;  /* JIT_LIVE_*: state that hot code takes to be in registers */
    bool stack, restore_flags;
    u32 resume; /* back in hot code */
    u32 at;     /* where it has been emitted */
};

/* What a check was about whose entry of the TLB, or window, is to be filled before it is tried again. */
enum xlat_place { PLACE_OPERAND, PLACE_STACK, PLACE_STREAM };

struct xlat_miss {
    u32 from;  /* the jump that leads there */
    u32 retry; /* the check */
    u8 place;
    u8 index; /* of the insn, or the stream's group */
    u8 slow; /* index of the slow path if that did not help; XLAT_NONE: the careful twin of the first insn */
    bool write, window;
    u16 size;
    s32 disp; /* from the operand's registers, or RSP */
};

/* Where the careful twin of an insn starts, and where it takes guest flags to be. */
struct xlat_twin {
    u32 at;
    bool in_reg;
};

/* How an insn's access to guest memory is checked. */
enum xlat_how {
    ACCESS_OWN,   /* by itself */
    ACCESS_LEAD,  /* together with others of its group that follow */
    ACCESS_MEMBER /* it has been */
};

/* An insn's two accesses: its memory operand, and what it pushes or pops. */
enum { ACCESS_OPERAND, ACCESS_STACK, ACCESSES };

struct xlat_access {
    u8 how;
    u8 group;
    s32 off; /* from the origin of its group's address */
};

/* Accesses at constant distances from one another: one check covers them all. */
struct xlat_group {
    s32 lo, hi; /* bytes from the origin: [lo, hi) */
    u8 align;   /* (lo) must be a multiple of it */
    bool write;
    bool window;  /* through the stack window */
    bool stream;  /* checked before the loop, for as many turns as its page goes on */
    bool aligned; /* in a loop, no stream: its alignment is checked before the loop */
    bool based;   /* a stream: (home) includes the base, which is the same in each turn */
    u8 home;      /* the host register that holds its delta in the loop, or REG_ZERO: a slot does */
    u8 loop;      /* the loop that it belongs to, or XLAT_NONE */
    u8 leader;    /* the insn that checks, unless a stream */
    u8 last;      /* the last insn that relies on it */
    u8 members;
    /* Of a stream, or (aligned): the first byte, off registers as they are at the start of a turn. */
    u8 base, index, scale, seg;
    s32 first;
    s32 stride; /* what a turn adds */
};

#define XLAT_GROUPS 12
_Static_assert(XLAT_GROUPS <= ARRAY_SIZE(((struct cpu_jit *)0)->delta), "each has a slot there");

/*
 * Insns from (start) to (end), which jumps back, with something to check before the first turn. Either no other loop lies
 * in it, or it starts where the block does.
 */
struct xlat_loop {
    u8 start, end;
    u8 counter; /* the register whose value says when streams must be checked again, or XLAT_NONE */
    bool counted; /* it always makes the same number of turns, and not many */
    s32 counter_step;
    u8 limit_home; /* the host register that holds the value it must not have then, or REG_ZERO: a slot does */
    u8 borrowed
        [16]; /* registers that no insn of the loop uses: free for what is kept from turn to turn */
    u8 nborrowed;
    u32 at; /* where the next turn starts */
    u32 refused[3 *
                XLAT_GROUPS]; /* jumps from before the loop to the careful twin of its first insn */
    unsigned nrefused;
    u32 refused_at; /* where they lead */
};

#define XLAT_LOOPS ARRAY_SIZE(((struct cpu_jit *)0)->loop_limit)

#define XLAT_SITES (2 * (BLOCK_INSNS + 1)) /* one for each insn, and the block's end; twice */
#define XLAT_NONE  0xff

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
    u32 view;    /* where the TLB view is, from the vCPU */
    u8 live;     /* JIT_LIVE_*: known to be so */
    /* Where the guest's flags are good at this point: neither when they are dead. */
    bool in_reg, in_mem;
    bool careful; /* every access is checked by itself: the plan does not count */
    struct xlat_access access[BLOCK_INSNS][ACCESSES];
    struct xlat_group group[XLAT_GROUPS];
    u8 ngroups;
    struct xlat_loop loop[XLAT_LOOPS];
    u8 nloops;
    u8 inside; /* the loops that are being run, by bit: the guest's values of what they borrow are in cpu->r */
    u8 t1_group, t1_next; /* whose delta T1 holds before and after this insn, or XLAT_NONE */
    struct xlat_twin twin[BLOCK_INSNS];
    struct xlat_slow slow[2 * BLOCK_INSNS];
    unsigned nslow, slow_first; /* those of this pass start at (slow_first) */
    struct xlat_miss miss[2 * ACCESSES * BLOCK_INSNS];
    unsigned nmiss, miss_first;
};

/* --- flags.c --- */

/* A shift or rotation, also of two registers. */
bool xlat_is_shift(u16 mnemonic);

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

/* --- plan.c --- */

/* Find out which accesses can be checked together, and whether the block is a loop. Fills the plan's fields. */
void xlat_plan(struct xlat *x);

/* Is guest register (r) in a slot, not in a host register? */
static inline bool xlat_in_slot(unsigned r)
{
    return r >= REG_R9 && r <= REG_R11;
}

/* --- mem.c --- */

/* Guest register (r) of an address in a host register: its own, or (scratch), loaded from its slot. */
unsigned xlat_in_host(struct xlat *x, unsigned r, unsigned scratch);

/* A guest memory operand after its check, as the host addresses it. */
struct xlat_mem {
    u8 base, index; /* host registers; REG_ZERO: none */
    u8 scale;
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

/* --- loop.c --- */

/* Find homes for what the loops keep. The rest of the plan is made. */
void xlat_loop_borrow(struct xlat *x);

/* The loop that starts or, (end), ends at the current insn in code that follows the plan; or NULL. */
struct xlat_loop *xlat_loop_here(struct xlat *x, bool end);

/*
 * Before the first turn of (l), at its first insn: check all streams. Flags are dead. A check that fails goes to the careful
 * twin of that insn.
 */
void xlat_loop_enter(struct xlat *x, struct xlat_loop *l);

/* The last insn of (l) has been translated; (falls): the block goes on behind it. */
void xlat_loop_leave(struct xlat *x, struct xlat_loop *l, bool falls);

/* Emit into (a), for a way out of the loops (which): the guest's values of what they borrow. Flags and scratch are kept. */
void xlat_loop_restore(const struct xlat *x, struct asm_buf *a, unsigned which);

/* The loops that insn (i) is in; and whether they borrow anything. */
unsigned xlat_loops_of(const struct xlat *x, unsigned i, bool *borrow);

/* In cold code: where what is refused before a loop leads. */
void xlat_loop_emit_refused(struct xlat *x);

/* T0 = linear address of the first byte of (group) at the start of this turn. Clobbers T1. */
void xlat_stream_address(struct xlat *x, unsigned group);

/* --- mem.c again --- */

/* Add the base of FS or GS, if (seg) is one of them, to (reg). */
void xlat_add_segment(struct xlat *x, unsigned reg, unsigned seg);

/*
 * Check all bytes of (group), the first of which is at the linear address in T0. (m) says what the check began with
 * and is filled in; (refuse) gets the jumps of what is no miss. What members add to their addresses, of which (base) is the base
 * register, is then in their slot; T0 is the offset in the page.
 */
void xlat_group_check(struct xlat *x, unsigned group, unsigned base, struct xlat_miss *m,
                      void (*refuse)(struct xlat *x, u32 from));

/* The address in T0 must be a multiple of (align). Returns the jump taken if it is not. */
u32 xlat_misaligned(struct xlat *x, unsigned align);

/* The current insn's slow path: its op is called instead. One more jump leads there. */
void xlat_slow_from(struct xlat *x, u32 at);

/*
 * A check of (size) bytes, which began at (retry), jumps at (from) if it finds no entry or, if so, not the stack
 * window: have that filled and check again, and only then go the slow path.
 */
void xlat_miss_from(struct xlat *x, const struct xlat_miss *m);

/* Emit what xlat_miss_from() asked for in this pass, once the slow paths are there. */
void xlat_emit_misses(struct xlat *x);

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

/* Have the state (live) in registers, if it is not known to be. Flags are spilled if need be. */
void xlat_want_live(struct xlat *x, unsigned live);

enum xlat_kind xlat_classify(const struct xlat *x, const struct decoded *d, const struct insn *in);
void xlat_native(struct xlat *x);
void xlat_divide(struct xlat *x);
void xlat_lea(struct xlat *x);

/* --- stack.c --- */
void xlat_push(struct xlat *x);
void xlat_pop(struct xlat *x);
void xlat_leave_frame(struct xlat *x);

/* --- amx.c --- */
bool xlat_amx_fits(const struct insn *in);
void xlat_amx(struct xlat *x);

/* --- cpuid.c --- */
void xlat_cpuid(struct xlat *x);

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
