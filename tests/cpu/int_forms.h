// SPDX-License-Identifier: MIT
// The integer instructions that 64-bit user code can run, as encodings for a random generator.
#pragma once

#include "base/types.h"

#define M BIT(0)     /* has ModRM */
#define B BIT(1)     /* byte operands */
#define V BIT(2)     /* 16, 32 or 64 bits by 66h and REX.W */
#define NO16 BIT(3)
#define REG BIT(4)   /* register operand only */
#define MEM BIT(5)   /* memory operand only */
#define OPREG BIT(6) /* register in the opcode */
#define I8 BIT(7)
#define IZ BIT(8)    /* 16 or 32 bits */
#define IV BIT(9)    /* 16, 32 or 64 bits */
#define I16 BIT(10)
#define LOCKABLE BIT(11)
#define D64 BIT(12)  /* 64 or 16 bits, no REX.W needed */
#define BITOFF BIT(13) /* the register operand is a bit offset */
#define DIVIDE BIT(14)
#define STACK BIT(15)  /* rSP and rBP point to scratch memory */
#define STRING BIT(16)
#define REPS BIT(17)   /* may take REP */
#define MOFFS BIT(18)
#define A16 BIT(19)    /* memory aligned to 16, 64 bytes */
#define A64 BIT(20)
#define JUMP8 BIT(21)
#define JUMP32 BIT(22)
#define TARGET BIT(23) /* the operand is a branch target */
#define ACC BIT(24)    /* compares with rAX: make it equal half the time */
#define VEX BIT(25)
#define XLATB BIT(26)
#define FLAGS BIT(27)  /* pops flags */
#define DEST BIT(28)   /* the register operand is a 64-byte aligned address */
#define COUNT BIT(29)  /* rCX is a loop count */

struct form {
    const char *name;
    u8 pp;   /* mandatory prefix or 0 */
    u8 map;  /* 0, 1: 0F, 2: 0F38, 3: 0F3A */
    u8 op;
    s8 ext;  /* ModRM.reg, or -1: a register */
    u32 flags;
    const char *needs; /* __builtin_cpu_supports() name is checked by needs_met() */
};

#define ALU(name, n)                                                                               \
    {name " Eb,Gb", 0, 0, n * 8 + 0, -1, M | B | (n < 7 ? LOCKABLE : 0)},                          \
    {name " Ev,Gv", 0, 0, n * 8 + 1, -1, M | V | (n < 7 ? LOCKABLE : 0)},                          \
    {name " Gb,Eb", 0, 0, n * 8 + 2, -1, M | B},                                                   \
    {name " Gv,Ev", 0, 0, n * 8 + 3, -1, M | V},                                                   \
    {name " AL,Ib", 0, 0, n * 8 + 4, -1, B | I8},                                                  \
    {name " rAX,Iz", 0, 0, n * 8 + 5, -1, V | IZ},                                                 \
    {name " Eb,Ib", 0, 0, 0x80, n, M | B | I8 | (n < 7 ? LOCKABLE : 0)},                           \
    {name " Ev,Iz", 0, 0, 0x81, n, M | V | IZ | (n < 7 ? LOCKABLE : 0)},                           \
    {name " Ev,Ib", 0, 0, 0x83, n, M | V | I8 | (n < 7 ? LOCKABLE : 0)},

#define SHIFTS(name, n)                                                                            \
    {name " Eb,Ib", 0, 0, 0xc0, n, M | B | I8}, {name " Ev,Ib", 0, 0, 0xc1, n, M | V | I8},        \
    {name " Eb,1", 0, 0, 0xd0, n, M | B}, {name " Ev,1", 0, 0, 0xd1, n, M | V},                    \
    {name " Eb,CL", 0, 0, 0xd2, n, M | B}, {name " Ev,CL", 0, 0, 0xd3, n, M | V},

#define CC(n)                                                                                      \
    {"j" #n " Jb", 0, 0, 0x70 + n, -1, JUMP8}, {"j" #n " Jz", 0, 1, 0x80 + n, -1, JUMP32},         \
    {"set" #n " Eb", 0, 1, 0x90 + n, 0, M | B}, {"cmov" #n " Gv,Ev", 0, 1, 0x40 + n, -1, M | V},

#define STR(name, op)                                                                              \
    {name "b", 0, 0, op, -1, B | STRING}, {name, 0, 0, op + 1, -1, V | STRING},                    \
    {"rep " name "b", 0, 0, op, -1, B | STRING | REPS}, {"rep " name, 0, 0, op + 1, -1, V | STRING | REPS},

#define BTS(name, op, n, lock)                                                                     \
    {name " Ev,Gv", 0, 1, op, -1, M | V | BITOFF | lock}, {name " Ev,Ib", 0, 1, 0xba, n, M | V | I8 | lock},

static const struct form forms[] = {
    ALU("add", 0) ALU("or", 1) ALU("adc", 2) ALU("sbb", 3) ALU("and", 4) ALU("sub", 5) ALU("xor", 6) ALU("cmp", 7)
    {"test Eb,Gb", 0, 0, 0x84, -1, M | B}, {"test Ev,Gv", 0, 0, 0x85, -1, M | V},
    {"test AL,Ib", 0, 0, 0xa8, -1, B | I8}, {"test rAX,Iz", 0, 0, 0xa9, -1, V | IZ},
    {"test Eb,Ib", 0, 0, 0xf6, 0, M | B | I8}, {"test Ev,Iz", 0, 0, 0xf7, 0, M | V | IZ},
    {"test Eb,Ib alias", 0, 0, 0xf6, 1, M | B | I8},
    {"not Eb", 0, 0, 0xf6, 2, M | B | LOCKABLE}, {"not Ev", 0, 0, 0xf7, 2, M | V | LOCKABLE},
    {"neg Eb", 0, 0, 0xf6, 3, M | B | LOCKABLE}, {"neg Ev", 0, 0, 0xf7, 3, M | V | LOCKABLE},
    {"inc Eb", 0, 0, 0xfe, 0, M | B | LOCKABLE}, {"inc Ev", 0, 0, 0xff, 0, M | V | LOCKABLE},
    {"dec Eb", 0, 0, 0xfe, 1, M | B | LOCKABLE}, {"dec Ev", 0, 0, 0xff, 1, M | V | LOCKABLE},

    {"mov Eb,Gb", 0, 0, 0x88, -1, M | B}, {"mov Ev,Gv", 0, 0, 0x89, -1, M | V},
    {"mov Gb,Eb", 0, 0, 0x8a, -1, M | B}, {"mov Gv,Ev", 0, 0, 0x8b, -1, M | V},
    {"mov Eb,Ib", 0, 0, 0xc6, 0, M | B | I8}, {"mov Ev,Iz", 0, 0, 0xc7, 0, M | V | IZ},
    {"mov Rb,Ib", 0, 0, 0xb0, -1, OPREG | B | I8}, {"mov Rv,Iv", 0, 0, 0xb8, -1, OPREG | V | IV},
    {"mov AL,Ob", 0, 0, 0xa0, -1, B | MOFFS}, {"mov rAX,Ov", 0, 0, 0xa1, -1, V | MOFFS},
    {"mov Ob,AL", 0, 0, 0xa2, -1, B | MOFFS}, {"mov Ov,rAX", 0, 0, 0xa3, -1, V | MOFFS},
    {"movzx Gv,Eb", 0, 1, 0xb6, -1, M | V}, {"movzx Gv,Ew", 0, 1, 0xb7, -1, M | V},
    {"movsx Gv,Eb", 0, 1, 0xbe, -1, M | V}, {"movsx Gv,Ew", 0, 1, 0xbf, -1, M | V},
    {"movsxd Gv,Ed", 0, 0, 0x63, -1, M | V}, {"lea Gv,M", 0, 0, 0x8d, -1, M | V | MEM},
    {"xchg Eb,Gb", 0, 0, 0x86, -1, M | B | LOCKABLE}, {"xchg Ev,Gv", 0, 0, 0x87, -1, M | V | LOCKABLE},
    {"xchg rAX,Rv", 0, 0, 0x90, -1, OPREG | V}, {"bswap Rv", 0, 1, 0xc8, -1, OPREG | V},
    {"movbe Gv,M", 0, 2, 0xf0, -1, M | V | MEM, "movbe"}, {"movbe M,Gv", 0, 2, 0xf1, -1, M | V | MEM, "movbe"},
    {"cbw", 0, 0, 0x98, -1, V}, {"cwd", 0, 0, 0x99, -1, V}, {"xlat", 0, 0, 0xd7, -1, XLATB},
    {"lahf", 0, 0, 0x9f, -1, 0}, {"sahf", 0, 0, 0x9e, -1, 0}, {"cmc", 0, 0, 0xf5, -1, 0},
    {"clc", 0, 0, 0xf8, -1, 0}, {"stc", 0, 0, 0xf9, -1, 0}, {"cld", 0, 0, 0xfc, -1, 0}, {"std", 0, 0, 0xfd, -1, 0},

    SHIFTS("rol", 0) SHIFTS("ror", 1) SHIFTS("rcl", 2) SHIFTS("rcr", 3) SHIFTS("shl", 4) SHIFTS("shr", 5)
    SHIFTS("sal", 6) SHIFTS("sar", 7)
    {"shld Ev,Gv,Ib", 0, 1, 0xa4, -1, M | V | I8}, {"shld Ev,Gv,CL", 0, 1, 0xa5, -1, M | V},
    {"shrd Ev,Gv,Ib", 0, 1, 0xac, -1, M | V | I8}, {"shrd Ev,Gv,CL", 0, 1, 0xad, -1, M | V},

    {"mul Eb", 0, 0, 0xf6, 4, M | B}, {"mul Ev", 0, 0, 0xf7, 4, M | V},
    {"imul Eb", 0, 0, 0xf6, 5, M | B}, {"imul Ev", 0, 0, 0xf7, 5, M | V},
    {"div Eb", 0, 0, 0xf6, 6, M | B | DIVIDE}, {"div Ev", 0, 0, 0xf7, 6, M | V | DIVIDE},
    {"idiv Eb", 0, 0, 0xf6, 7, M | B | DIVIDE}, {"idiv Ev", 0, 0, 0xf7, 7, M | V | DIVIDE},
    {"imul Gv,Ev", 0, 1, 0xaf, -1, M | V}, {"imul Gv,Ev,Iz", 0, 0, 0x69, -1, M | V | IZ},
    {"imul Gv,Ev,Ib", 0, 0, 0x6b, -1, M | V | I8},

    BTS("bt", 0xa3, 4, 0) BTS("bts", 0xab, 5, LOCKABLE) BTS("btr", 0xb3, 6, LOCKABLE) BTS("btc", 0xbb, 7, LOCKABLE)
    {"bsf Gv,Ev", 0, 1, 0xbc, -1, M | V}, {"bsr Gv,Ev", 0, 1, 0xbd, -1, M | V},
    {"popcnt Gv,Ev", 0xf3, 1, 0xb8, -1, M | V, "popcnt"}, {"tzcnt Gv,Ev", 0xf3, 1, 0xbc, -1, M | V, "bmi"},
    {"lzcnt Gv,Ev", 0xf3, 1, 0xbd, -1, M | V, "lzcnt"},
    {"crc32 Gd,Eb", 0xf2, 2, 0xf0, -1, M | B, "sse4.2"}, {"crc32 Gd,Ev", 0xf2, 2, 0xf1, -1, M | V, "sse4.2"},
    {"adcx Gy,Ey", 0x66, 2, 0xf6, -1, M | V | NO16, "adx"}, {"adox Gy,Ey", 0xf3, 2, 0xf6, -1, M | V | NO16, "adx"},
    {"andn", 0, 2, 0xf2, -1, M | VEX, "bmi"}, {"bextr", 0, 2, 0xf7, -1, M | VEX, "bmi"},
    {"blsr", 0, 2, 0xf3, 1, M | VEX, "bmi"}, {"blsmsk", 0, 2, 0xf3, 2, M | VEX, "bmi"},
    {"blsi", 0, 2, 0xf3, 3, M | VEX, "bmi"}, {"bzhi", 0, 2, 0xf5, -1, M | VEX, "bmi2"},
    {"mulx", 0xf2, 2, 0xf6, -1, M | VEX, "bmi2"}, {"pdep", 0xf2, 2, 0xf5, -1, M | VEX, "bmi2"},
    {"pext", 0xf3, 2, 0xf5, -1, M | VEX, "bmi2"}, {"sarx", 0xf3, 2, 0xf7, -1, M | VEX, "bmi2"},
    {"shlx", 0x66, 2, 0xf7, -1, M | VEX, "bmi2"}, {"shrx", 0xf2, 2, 0xf7, -1, M | VEX, "bmi2"},
    {"rorx", 0xf2, 3, 0xf0, -1, M | VEX | I8, "bmi2"},

    {"xadd Eb,Gb", 0, 1, 0xc0, -1, M | B | LOCKABLE}, {"xadd Ev,Gv", 0, 1, 0xc1, -1, M | V | LOCKABLE},
    {"cmpxchg Eb,Gb", 0, 1, 0xb0, -1, M | B | LOCKABLE | ACC},
    {"cmpxchg Ev,Gv", 0, 1, 0xb1, -1, M | V | LOCKABLE | ACC},
    {"cmpxchg8b", 0, 1, 0xc7, 1, M | MEM | LOCKABLE | ACC},
    {"cmpxchg16b", 0, 1, 0xc7, 1, M | V | NO16 | MEM | LOCKABLE | ACC | A16},
    {"movnti", 0, 1, 0xc3, -1, M | V | NO16 | MEM}, {"movdiri", 0, 2, 0xf9, -1, M | V | NO16 | MEM, "movdiri"},
    {"movdir64b", 0x66, 2, 0xf8, -1, M | MEM | DEST, "movdir64b"},
    {"clflush", 0, 1, 0xae, 7, M | MEM}, {"mfence", 0, 1, 0xae, 6, M | REG}, {"lfence", 0, 1, 0xae, 5, M | REG},
    {"sfence", 0, 1, 0xae, 7, M | REG}, {"prefetch Mb", 0, 1, 0x18, 1, M | MEM}, {"prefetchw Mb", 0, 1, 0x0d, 1, M | MEM},

    STR("movs", 0xa4) STR("cmps", 0xa6) STR("stos", 0xaa) STR("lods", 0xac) STR("scas", 0xae)

    {"push Rv", 0, 0, 0x50, -1, OPREG | D64 | STACK}, {"pop Rv", 0, 0, 0x58, -1, OPREG | D64 | STACK},
    {"push Ib", 0, 0, 0x6a, -1, D64 | STACK | I8}, {"push Iz", 0, 0, 0x68, -1, D64 | STACK | IZ},
    {"push Ev", 0, 0, 0xff, 6, M | D64 | STACK}, {"pop Ev", 0, 0, 0x8f, 0, M | D64 | STACK},
    {"pushf", 0, 0, 0x9c, -1, D64 | STACK}, {"popf", 0, 0, 0x9d, -1, D64 | STACK | FLAGS},
    {"enter", 0, 0, 0xc8, -1, D64 | STACK | I16 | I8}, {"leave", 0, 0, 0xc9, -1, D64 | STACK},

    CC(0) CC(1) CC(2) CC(3) CC(4) CC(5) CC(6) CC(7) CC(8) CC(9) CC(10) CC(11) CC(12) CC(13) CC(14) CC(15)
    {"jmp Jb", 0, 0, 0xeb, -1, JUMP8}, {"jmp Jz", 0, 0, 0xe9, -1, JUMP32}, {"call Jz", 0, 0, 0xe8, -1, JUMP32 | STACK},
    {"jmp Ev", 0, 0, 0xff, 4, M | TARGET}, {"call Ev", 0, 0, 0xff, 2, M | TARGET | STACK},
    {"ret", 0, 0, 0xc3, -1, STACK | TARGET}, {"ret Iw", 0, 0, 0xc2, -1, STACK | TARGET | I16},
    {"loopne", 0, 0, 0xe0, -1, JUMP8 | COUNT}, {"loope", 0, 0, 0xe1, -1, JUMP8 | COUNT},
    {"loop", 0, 0, 0xe2, -1, JUMP8 | COUNT}, {"jrcxz", 0, 0, 0xe3, -1, JUMP8 | COUNT},
    {"nop Ev", 0, 1, 0x1f, 0, M | V}, {"nop", 0, 0, 0x90, -1, 0}, {"endbr64", 0xf3, 1, 0x1e, 7, M | REG},
    {"pause", 0xf3, 0, 0x90, -1, 0}, {"ud2", 0, 1, 0x0b, -1, 0}, {"ud1", 0, 1, 0xb9, -1, M | V},
};
