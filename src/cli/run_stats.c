// SPDX-License-Identifier: MIT
// uvirt run --stats: exits by reason, KVM's own counters, time.
#include "cli/run.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STATS_BYTES_MAX 65536
#define STATS_MAX       256
#define STATS_NAME_MAX  256

static const char *const reasons[64] = {
    [KVM_EXIT_UNKNOWN] = "unknown",
    [KVM_EXIT_IO] = "io",
    [KVM_EXIT_DEBUG] = "debug",
    [KVM_EXIT_HLT] = "hlt",
    [KVM_EXIT_MMIO] = "mmio",
    [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq window",
    [KVM_EXIT_SHUTDOWN] = "shutdown",
    [KVM_EXIT_FAIL_ENTRY] = "fail entry",
    [KVM_EXIT_INTR] = "signal",
    [KVM_EXIT_INTERNAL_ERROR] = "internal error",
    [KVM_EXIT_SYSTEM_EVENT] = "system event",
};

struct sums {
    char name[STATS_MAX][STATS_NAME_MAX];
    u64 value[STATS_MAX];
    unsigned n;
};

static void add(struct sums *s, const char *name, u64 value)
{
    unsigned i;

    for (i = 0; i < s->n; i++)
        if (!strcmp(s->name[i], name))
            break;
    if (i == STATS_MAX)
        return;
    if (i == s->n) {
        snprintf(s->name[i], sizeof(s->name[i]), "%s", name);
        s->n++;
    }
    s->value[i] += value;
}

/* One binary statistics file (Linux' Documentation/virt/kvm/api.rst, 4.133). */
static void read_stats(int fd, struct sums *s)
{
    struct kvm_stats_header h;
    u8 *file = calloc(1, STATS_BYTES_MAX);
    ssize_t size = file ? pread(fd, file, STATS_BYTES_MAX, 0) : -1;

    if (size >= (ssize_t)sizeof(h)) {
        memcpy(&h, file, sizeof(h));
        for (u32 i = 0; i < h.num_desc && h.name_size && h.name_size < 256; i++) {
            u64 at = h.desc_offset + (u64)i * (sizeof(struct kvm_stats_desc) + h.name_size), value;
            struct kvm_stats_desc d;
            char name[256];

            if (at + sizeof(d) + h.name_size > (u64)size)
                break;
            memcpy(&d, file + at, sizeof(d));
            memcpy(name, file + at + sizeof(d), h.name_size);
            name[h.name_size - 1] = 0;
            at = (u64)h.data_offset + d.offset;
            if (d.size != 1 || at + sizeof(value) > (u64)size)
                continue; /* histograms */
            memcpy(&value, file + at, sizeof(value));
            add(s, name, value);
        }
    }
    free(file);
}

static u64 value_of(const struct sums *s, const char *name)
{
    for (unsigned i = 0; i < s->n; i++)
        if (!strcmp(s->name[i], name))
            return s->value[i];
    return 0;
}

/* (hits) of (hits + misses). */
static void print_rate(const char *what, u64 hits, u64 misses)
{
    if (hits + misses)
        fprintf(stderr, "stats: %s %.2f %%\n", what,
                100.0 * (double)hits / (double)(hits + misses));
}

/* Of the software engine alone; the kernel counts nothing of the kind. */
static void print_rates(const struct sums *s)
{
    u64 runs = value_of(s, "code_runs"), blocks = value_of(s, "code_blocks");
    u64 looked = value_of(s, "tlb_lookup"), missed = value_of(s, "tlb_lookup_miss");

    if (blocks > runs)
        print_rate("translations reached from others", blocks - runs, runs);
    if (looked > missed)
        print_rate("TLB hits of translated code", looked - missed, missed);
    print_rate("TLB misses without a page walk", value_of(s, "tlb_refill"),
               value_of(s, "page_walks"));
}

static void kvm_stats(struct vm *vm, const struct kvm_backend *be, unsigned cpus)
{
    struct sums *s = calloc(1, sizeof(*s));

    if (!s)
        return;
    for (unsigned i = 0; i < cpus; i++) {
        int fd = be->ioctl(vm_kvm_fd(vm, (int)i), KVM_GET_STATS_FD, 0);

        if (fd < 0)
            continue;
        read_stats(fd, s);
        close(fd);
    }
    for (unsigned i = 0; i < s->n; i++)
        if (s->value[i])
            fprintf(stderr, "stats: vcpu %-22s %llu\n", s->name[i],
                    (unsigned long long)s->value[i]);
    print_rates(s);
    free(s);
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

void run_print_stats(struct vm *vm, const struct kvm_backend *be, unsigned cpus, double seconds)
{
    struct vm_stats st;
    struct rusage ru;

    vm_get_stats(vm, &st);
    getrusage(RUSAGE_SELF, &ru);
    fprintf(stderr, "stats: engine %s, %u CPUs\n", be->name, cpus);
    fprintf(stderr, "stats: time %.3f s wall, %.3f s user, %.3f s system\n", seconds,
            seconds_of(ru.ru_utime), seconds_of(ru.ru_stime));
    fprintf(stderr, "stats: memory %ld MiB at most\n", ru.ru_maxrss / 1024);
    fprintf(stderr, "stats: exits to uvirt %llu\n", (unsigned long long)st.exits);
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++)
        if (st.by_reason[i])
            fprintf(stderr, "stats:   %-27s %llu\n", reasons[i] ? reasons[i] : "other",
                    (unsigned long long)st.by_reason[i]);
    kvm_stats(vm, be, cpus);
}
