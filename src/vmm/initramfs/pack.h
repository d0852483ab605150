// SPDX-License-Identifier: MIT
// The initramfs of `uvirt run -- COMMAND`: our init, the command with all it needs, modules, settings.
#pragma once

#include "vmm/blob.h"
#include "vmm/error.h"
#include "vmm/initramfs/modules.h"
#include "vmm/initramfs/strv.h"

#include <limits.h>

/*
 * What init reads from /uvirt/config, a run of NUL-terminated "key=value" strings:
 *
 *   exec=PATH        what to run             arg=STRING     argv[0], argv[1], ... in order
 *   cwd=PATH         where; made if missing  env=NAME=VALUE in order
 *   tty=1            stdin and stdout are a terminal; otherwise pipes
 *   cols=N, rows=N   its size
 *   errtty=1         stderr is the same terminal; otherwise a pipe
 *   net=user         the network card has the addresses of vmm/usernet.h
 *
 * Modules are /uvirt/modules/00.ko, 01.ko, ... in the order of loading.
 */
#define PACK_INIT    "/init"
#define PACK_CONFIG  "/uvirt/config"
#define PACK_MODULES "/uvirt/modules"
#define PACK_TOOLS   "/uvirt/bin" /* busybox, for shells and scripts */

struct pack_config {
    const char *command; /* absolute path, from pack_find() */
    char *const *argv;   /* NULL-terminated, argv[0] as the user gave it */
    const char *cwd;
    const struct strv *env;
    const struct strv *add;  /* host files and directory trees to have in the guest as well */
    const struct strv *libs; /* directories for LD_LIBRARY_PATH, added as a whole */
    const char *path;        /* where "#!/usr/bin/env PROGRAM" looks: the host's PATH */
    bool tty, errtty;
    unsigned short cols, rows;
    bool net; /* --net user */
    const struct modules *modules;
    const void *init; /* the init program */
    size_t init_size;
};

/*
 * Find (name) as a shell does: with a slash it is a path from (cwd), else it is looked up in
 * (path), colon-separated. 0, -ENOENT, or -EACCES: it is there but cannot be executed.
 */
int pack_find(const char *name, const char *cwd, const char *path, char ret[PATH_MAX]);

/* Append the archive to (out). 0 or -errno with a sentence. */
int pack_build(const struct pack_config *cfg, struct blob *out, struct vmm_error *err);
