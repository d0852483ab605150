// SPDX-License-Identifier: MIT
// CPUID: the table of features that a guest can be offered, and the host's own answers.
#pragma once

#include "cpu/cpu.h"
#include "cpu/sys/guest_cpuid.h"

/* How a feature comes to a guest. */
enum cpuid_how {
    CPUID_HOST, /* the host's units execute it: needs the host's bit, and (xcr0) enabled there */
    CPUID_SOFT, /* this engine does it on every host */
};

/* Which models and vendors have a feature; none of the vendor bits: both. */
#define CPUID_INTEL BIT(0)
#define CPUID_AMD   BIT(1)
#define CPUID_SPR   BIT(2) /* Sapphire Rapids has it, and so have the later ones */
#define CPUID_GNR   BIT(3) /* Granite Rapids has it, and Diamond Rapids */
#define CPUID_DMR   BIT(4) /* Diamond Rapids has it */

struct cpuid_feature {
    u32 leaf;
    u8 index, reg, bit; /* (reg): enum cpuid_reg */
    u8 how;             /* enum cpuid_how */
    u8 models;          /* CPUID_INTEL … */
    u32 xcr0;           /* state components that must be enabled for it */
    const char *name;   /* as in Linux' /proc/cpuinfo */
};

/* Every bit that can ever be offered: one without a row is never set. Ends with name == NULL. */
extern const struct cpuid_feature cpuid_features[];

/* The row called (name), where '-' is as good as '_'; or NULL. */
const struct cpuid_feature *cpuid_feature(const char *name);

/*
 * CPUID.1EH.1:EAX of a CPU with the features (own) that are enumerated there alone. Its low bits repeat AMX-INT8,
 * BF16, COMPLEX and FP16 of leaf 7, whose words follow. Without (own) there is no such leaf: 0.
 */
u32 cpuid_tmul_word(u32 own, u32 edx7_0, u32 eax7_1, u32 edx7_1);

/* Can this engine on this host give a guest feature (f)? */
bool cpuid_feature_supported(const struct cpuid_feature *f);

/*
 * Host CPUID, remembered: the instruction traps on virtual machines. (out): EAX, EBX, ECX, EDX.
 * Zeros for leaves that nobody here needs. Any thread.
 */
void cpuid_host(u32 leaf, u32 index, u32 out[4]);

/* Host XCR0, 0 where the host's system has not enabled XSAVE. */
u64 cpuid_host_xcr0(void);

/* Does the host itself have feature (name), usable here (vector features: enabled in XCR0)? */
bool cpuid_host_has(const char *name);

/* CPUID.1:EBX[31:24], CPUID.0BH:EDX and their like are the caller's to fill in, as with any KVM. */

#define CPUID_FLAG_INDEX BIT(0) /* KVM_CPUID_FLAG_SIGNIFCANT_INDEX: (index) selects */

/* Leaf and index in a table, or NULL. */
const struct cpu_cpuid_entry *cpuid_find(const struct cpu_cpuid_entry *e, unsigned n, u32 leaf,
                                         u32 index);
