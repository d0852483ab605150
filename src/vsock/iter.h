// SPDX-License-Identifier: MIT
// A position in the caller's array of buffers.
#pragma once

#include "base/types.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

struct vsock_iter {
    const struct iovec *iov;
    size_t nr, off;
    size_t left; /* bytes from here to the end */
};

/* 0, or -EMSGSIZE if the buffers add up to more than a send or recv can report. */
static inline int vsock_iter_init(struct vsock_iter *it, const struct iovec *iov, size_t nr)
{
    *it = (struct vsock_iter){iov, nr, 0, 0};
    for (size_t i = 0; i < nr; i++) {
        if (iov[i].iov_len > INT32_MAX - it->left)
            return -EMSGSIZE;
        it->left += iov[i].iov_len;
    }
    return 0;
}

/* Copy (n) <= left bytes out of, or into, the buffers and move on. */
static inline void vsock_iter_copy(struct vsock_iter *it, void *buf, size_t n, bool into)
{
    it->left -= n;
    while (n) {
        size_t piece = it->iov->iov_len - it->off;
        u8 *at = (u8 *)it->iov->iov_base + it->off;

        piece = piece < n ? piece : n;
        if (into)
            memcpy(at, buf, piece);
        else
            memcpy(buf, at, piece);
        buf = (u8 *)buf + piece;
        n -= piece;
        it->off += piece;
        if (it->off == it->iov->iov_len) {
            it->iov++;
            it->off = 0;
        }
    }
}

/* The bytes that lie together where it stands, and where; move on by that many, or fewer. */
static inline size_t vsock_iter_span(const struct vsock_iter *it)
{
    return it->left ? it->iov->iov_len - it->off : 0;
}

static inline u8 *vsock_iter_at(const struct vsock_iter *it)
{
    return (u8 *)it->iov->iov_base + it->off;
}

static inline void vsock_iter_skip(struct vsock_iter *it, size_t n)
{
    it->left -= n;
    it->off += n;
    if (it->off == it->iov->iov_len) {
        it->iov++;
        it->off = 0;
    }
}
