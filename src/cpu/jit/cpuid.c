// SPDX-License-Identifier: MIT
// CPUID in translated code: answers that have been given before, from a small table in struct cpu.

#include "cpu/jit/xlat.h"

_Static_assert(sizeof(struct cpu_answer) == 32, "index arithmetic below");

void jit_glue_cpuid_make(struct jit *j)
{
    static const u8 to[] = {REG_RAX, REG_RBX, REG_RCX, REG_RDX};
    struct asm_buf *a = &j->hot;
    u32 miss;

    j->glue.cpuid = a->at;
    ASM(a, 0x41, 0x89, 0xc0 | REG_RAX << 3 | (HOST_T1 & 7));       /* mov t1d, eax */
    ASM(a, 0x41, 0x89, 0xc0 | REG_RCX << 3 | (HOST_T0 & 7));       /* mov t0d, ecx */
    ASM(a, 0x49, 0xc1, 0xe0 | (HOST_T0 & 7), 32);                  /* shl t0, 32 */
    ASM(a, 0x4d, 0x09, 0xc0 | (HOST_T1 & 7) << 3 | (HOST_T0 & 7)); /* or t0, t1 */
    ASM(a, 0x45, 0x69, 0xc0 | (HOST_T1 & 7) << 3 | (HOST_T1 & 7)); /* imul t1d, t1d, imm32 */
    asm_u32(a, CPU_ANSWER_HASH);
    ASM(a, 0x41, 0xc1, 0xe8 | (HOST_T1 & 7), 32 - CPU_ANSWER_BITS); /* shr t1d */
    ASM(a, 0x41, 0xc1, 0xe0 | (HOST_T1 & 7), 5);                    /* shl t1d, 5 */
    asm_gs_base(a, REX_W, 0x3b, HOST_T0, HOST_T1,
                GS(j.answer) + (u32)offsetof(struct cpu_answer, key));
    miss = asm_jcc8(a, ASM_NE);
    for (unsigned i = 0; i < ARRAY_SIZE(to); i++) {
        asm_gs_base(a, 0, 0x8b, to[i], HOST_T1,
                    GS(j.answer) + (u32)offsetof(struct cpu_answer, reg) + 4 * i);
    }
    asm_here8(a, miss);
    asm_u8(a, 0xc3);
}

void xlat_cpuid(struct xlat *x)
{
    xlat_flags_spill(x, x->flags[x->i].before);
    asm_call_to(x->a, x->j->glue.cpuid);
    xlat_slow_from(x, asm_jcc(x->a, ASM_NE));
    xlat_slow_resume(x);
}
