// SPDX-License-Identifier: MIT
// What a program needs to start: its ELF interpreter and its shared libraries, all the way down.
#pragma once

#include "vmm/blob.h"
#include "vmm/error.h"
#include "vmm/initramfs/strv.h"
#include "vmm/initramfs/tree.h"

/* What one ELF file says about its needs. */
struct elf_needs {
    char *interp; /* NULL: none */
    struct strv needed, rpath, runpath;
};

/*
 * Read an x86-64 ELF executable or shared object. 0, -ENOEXEC (something else, or for another
 * machine), -EINVAL (malformed) or -ENOMEM. Free with elf_needs_free().
 */
int elf_needs_read(const struct blob *file, struct elf_needs *ret);
void elf_needs_free(struct elf_needs *n);

/* A resolver: what it looks through, and what it has dealt with. */
struct elfdeps {
    struct tree *tree;
    struct strv first;  /* directories to look through first, as LD_LIBRARY_PATH */
    struct strv system; /* /etc/ld.so.conf's, then ld.so's defaults */
    struct strv done;
};

/* Start with an empty (first) and the host's (system). 0 or -ENOMEM. Free with elfdeps_fini(). */
int elfdeps_init(struct elfdeps *d, struct tree *t);
void elfdeps_fini(struct elfdeps *d);

/*
 * Add to the tree whatever the ELF file (real), an absolute path without links, needs, resolved
 * like ld.so does (RPATH, (first), RUNPATH, (system)), $ORIGIN included. Files that are not ELF
 * need nothing. 0, -ENOENT (a library is not there), -ENOMEM or a file's error, with a sentence.
 */
int elfdeps_add(struct elfdeps *d, const char *real, struct vmm_error *err);
