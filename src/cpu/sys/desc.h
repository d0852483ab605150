// SPDX-License-Identifier: MIT
// Segment descriptors: fetching them from the GDT and LDT, checking them, loading segment registers.
#pragma once

#include "cpu/mmu/access.h"

/* Types of system descriptors (S = 0): SDM 3A table 3-2. */
enum desc_type {
    DESC_TSS16 = 1, DESC_LDT = 2, DESC_TSS16_BUSY = 3, DESC_CALL16 = 4, DESC_TASK_GATE = 5,
    DESC_INTR16 = 6, DESC_TRAP16 = 7, DESC_TSS32 = 9, DESC_TSS32_BUSY = 11, DESC_CALL32 = 12,
    DESC_INTR32 = 14, DESC_TRAP32 = 15,
};

/* Bits of the type of a code or data descriptor (S = 1): SDM 3A table 3-1. */
#define SEG_TYPE_A BIT(0)
#define SEG_TYPE_RW BIT(1) /* writable data, readable code */
#define SEG_TYPE_EC BIT(2) /* expand-down data, conforming code */
#define SEG_TYPE_CODE BIT(3)

#define SEL_RPL 3u
#define SEL_TI 4u
#define SEL_NULL(sel) (((sel) & ~SEL_RPL) == 0)
#define SEL_ERR(sel) ((u32)(sel) & 0xfffcu) /* the selector part of an error code */

/* A descriptor as read from its table. */
struct desc {
    u64 lin;     /* where it lies */
    u32 lo, hi;  /* its first 8 bytes */
    u64 base;    /* 64 bits for a 16-byte system descriptor */
    u32 limit;   /* in bytes */
    u32 ar;      /* VMX layout */
    u16 sel;
};

static inline unsigned desc_dpl(const struct desc *d) { return (d->ar >> SEG_AR_DPL_SHIFT) & 3; }
static inline unsigned desc_type(const struct desc *d) { return d->ar & SEG_AR_TYPE; }
static inline bool desc_present(const struct desc *d) { return d->ar & SEG_AR_P; }
static inline bool desc_is_segment(const struct desc *d) { return d->ar & SEG_AR_S; }
static inline bool desc_is_code(const struct desc *d)
{
    return (d->ar & (SEG_AR_S | SEG_TYPE_CODE)) == (SEG_AR_S | SEG_TYPE_CODE);
}
static inline bool desc_is_conforming(const struct desc *d) { return desc_is_code(d) && d->ar & SEG_TYPE_EC; }
static inline bool desc_is_writable_data(const struct desc *d)
{
    return (d->ar & (SEG_AR_S | SEG_TYPE_CODE | SEG_TYPE_RW)) == (SEG_AR_S | SEG_TYPE_RW);
}

static inline bool addr_canonical(u64 a) { return (u64)((s64)(a << 16) >> 16) == a; }
static inline bool cpu_protected(const struct cpu *c) { return c->cr0 & CR0_PE && !(c->rflags & RFLAGS_VM); }
static inline bool cpu_long(const struct cpu *c) { return c->efer & EFER_LMA; }

/*
 * Read the descriptor that (sel) names. OP_NEXT; positive 1 when it lies outside its table
 * (nothing raised); negative from the access.
 */
int desc_read(struct cpu *c, u16 sel, struct desc *d);

/* The same, but outside the table raises (vector) with error code (err). */
int desc_fetch(struct cpu *c, u16 sel, u8 vector, u32 err, struct desc *d);

/* Read the upper half of a 16-byte system descriptor and put it into d->base. (*type): bits 12:8 of it, must be 0. */
int desc_read_upper(struct cpu *c, struct desc *d, u64 *upper);

/* Set the accessed bit in memory and in (d). OP_NEXT or negative. */
int desc_set_accessed(struct cpu *c, struct desc *d);

/* Set bits of the type in memory and in (d): the busy bit of a TSS. OP_NEXT or negative. */
int desc_set_type_bits(struct cpu *c, struct desc *d, u8 bits);

/* Load a hidden part from (d), selector (sel). Does not touch memory, CPL or mode. */
void seg_set(struct cpu *c, unsigned seg, const struct desc *d, u16 sel);

/* Make a data segment register null: SDM 3A 3.4.2. (FS and GS keep their base on AMD.) */
void seg_set_null(struct cpu *c, unsigned seg, u16 sel);

/* Selector load in real-address and virtual-8086 mode: base = sel << 4. */
void seg_set_real(struct cpu *c, unsigned seg, u16 sel);

/* All the segment registers as virtual-8086 mode has them. */
void seg_set_vm86(struct cpu *c, unsigned seg, u16 sel);

/* MOV, POP, LDS… to ES, SS, DS, FS, GS, with every check: SDM 2B MOV. OP_NEXT or negative. */
int seg_load(struct cpu *c, unsigned seg, u16 sel);

/*
 * Checks of a stack segment for privilege (cpl): RPL, DPL, writable, present. Sets the accessed
 * bit. (vector): #GP, or #TS when the selector comes from a TSS; not present is #SS. (ext): error code bit 0.
 */
int seg_check_stack(struct cpu *c, u16 sel, unsigned cpl, u8 vector, u32 ext, struct desc *d);

/* After a return to an outer level: null the data segments that it may not have. SDM 2B RET. */
void seg_drop_privileged(struct cpu *c);

/* Take (cpl) for CPL and SS.DPL, then derive mode and TLB view. */
void cpu_set_cpl(struct cpu *c, unsigned cpl);

/* Is (rip) good as a target in code segment (d)? OP_NEXT, or #GP(ext). */
int seg_check_rip(struct cpu *c, const struct desc *d, u64 rip, u32 ext);
