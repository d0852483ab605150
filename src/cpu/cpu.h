// SPDX-License-Identifier: MIT
// One software x86-64 CPU: its architectural state and the contract between its parts.
#pragma once

#include "base/types.h"
#include "cpu/xstate/layout.h"
#include "mem/mem.h"

#include <stdatomic.h>

/*
 * <signal.h> brings an enum of mcontext indices with the names of our registers. Have it
 * first, whoever includes what in which order, and take the names over.
 */
#include <sys/ucontext.h>
#undef REG_RAX
#undef REG_RCX
#undef REG_RDX
#undef REG_RBX
#undef REG_RSP
#undef REG_RBP
#undef REG_RSI
#undef REG_RDI
#undef REG_R8
#undef REG_R9
#undef REG_R10
#undef REG_R11
#undef REG_R12
#undef REG_R13
#undef REG_R14
#undef REG_R15
#define REG_RAX CPU_REG_RAX
#define REG_RCX CPU_REG_RCX
#define REG_RDX CPU_REG_RDX
#define REG_RBX CPU_REG_RBX
#define REG_RSP CPU_REG_RSP
#define REG_RBP CPU_REG_RBP
#define REG_RSI CPU_REG_RSI
#define REG_RDI CPU_REG_RDI
#define REG_R8 CPU_REG_R8
#define REG_R9 CPU_REG_R9
#define REG_R10 CPU_REG_R10
#define REG_R11 CPU_REG_R11
#define REG_R12 CPU_REG_R12
#define REG_R13 CPU_REG_R13
#define REG_R14 CPU_REG_R14
#define REG_R15 CPU_REG_R15

/*
 * Glossary
 *
 *   insn      one decoded instruction: a handler and its operands (decode/insn.h)
 *   op        the handler of an insn; changes the state as the instruction does
 *   block     a run of insns decoded from one guest-physical page (interp/block.h)
 *   lin       linear address: segment base + effective address, before paging
 *   gpa       guest-physical address
 *   mode      code size (16, 32, 64) and everything else a decoded insn depends on
 *   cc        the six arithmetic flags in LAHF/SETO form (below)
 *   request   a bit that asks a vCPU to leave guest code at the next block end
 *   recheck   the promise that a block's bytes are compared with memory before it runs again
 *
 * What an op returns. Negative: nothing architectural has changed (but for what the
 * SDM lets a restartable instruction keep) and RIP stays on the insn. Zero or
 * positive: the insn is complete.
 */
enum op_result {
    OP_FAULT = -1, /* an exception is in cpu->exc; deliver it with RIP on this insn */
    OP_EXIT = -2,  /* leave cpu_run() with cpu->exit; the insn runs again on re-entry */
    OP_AGAIN = -3, /* look at requests, then run this insn again (REP in progress) */
    OP_NEXT = 0,   /* go on with the next insn */
    OP_END = 1,    /* cpu->rip is set: the block ends here */
    OP_STOP = 2,   /* go on after this insn, but through the run loop (a store hit code, or was MMIO) */
};

/* Register numbers are the encoding's; two more rows make addressing branch-free. */
enum cpu_reg {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
    REG_ZERO,   /* always 0 */
    REG_IPBASE, /* RIP of offset 0 in the current block's page */
    REG_COUNT
};

enum cpu_seg_id { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_NONE, SEG_TR, SEG_LDTR, SEG_COUNT };

/* Access rights in the VMX layout: SDM 3C 25.4.1. */
#define SEG_AR_TYPE 0xfu
#define SEG_AR_S BIT(4)
#define SEG_AR_DPL_SHIFT 5
#define SEG_AR_DPL (3u << 5)
#define SEG_AR_P BIT(7)
#define SEG_AR_AVL BIT(12)
#define SEG_AR_L BIT(13)
#define SEG_AR_DB BIT(14)
#define SEG_AR_G BIT(15)
#define SEG_AR_UNUSABLE BIT(16)

/* A segment register with its hidden part. (limit) is in bytes, G already applied. */
struct cpu_seg {
    u64 base;
    u32 limit;
    u32 ar;
    u16 sel;
};

struct cpu_dtable {
    u64 base;
    u16 limit;
};

/*
 * Arithmetic flags: AX after `lahf; seto al`. Every ALU op runs the host's own
 * instruction and stores this word, so flags (undefined ones too) are the host's.
 *
 *   15 14 13 12 11 10  9  8 | 7..1  0
 *   SF ZF  0 AF  0 PF  1 CF |   0  OF
 */
#define CC_OF BIT(0)
#define CC_CF BIT(8)
#define CC_PF BIT(10)
#define CC_AF BIT(12)
#define CC_ZF BIT(14)
#define CC_SF BIT(15)

#define RFLAGS_CF BIT(0)
#define RFLAGS_PF BIT(2)
#define RFLAGS_AF BIT(4)
#define RFLAGS_ZF BIT(6)
#define RFLAGS_SF BIT(7)
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)
#define RFLAGS_DF BIT(10)
#define RFLAGS_OF BIT(11)
#define RFLAGS_IOPL (3ull << 12)
#define RFLAGS_NT BIT(14)
#define RFLAGS_RF BIT(16)
#define RFLAGS_VM BIT(17)
#define RFLAGS_AC BIT(18)
#define RFLAGS_VIF BIT(19)
#define RFLAGS_VIP BIT(20)
#define RFLAGS_ID BIT(21)
#define RFLAGS_ARITH (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_TSD BIT(2)
#define CR4_DE BIT(3)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_PCE BIT(8)
#define CR4_OSFXSR BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP BIT(11)
#define CR4_FSGSBASE BIT(16)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define XCR0_X87 BIT(0)
#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)
#define XCR0_OPMASK BIT(5)
#define XCR0_ZMM_HI256 BIT(6)
#define XCR0_HI16_ZMM BIT(7)
#define XCR0_AVX512 (XCR0_OPMASK | XCR0_ZMM_HI256 | XCR0_HI16_ZMM)
#define XCR0_XTILECFG BIT(17)
#define XCR0_XTILEDATA BIT(18)
#define XCR0_AMX (XCR0_XTILECFG | XCR0_XTILEDATA)

enum cpu_vector {
    EXC_DE, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF,
    EXC_TS = 10, EXC_NP, EXC_SS, EXC_GP, EXC_PF, EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM, EXC_CP = 21
};

/* How an event came to be; decides error code, RIP, privilege checks and RF: SDM 3A 6.3, 6.4. */
enum cpu_event_type { EVENT_EXCEPTION, EVENT_INTR, EVENT_NMI, EVENT_SOFT_INT, EVENT_SOFT_EXC /* INT3, INTO */, EVENT_INT1 };

struct cpu_event {
    bool pending;
    u8 vector;
    u8 type;
    bool has_error;
    u32 error;
    u64 payload; /* CR2 of #PF, DR6 bits of #DB, XFD_ERR bits of #NM */
    bool has_payload;
};

enum cpu_mode_size { MODE_16, MODE_32, MODE_64 };

/* x87 and MMX state as FXSAVE lays it out (SDM 1 10.5.1); st[i] is ST(i), 10 bytes used. */
struct cpu_x87 {
    u16 fcw, fsw;
    u8 ftw, rsvd; /* abridged tag word */
    u16 fop;
    u64 fip, fdp;
    u32 mxcsr, mxcsr_mask;
    u8 st[8][16];
};

/* Vector state. The x87 block leads so that a host FXRSTOR or XRSTOR can take it where it lies. */
struct cpu_vec {
    _Alignas(64) struct cpu_x87 x87; /* (mxcsr) inside it is the guest's MXCSR */
    u8 fx_xmm[16 * 16 + 96];         /* pads to 512 bytes; scratch for host FXSAVE */
    u64 xsave_header[8];             /* of host XSAVE and XRSTOR */
    _Alignas(64) u8 zmm[32][64];
    u64 k[8];
    u32 pkru;
};

/* TILECFG as LDTILECFG's memory operand has it, and the tiles: SDM 1 18. */
struct cpu_amx {
    u8 palette, start_row;
    u8 rows[8];
    u16 colsb[8];
    u8 (*tile)[16][64]; /* 8 tiles; NULL until first written */
    bool tile_inuse;    /* XINUSE[18] */
};

enum cpu_exit_reason {
    CPU_EXIT_NONE, CPU_EXIT_INTR /* CPU_REQ_EXIT seen */, CPU_EXIT_HLT, CPU_EXIT_SHUTDOWN,
    CPU_EXIT_BUS /* a bus callback asked to leave; its owner knows why */,
    CPU_EXIT_DEBUG, CPU_EXIT_INTERNAL_ERROR
};

/* Bits of cpu->request; any thread may set one with cpu_request(). */
#define CPU_REQ_EXIT BIT(0)      /* leave cpu_run(); the setter's owner clears it */
#define CPU_REQ_INTR BIT(1)      /* something about interrupts changed: ask the bus again */
#define CPU_REQ_NMI BIT(2)
#define CPU_REQ_SMI BIT(3)
#define CPU_REQ_FLUSH BIT(4)     /* drop the whole TLB */
#define CPU_REQ_RECHECK BIT(5)   /* memory may have been written from outside: recheck blocks */
#define CPU_REQ_EXCLUSIVE BIT(6) /* another vCPU wants everybody out of guest code */
#define CPU_REQ_INIT BIT(7)
#define CPU_REQ_SLOTS BIT(8)     /* memslots changed: drop the TLB and all blocks */
#define CPU_REQ_CODE      BIT(10)    /* another vCPU has written code: world.h knows which pages */
#define CPU_REQ_TICK BIT(9)      /* a moment has passed: look at stop_flag, call poll() */

/* When cpu_bus.msr_trap() is called. */
enum cpu_msr_trap {
    CPU_MSR_ASK,     /* before the access */
    CPU_MSR_UNKNOWN, /* this CPU has no such MSR, nor have its chips by what the CPU knows */
    CPU_MSR_INVALID, /* it has, but not for this access or value */
};

struct cpu;

/*
 * What the CPU asks of whoever houses it (the KVM layer, or a test). All run on the
 * vCPU's thread. Results are op_results: OP_NEXT done; OP_FAULT after cpu_raise*();
 * OP_EXIT leave and call again with the same arguments on re-entry (reads); OP_STOP
 * done, but leave after this instruction (posted writes; set CPU_REQ_EXIT or not).
 */
struct cpu_bus {
    int (*io_in)(struct cpu *c, u16 port, unsigned size, u32 *val);
    int (*io_out)(struct cpu *c, u16 port, unsigned size, u32 val);
    int (*mmio_read)(struct cpu *c, gpa_t gpa, void *buf, unsigned size);
    int (*mmio_write)(struct cpu *c, gpa_t gpa, const void *buf, unsigned size);
    /* MSRs that sys/msr.c does not hold itself: APIC, kvmclock, … OP_FAULT: unknown (#GP raised by the caller). */
    int (*msr_read)(struct cpu *c, u32 index, u64 *val);
    int (*msr_write)(struct cpu *c, u32 index, u64 val);
    /*
     * RDMSR and WRMSR, before the access is made (CPU_MSR_ASK) and again if it would raise #GP. OP_NEXT: go on; OP_END:
     * another has made it, (val) is what a read gives; OP_FAULT, OP_EXIT as above. NULL: every access is the CPU's.
     */
    int (*msr_trap)(struct cpu *c, enum cpu_msr_trap why, u32 index, bool write, u64 *val);
    /* Vector of the interrupt to deliver now, acknowledged; or -1 for none. */
    int (*intr_ack)(struct cpu *c);
    /* True if intr_ack() would return a vector. */
    bool (*intr_pending)(struct cpu *c);
    u8 (*cr8_read)(struct cpu *c);
    void (*cr8_write)(struct cpu *c, u8 tpr);
    int (*hypercall)(struct cpu *c); /* VMCALL and VMMCALL: RAX in and out; OP_FAULT raises #UD itself */
    /*
     * Called by cpu_run() about every millisecond, between blocks; may set CPU_REQ_EXIT. For what nobody
     * announces through c->request, such as pending host signals. NULL is fine.
     */
    void (*poll)(struct cpu *c);
};

/* CPUID as the guest sees it; owned by sys/cpuid.c. */
struct cpu_cpuid_entry {
    u32 leaf, index, flags, eax, ebx, ecx, edx; /* flags as KVM_CPUID_FLAG_* */
};
#define CPU_CPUID_MAX 256

/*
 * An answer of CPUID that depends on nothing but the table, kept for translated code, by leaf. An invalid
 * one has a key that belongs elsewhere.
 */
#define CPU_ANSWER_BITS 4
#define CPU_ANSWER_HASH 0x9e3779b1u /* its product's upper bits are the place */

struct cpu_answer {
    u64 key; /* index << 32 | leaf */
    u32 reg[4]; /* EAX, EBX, ECX, EDX */
    u64 pad;
};

/* What translated code reaches beside the architectural state. jit/ owns it. */
struct cpu_jit {
    u64 self;               /* the CPU's own address */
    const void *enter_at;
    u64 tmp[2];
    u64 host_sp;            /* RSP to leave translated code with */
    void *site;             /* struct jit_site: the exit taken, or NULL */
    const struct insn *insn; /* the insn that an op was called for, */
    s32 rc;                 /* and what it returned */
    u32 host_mxcsr;
    bool tried;             /* to make a translator */
    bool vec_live;          /* vector, mask and MXCSR state are in the host's registers, not in (vec) */
    bool x87_live;          /* the same of x87 and MMX state, but for these, which the host's would be ours: */
    u16 fop;
    u64 fip, fdp;
    u64 delta[12];          /* of accesses that were checked together: host address - linear address */
    u64 loop_left;          /* turns of the loop for which its checks hold */
    u64 loop_limit[4];      /* what the counter of each must not reach without new ones */
    struct cpu_answer answer[1 << CPU_ANSWER_BITS]; /* of CPUID. sys/cpuid.c fills it */
};

/* Why translated code goes back to the run loop. */
enum jit_left {
    JIT_LEFT_LINK, /* by an exit that is not linked (yet) */
    JIT_LEFT_JUMP, /* for a place that no jump entry leads to, or after an insn that ends translated code */
    JIT_LEFT_REQUEST, /* for cpu->request */
    JIT_LEFT_FAULT,
    JIT_LEFT_BUS,    /* OP_EXIT */
    JIT_LEFT_REPEAT, /* OP_AGAIN */
    JIT_LEFT_STOP,   /* OP_STOP: a store hit code or was MMIO, among others */
    JIT_LEFT_COUNT
};

struct jit;          /* jit/jit.h */
struct tlb;          /* mmu/tlb.h */
struct stlb;         /* mmu/stlb.h */
struct block_cache;  /* interp/block.h */
struct cpu_world;    /* world.h: what the vCPUs of one VM share */

#define CPU_FETCHED_BITS 512

struct cpu {
    /* --- hot --- */
    u64 r[REG_COUNT];
    u64 rip;
    u16 cc;
    u8 cpl;
    u8 mode;        /* enum cpu_mode_size, from CS and EFER.LMA */
    u64 rflags;     /* all but RFLAGS_ARITH, which live in cc; bit 1 set */
    struct tlb *tlb; /* the table for CPL and AC now in force (mmu/tlb.h) */
    _Atomic u32 request;
    u32 inhibit;    /* CPU_INHIBIT_*: for one instruction more */
    u32 intr_held;  /* RFLAGS_IF: CPU_REQ_INTR was put off until that is set; or 0 */
    struct cpu_seg seg[SEG_COUNT]; /* seg[SEG_NONE].base is 0 for ever */
    u64 insn_count;
    u8 block_key;   /* what a decoded or translated block depends on: CPU_KEY_* */
    const volatile u8 *stop_flag; /* polled now and then: nonzero acts as CPU_REQ_EXIT; may be NULL */
    u32 link_epoch; /* changes when links between blocks by RIP become doubtful */
    u64 link_base;  /* of CS, that those links were made with; 0 in 64-bit mode */
    u32 global_epoch; /* the same for links among global pages */
    u64 fetched[2][CPU_FETCHED_BITS / 64]; /* lower, upper half: pages that code came from since then, hashed */
    bool fetched_large[2]; /* … among them large ones */
    u32 recheck_epoch; /* changes when blocks must be compared with memory again */
    u32 block_epoch;   /* changes when blocks have gone */
    u32 code_seen;     /* of mem_code_doubtful() */
    struct cpu_jit j;

    /* --- system --- */
    u64 cr0, cr2, cr3, cr4, xcr0, efer;
    struct cpu_dtable gdt, idt;
    u64 dr[4], dr6, dr7;
    u64 db_held;   /* DR6 bits of a #DB that MOV SS holds back until after the next instruction */
    u64 watch_hit; /* DR6 bits of data breakpoints that the current instruction has touched */
    u64 star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 xss, xfd, xfd_err;
    u64 pat, misc_enable, debugctl, spec_ctrl, arch_capabilities, platform_info;
    u64 mtrr_def, mtrr_fixed[11], mtrr_var[16];
    u64 mcg_cap, mcg_status, mcg_ctl, mc_bank[32 * 4];
    u64 smbase, ucode_rev;
    s64 tsc_offset, tsc_adjust; /* guest TSC = host TSC + offset */
    u64 msr_misc[16];           /* values of plain MSRs: rows of sys/msr.c index it */

    struct cpu_event exc;      /* an exception on its way to the IDT */
    struct cpu_event reinject; /* an event that delivery began and an exit cut short */
    bool nmi_blocked;
    u8 nmi_pending;   /* 0, 1, or 2 when one came before another was taken */
    bool halted;      /* HLT executed, nothing woke it yet */
    u32 io_elements;  /* during io_in(): how many elements a REP INS would take from here on, in one page; else 1 */
    u8 exit;          /* enum cpu_exit_reason, valid when cpu_run() has returned */
    u32 exit_vector;  /* CPU_EXIT_DEBUG: EXC_DB or EXC_BP */
    u64 exit_dr6;
    u32 guest_debug;  /* KVM_GUESTDBG_*, 0 when the guest owns its debug registers */
    u64 guest_debug_dr[8];

    /* --- parts --- */
    struct mem *mem;
    struct tlb *tlbs[4]; /* by enum tlb_view */
    struct stlb *stlb;   /* the second level: mmu/stlb.h, */
    u64 stlb_gen, stlb_global; /* and the generations in force, of this PCID and of global pages */
    struct block_cache *blocks;
    struct jit *jit; /* NULL: the interpreter runs everything */
    struct cpu_undo *undo; /* stores are noted there before they are made: jit/lockstep.h. NULL: they are not */
    struct cpu_world *world;
    const struct cpu_bus *bus;
    void *owner; /* the bus's own */
    unsigned index; /* within the world */
    struct cpu_cpuid_entry *cpuid;
    unsigned cpuid_count;
    u64 cpuid_xcr0;   /* XCR0 bits that CPUID.0D.0 of this guest offers */
    bool cpuid_has_xfd;
    u32 amx_missing;  /* AMX features that CPUID does not offer: bits by enum amx_feature */
    struct xstate_layout xlayout; /* of this guest's XSAVE images, as its CPUID.0D has it */
    u8 maxphyaddr;    /* CPUID.80000008; cpu_reset() gives 46 until a table says otherwise */
    gpa_t pdpte[4];   /* PAE: loaded with CR3 */

    struct cpu_amx amx;
    struct cpu_vec vec;

    struct cpu_stats {
        u64 blocks_built, blocks_run, tlb_miss, tlb_refill, page_walks, tlb_flush, tlb_flush_page, smc, exceptions,
            interrupts, recheck_fail;
        u64 translated, translate_ns; /* blocks; time spent on them */
        u64 code_runs, code_links;    /* how often translated code was entered from C; exits linked */
        /* If cpu_counts_code (trace.h): how often translations were run, looked into the first-level TLB, in vain. */
        u64 code_blocks, tlb_lookup, tlb_lookup_miss;
        u64 code_killed, code_flushed; /* pages whose translations went; times that all went */
        u64 left[JIT_LEFT_COUNT];      /* by why translated code was left */
    } stats;
};

/* Fields of cpu->block_key. */
#define CPU_KEY_MODE 3u        /* enum cpu_mode_size */
#define CPU_KEY_VIEW_SHIFT 2   /* enum tlb_view: two bits */
#define CPU_KEY_VIEW (3u << CPU_KEY_VIEW_SHIFT)
/* Vector instructions of that kind are neither unavailable nor can they raise exceptions. */
#define CPU_KEY_SSE BIT(4)
#define CPU_KEY_AVX BIT(5)
#define CPU_KEY_AVX512 BIT(6)
#define CPU_KEY_X87 BIT(7) /* x87 and MMX */

#define CPU_INHIBIT_STI BIT(0)
#define CPU_INHIBIT_MOV_SS BIT(1)
#define CPU_INHIBIT_TRAP BIT(2) /* set by the insn just run: no single-step trap after it although TF was set (INT n, SYSCALL) */

/* --- cpu.c --- */

/*
 * A CPU in reset state (SDM 3A table 10-1) on (mem) and (bus). (world) is shared by the
 * vCPUs of one VM. Returns 0 or -ENOMEM.
 */
int cpu_create(struct cpu **ret, struct cpu_world *world, struct mem *mem, const struct cpu_bus *bus,
               void *owner);
void cpu_free(struct cpu *c);
void cpu_reset(struct cpu *c, bool init); /* (init): INIT keeps vector state, CR0.CD/NW, MTRRs, TSC, XCR0 */

/* Start-up IPI: real mode at (vector) << 12. */
void cpu_sipi(struct cpu *c, u8 vector);

/* Set bits in c->request. Any thread. */
static inline void cpu_request(struct cpu *c, u32 bits)
{
    atomic_fetch_or_explicit(&c->request, bits, memory_order_release);
}

/* (n) NMIs have come: two can be pending, one of them while NMIs are blocked. vCPU's thread. */
static inline void cpu_nmi(struct cpu *c, unsigned n)
{
    unsigned room = c->nmi_blocked ? 1 : 2, pending = c->nmi_pending + n;

    c->nmi_pending = (u8)(pending < room ? pending : room);
    if (c->nmi_pending)
        cpu_request(c, CPU_REQ_NMI);
}

/* RFLAGS as the guest sees it, and its inverse. Setting does not check IOPL or IF rights. */
u64 cpu_rflags_get(const struct cpu *c);
void cpu_rflags_set(struct cpu *c, u64 rflags);
static inline u16 cpu_cc_from_rflags(u64 f)
{
    return (u16)((f & 0xd5) << 8 | 1 << 9 | ((f >> 11) & 1));
}
static inline u64 cpu_cc_to_rflags(u16 cc)
{
    return ((cc >> 8) & 0xd5) | (u64)(cc & 1) << 11;
}

/*
 * Recompute what is derived from CR0, CR4, EFER, CS, CPL and AC: (mode), (tlb). Call
 * after changing any of them; cpu_mmu_changed() besides when paging bits changed.
 */
void cpu_mode_update(struct cpu *c);
void cpu_mmu_changed(struct cpu *c);

/* The rest of (block_key), from control registers and MXCSR. Before a block is looked up. */
void cpu_key_update(struct cpu *c);

/* --- run.c --- */

/* Run guest code until something needs the host. Returns enum cpu_exit_reason (also in c->exit). */
int cpu_run(struct cpu *c);

/* Run exactly one instruction (deliver a pending exception first, no interrupts). For completing an exit. */
int cpu_step(struct cpu *c);

/* --- exceptions: all return OP_FAULT --- */
int cpu_raise(struct cpu *c, u8 vector);
int cpu_raise_err(struct cpu *c, u8 vector, u32 error);
int cpu_raise_pf(struct cpu *c, u64 lin, u32 error);
#define cpu_raise_ud(c) cpu_raise(c, EXC_UD)
#define cpu_raise_gp(c) cpu_raise_err(c, EXC_GP, 0)

/* --- sys/event.c --- */

/*
 * Deliver (ev) through the IVT or IDT with the return address c->rip: pushes, loads CS,
 * clears flags. Faults on the way become the right exception, #DF, or shutdown (c->exit
 * set). Returns OP_END, or OP_EXIT on shutdown.
 */
int cpu_event_deliver(struct cpu *c, const struct cpu_event *ev);

/* --- sys/msr.c --- */

/* RDMSR, WRMSR: OP_NEXT, or OP_FAULT with #GP raised, or what the bus said. (host): KVM_{GET,SET}_MSRS, no guest CPUID checks. */
int cpu_msr_read(struct cpu *c, u32 index, u64 *val, bool host);
int cpu_msr_write(struct cpu *c, u32 index, u64 val, bool host);

/* Is there such an MSR in the CPU, as its guest sees it? Those that the bus has do not count. */
bool cpu_msr_known(const struct cpu *c, u32 index);

/* Indices that KVM_GET_MSR_INDEX_LIST names, in order; NULL past the end. */
const u32 *cpu_msr_index_list(unsigned *count);

/* IA32_ARCH_CAPABILITIES that a guest is shown. sys/cpuid.c. */
u64 cpu_arch_capabilities(void);

/* Guest TSC now. */
u64 cpu_tsc(const struct cpu *c);

/* --- sys/cpuid.c --- */

/* Install a table (copied). Recomputes cpuid_xcr0 and friends. 0, -E2BIG, -ENOMEM. */
int cpu_cpuid_set(struct cpu *c, const struct cpu_cpuid_entry *e, unsigned n);

/* CPUID as executed: dynamic bits (OSXSAVE, 0D sizes) filled in. Never faults. */
void cpu_cpuid(const struct cpu *c, u32 leaf, u32 index, u32 out[4]);

/* The same by the instruction: what is always the same is kept in c->j.answer. */
void cpu_cpuid_answer(struct cpu *c, u32 leaf, u32 index, u32 out[4]);

/* What a guest can be offered: the table behind KVM_GET_SUPPORTED_CPUID. Returns the entry count, or -E2BIG. */
int cpu_cpuid_supported(struct cpu_cpuid_entry *e, unsigned max);

/* Table of a named model ("host", "sapphirerapids", "graniterapids", "diamondrapids") cut down to what is supported: count, -ENOENT or -E2BIG. */
int cpu_cpuid_model(const char *model, struct cpu_cpuid_entry *e, unsigned max);

/* XCR0 bits this engine can give a guest on this host. */
u64 cpu_xcr0_supported(void);

/* --- xstate/ --- */

/* XSETBV rules: OP_NEXT or #GP raised. (KVM_SET_XCRS uses it and drops the exception.) */
int cpu_xcr0_set(struct cpu *c, u64 val);

/* Size of a standard or compacted image holding (xcomp). CPUID.0D.{0,1}. */
u32 xstate_size(u64 xcomp, bool compacted);

/* XINUSE & XCR0: what XGETBV with ECX = 1 reads. */
u64 xstate_inuse(const struct cpu *c);

/* Standard-format image out and in, as KVM_GET_XSAVE2 and KVM_SET_XSAVE have it. (size): of the buffer. set: 0 or -EINVAL. */
void xstate_get(const struct cpu *c, void *buf, u32 size);
int xstate_set(struct cpu *c, const void *buf, u32 size);
