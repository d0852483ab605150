// SPDX-License-Identifier: MIT
// The narrow interface to the instruction decoder: bytes in, a neutral form out, and its lowering to an insn.
#pragma once

#include "cpu/decode/insn.h"

#include <Zydis/Mnemonic.h>

/* Nothing outside decode.c sees Zydis, but for the names of its mnemonics, ISA sets and exception classes. */

/* Mnemonics of instructions that Zydis does not know (decode/amx.c), after its own. */
enum {
    MNEMONIC_TDPFP16PS = ZYDIS_MNEMONIC_MAX_VALUE + 1, MNEMONIC_TCMMIMFP16PS, MNEMONIC_TCMMRLFP16PS,
    MNEMONIC_TDPBF8PS, MNEMONIC_TDPBHF8PS, MNEMONIC_TDPHBF8PS, MNEMONIC_TDPHF8PS, MNEMONIC_TMMULTF32PS,
    MNEMONIC_TILELOADDRS, MNEMONIC_TILELOADDRST1, MNEMONIC_TCVTROWD2PS, MNEMONIC_TCVTROWPS2BF16H,
    MNEMONIC_TCVTROWPS2BF16L, MNEMONIC_TCVTROWPS2PHH, MNEMONIC_TCVTROWPS2PHL, MNEMONIC_TILEMOVROW,
    MNEMONIC_COUNT
};

enum opnd_kind { OPND_NONE, OPND_GPR, OPND_SEG, OPND_CR, OPND_DR, OPND_VEC /* xmm, ymm, zmm */, OPND_MMX,
                 OPND_ST, OPND_MASK, OPND_TILE, OPND_BND, OPND_MEM, OPND_IMM, OPND_FAR /* ptr16:16, ptr16:32 */, OPND_OTHER };

struct opnd {
    u8 kind;
    u8 reg;    /* register number; GPR: 0–15, with (high) for AH, CH, DH, BH */
    bool high;
    u16 size;  /* bytes; of a memory operand: what is accessed (0: LEA-like) */
    u8 esize;  /* bytes of one element (of the whole where there is only one) */
    bool read, write;
    u8 encoding; /* 0 other, 1 ModRM.reg, 2 ModRM.rm, 3 VEX.vvvv, 4 opcode, 5 EVEX.aaa/mask, 6 is4 */
    bool rel;  /* OPND_IMM: a branch displacement */
    s64 imm;   /* OPND_IMM: value; OPND_FAR: offset */
    u16 far_sel;
};
enum { ENC_OTHER, ENC_REG, ENC_RM, ENC_VVVV, ENC_OPCODE, ENC_MASK, ENC_IS4 };

/* One decoded instruction before lowering. */
struct decoded {
    u16 mnemonic; /* ZydisMnemonic, or MNEMONIC_* */
    u8 len;
    u8 mode;      /* enum cpu_mode_size */
    u8 opsize;    /* effective operand size in bytes: 1, 2, 4, 8 (Zydis: operand_width, 8-bit opcodes 1) */
    u8 asize;     /* address size in bytes */
    u8 ssize;     /* stack width in bytes: 2, 4, 8 (by SS.B outside 64-bit mode) */
    bool lock, rep, repne;
    bool writes;  /* memory, hidden operands such as PUSH's included */
    u8 nopnd;     /* explicit operands */
    struct opnd op[5];
    /* the memory operand, if any: every form has at most one ModRM memory operand */
    bool has_mem;
    bool vsib;    /* index is a vector register */
    u8 mem_base, mem_index, mem_scale, mem_seg; /* cpu_reg numbers (REG_ZERO: none); seg: enum cpu_seg_id, after default rules */
    bool mem_sib; /* has a SIB byte */
    bool mem_rip; /* RIP-relative */
    s64 mem_disp;
    /* encoding, for those who re-encode */
    u8 bytes[15];
    u8 enc;       /* 0 legacy, 1 3DNow, 2 XOP, 3 VEX, 4 EVEX */
    u8 prefix_len; /* bytes before REX/VEX/EVEX/opcode: legacy prefixes */
    u8 modrm_off; /* 0: none */
    u8 opcode, map;
    u8 modrm_mod, modrm_reg, modrm_rm; /* 3-bit fields; reg and rm without REX/VEX extension */
    u8 rex;       /* 0 or the byte */
    u8 vl;        /* VEX/EVEX vector length in bytes: 16, 32, 64 */
    bool vex_w;
    u8 evex_aaa;
    bool evex_z, evex_b;
    u8 disp_size, imm_size; /* encoded bytes */
    u32 isa_ext;  /* ZydisISAExt */
    u16 isa_set;  /* ZydisISASet: finer, as CPUID bits are */
    u8 exc_class; /* ZydisExceptionClass: SDM 2A 2.4, 2.8 */
    bool flags_read, flags_written; /* arithmetic flags */
    u16 cc_read, cc_set, cc_undefined; /* the same by RFLAGS bit; (cc_set): certainly given a value */
};

/*
 * Decode one instruction of at most (avail) bytes. 0; -EAGAIN: more bytes are needed; -EINVAL: #UD (also for
 * LOCK where it is not allowed, and more than 15 bytes: (*gp) true means #GP instead).
 */
int decode_one(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32, struct decoded *d, bool *gp);

/* decode_one() for 64-bit mode and the AMX instructions that Zydis does not know; it has refused the bytes before. decode/amx.c. */
int decode_amx(const u8 *bytes, unsigned avail, struct decoded *d, bool *gp);

/* The instruction at linear address (at) as Intel writes it, into (buf). Its length, at least 1. For traces. */
unsigned decode_text(const u8 *bytes, size_t avail, enum cpu_mode_size mode, u64 at, char *buf,
                     size_t size);

/*
 * Turn (d) into an insn: sets (op) and the family's fields. The caller has filled the
 * common fields (memory operand, size, len, off, flags) by insn_from_decoded(). 0, or -ENOENT: no such form, #UD.
 */
typedef int lower_fn(const struct decoded *d, struct insn *in, const void *arg);

/* A family of instructions says which mnemonics it implements. */
struct op_row {
    u16 mnemonic;
    lower_fn *lower;
    const void *arg; /* handed to (lower): usually a table of ops by size and form */
};

/* Families; each is the one table of its file, ended by a row with lower == NULL. */
extern const struct op_row ops_alu[];    /* interp/alu.c: ADD…CMP, TEST, INC, DEC, NEG, NOT */
extern const struct op_row ops_mov[];    /* interp/mov.c: MOV, MOVZX/SX, LEA, XCHG, CMOV, SETcc, BSWAP, CBW…, XLAT, MOVBE, LAHF/SAHF, flag ops that are unprivileged */
extern const struct op_row ops_shift[];  /* interp/shift.c */
extern const struct op_row ops_muldiv[]; /* interp/muldiv.c: also BCD */
extern const struct op_row ops_bit[];    /* interp/bit.c: BT*, BSF/R, POPCNT, LZCNT, TZCNT, BMI1/2, ADX, CRC32 */
extern const struct op_row ops_atomic[]; /* interp/atomic.c: XADD, CMPXCHG*, and fences, CLFLUSH*, PREFETCH*, MOVNTI, MOVDIR* */
extern const struct op_row ops_string[]; /* interp/string.c: MOVS, STOS, LODS, CMPS, SCAS (INS/OUTS: sys/io.c) */
extern const struct op_row ops_stack[];  /* interp/stack.c: PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF */
extern const struct op_row ops_flow[];   /* interp/flow.c: near JMP, Jcc, CALL, RET, LOOP, JCXZ, NOP, UD */
extern const struct op_row ops_far[];    /* sys/far.c: far JMP/CALL/RET, IRET, INT n, INT3, INTO, BOUND */
extern const struct op_row ops_syscall[]; /* sys/syscall.c: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, *FSBASE, *GSBASE */
extern const struct op_row ops_segment[]; /* sys/segment_ops.c: MOV/PUSH/POP sreg, LDS…, LGDT…SMSW, LAR, LSL, VERR, VERW, ARPL */
extern const struct op_row ops_control[]; /* sys/control.c: MOV CR/DR, CLTS, LMSW, HLT, CLI/STI, CLAC/STAC, INVLPG, INVPCID, WBINVD, MONITOR, MWAIT, VMCALL, RDPMC, RSM … */
extern const struct op_row ops_io[];     /* sys/io.c: IN, OUT, INS, OUTS */
extern const struct op_row ops_msr[];    /* sys/msr_ops.c: RDMSR, WRMSR, RDTSC(P), RDPID, CPUID, XGETBV, XSETBV, RDRAND, RDSEED, RDPKRU, WRPKRU */
extern const struct op_row ops_xsave[];  /* xstate/: FXSAVE, FXRSTOR, XSAVE*, XRSTOR*, LDMXCSR, STMXCSR */
extern const struct op_row ops_amx[];    /* amx/ */
extern const struct op_row ops_vec[];    /* vec/: x87, MMX, SSE … AVX-512; a catch-all, see vec_lower() */

/* SSE … AVX-512, MMX and x87 are lowered by ISA extension, not by mnemonic: asked when no row matches. vec/lower.c. */
int vec_lower(const struct decoded *d, struct insn *in);

/* Fill the common fields of (in) from (d); (off) as in struct insn. */
void insn_from_decoded(const struct decoded *d, struct insn *in, unsigned off);

/* Decode and lower. Always fills (in): an undecodable one gets an op that raises #UD (or #GP). Returns the length
 * (at least 1), or -EAGAIN if (avail) bytes do not hold it whole. */
int decode_insn(const u8 *bytes, unsigned avail, enum cpu_mode_size mode, bool stack32, unsigned off, struct insn *in);

/* Does (in) stand for bytes that are no instruction? Which of them say so is not known: up to INSN_MAX_LEN. */
bool decode_failed(const struct insn *in);

/* Byte offset of a GPR operand in cpu->r. */
static inline u8 opnd_off(const struct opnd *o) { return (u8)(o->reg * 8 + (o->high ? 1 : 0)); }

/* The first row that implements (mnemonic), or NULL; all of them, in the order to try, NULL after the last. decode/table.c. */
const struct op_row *decode_row(u16 mnemonic);
const struct op_row *const *decode_rows(u16 mnemonic);

/* Lower by the first row that takes (d), else by vec_lower() (MOVSD is a string op and an SSE one). 0, or -ENOENT. decode/table.c. */
int decode_lower(const struct decoded *d, struct insn *in);
