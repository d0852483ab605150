// SPDX-License-Identifier: MIT
// oneDNN's int8 and bf16 matmul: the implementation it picks for this CPU against its own reference.

#include "tap.h"

#include <math.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdint.h>

/* One product: (batch) times M x K by K x N. */
struct shape {
    dnnl_dim_t batch, m, k, n;
};

static const struct shape shapes[] = {
    {1, 64, 256, 64}, {1, 16, 64, 16}, {1, 37, 130, 53}, {1, 1, 512, 48}, {3, 32, 96, 80},
};

struct types {
    const char *name;
    dnnl_data_type_t src, weights, dst;
};

static const struct types types[] = {
    {"u8 x s8 to s32", dnnl_u8, dnnl_s8, dnnl_s32},
    {"s8 x s8 to s32", dnnl_s8, dnnl_s8, dnnl_s32},
    {"u8 x s8 to f32", dnnl_u8, dnnl_s8, dnnl_f32},
    {"bf16 x bf16 to f32", dnnl_bf16, dnnl_bf16, dnnl_f32},
    {"bf16 x bf16 to bf16", dnnl_bf16, dnnl_bf16, dnnl_bf16},
};

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static uint32_t seed = 12345;

static void check(dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return;
    printf("Bail out! %s: oneDNN status %d\n", what, status);
    exit(1);
}
#define CHECK(call) check(call, #call)

static size_t size_of(dnnl_data_type_t t)
{
    return t == dnnl_u8 || t == dnnl_s8 ? 1 : t == dnnl_bf16 ? 2 : 4;
}

/* (values) of type (t): small numbers, which bf16 holds exactly to three digits. */
static void *values(dnnl_data_type_t t, size_t n)
{
    uint8_t *data = calloc(n, size_of(t));

    for (size_t i = 0; i < n; i++) {
        float f;
        uint32_t bits;

        seed = seed * 1664525 + 1013904223;
        f = (float)(int32_t)(seed >> 8 & 0xffff) / 65536 - 0.5f;
        memcpy(&bits, &f, 4);
        if (t == dnnl_bf16)
            memcpy(data + 2 * i, (uint8_t *)&bits + 2, 2);
        else
            data[i] = (uint8_t)(seed >> 24);
    }
    return data;
}

static float at(dnnl_data_type_t t, const void *data, size_t i)
{
    uint32_t bits;
    float f;

    if (t == dnnl_s32)
        return (float)((const int32_t *)data)[i];
    bits =
        t == dnnl_bf16 ? (uint32_t)((const uint16_t *)data)[i] << 16 : ((const uint32_t *)data)[i];
    memcpy(&f, &bits, 4);
    return f;
}

/* The implementation of (desc) that is picked first, or the reference; its name in (name). */
static dnnl_primitive_desc_t pick(const dnnl_matmul_desc_t *desc, int reference, const char **name)
{
    dnnl_primitive_desc_iterator_t it;
    dnnl_primitive_desc_t pd;

    CHECK(dnnl_primitive_desc_iterator_create(&it, desc, NULL, engine, NULL));
    for (;;) {
        pd = dnnl_primitive_desc_iterator_fetch(it);
        CHECK(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, name));
        if (!reference || !strncmp(*name, "ref", 3))
            break;
        CHECK(dnnl_primitive_desc_destroy(pd));
        CHECK(dnnl_primitive_desc_iterator_next(it));
    }
    CHECK(dnnl_primitive_desc_iterator_destroy(it));
    return pd;
}

static void execute(dnnl_primitive_desc_t pd, dnnl_memory_t src, dnnl_memory_t weights,
                    dnnl_memory_t dst)
{
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, src}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, dst}};
    dnnl_primitive_t p;

    CHECK(dnnl_primitive_create(&p, pd));
    CHECK(dnnl_primitive_execute(p, stream, 3, args));
    CHECK(dnnl_stream_wait(stream));
    CHECK(dnnl_primitive_destroy(p));
    CHECK(dnnl_primitive_desc_destroy(pd));
}

/* Largest |a - b| over 1 + |b|. */
static double distance(dnnl_data_type_t t, const void *a, const void *b, size_t n)
{
    double worst = 0;

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)at(t, a, i) - at(t, b, i)) / (1 + fabs((double)at(t, b, i)));

        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

/*
 * The tolerances are those of oneDNN's benchdnn: integers are exact; sums of bf16 products in
 * fp32 differ by their order, and a bf16 result by one unit of its last place besides.
 */
static double tolerance(const struct types *t)
{
    return t->src != dnnl_bf16 ? 0 : t->dst == dnnl_bf16 ? 1.0 / 128 : 1e-5;
}

static void matmul(const struct types *t, const struct shape *s)
{
    dnnl_dims_t a = {s->batch, s->m, s->k}, b = {s->batch, s->k, s->n}, c = {s->batch, s->m, s->n};
    size_t na = (size_t)(s->batch * s->m * s->k), nb = (size_t)(s->batch * s->k * s->n);
    size_t nc = (size_t)(s->batch * s->m * s->n);
    void *pa = values(t->src, na), *pb = values(t->weights, nb);
    void *got = calloc(nc, size_of(t->dst)), *want = calloc(nc, size_of(t->dst));
    dnnl_memory_desc_t ma, mb, mc;
    dnnl_memory_t src, weights, out, ref_out;
    dnnl_matmul_desc_t desc;
    const char *name, *ref_name;
    dnnl_primitive_desc_t pd, ref;
    double worst;

    CHECK(dnnl_memory_desc_init_by_tag(&ma, 3, a, t->src, dnnl_abc));
    CHECK(dnnl_memory_desc_init_by_tag(&mb, 3, b, t->weights, dnnl_abc));
    CHECK(dnnl_memory_desc_init_by_tag(&mc, 3, c, t->dst, dnnl_abc));
    CHECK(dnnl_memory_create(&src, &ma, engine, pa));
    CHECK(dnnl_memory_create(&weights, &mb, engine, pb));
    CHECK(dnnl_memory_create(&out, &mc, engine, got));
    CHECK(dnnl_memory_create(&ref_out, &mc, engine, want));
    CHECK(dnnl_matmul_desc_init(&desc, &ma, &mb, NULL, &mc));
    pd = pick(&desc, 0, &name);
    ref = pick(&desc, 1, &ref_name);
    printf("# %s against %s\n", name, ref_name);
    execute(pd, src, weights, out);
    execute(ref, src, weights, ref_out);
    worst = distance(t->dst, got, want, nc);
    ok(worst <= tolerance(t), "%s, %d of %dx%dx%d: off by %.2g at most", t->name, (int)s->batch,
       (int)s->m, (int)s->k, (int)s->n, worst);
    dnnl_memory_destroy(src);
    dnnl_memory_destroy(weights);
    dnnl_memory_destroy(out);
    dnnl_memory_destroy(ref_out);
    free(pa);
    free(pb);
    free(got);
    free(want);
}

int main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    CHECK(dnnl_engine_create(&engine, dnnl_cpu, 0));
    CHECK(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
    printf("# CPU ISA of oneDNN: %#x\n", dnnl_get_effective_cpu_isa());
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
        for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
            matmul(&types[t], &shapes[s]);
    return tap_done();
}
