// SPDX-License-Identifier: MIT
// A file tree to be: directories, files of the host, files from memory, links, devices.
#pragma once

#include "base/types.h"
#include "vmm/blob.h"
#include "vmm/error.h"

#include <sys/types.h>

struct tree;

struct tree_node {
    const char *path; /* absolute, no trailing slash */
    mode_t mode;      /* with the file type */
    time_t mtime;
    const char *source; /* host file with the contents, or NULL */
    const void *data;   /* contents, or a link's target */
    size_t len;
    unsigned major, minor; /* of a device */
};

int tree_create(struct tree **ret);
void tree_free(struct tree *t);

/* What is at (path), or NULL. */
const struct tree_node *tree_find(const struct tree *t, const char *path);

/*
 * Add one thing; what is there already under that path stays. Missing parents become
 * directories. (data) is copied. 0 or -ENOMEM.
 */
int tree_add_dir(struct tree *t, const char *path, mode_t mode);
int tree_add_data(struct tree *t, const char *path, mode_t mode, const void *data, size_t len);
int tree_add_link(struct tree *t, const char *path, const char *target);
int tree_add_device(struct tree *t, const char *path, mode_t mode, unsigned major, unsigned minor);

/*
 * Add the host's (path), absolute, with every directory and symbolic link on the way, so that
 * it is found in the guest under the same name. A directory is added without what is in it.
 * (real), PATH_MAX bytes, receives the path without links, or is NULL. 0, -ELOOP, -ENOMEM,
 * or why the host's file cannot be used; a socket, FIFO or device is -EINVAL.
 */
int tree_add_host(struct tree *t, const char *path, char *real);

/* Call (fn) for every node, parents before their children, until it returns other than 0. */
int tree_walk(const struct tree *t, int (*fn)(const struct tree_node *n, void *arg), void *arg);

/*
 * Append the tree to (out) as a "newc" cpio archive, which Linux unpacks as its initramfs. Host
 * files are read now. 0, -ENOMEM, -EFBIG (a file of 4 GiB or more), or a file's error, with a
 * sentence.
 */
int cpio_write(const struct tree *t, struct blob *out, struct vmm_error *err);
