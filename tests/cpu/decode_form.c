// SPDX-License-Identifier: MIT
// The memory of instruction forms against the decoder itself: every opcode, and random instructions with other numbers in them.

#include "cpu/decode/form.h"
#include "rand.h"
#include "tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 200000

static struct decode_forms *forms;
static u64 hits, tries;

static bool opnd_equal(const struct opnd *a, const struct opnd *b)
{
    return a->kind == b->kind && a->reg == b->reg && a->high == b->high && a->size == b->size &&
           a->esize == b->esize && a->read == b->read && a->write == b->write &&
           a->encoding == b->encoding && a->rel == b->rel && a->imm == b->imm &&
           a->far_sel == b->far_sel;
}

static bool encoding_equal(const struct decoded *a, const struct decoded *b)
{
    return !memcmp(a->bytes, b->bytes, sizeof(a->bytes)) && a->enc == b->enc &&
           a->prefix_len == b->prefix_len && a->modrm_off == b->modrm_off &&
           a->opcode == b->opcode && a->map == b->map && a->modrm_mod == b->modrm_mod &&
           a->modrm_reg == b->modrm_reg && a->modrm_rm == b->modrm_rm && a->rex == b->rex &&
           a->vl == b->vl && a->vex_w == b->vex_w && a->evex_aaa == b->evex_aaa &&
           a->evex_z == b->evex_z && a->evex_b == b->evex_b && a->disp_size == b->disp_size &&
           a->imm_size == b->imm_size;
}

static bool decoded_equal(const struct decoded *a, const struct decoded *b)
{
    bool same = a->mnemonic == b->mnemonic && a->len == b->len && a->mode == b->mode &&
                a->opsize == b->opsize && a->asize == b->asize && a->ssize == b->ssize &&
                a->lock == b->lock && a->rep == b->rep && a->repne == b->repne &&
                a->writes == b->writes && a->nopnd == b->nopnd && a->has_mem == b->has_mem &&
                a->vsib == b->vsib && a->mem_base == b->mem_base && a->mem_index == b->mem_index &&
                a->mem_scale == b->mem_scale && a->mem_seg == b->mem_seg &&
                a->mem_sib == b->mem_sib && a->mem_rip == b->mem_rip &&
                a->mem_disp == b->mem_disp && a->isa_ext == b->isa_ext &&
                a->isa_set == b->isa_set && a->exc_class == b->exc_class &&
                a->flags_read == b->flags_read && a->flags_written == b->flags_written &&
                a->cc_read == b->cc_read && a->cc_set == b->cc_set &&
                a->cc_undefined == b->cc_undefined && encoding_equal(a, b);

    for (unsigned i = 0; i < ARRAY_SIZE(a->op); i++)
        same = same && opnd_equal(&a->op[i], &b->op[i]);
    return same;
}

/* Is it decoded alike both ways? (*ret): its fields, len 0 if it is no instruction. */
static bool alike(const u8 *bytes, unsigned avail, struct decoded *ret, struct decode_fields *f)
{
    struct decoded a = {0}, b = {0};
    bool gp_a, gp_b;
    int rc = decode_with_fields(bytes, avail, MODE_64, true, &a, &gp_a, f);

    if (decode_by_form(forms, bytes, avail, &b, &gp_b) != rc)
        return false;
    *ret = a;
    if (rc)
        ret->len = 0;
    return rc ? rc == -EAGAIN || gp_a == gp_b : decoded_equal(&a, &b);
}

/* The same instruction, then with other numbers in it, then cut off. */
static bool family_alike(u8 *bytes)
{
    struct decode_fields f;
    struct decoded d;
    unsigned len;

    if (!alike(bytes, 15, &d, &f))
        return false;
    if (!d.len)
        return true;
    len = d.len;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; f.disp_size && i < f.disp_size; i++)
            bytes[f.disp_off + i] = (u8)rnd();
        for (unsigned i = 0; f.imm_size && i < f.imm_size; i++)
            bytes[f.imm_off + i] = (u8)rnd();
        for (unsigned i = len; i < 15; i++)
            bytes[i] = (u8)rnd();
        if (!alike(bytes, 15, &d, &f))
            return false;
        hits += f.plain;
        tries++;
    }
    return alike(bytes, len, &d, &f) && (len == 1 || alike(bytes, len - 1, &d, &f));
}

static void report(const u8 *bytes)
{
    printf("# differs:");
    for (unsigned i = 0; i < 15; i++)
        printf(" %02x", bytes[i]);
    printf("\n");
}

/* Every opcode of every map, with some prefixes and ModRM bytes. */
static u64 every_opcode(void)
{
    static const u8 leads[][4] = {{0},
                                  {1, 0x66},
                                  {1, 0xf2},
                                  {1, 0xf3},
                                  {1, 0x48},
                                  {1, 0x45},
                                  {2, 0x66, 0x49},
                                  {1, 0x67},
                                  {1, 0x65},
                                  {1, 0xf0},
                                  {2, 0xf3, 0x4c},
                                  {2, 0xc5, 0xfd},
                                  {3, 0xc4, 0xe2, 0x79},
                                  {3, 0xc4, 0xe3, 0xfd}};
    static const u8 maps[][3] = {{0}, {1, 0x0f}, {2, 0x0f, 0x38}, {2, 0x0f, 0x3a}};
    u64 bad = 0;
    u8 bytes[15];

    for (size_t l = 0; l < ARRAY_SIZE(leads); l++) {
        for (size_t m = 0; m < ARRAY_SIZE(maps); m++) {
            for (unsigned k = 0; k < 256 * 8; k++) {
                unsigned n = 0;

                for (unsigned i = 0; i < 15; i++)
                    bytes[i] = (u8)rnd();
                for (unsigned i = 0; i < leads[l][0]; i++)
                    bytes[n++] = leads[l][1 + i];
                for (unsigned i = 0; i < maps[m][0] && leads[l][1] != 0xc4 && leads[l][1] != 0xc5;
                     i++)
                    bytes[n++] = maps[m][1 + i];
                bytes[n] = (u8)(k / 8);
                if (!family_alike(bytes)) {
                    bad++;
                    report(bytes);
                }
            }
        }
    }
    return bad;
}

static u64 random_insns(void)
{
    u64 bad = 0;
    u8 bytes[15];

    for (unsigned k = 0; k < ROUNDS; k++) {
        for (unsigned i = 0; i < 15; i++)
            bytes[i] = (u8)rnd();
        if (!family_alike(bytes)) {
            bad++;
            report(bytes);
        }
    }
    return bad;
}

int main(void)
{
    if (decode_forms_create(&forms))
        return tap_skip_all("no memory");
    is_u64(every_opcode(), 0, "every opcode");
    is_u64(random_insns(), 0, "random instructions");
    ok(hits > tries / 2, "most of them are remembered");
    decode_forms_free(forms);
    return tap_done();
}
