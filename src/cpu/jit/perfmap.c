// SPDX-License-Identifier: MIT
// Names for translated code that perf understands.

#include "cpu/jit/perfmap.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static FILE *map; /* written once under (once); stdio locks its lines */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    const char *env = getenv("UVIRT_PERF");
    char path[64];

    if (!env || strcmp(env, "1"))
        return;
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    map = fopen(path, "we");
    if (map)
        setlinebuf(map);
}

void perfmap_add(const struct cpu *c, const struct jit_code *k)
{
    pthread_once(&once, init);
    if (map)
        fprintf(map, "%llx %x guest_%llx\n",
                (unsigned long long)(uintptr_t)(c->jit->rx + k->entry[JIT_POLL]),
                k->hot_end - k->entry[JIT_POLL], (unsigned long long)c->rip);
}
