// SPDX-License-Identifier: MIT
// A back end's messages: the table of what may come in which shape, and what each does.
#include "vhost/backend_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PROTOCOL_FEATURES                                                                          \
    (BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | BIT(VHOST_USER_PROTOCOL_F_CONFIG) |                    \
     BIT(VHOST_USER_PROTOCOL_F_RESET_DEVICE))

static u64 protocol_features(const struct vhost_backend *b)
{
    return PROTOCOL_FEATURES |
           (b->config.mem_slots ? BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) : 0);
}

#define HANDLER(name) static int name(struct vhost_backend *b, struct vhost_user_msg *m)

/* The descriptor that came first, from now on the caller's; -1 if none did. */
static int take_fd(struct vhost_user_msg *m)
{
    int fd = m->nr_fds ? m->fds[0] : -1;

    if (m->nr_fds)
        m->fds[0] = -1;
    return fd;
}

HANDLER(get_features)
{
    m->payload.number = b->config.dev->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);
    return 0;
}

HANDLER(set_features)
{
    u64 offered = b->config.dev->features | BIT(VHOST_USER_F_PROTOCOL_FEATURES);

    if (m->payload.number & ~offered)
        return -EINVAL;
    b->features = m->payload.number;
    return 0;
}

HANDLER(set_owner)
{
    return 0;
}

/* Stop everything, forget what the driver did; memory and descriptors stay. */
HANDLER(reset_device)
{
    virtio_device_set_status(b->config.dev, 0);
    b->up = false;
    for (unsigned i = 0; i < b->nr_vrings; i++) {
        b->vrings[i].enabled = b->vrings[i].addr_set = false;
        b->vrings[i].base = 0;
    }
    return 0;
}

HANDLER(get_protocol_features)
{
    m->payload.number = protocol_features(b);
    return 0;
}

HANDLER(set_protocol_features)
{
    if (m->payload.number & ~protocol_features(b))
        return -EINVAL;
    b->protocol_features = m->payload.number;
    return 0;
}

HANDLER(get_queue_num)
{
    m->payload.number = b->nr_vrings;
    return 0;
}

HANDLER(set_mem_table)
{
    const struct vhost_user_table *t = &m->payload.table;
    int rc = 0;

    if (t->nr > VHOST_USER_REGIONS_MAX || t->nr != m->nr_fds ||
        m->hdr.size < offsetof(struct vhost_user_table, regions) + t->nr * sizeof(t->regions[0]))
        return -EINVAL;
    vhost_memory_clear(&b->memory);
    for (u32 i = 0; i < t->nr && !rc; i++)
        rc = vhost_memory_add(&b->memory, &t->regions[i], m->fds[i]);
    return rc;
}

HANDLER(get_max_mem_slots)
{
    m->payload.number = VHOST_USER_SLOTS_MAX;
    return 0;
}

HANDLER(add_mem_reg)
{
    return vhost_memory_add(&b->memory, &m->payload.one.region, m->fds[0]);
}

HANDLER(rem_mem_reg)
{
    return vhost_memory_remove(&b->memory, &m->payload.one.region);
}

HANDLER(set_vring_num)
{
    const struct vhost_user_vring_state *s = &m->payload.state;

    if (s->index >= b->nr_vrings || !s->num || s->num > b->config.dev->queues[s->index].size_max)
        return -EINVAL;
    b->vrings[s->index].num = s->num;
    return 0;
}

HANDLER(set_vring_addr)
{
    const struct vhost_user_vring_addr *a = &m->payload.addr;

    if (a->index >= b->nr_vrings)
        return -EINVAL;
    if (b->config.dev->queues[a->index].ready)
        return 0; /* with logging on or off; there is none */
    b->vrings[a->index].addr = *a;
    b->vrings[a->index].addr_set = true;
    return vhost_vring_start(b, a->index);
}

HANDLER(set_vring_base)
{
    const struct vhost_user_vring_state *s = &m->payload.state;

    if (s->index >= b->nr_vrings || b->config.dev->queues[s->index].ready)
        return -EINVAL;
    b->vrings[s->index].base = s->num;
    return 0;
}

HANDLER(get_vring_base)
{
    struct vhost_user_vring_state *s = &m->payload.state;

    if (s->index >= b->nr_vrings)
        return -EINVAL;
    s->num = vhost_vring_stop(b, s->index);
    vhost_vring_set_kick(b, s->index, -1);
    b->vrings[s->index].kick_set = false;
    return 0;
}

HANDLER(set_vring_enable)
{
    const struct vhost_user_vring_state *s = &m->payload.state;

    if (s->index >= b->nr_vrings || s->num > 1)
        return -EINVAL;
    b->vrings[s->index].enabled = s->num;
    if (!s->num)
        vhost_vring_stop(b, s->index);
    return vhost_vring_start(b, s->index);
}

/* Which ring a descriptor is for, and the descriptor if there is one: 0 or -EINVAL. */
static int vring_fd(struct vhost_backend *b, struct vhost_user_msg *m, unsigned *ret_i, int *ret_fd)
{
    u64 n = m->payload.number;
    bool none = n & VHOST_USER_VRING_NOFD;

    if (n & ~(VHOST_USER_VRING_INDEX | VHOST_USER_VRING_NOFD) || none == !!m->nr_fds ||
        (n & VHOST_USER_VRING_INDEX) >= b->nr_vrings)
        return -EINVAL;
    *ret_i = n & VHOST_USER_VRING_INDEX;
    *ret_fd = take_fd(m);
    return 0;
}

HANDLER(set_vring_kick)
{
    unsigned i;
    int fd, rc = vring_fd(b, m, &i, &fd);

    if (!rc)
        rc = vhost_vring_set_kick(b, i, fd);
    return rc ? rc : vhost_vring_start(b, i);
}

HANDLER(set_vring_call)
{
    unsigned i;
    int fd, rc = vring_fd(b, m, &i, &fd);

    if (!rc)
        vhost_vring_set_fd(&b->vrings[i].call, fd);
    return rc;
}

HANDLER(set_vring_err)
{
    unsigned i;
    int fd, rc = vring_fd(b, m, &i, &fd);

    if (!rc)
        vhost_vring_set_fd(&b->vrings[i].err, fd);
    return rc;
}

/* An empty answer says that the request was wrong. */
HANDLER(get_config)
{
    struct vhost_user_config *c = &m->payload.config;
    struct virtio_device *d = b->config.dev;

    if (c->size > sizeof(c->bytes) || c->offset > sizeof(c->bytes) - c->size ||
        m->hdr.size < offsetof(struct vhost_user_config, bytes) + c->size) {
        m->hdr.size = 0;
        return 0;
    }
    memset(c->bytes, 0, sizeof(c->bytes));
    if (d->ops->config_read)
        d->ops->config_read(d, c->offset, c->bytes, c->size);
    m->hdr.size = offsetof(struct vhost_user_config, bytes) + c->size;
    return 0;
}

/* No field of a device here is the driver's to write. */
HANDLER(set_config)
{
    return -EINVAL;
}

enum answer { ACK, NUMBER, SAME, OWN };

static const struct rule {
    const char *name;
    int (*handle)(struct vhost_backend *b, struct vhost_user_msg *m);
    u16 size_min, size_max;
    u8 fds_max;
    enum answer answer; /* ACK: only if asked for one */
} rules[VHOST_USER_NR_REQUESTS] = {
#define NUMBER_SIZE sizeof(u64)
#define STATE_SIZE  sizeof(struct vhost_user_vring_state)
#define ONE_SIZE    sizeof(struct vhost_user_one_region)
#define CONFIG_HEAD offsetof(struct vhost_user_config, bytes)
    [VHOST_USER_GET_FEATURES] = {"GET_FEATURES", get_features, 0, 0, 0, NUMBER},
    [VHOST_USER_SET_FEATURES] = {"SET_FEATURES", set_features, NUMBER_SIZE, NUMBER_SIZE, 0, ACK},
    [VHOST_USER_SET_OWNER] = {"SET_OWNER", set_owner, 0, 0, 0, ACK},
    [VHOST_USER_RESET_OWNER] = {"RESET_OWNER", reset_device, 0, 0, 0, ACK},
    [VHOST_USER_SET_MEM_TABLE] = {"SET_MEM_TABLE", set_mem_table,
                                  offsetof(struct vhost_user_table, regions),
                                  sizeof(struct vhost_user_table), VHOST_USER_REGIONS_MAX, ACK},
    [VHOST_USER_SET_VRING_NUM] = {"SET_VRING_NUM", set_vring_num, STATE_SIZE, STATE_SIZE, 0, ACK},
    [VHOST_USER_SET_VRING_ADDR] = {"SET_VRING_ADDR", set_vring_addr,
                                   sizeof(struct vhost_user_vring_addr),
                                   sizeof(struct vhost_user_vring_addr), 0, ACK},
    [VHOST_USER_SET_VRING_BASE] = {"SET_VRING_BASE", set_vring_base, STATE_SIZE, STATE_SIZE, 0,
                                   ACK},
    [VHOST_USER_GET_VRING_BASE] = {"GET_VRING_BASE", get_vring_base, STATE_SIZE, STATE_SIZE, 0,
                                   SAME},
    [VHOST_USER_SET_VRING_KICK] = {"SET_VRING_KICK", set_vring_kick, NUMBER_SIZE, NUMBER_SIZE, 1,
                                   ACK},
    [VHOST_USER_SET_VRING_CALL] = {"SET_VRING_CALL", set_vring_call, NUMBER_SIZE, NUMBER_SIZE, 1,
                                   ACK},
    [VHOST_USER_SET_VRING_ERR] = {"SET_VRING_ERR", set_vring_err, NUMBER_SIZE, NUMBER_SIZE, 1, ACK},
    [VHOST_USER_GET_PROTOCOL_FEATURES] = {"GET_PROTOCOL_FEATURES", get_protocol_features, 0, 0, 0,
                                          NUMBER},
    [VHOST_USER_SET_PROTOCOL_FEATURES] = {"SET_PROTOCOL_FEATURES", set_protocol_features,
                                          NUMBER_SIZE, NUMBER_SIZE, 0, ACK},
    [VHOST_USER_GET_QUEUE_NUM] = {"GET_QUEUE_NUM", get_queue_num, 0, 0, 0, NUMBER},
    [VHOST_USER_SET_VRING_ENABLE] = {"SET_VRING_ENABLE", set_vring_enable, STATE_SIZE, STATE_SIZE,
                                     0, ACK},
    [VHOST_USER_GET_CONFIG] = {"GET_CONFIG", get_config, CONFIG_HEAD,
                               sizeof(struct vhost_user_config), 0, OWN},
    [VHOST_USER_SET_CONFIG] = {"SET_CONFIG", set_config, CONFIG_HEAD,
                               sizeof(struct vhost_user_config), 0, ACK},
    [VHOST_USER_RESET_DEVICE] = {"RESET_DEVICE", reset_device, 0, 0, 0, ACK},
    [VHOST_USER_GET_MAX_MEM_SLOTS] = {"GET_MAX_MEM_SLOTS", get_max_mem_slots, 0, 0, 0, NUMBER},
    [VHOST_USER_ADD_MEM_REG] = {"ADD_MEM_REG", add_mem_reg, ONE_SIZE, ONE_SIZE, 1, ACK},
    /* Some front ends send a descriptor along here, too; it is closed. */
    [VHOST_USER_REM_MEM_REG] = {"REM_MEM_REG", rem_mem_reg, ONE_SIZE, ONE_SIZE, 1, ACK},
};

static int fail(struct vhost_backend *b, const char *name, const char *what)
{
    snprintf(b->why, sizeof(b->why), "%s: %s", name, what);
    return -EPROTO;
}

static int answer(struct vhost_backend *b, const struct rule *r, struct vhost_user_msg *m, int rc)
{
    /* Also one that agreed on REPLY_ACK with a back end that was here before us. */
    bool asked = m->hdr.flags & VHOST_USER_NEED_REPLY;

    if (r->answer == ACK && !asked)
        return rc ? fail(b, r->name, strerror(-rc)) : 0;
    if (r->answer != ACK && rc)
        return fail(b, r->name, strerror(-rc));
    if (r->answer == ACK)
        m->payload.number = rc != 0;
    if (r->answer == ACK || r->answer == NUMBER)
        m->hdr.size = sizeof(m->payload.number);
    m->hdr.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
    vhost_user_done_fds(m);
    rc = vhost_user_send(b->fd, m);
    return rc ? fail(b, r->name, "the answer is not read") : 0;
}

int vhost_backend_message(struct vhost_backend *b)
{
    struct vhost_user_msg *m = &b->rx.msg;
    const struct rule *r = m->hdr.request < VHOST_USER_NR_REQUESTS ? &rules[m->hdr.request] : NULL;
    char number[32];
    int rc;

    if (!r || !r->handle) {
        snprintf(number, sizeof(number), "request %u", m->hdr.request);
        return fail(b, number, "not known here");
    }
    if (m->hdr.size < r->size_min || m->hdr.size > r->size_max || m->hdr.flags & VHOST_USER_REPLY)
        return fail(b, r->name, "wrong size or flags");
    if (m->nr_fds > r->fds_max || (r->handle == add_mem_reg && m->nr_fds != 1))
        return fail(b, r->name, "wrong number of descriptors");
    pthread_mutex_lock(&b->turn.lock);
    rc = r->handle(b, m);
    pthread_mutex_unlock(&b->turn.lock);
    rc = answer(b, r, m, rc);
    virtio_turn_run(&b->turn); /* also for calls that found the lock taken */
    return rc;
}
