// SPDX-License-Identifier: MIT
// A vCPU's translated code: its memory, the glue around it, and what is known of each translation.
#pragma once

#include "cpu/decode/decode.h"
#include "cpu/jit/asm.h"
#include "cpu/jit/jit.h"
#include "cpu/mmu/tlb.h"

#define JIT_CODE_SIZE (48u << 20) /* half for hot code, half for what is rarely run */
#define JIT_META_SIZE (24u << 20)

/* Offsets from the vCPU, which asm.h's asm_gs_*() take. */
#define GS(field)     ((u32)offsetof(struct cpu, field))
#define GS_REG(n)     ((u32)(offsetof(struct cpu, r) + 8 * (n)))
#define GS_VIEW(view) ((u32)(sizeof(struct cpu) + (view) * sizeof(struct tlb)))

/*
 * An exit of a translation that can be linked to the translation of its target. While it leads into
 * another page it is in that page's list of them, so that the page can be cut off.
 */
struct jit_site {
    struct jit_code *from;
    struct jit_page *to;   /* the other page that it leads to, or NULL */
    struct jit_site *next; /* in to->in */
    u32 at;       /* the rel32 to patch */
    u32 unlinked; /* where it leads until then */
    u32 epoch_at; /* the imm32 that link_epoch is compared with; 0: within the page, no check */
    u16 insn_off; /* of its branch, in the page */
    u8 entry;     /* enum jit_entry: how it wants to get in */
    bool branch;  /* not just the end of its block */
    bool call;
};

/*
 * Ways into a translation, in code order. POLL looks at requests first, then goes on as MEM: guest
 * flags are in cpu->cc. REG: they are in RFLAGS.
 */
enum jit_entry { JIT_POLL, JIT_MEM, JIT_REG, JIT_ENTRIES };

struct jit_code {
    struct block *block;
    struct jit_page *page;
    struct jit_code *next; /* in its page */
    u32 entry[JIT_ENTRIES];
    u32 hot_end;
    bool once;    /* not to be run by both engines */
    u16 flags_in; /* arithmetic RFLAGS bits that it may read before writing them */
    u16 count;    /* insns of the block that were translated */
    u16 nsites;
    struct jit_site site[];
};

/*
 * A guest-physical page that code was translated from; or a place where an instruction crosses from one page
 * (gpa: its own address) into another (slot2, gpa2), which is like a page of its own.
 */
struct jit_page {
    struct jit_page *next; /* in its hash chain */
    gpa_t gpa;
    struct jit_code *codes;
    struct jit_site *in;         /* exits of other pages that lead here */
    u32 gen, recheck;            /* as in struct block, of all of (codes) */
    u64 lin;                     /* where it is mapped, */
    u32 lin_epoch, global_epoch; /* as of this link_epoch or, if (global), this global_epoch */
    bool global;                 /* by a global page in the upper half */
    struct mem_slot *slot2;      /* NULL: a page, no crossing */
    gpa_t gpa2;
    u32 gen2;
    struct jit_page *crossing[2];      /* of a page: crossings that begin, that end in it */
    struct jit_page *next_crossing[2]; /* of a crossing: in these lists */
};

#define JIT_PAGES 4096

/* Guest state that is not always in the host's registers. */
#define JIT_LIVE_VEC   BIT(0)
#define JIT_LIVE_X87   BIT(1)
#define JIT_LIVE_KINDS 4

/* Routines that translations share; made once for each vCPU. */
struct jit_glue {
    u32 enter;      /* called from C: (cpu) */
    u32 leave;      /* exits: cpu->rip and j.site are set */
    u32 leave_none; /* the same without a site */
    /* Run the op of the insn at T0: [stack window refilled][state live afterwards]. */
    u32 op[2][JIT_LIVE_KINDS];
    u32 op_tail; /* run the op and go on at the translation of wherever it led; does not return */
    u32 vec_load, x87_load; /* make that state live */
    /*
     * A TLB check has failed: fill the entry of loads or, [1], stores for the linear address in T0, without its
     * op. Called with RSP a multiple of 16 as between instructions; all registers are kept, vector and
     * x87 ones in the host's included, guest flags are not. ZF clear: there is an entry now that was not there before,
     * so that the check is worth another try. ZF set: it was no miss (a page crossing, misalignment), or there is more
     * to it: the op must do it. refill_stack: the same, and the stack window moves to that page.
     */
    u32 refill[2], refill_stack[2];
    u32 amx_away, amx_back; /* amx.c */
    u32 cpuid; /* the answer for EAX and ECX into EAX, EBX, ECX, EDX; ZF clear: it is not known. Clobbers T0, T1 */
};

struct jit {
    struct asm_buf hot, cold;
    const u8 *rx;
    struct jit_glue glue;
    bool host_bmi2;
    u32 hot_start, hot_present, cold_present;
    u8 *meta;
    size_t meta_used;
    struct jit_page *page[JIT_PAGES];
    struct decoded insn[BLOCK_INSNS]; /* of the block being translated, */
    const struct block *insn_of;      /* which was decoded into it just now; NULL: not yet */
    u64 target;                       /* cpu->rip when translated code was left last */
    struct cpu_undo *lockstep;        /* NULL: not in lock-step mode */
};

/* Map the memory and make the glue. 0 or -ENOMEM. code.c. */
int jit_code_create(struct cpu *c, struct jit *j);
void jit_code_free(struct jit *j);
void jit_glue_make(struct jit *j);

/* The routines of amx.c; (vec_store): stores live vector state. */
void jit_glue_amx_make(struct jit *j, u32 vec_store);

/* The routine of cpuid.c. */
void jit_glue_cpuid_make(struct jit *j);

/* (size) bytes that live until the next flush, or NULL. */
void *jit_meta_take(struct jit *j, size_t size);

/* Give back what of the last jit_meta_take() lies at (end) or after. */
void jit_meta_trim(struct jit *j, const void *end);

/* Is there room for one more translation? */
bool jit_has_room(struct jit *j);

/* Translate (b), whose code is current, into (page). NULL: no room. translate.c. */
struct jit_code *jit_translate(struct cpu *c, struct block *b, struct jit_page *page);
