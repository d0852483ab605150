// SPDX-License-Identifier: MIT
// How a snapshot's VM was built: its section `config`.
#pragma once

#include "cli/run.h"
#include "vmm/snapshot/format.h"

#define RUN_CONFIG_OPTIONS_MAX 64

/* What a snapshot says of how its VM was built. */
struct run_config {
    bool command, tty, errtty;
    char *name;     /* of the command or the kernel */
    char *engine;   /* that it ran on */
    char **options; /* "disk=/path,ro", "net=user,…": options of `uvirt run` that make devices */
    u32 nr_options;
    struct run_config_disk {
        u64 size;
        s64 written_ns; /* modification time */
        bool readonly;  /* for the guest */
    } disks[RUN_DISKS_MAX];
    u32 nr_disks;
};

/* Save or load it (base/state.h); what loading allocates, also if it fails, run_config_free() frees. */
void run_config_state(struct run_config *c, struct state *s);

/* Out of a file: 0, or -EBADMSG or -ENOMEM with a sentence. Free it in any case. */
int run_config_load(const struct snapshot_file *f, struct run_config *ret, struct vmm_error *err);
void run_config_free(struct run_config *c);
