// SPDX-License-Identifier: MIT
// Traces: what the letters ask for is written down, and nothing else.

#include "cpu/interp/block.h"
#include "cpu/trace.h"
#include "op_cpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CODE 0x10000u

static char path[] = "/tmp/trace-XXXXXX";

/* mov ecx, 100; dec ecx; jnz the dec; mov [rip + disp to the mov's immediate], ecx; ud2 */
static const u8 code[] = {0xb9, 100,  0,    0,    0,    0xff, 0xc9, 0x75, 0xfc,
                          0x89, 0x0d, 0xf2, 0xff, 0xff, 0xff, 0x0f, 0x0b};

/* Run the code with (letters) traced: the trace. */
static const char *traced(const char *letters)
{
    static char text[65536], spec[64];
    FILE *f = fopen(path, "r");
    size_t n;

    snprintf(spec, sizeof(spec), "%s,%s", letters, path);
    cpu_trace_open(spec);
    op_reset();
    block_cache_flush(c);
    mem_slot_page(mem_slot_at(mem, 0), CODE)->hits = 0;
    memcpy(ram + CODE, code, sizeof(code));
    mem_written(mem, CODE, sizeof(code));
    cpu_request(c, CPU_REQ_RECHECK);
    cpu_run(c);
    fflush(NULL);
    n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[n] = 0;
    if (f)
        fclose(f);
    return text;
}

/* Letter, and what is in its records alone. */
static const struct {
    const char *letter, *mark, *more;
} kinds[] = {
    {"d", "decoded 10000, physical 10000, key", "89 0d f2 ff ff ff             mov [0x"},
    {"t", "translated 10005, physical 10005, key", " to "},
    {"x", "entered at 10005, left for 10005: the exit is not linked",
     "left for 10009: a store to code"},
    {"c", "code at 10001: it was written", "code at"},
    {"e", "exception 6 at 1000f", "exception"},
};

int main(void)
{
    int fd = mkstemp(path);

    if (fd < 0 || !op_create())
        return tap_skip_all("no memory or no file");
    is_u64(cpu_trace_open("dz"), -EINVAL, "an unknown letter");
    is_u64(cpu_trace_open(""), -EINVAL, "no letter");
    is_u64(cpu_trace_open("d,/nowhere/at/all"), -ENOENT, "no such directory");
    is_u64(cpu_trace_bits, 0, "nothing is traced then");
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        const char *text = traced(kinds[i].letter);

        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
            ok(!strstr(text, kinds[k].mark) == (k != i), "%s: the records of %s %s",
               kinds[i].letter, kinds[k].letter, k == i ? "are there" : "are not");
        ok(strstr(text, kinds[i].more), "%s: in full", kinds[i].letter);
    }
    cpu_trace_bits = 0;
    op_destroy();
    close(fd);
    unlink(path);
    return tap_done();
}
