// SPDX-License-Identifier: MIT
// A driver's virtqueue apart from the ring format: ids, what belongs to them, order.
#include "virtio/driver_ring.h"

#include <errno.h>
#include <string.h>

static const struct virtq_driver_ops *ring(const struct virtq_driver *q)
{
    return q->config.packed ? &virtq_driver_packed : &virtq_driver_split;
}

/* The parts of a queue's memory, in this order: descriptors, available, used, tables. */
static size_t avail_offset(u16 size)
{
    return 16ul * size;
}

static size_t used_offset(u16 size)
{
    return ALIGN_UP(avail_offset(size) + 6 + 2ul * size, 64);
}

static size_t table_offset(u16 size)
{
    return ALIGN_UP(used_offset(size) + 6 + 8ul * size, 64);
}

size_t virtq_driver_bytes(u16 size)
{
    return ALIGN_UP(table_offset(size) + 16ul * VIRTQ_DRIVER_TABLE * size, PAGE_SIZE);
}

int virtq_driver_init(struct virtq_driver *q, const struct virtq_driver_config *config)
{
    u16 n = config->size;

    if (!n || n > VIRTQ_SIZE_MAX || (!config->packed && (n & (n - 1))))
        return -EINVAL;
    memset(q, 0, sizeof(*q));
    q->config = *config;
    q->desc = config->gpa;
    q->avail = config->gpa + avail_offset(n);
    q->used = config->gpa + used_offset(n);
    q->desc_mem = config->memory;
    q->avail_mem = config->memory + avail_offset(n);
    q->used_mem = config->memory + used_offset(n);
    q->table_mem = config->memory + table_offset(n);
    q->nr_free = n;
    q->avail_wrap = q->used_wrap = true;
    q->batch = -1;
    for (u16 i = 0; i < n; i++)
        q->buf[i].next = q->desc_next[i] = i + 1;
    return 0;
}

void *virtq_driver_table(struct virtq_driver *q, u16 id, gpa_t *ret_gpa)
{
    u8 *at = q->table_mem + 16ul * VIRTQ_DRIVER_TABLE * id;

    *ret_gpa = q->config.gpa + (at - q->config.memory);
    return at;
}

int virtq_driver_add(struct virtq_driver *q, const struct virtq_seg *segs, unsigned out,
                     unsigned in, void *token)
{
    bool indirect = q->config.indirect && out + in > 1 && out + in <= VIRTQ_DRIVER_TABLE;
    u16 nr = indirect ? 1 : out + in;
    u32 in_len = 0;
    u16 id;

    if (!(out + in) || nr > q->nr_free)
        return -ENOSPC;
    for (unsigned i = out; i < out + in; i++)
        in_len += segs[i].len;
    id = ring(q)->add(q, segs, out, in, indirect);
    q->buf[id].token = token;
    q->buf[id].in_len = in_len;
    q->buf[id].nr = nr;
    q->nr_free -= nr;
    q->fresh += q->config.packed ? nr : 1;
    if (q->config.in_order) {
        if (q->nr_free + nr == q->config.size)
            q->first = id;
        else
            q->buf[q->last].next = id;
        q->last = id;
    }
    ring(q)->publish(q);
    return 0;
}

bool virtq_driver_should_kick(struct virtq_driver *q)
{
    u16 fresh = q->fresh;

    q->fresh = 0;
    return fresh && ring(q)->should_kick(q, fresh);
}

/* The buffer (id) goes out of use. */
static void retire(struct virtq_driver *q, u16 id, void **ret_token)
{
    struct virtq_driver_buffer *b = &q->buf[id];

    *ret_token = b->token;
    b->token = NULL;
    if (q->config.in_order)
        q->first = b->next;
    q->nr_free += b->nr;
    ring(q)->free(q, id);
}

int virtq_driver_used(struct virtq_driver *q, void **ret_token, u32 *ret_len)
{
    u32 len;
    u16 id;
    int rc;

    if (q->batch < 0) {
        rc = ring(q)->used(q, &id, &len);
        if (rc <= 0)
            return rc;
        if (id >= q->config.size || !q->buf[id].token || len > q->buf[id].in_len)
            return -EPROTO;
        if (!q->config.in_order || id == q->first) {
            *ret_len = len;
            ring(q)->skip(q, q->buf[id].nr);
            retire(q, id, ret_token);
            return 1;
        }
        q->batch = id; /* all before it are used as well (virtio 2.7.9) */
    }
    id = q->first;
    if (id == q->batch)
        q->batch = -1;
    *ret_len = q->buf[id].in_len;
    ring(q)->skip(q, q->buf[id].nr);
    retire(q, id, ret_token);
    return 1;
}

bool virtq_driver_enable_signal(struct virtq_driver *q)
{
    ring(q)->enable_signal(q);
    return q->batch >= 0 || ring(q)->pending(q);
}

void virtq_driver_disable_signal(struct virtq_driver *q)
{
    ring(q)->disable_signal(q);
}
