// SPDX-License-Identifier: MIT
// Where a guest's request goes: the names to try, and the first that answers.
#include "vsock/transport/unix_priv.h"

#include <errno.h>
#include <stdio.h>

static const struct variant {
    const char *suffix;
    int type;
    enum unix_kind kind;
} variants[] = {
    {"", SOCK_STREAM, UNIX_STREAM},
    {VSOCK_UNIX_FRAMED, SOCK_STREAM, UNIX_FRAMED},
    {"", SOCK_SEQPACKET, UNIX_SEQPACKET},
    {VSOCK_UNIX_SEQPACKET, SOCK_SEQPACKET, UNIX_SEQPACKET},
};

bool unix_to_sibling(const struct unix_conn *c)
{
    return c->request.dst_cid != VMADDR_CID_HOST;
}

/* Is (v) for this request? */
static bool fits(const struct unix_conn *c, const struct variant *v)
{
    if (c->request.type == VIRTIO_VSOCK_TYPE_STREAM)
        return v->kind == UNIX_STREAM;
    if (v->kind == UNIX_STREAM || (v->kind == UNIX_FRAMED && c->u->config.marker))
        return false;
    return *v->suffix || !unix_to_sibling(c); /* DIR/M itself is a STREAM listener */
}

/* The path of base (b) with (suffix). False: there is no such base. */
static bool make_path(const struct unix_conn *c, unsigned b, const char *suffix,
                      char path[sizeof(((struct sockaddr_un *)0)->sun_path)])
{
    const size_t size = sizeof(((struct sockaddr_un *)0)->sun_path);
    const struct vsock_unix *u = c->u;
    int n;

    if (!u->config.path)
        return false;
    if (unix_to_sibling(c) && b == 0)
        n = snprintf(path, size, "%s/%u%s", u->dir, (u32)c->request.dst_cid, suffix);
    else if (!unix_to_sibling(c) && b == 0)
        n = snprintf(path, size, "%s_%u%s", u->base, c->request.dst_port, suffix);
    else if (!unix_to_sibling(c) && b == 1 && *u->dir)
        n = snprintf(path, size, "%s/%u_%u%s", u->dir, VMADDR_CID_HOST, c->request.dst_port,
                     suffix);
    else
        return false;
    return n > 0 && (size_t)n < size; /* VSOCK_UNIX_PATH_MAX leaves room */
}

int unix_dial(struct unix_conn *c)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

    for (;; c->name++) {
        const struct variant *v = &variants[c->name % ARRAY_SIZE(variants)];
        int rc;

        if (!make_path(c, c->name / ARRAY_SIZE(variants), v->suffix, path))
            return -ECONNREFUSED;
        if (!fits(c, v))
            continue;
        rc = vsock_unix_dial(path, v->type, (u32)c->request.src_cid, c->request.src_port, &c->fd);
        if (rc == -EAGAIN || rc == -EMFILE || rc == -ENFILE)
            return -EAGAIN;
        if (rc == 0) {
            c->kind = v->kind;
            return 0;
        }
    }
}
