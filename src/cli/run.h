// SPDX-License-Identifier: MIT
// What the options of `uvirt run` say, and the steps that follow from them.
#pragma once

#include "cli/cli.h"
#include "cli/run_net.h"
#include "cli/run_vsock.h"
#include "vmm/blob.h"
#include "vmm/initramfs/strv.h"
#include "vmm/vm.h"

#include <limits.h>
#include <stdio.h>

struct run_disk {
    char *path;
    bool readonly;
};

#define RUN_DISKS_MAX (BOARD_VIRTIO_MAX - 2) /* beside vsock and rng */

struct run_options {
    const char *engine, *cpu, *kernel, *initrd, *serial;
    unsigned long cpus;
    u64 memory;
    struct strv append, add, libs, env;
    struct run_disk disks[RUN_DISKS_MAX];
    unsigned nr_disks;
    struct run_net net;
    struct run_vsock vsock;
    const char *id;      /* for `uvirt snapshot` and the like; NULL: this process's number */
    struct strv devices; /* name, value, name, value of options that make devices, but --disk */
    bool stats, verbose;
    char **command; /* argv of COMMAND, or NULL */
};

/* Parse the command line. 0, or -EINVAL after an error was printed. */
int run_options_parse(int argc, char **argv, struct run_options *ret);
void run_options_free(struct run_options *o);

/* The kernel's command line: the defaults, then --append; for the caller to free, or NULL. */
char *run_cmdline(const struct run_options *o, bool soft);

/* Where the serial console's text goes. */
struct run_serial {
    int fd; /* -1: nowhere */
    bool owned;
    char tail[4096]; /* the last of it, for when the guest dies */
    size_t tail_len;
};

/* Open what --serial (and COMMAND, and --verbose) ask for. 0, or an exit code after an error. */
int run_serial_open(struct run_serial *s, const struct run_options *o);
void run_serial_close(struct run_serial *s);

/* For struct vm_config. */
void run_serial_output(void *opaque, const void *data, size_t len);

/* Print what --stats promises. (seconds): wall time since the start of uvirt. */
void run_print_stats(struct vm *vm, const struct kvm_backend *be, unsigned cpus, double seconds);
