// SPDX-License-Identifier: MIT
// BT*, BSF, BSR, POPCNT, LZCNT, TZCNT, CRC32, ADCX, ADOX; bmi.c has those encoded with VEX.

#include "cpu/interp/bit.h"

/*
 * BT, BTS, BTR, BTC. With a register offset and a memory operand the offset is signed
 * and reaches outside the operand: it selects the (bits)-wide word, then the bit in it.
 */
enum bt_form { BT_RR, BT_RI, BT_MR, BT_MI, BT_LR, BT_LI, BT_COUNT };

#define EXEC_BT(name, bits, mod, mnem)                                                             \
    static ALWAYS_INLINE u##bits exec_##name##bits(struct cpu *c, u##bits d, u##bits s)            \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__(CC_LOAD mnem " %" mod "[s], %" mod "[d]" CC_SAVE                                   \
                : [d] "+r"(d), "+a"(cc)                                                            \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        c->cc = cc;                                                                                \
        return d;                                                                                  \
    }

#define WORD_OF(bits, off)                                                                         \
    ((u64)((s64)(s##bits)(off) >> (bits == 64 ? 6 : bits == 32 ? 5 : 4)) * (bits / 8))

#define OPS_BT_REG(name, bits, store)                                                              \
    static int name##bits##_rr(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v = exec_##name##bits(c, reg_ld##bits(c, in->rm), reg_ld##bits(c, in->reg));       \
        store;                                                                                     \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_ri(struct cpu *c, const struct insn *in)                               \
    {                                                                                              \
        u##bits v = exec_##name##bits(c, reg_ld##bits(c, in->rm), (u##bits)in->imm);               \
        store;                                                                                     \
        return OP_NEXT;                                                                            \
    }

#define OP_BT_WRITE(name, bits, form, add, src, locked)                                            \
    static int name##bits##_##form(struct cpu *c, const struct insn *in)                           \
    {                                                                                              \
        struct mmu_rmw m;                                                                          \
        u##bits s = src;                                                                           \
        u64 lin;                                                                                   \
        int rc = insn_lin_at(c, in, add, bits / 8, true, &lin);                                    \
        if (!rc)                                                                                   \
            rc = mmu_rmw_begin(c, &m, lin, bits / 8, locked, insn_acc(in));                        \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        if (locked)                                                                                \
            lock_##name##bits(c, m.p, s &(bits - 1));                                              \
        else                                                                                       \
            host_st##bits(m.p, exec_##name##bits(c, host_ld##bits(m.p), s));                       \
        return mmu_rmw_end(c, &m);                                                                 \
    }

#define OPS_BT_WRITE(name, bits, mod, sfx, mnem)                                                   \
    EXEC_BT(name, bits, mod, mnem)                                                                 \
    static ALWAYS_INLINE void lock_##name##bits(struct cpu *c, void *p, u##bits s)                 \
    {                                                                                              \
        u16 cc = c->cc;                                                                            \
        __asm__ volatile(CC_LOAD "lock " mnem sfx " %" mod "[s], %[p]" CC_SAVE                     \
                         : [p] "+m"(*(u##bits *)p), "+a"(cc)                                       \
                         : [s] "r"(s)                                                              \
                         : "cc", "memory");                                                        \
        c->cc = cc;                                                                                \
    }                                                                                              \
    OPS_BT_REG(name, bits, reg_st##bits(c, in->rm, v))                                             \
    OP_BT_WRITE(name, bits, mr, WORD_OF(bits, s), reg_ld##bits(c, in->reg), false)                 \
    OP_BT_WRITE(name, bits, mi, 0, (u##bits)in->imm, false)                                        \
    OP_BT_WRITE(name, bits, lr, WORD_OF(bits, s), reg_ld##bits(c, in->reg), true)                  \
    OP_BT_WRITE(name, bits, li, 0, (u##bits)in->imm, true)

#define OP_BT_READ(bits, form, add, src)                                                           \
    static int bt##bits##_##form(struct cpu *c, const struct insn *in)                             \
    {                                                                                              \
        u##bits v, s = src;                                                                        \
        u64 lin;                                                                                   \
        int rc = insn_lin_at(c, in, add, bits / 8, false, &lin);                                   \
        if (!rc)                                                                                   \
            rc = lin_ld##bits(c, lin, &v, insn_acc(in));                                           \
        if (unlikely(rc))                                                                          \
            return rc;                                                                             \
        exec_bt##bits(c, v, s);                                                                    \
        return OP_NEXT;                                                                            \
    }

/* BT writes nothing; a 32-bit register keeps its upper half. */
#define OPS_BT(bits, mod)                                                                          \
    EXEC_BT(bt, bits, mod, "bt")                                                                   \
    OPS_BT_REG(bt, bits, (void)v)                                                                  \
    OP_BT_READ(bits, mr, WORD_OF(bits, s), reg_ld##bits(c, in->reg))                               \
    OP_BT_READ(bits, mi, 0, (u##bits)in->imm)
OPS_BT(16, "w")
OPS_BT(32, "k")
OPS_BT(64, "q")

#define BT_SIZES(name, form)                                                                       \
    {                                                                                              \
        NULL, name##16_##form, name##32_##form, name##64_##form                                    \
    }
static op_fn *const bt_ops[BT_COUNT][4] = {BT_SIZES(bt, rr), BT_SIZES(bt, ri), BT_SIZES(bt, mr),
                                           BT_SIZES(bt, mi)};

#define BT_WRITE(name)                                                                             \
    OPS_BT_WRITE(name, 16, "w", "w", #name)                                                        \
    OPS_BT_WRITE(name, 32, "k", "l", #name)                                                        \
    OPS_BT_WRITE(name, 64, "q", "q", #name)                                                        \
    static op_fn *const name##_ops[BT_COUNT][4] = {BT_SIZES(name, rr), BT_SIZES(name, ri),         \
                                                   BT_SIZES(name, mr), BT_SIZES(name, mi),         \
                                                   BT_SIZES(name, lr), BT_SIZES(name, li)};
BT_WRITE(bts)
BT_WRITE(btr)
BT_WRITE(btc)

static int lower_bt(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    const struct opnd *dst = &d->op[0], *src = &d->op[1];
    enum bt_form form = dst->kind == OPND_GPR ? BT_RR : d->lock ? BT_LR : BT_MR;

    if (dst->kind == OPND_GPR)
        in->rm = opnd_off(dst);
    if (src->kind == OPND_GPR) {
        in->reg = opnd_off(src);
    } else {
        form++;
        in->imm = (u64)src->imm & (dst->size * 8 - 1);
    }
    in->size = (u8)dst->size;
    in->op = ops[form][size_index(dst->size)];
    return in->op ? 0 : -ENOENT;
}

/* One source, one destination. BSF and BSR of 0 keep the destination, so it goes in as well. */
#define OPS_SCAN(name, bits, mod, mnem)                                                            \
    static ALWAYS_INLINE void exec_##name##bits(struct cpu *c, u8 reg, u##bits s)                  \
    {                                                                                              \
        u64 d = c->r[reg / 8];                                                                     \
        u16 cc = c->cc;                                                                            \
        __asm__(CC_LOAD mnem " %" mod "[s], %" mod "[d]" CC_SAVE                                   \
                : [d] "+r"(d), "+a"(cc)                                                            \
                : [s] "r"(s)                                                                       \
                : "cc");                                                                           \
        c->r[reg / 8] = d;                                                                         \
        c->cc = cc;                                                                                \
    }                                                                                              \
    static int name##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        exec_##name##bits(c, in->reg, reg_ld##bits(c, in->rm));                                    \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            exec_##name##bits(c, in->reg, v);                                                      \
        return rc;                                                                                 \
    }

#define SCAN(name)                                                                                 \
    OPS_SCAN(name, 16, "w", #name)                                                                 \
    OPS_SCAN(name, 32, "k", #name)                                                                 \
    OPS_SCAN(name, 64, "q", #name)                                                                 \
    static op_fn *const name##_ops[2][4] = {BT_SIZES(name, r), BT_SIZES(name, m)};
SCAN(bsf)
SCAN(bsr)
SCAN(popcnt)
SCAN(lzcnt)
SCAN(tzcnt)

static int lower_scan(const struct decoded *d, struct insn *in, const void *arg)
{
    op_fn *const(*ops)[4] = arg;
    bool mem = d->op[1].kind == OPND_MEM;

    in->reg = opnd_off(&d->op[0]);
    if (!mem)
        in->rm = opnd_off(&d->op[1]);
    in->size = (u8)d->op[0].size;
    in->op = ops[mem][size_index(in->size)];
    return in->op ? 0 : -ENOENT;
}

/* POPCNT came with SSE4.2's generation; LZCNT and TZCNT are BSR and BSF on a CPU without them. */
static int lower_popcnt(const struct decoded *d, struct insn *in, const void *arg)
{
    return __builtin_cpu_supports("popcnt") ? lower_scan(d, in, arg) : -ENOENT;
}

/* CRC32: whatever the widths, a 32-bit checksum goes in and comes out zero-extended. */
#define OPS_CRC32(bits, smod, dmod, sfx)                                                           \
    static ALWAYS_INLINE void exec_crc32_##bits(struct cpu *c, u8 reg, u##bits s)                  \
    {                                                                                              \
        u64 d = reg_ld32(c, reg);                                                                  \
        __asm__("crc32" sfx " %" smod "[s], %" dmod "[d]" : [d] "+r"(d) : [s] "r"(s));             \
        reg_st64(c, reg, d);                                                                       \
    }                                                                                              \
    static int crc32_##bits##_r(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        exec_crc32_##bits(c, in->reg, reg_ld##bits(c, in->rm));                                    \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int crc32_##bits##_m(struct cpu *c, const struct insn *in)                              \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            exec_crc32_##bits(c, in->reg, v);                                                      \
        return rc;                                                                                 \
    }
OPS_CRC32(8, "b", "k", "b")
OPS_CRC32(16, "w", "k", "w")
OPS_CRC32(32, "k", "k", "l")
OPS_CRC32(64, "q", "q", "q")

static int lower_crc32(const struct decoded *d, struct insn *in, const void *arg)
{
    static op_fn *const ops[2][4] = {{crc32_8_r, crc32_16_r, crc32_32_r, crc32_64_r},
                                     {crc32_8_m, crc32_16_m, crc32_32_m, crc32_64_m}};
    bool mem = d->op[1].kind == OPND_MEM;

    if (!__builtin_cpu_supports("sse4.2"))
        return -ENOENT;
    in->reg = opnd_off(&d->op[0]);
    if (!mem)
        in->rm = opnd_off(&d->op[1]);
    in->size = (u8)d->op[1].size;
    in->op = ops[mem][size_index(in->size)];
    return 0;
}

/* ADCX and ADOX: addition with CF or OF alone as carry in and out. */
#define OPS_ADX(name, bits, flag)                                                                  \
    static ALWAYS_INLINE void exec_##name##bits(struct cpu *c, u8 reg, u##bits s)                  \
    {                                                                                              \
        u##bits d = reg_ld##bits(c, reg);                                                          \
        bool carry = __builtin_add_overflow(d, s, &d);                                             \
        carry |= __builtin_add_overflow(d, (u##bits) !!(c->cc & (flag)), &d);                      \
        reg_st##bits(c, reg, d);                                                                   \
        c->cc = (u16)((c->cc & ~(flag)) | (carry ? (flag) : 0));                                   \
    }                                                                                              \
    static int name##bits##_r(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        exec_##name##bits(c, in->reg, reg_ld##bits(c, in->rm));                                    \
        return OP_NEXT;                                                                            \
    }                                                                                              \
    static int name##bits##_m(struct cpu *c, const struct insn *in)                                \
    {                                                                                              \
        u##bits v;                                                                                 \
        int rc = insn_ld##bits(c, in, &v);                                                         \
        if (likely(!rc))                                                                           \
            exec_##name##bits(c, in->reg, v);                                                      \
        return rc;                                                                                 \
    }
OPS_ADX(adcx, 32, CC_CF)
OPS_ADX(adcx, 64, CC_CF)
OPS_ADX(adox, 32, CC_OF)
OPS_ADX(adox, 64, CC_OF)
static op_fn *const adcx_ops[2][4] = {{NULL, NULL, adcx32_r, adcx64_r},
                                      {NULL, NULL, adcx32_m, adcx64_m}};
static op_fn *const adox_ops[2][4] = {{NULL, NULL, adox32_r, adox64_r},
                                      {NULL, NULL, adox32_m, adox64_m}};

#define BMI_ROW(name) {ZYDIS_MNEMONIC_##name, lower_bmi, &bmi_##name},

const struct op_row ops_bit[] = {
    {ZYDIS_MNEMONIC_BT, lower_bt, bt_ops},
    {ZYDIS_MNEMONIC_BTS, lower_bt, bts_ops},
    {ZYDIS_MNEMONIC_BTR, lower_bt, btr_ops},
    {ZYDIS_MNEMONIC_BTC, lower_bt, btc_ops},
    {ZYDIS_MNEMONIC_BSF, lower_scan, bsf_ops},
    {ZYDIS_MNEMONIC_BSR, lower_scan, bsr_ops},
    {ZYDIS_MNEMONIC_POPCNT, lower_popcnt, popcnt_ops},
    {ZYDIS_MNEMONIC_LZCNT, lower_scan, lzcnt_ops},
    {ZYDIS_MNEMONIC_TZCNT, lower_scan, tzcnt_ops},
    {ZYDIS_MNEMONIC_CRC32, lower_crc32, NULL},
    {ZYDIS_MNEMONIC_ADCX, lower_scan, adcx_ops},
    {ZYDIS_MNEMONIC_ADOX, lower_scan, adox_ops},
    BMI_LIST(BMI_ROW){0},
};
