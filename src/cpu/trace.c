// SPDX-License-Identifier: MIT
// Traces of decoding, translation, exits, changes of code and events: text, one record a line and listings below it.

#include "cpu/trace.h"
#include "cpu/decode/decode.h"
#include "cpu/interp/block.h"
#include "cpu/jit/code.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What asks for each kind. */
static const char letters[TRACE_KINDS] = {
    [TRACE_DECODE] = 'd', [TRACE_TRANSLATE] = 't', [TRACE_EXIT] = 'x',
    [TRACE_CODE] = 'c',   [TRACE_EVENT] = 'e',
};

u32 cpu_trace_bits;
bool cpu_counts_code;
static FILE *out; /* set with the bits; a record is written under its lock */

static u32 bits_of(const char *spec, size_t len, bool *known)
{
    u32 bits = 0;

    *known = len > 0;
    for (size_t i = 0; i < len; i++) {
        unsigned k = 0;

        while (k < TRACE_KINDS && letters[k] != spec[i])
            k++;
        if (k < TRACE_KINDS)
            bits |= (u32)BIT(k);
        else
            *known = false;
    }
    return bits;
}

static int open_file(const char *path)
{
    FILE *f = *path ? fopen(path, "we") : stderr;

    if (!f)
        return -errno;
    if (f == stderr)
        setvbuf(f, NULL, _IOLBF, 0);
    out = f;
    return 0;
}

int cpu_trace_open(const char *spec)
{
    size_t len = strcspn(spec, ",");
    bool known;
    u32 bits = bits_of(spec, len, &known);
    int rc = known ? open_file(spec[len] ? spec + len + 1 : "") : -EINVAL;

    if (!rc)
        cpu_trace_bits = bits;
    return rc;
}

static void read_environment(void)
{
    const char *spec = getenv("UVIRT_TRACE");
    size_t len = spec ? strcspn(spec, ",") : 0;
    bool known;

    if (cpu_trace_bits || !spec || open_file(spec[len] ? spec + len + 1 : ""))
        return;
    cpu_trace_bits = bits_of(spec, len, &known);
}

void cpu_trace_from_environment(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, read_environment);
}

/* A listing of [bytes, bytes + len), which lie at (at). */
static void list(const u8 *bytes, size_t len, enum cpu_mode_size mode, u64 at)
{
    char text[128];

    for (size_t pos = 0; pos < len;) {
        unsigned n = decode_text(bytes + pos, len - pos, mode, at + pos, text, sizeof(text));

        fprintf(out, "  %12llx ", (unsigned long long)(at + pos));
        for (unsigned i = 0; i < n; i++)
            fprintf(out, " %02x", bytes[pos + i]);
        fprintf(out, "%*s %s\n", n < 10 ? (int)(30 - 3 * n) : 0, "", text);
        pos += n;
    }
}

void cpu_trace_decode(const struct cpu *c, const struct block *b)
{
    flockfile(out);
    fprintf(out, "cpu %u: decoded %llx, physical %llx, key %02x: %u instructions\n", c->index,
            (unsigned long long)c->rip, (unsigned long long)b->gpa, b->key, b->count);
    list(b->bytes, b->len, (enum cpu_mode_size)(b->key & CPU_KEY_MODE), c->rip);
    funlockfile(out);
}

void cpu_trace_translate(const struct cpu *c, const struct jit_code *k)
{
    const struct block *b = k->block;
    u32 at = k->entry[JIT_POLL];

    flockfile(out);
    fprintf(out, "cpu %u: translated %llx, physical %llx, key %02x: %u instructions\n", c->index,
            (unsigned long long)c->rip, (unsigned long long)b->gpa, b->key, k->count);
    list(b->bytes, b->len, MODE_64, c->rip);
    fprintf(out, " to %u bytes\n", k->hot_end - at);
    list(c->jit->rx + at, k->hot_end - at, MODE_64, (u64)(uintptr_t)(c->jit->rx + at));
    funlockfile(out);
}

void cpu_trace_exit(const struct cpu *c, u64 from, u64 to, const char *why)
{
    fprintf(out, "cpu %u: entered at %llx, left for %llx: %s\n", c->index, (unsigned long long)from,
            (unsigned long long)to, why);
}

void cpu_trace_code(const struct cpu *c, gpa_t gpa, const char *what)
{
    fprintf(out, "cpu %u: code at %llx: %s\n", c->index, (unsigned long long)gpa, what);
}

void cpu_trace_event(const struct cpu *c, const char *what, u8 vector, u32 error)
{
    fprintf(out, "cpu %u: %s %u at %llx, error %x, cr2 %llx\n", c->index, what, vector,
            (unsigned long long)c->rip, error, (unsigned long long)c->cr2);
}
