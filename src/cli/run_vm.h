// SPDX-License-Identifier: MIT
// A VM with all that belongs to it on the command line's side, as `uvirt run` and `uvirt restore` build it.
#pragma once

#include "cli/run.h"
#include "cli/run_config.h"
#include "cli/session.h"

#include <time.h>

struct run_control;

/* What is found out and opened on the way, for run_free() to close. */
struct run {
    struct run_options o;
    const struct kvm_backend *be;
    bool tty, errtty; /* the command has a terminal in the guest, on its stderr too */
    char command[PATH_MAX], kernel_path[PATH_MAX];
    struct blob kernel, initrd, own_initrd;
    struct kvm_cpuid2 *cpuid;
    struct run_serial serial;
    struct session *session;
    struct usernet *net;
    struct vm_vsock *vsock;
    struct vm *vm;
    struct run_control *control; /* NULL: `uvirt snapshot` and the like do not reach it */
    struct timespec start;
};

/* --- cmd_run.c --- */

/* Plug in what the options and COMMAND ask for; the session listens. 0, or an exit code after an error. */
int run_add_devices(struct run *r);

/* The VM runs: be its outside until it, or its command, has ended. The exit code. */
int run_to_end(struct run *r);

/* Close and free everything but (r) itself, whose fields are zero where nothing is. */
void run_free(struct run *r);

/* --- run_control.c --- */

/*
 * Get an ID (--id), and have the session that (cfg) makes listen for commands. 0, or an exit code after an error;
 * without --id, a VM that cannot be reached runs all the same.
 */
int run_control_open(struct run *r, struct session_config *cfg);
void run_control_close(struct run_control *c);

/* --- run_snapshot.c --- */

/*
 * Pause the VM and write everything to (fd). The VM stays paused after success. 0, or -errno and a sentence, and it
 * runs on.
 */
int run_snapshot_save(struct run *r, int fd, bool compress, struct vmm_error *err);

/* Size and modification time of a disk. 0 or -errno. */
int run_disk_look(const char *path, struct run_config_disk *ret);
