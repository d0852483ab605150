// SPDX-License-Identifier: MIT
// A CPU in a test of paging: 64 MiB of RAM for page tables and what they map, and no code to run.
#pragma once

#include "cpu/cpu.h"
#include "cpu/world.h"
#include "tap.h"

#include <sys/mman.h>

#define RAM_SIZE (64ul << 20)

/* Bits of page-table entries. */
#define P  BIT(0)
#define W  BIT(1)
#define U  BIT(2)
#define A  BIT(5)
#define D  BIT(6)
#define PS BIT(7)
#define G  BIT(8)
#define XD BIT(63)

static struct cpu_world *paged_world;
static struct mem *mem;
static struct cpu *c;
static u8 *ram;

/* No RAM there. */
static int paged_read(struct cpu *cpu, gpa_t gpa, void *buf, unsigned size)
{
    memset(buf, 0xee, size);
    return OP_NEXT;
}

static const struct cpu_bus paged_bus = {.mmio_read = paged_read};

static inline void put64(gpa_t at, u64 v)
{
    memcpy(ram + at, &v, 8);
}

static inline u64 get64(gpa_t at)
{
    u64 v;

    memcpy(&v, ram + at, 8);
    return v;
}

/* A CPU in guest code; (cpuid): with everything that a guest can be offered. False: there is none. */
static inline bool paged_open(bool cpuid)
{
    struct cpu_cpuid_entry e[CPU_CPUID_MAX];
    int n;

    ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem_create(&mem) || mem_slot_set(mem, 0, 0, RAM_SIZE, ram, 0) ||
        cpu_world_create(&paged_world) || cpu_create(&c, paged_world, mem, &paged_bus, NULL))
        return false;
    n = cpuid ? cpu_cpuid_supported(e, ARRAY_SIZE(e)) : 0;
    if (n < 0 || (cpuid && cpu_cpuid_set(c, e, (unsigned)n)))
        return false;
    cpu_world_enter(c);
    return true;
}

static inline void paged_close(void)
{
    cpu_world_leave(c);
    cpu_free(c);
    cpu_world_free(paged_world);
    mem_free(mem);
}
