// SPDX-License-Identifier: MIT
// --engine and --cpu: models never exceed the engine, and a feature takes its state and dependents along.
#include "cli/engine.h"
#include "tap.h"
#include "vmm/cpuid.h"

#include <errno.h>

static struct kvm_cpuid2 *table(const char *model)
{
    struct kvm_cpuid2 *t = NULL;
    struct vmm_error err = {{0}};

    if (engine_cpuid(&kvm_backend_soft, model, &t, &err))
        printf("# %s: %s\n", model, err.text);
    return t;
}

static bool refused(const char *model)
{
    struct kvm_cpuid2 *t = NULL;
    struct vmm_error err = {{0}};
    int rc = engine_cpuid(&kvm_backend_soft, model, &t, &err);

    free(t);
    return rc < 0 && err.text[0];
}

static u32 xcr0(struct kvm_cpuid2 *t)
{
    const struct kvm_cpuid_entry2 *e = cpuid_row(t, 0xd, 0);

    return e ? e->eax : 0;
}

static u32 tmul(struct kvm_cpuid2 *t)
{
    const struct kvm_cpuid_entry2 *e = cpuid_row(t, 0x1e, 1);

    return e ? e->eax : 0;
}

/* Leaf 1EH.1 comes and goes with its features, and repeats those of leaf 7. */
static void later_models(void)
{
    struct kvm_cpuid2 *gnr = table("graniterapids"), *dmr = table("diamondrapids");
    struct kvm_cpuid2 *fp8 = table("sapphirerapids,+amx-fp8"),
                      *none = table("diamondrapids,-amx_fp8,"
                                    "-amx_avx512,-amx_movrs");
    struct kvm_cpuid2 *fewer = table("host,-amx_int8,-amx-complex");

    if (!ok(gnr && dmr && fp8 && none && fewer, "tables of the later models"))
        return;
    ok(engine_cpuid_has(gnr, "amx_fp16") && !engine_cpuid_has(gnr, "amx_complex") && !tmul(gnr) &&
           !cpuid_row(gnr, 0x1e, 0)->eax,
       "graniterapids: AMX-FP16, no leaf 1E.1");
    ok(engine_cpuid_has(dmr, "amx_complex") && engine_cpuid_has(dmr, "amx_movrs") &&
           !engine_cpuid_has(dmr, "amx_tf32") && cpuid_row(dmr, 0x1e, 0)->eax == 1,
       "diamondrapids: AMX-COMPLEX and AMX-MOVRS, no AMX-TF32");
    is_u64(tmul(dmr) & 0x17f, 0x11f & 0x17f, "diamondrapids: 1E.1");
    is_u64(tmul(fp8), 0x13, "sapphirerapids,+amx-fp8: 1E.1 has FP8, INT8 and BF16");
    is_u64(cpuid_row(fp8, 0x1e, 0)->eax, 1, "and 1E.0 says that it is there");
    ok(!tmul(none) && !cpuid_row(none, 0x1e, 0)->eax && engine_cpuid_has(none, "amx_complex"),
       "without its features 1E.1 goes");
    is_u64(tmul(fewer) & 0xf, 0xa, "-amx_int8,-amx-complex: gone from 1E.1 as well");
    free(gnr);
    free(dmr);
    free(fp8);
    free(none);
    free(fewer);
}

int main(void)
{
    struct kvm_cpuid2 *host = table("host"), *spr = table("sapphirerapids");
    struct kvm_cpuid2 *no_amx = table("host,-amx_tile"), *no_avx = table("host,-avx");

    ok(engine_find("soft") == &kvm_backend_soft && engine_find("kvm") == &kvm_backend_linux,
       "engines by name");
    ok(engine_find("auto") && !engine_find("tcg"), "auto is one of them, others are none");
    if (!ok(host && spr && no_amx && no_avx, "tables"))
        return tap_done();
    ok(engine_cpuid_has(host, "amx_tile") && engine_cpuid_has(host, "amx_int8") &&
           engine_cpuid_has(host, "amx_bf16"),
       "host has AMX, whatever the host has");
    ok(engine_cpuid_has(spr, "amx_tile") && cpuid_row(spr, 0x1d, 1), "so has sapphirerapids");
    ok(!strncmp((char *)&cpuid_row(spr, 0, 0)->ebx, "Genu", 4), "which is Intel's");
    ok(cpuid_row(spr, 0x40000000, 0), "KVM's own leaves are there");
    is_u64(xcr0(spr) & ~xcr0(host), 0, "it has no state that the engine does not have");

    ok(!engine_cpuid_has(no_amx, "amx_tile") && !engine_cpuid_has(no_amx, "amx_int8"),
       "-amx_tile: no amx_int8 either");
    is_u64(xcr0(no_amx) & 0x60000, 0, "-amx_tile: no tile state");
    ok(!cpuid_row(no_amx, 0x1d, 0) && !cpuid_row(no_amx, 0x1e, 0), "-amx_tile: no tile leaves");
    ok(!engine_cpuid_has(no_avx, "avx2") && !engine_cpuid_has(no_avx, "avx512f") &&
           !engine_cpuid_has(no_avx, "fma"),
       "-avx: none of its family");
    is_u64(xcr0(no_avx) & 0xe4, 0, "-avx: no YMM, no AVX-512 state");
    ok(engine_cpuid_has(no_avx, "amx_tile"), "-avx: AMX stays");

    later_models();

    ok(refused("pentium"), "an unknown model");
    ok(refused("host,+nonsense") && refused("host,-nonsense"), "an unknown feature");
    ok(refused("host,amx_tile"), "a feature without + or -");
    ok(refused(""), "an empty model");
    free(host);
    free(spr);
    free(no_amx);
    free(no_avx);
    return tap_done();
}
