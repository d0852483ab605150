// SPDX-License-Identifier: MIT
// The "newc" cpio format (Linux' Documentation/driver-api/early-userspace/buffer-format.rst).
#include "vmm/initramfs/tree.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct cpio {
    struct blob *out;
    struct vmm_error *err;
    u32 ino;
};

static int pad(struct blob *out)
{
    return blob_append(out, NULL, ALIGN_UP(out->size, 4) - out->size);
}

static int write_entry(struct cpio *c, const char *name, const struct tree_node *n,
                       const void *data, size_t len)
{
    char header[111];
    int rc;

    snprintf(header, sizeof(header), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
             ++c->ino, n->mode, 0u, 0u, S_ISDIR(n->mode) ? 2u : 1u, (u32)n->mtime, (u32)len, 0u, 0u,
             n->major, n->minor, (u32)strlen(name) + 1, 0u);
    rc = blob_append(c->out, header, 110);
    if (rc == 0)
        rc = blob_append(c->out, name, strlen(name) + 1);
    if (rc == 0)
        rc = pad(c->out);
    if (rc == 0 && len)
        rc = blob_append(c->out, data, len);
    if (rc == 0)
        rc = pad(c->out);
    return rc;
}

static int write_node(const struct tree_node *n, void *arg)
{
    struct cpio *c = arg;
    const char *name = n->path + 1;
    struct blob file = {0};
    int rc;

    if (!*name)
        return 0;
    if (!n->source) {
        rc = write_entry(c, name, n, n->data, n->len);
        return rc ? vmm_fail(c->err, rc, "out of memory") : 0;
    }
    rc = blob_map(n->source, &file);
    if (rc)
        return vmm_fail(c->err, rc, "%s: %s", n->source, strerror(-rc));
    rc = file.size > UINT32_MAX ? -EFBIG : write_entry(c, name, n, file.data, file.size);
    blob_free(&file);
    return rc ? vmm_fail(c->err, rc, "%s: %s", n->source, strerror(-rc)) : 0;
}

int cpio_write(const struct tree *t, struct blob *out, struct vmm_error *err)
{
    struct cpio c = {.out = out, .err = err};
    int rc = tree_walk(t, write_node, &c);

    if (rc)
        return rc;
    rc = write_entry(&c, "TRAILER!!!", &(struct tree_node){0}, NULL, 0);
    return rc ? vmm_fail(err, rc, "out of memory") : 0;
}
