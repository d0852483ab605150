// SPDX-License-Identifier: MIT
// Eventfds tied to interrupts (irqfd) and to guest writes (ioeventfd).
#include "kvm/chip.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Theory of operation
 *
 * KVM keeps a reference to the eventfd, so that the caller may close its descriptor; we keep a
 * dup of it, and recognise the eventfd at deassign with kcmp(), or by number where that is
 * not allowed. irqfds are read by the service thread, which knows them by id and not by pointer, so
 * that an event that crosses a deassign finds nothing. All irqfd state is under irqchip.lock.
 *
 * An irqfd with a resamplefd holds its line high (IRQ_SOURCE_RESAMPLE) from the event until the
 * guest's EOI; then the line drops, the resamplefd is signalled, and the device raises
 * it again if it still wants service.
 */

/* --- descriptors --- */

/* 0, -EBADF, or -EINVAL when (fd) is known not to be an eventfd. */
static int check_eventfd(int fd)
{
    char path[48], name[64];
    ssize_t n;

    if (fcntl(fd, F_GETFD) < 0)
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, name, sizeof(name) - 1);
    if (n < 0)
        return 0; /* no /proc: take the caller's word */
    name[n] = 0;
    return strcmp(name, "anon_inode:[eventfd]") ? -EINVAL : 0;
}

static int dup_eventfd(int fd)
{
    int rc = check_eventfd(fd);

    if (rc)
        return rc;
    rc = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return rc < 0 ? -errno : rc;
}

/* Is (fd), which had the number (user_fd) when we dup'ed it as (ours), the same eventfd? */
static bool same_eventfd(int fd, int ours, int user_fd)
{
    pid_t me = getpid();
    long rc = syscall(SYS_kcmp, me, me, KCMP_FILE, fd, ours);

    return rc < 0 ? fd == user_fd : rc == 0;
}

static void signal_eventfd(int fd)
{
    u64 one = 1;
    ssize_t n = write(fd, &one, sizeof(one));

    (void)n; /* EAGAIN: the counter is full, so whoever waits is woken anyway */
}

/*
 * Read the counter without ever blocking, whatever the descriptor's flags. True if there was
 * something.
 */
static bool drain_eventfd(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    u64 count;
    struct iovec iov = {&count, sizeof(count)};
    ssize_t n = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

    if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
        if (poll(&p, 1, 0) <= 0)
            return false;
        n = read(fd, &count, sizeof(count));
    }
    return n == sizeof(count);
}

/* --- irqfd --- */

static void irqfd_free(struct irqfd *f)
{
    if (f->fd >= 0)
        close(f->fd);
    if (f->resample_fd >= 0)
        close(f->resample_fd);
    free(f);
}

void irqfd_free_all(struct irqchip *chip)
{
    struct irqfd *next;

    for (struct irqfd *f = chip->irqfds; f; f = next) {
        next = f->next;
        irqfd_free(f);
    }
    chip->irqfds = NULL;
}

bool irqfd_resamples(struct irqchip *chip, u32 gsi)
{
    for (struct irqfd *f = chip->irqfds; f; f = f->next)
        if (f->gsi == gsi && f->resample_fd >= 0)
            return true;
    return false;
}

void irqfd_acked(struct irqchip *chip, u32 gsi)
{
    if (!irqfd_resamples(chip, gsi))
        return;
    irqchip_set_irq_locked(chip, gsi, 0, IRQ_SOURCE_RESAMPLE);
    for (struct irqfd *f = chip->irqfds; f; f = f->next)
        if (f->gsi == gsi && f->resample_fd >= 0)
            signal_eventfd(f->resample_fd);
}

void irqfd_ready(struct irqchip *chip, u64 id)
{
    struct irqfd *f = chip->irqfds;

    while (f && f->id != id)
        f = f->next;
    if (!f || !drain_eventfd(f->fd))
        return;
    if (f->resample_fd >= 0) {
        irqchip_set_irq_locked(chip, f->gsi, 1, IRQ_SOURCE_RESAMPLE);
        return;
    }
    irqchip_set_irq_locked(chip, f->gsi, 1, IRQ_SOURCE_USER);
    irqchip_set_irq_locked(chip, f->gsi, 0, IRQ_SOURCE_USER);
}

static int irqfd_assign(struct irqchip *chip, const struct kvm_irqfd *args)
{
    struct epoll_event ev = {.events = EPOLLIN};
    struct irqfd *f = calloc(1, sizeof(*f));
    int rc;

    if (!f)
        return -ENOMEM;
    f->gsi = args->gsi;
    f->user_fd = (int)args->fd;
    f->resample_fd = -1;
    rc = f->fd = dup_eventfd((int)args->fd);
    if (rc < 0)
        goto fail;
    if (args->flags & KVM_IRQFD_FLAG_RESAMPLE) {
        rc = f->resample_fd = dup_eventfd((int)args->resamplefd);
        if (rc < 0)
            goto fail;
    }
    pthread_mutex_lock(&chip->lock);
    rc = 0;
    for (struct irqfd *o = chip->irqfds; o && !rc; o = o->next)
        if (same_eventfd(f->fd, o->fd, -1))
            rc = -EBUSY;
    f->id = ev.data.u64 = chip->irqfd_ids++;
    if (!rc && epoll_ctl(chip->timers.epoll_fd, EPOLL_CTL_ADD, f->fd, &ev))
        rc = -errno;
    if (!rc) {
        f->next = chip->irqfds;
        chip->irqfds = f;
        ioapic_eoi_vectors_update(chip);
    }
    pthread_mutex_unlock(&chip->lock);
    if (!rc)
        return 0;
fail:
    irqfd_free(f);
    return rc;
}

static int irqfd_deassign(struct irqchip *chip, const struct kvm_irqfd *args)
{
    struct irqfd **at, *f;
    int rc = check_eventfd((int)args->fd);

    if (rc)
        return rc;
    pthread_mutex_lock(&chip->lock);
    for (at = &chip->irqfds; (f = *at);) {
        if (f->gsi != args->gsi || !same_eventfd((int)args->fd, f->fd, f->user_fd)) {
            at = &f->next;
            continue;
        }
        *at = f->next;
        epoll_ctl(chip->timers.epoll_fd, EPOLL_CTL_DEL, f->fd, NULL);
        if (f->resample_fd >= 0 && !irqfd_resamples(chip, f->gsi))
            irqchip_set_irq_locked(chip, f->gsi, 0, IRQ_SOURCE_RESAMPLE);
        irqfd_free(f);
    }
    ioapic_eoi_vectors_update(chip);
    pthread_mutex_unlock(&chip->lock);
    return 0;
}

int irqchip_irqfd(struct irqchip *chip, const struct kvm_irqfd *args)
{
    if (args->flags & ~(u32)(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
        return -EINVAL;
    if (args->flags & KVM_IRQFD_FLAG_DEASSIGN)
        return irqfd_deassign(chip, args);
    return irqfd_assign(chip, args);
}

/* --- ioeventfd --- */

#define IOEVENTS_MAX 1000 /* KVM's NR_IOBUS_DEVS */

struct ioevent {
    u64 addr, datamatch;
    u32 len; /* 0: any */
    bool pio, match;
    int fd, user_fd;
};

struct ioevents {
    pthread_rwlock_t lock;
    unsigned n, room;
    struct ioevent *e;
};

int ioevents_create(struct ioevents **ret)
{
    struct ioevents *e = calloc(1, sizeof(*e));

    if (!e)
        return -ENOMEM;
    pthread_rwlock_init(&e->lock, NULL);
    *ret = e;
    return 0;
}

void ioevents_free(struct ioevents *e)
{
    if (!e)
        return;
    for (unsigned i = 0; i < e->n; i++)
        close(e->e[i].fd);
    free(e->e);
    pthread_rwlock_destroy(&e->lock);
    free(e);
}

/* Would some one write hit both? */
static bool collide(const struct ioevent *a, const struct ioevent *b)
{
    if (a->addr != b->addr || a->pio != b->pio)
        return false;
    if (!a->len || !b->len)
        return true;
    return a->len == b->len && (!a->match || !b->match || a->datamatch == b->datamatch);
}

static int ioevent_add(struct ioevents *v, const struct ioevent *ev)
{
    struct ioevent *grown;

    for (unsigned i = 0; i < v->n; i++)
        if (collide(&v->e[i], ev))
            return -EEXIST;
    if (v->n == IOEVENTS_MAX)
        return -ENOSPC;
    if (v->n == v->room) {
        grown = realloc(v->e, (v->room + 16) * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        v->e = grown;
        v->room += 16;
    }
    v->e[v->n++] = *ev;
    return 0;
}

static int ioevent_remove(struct ioevents *v, const struct ioevent *ev)
{
    for (unsigned i = 0; i < v->n; i++) {
        struct ioevent *o = &v->e[i];

        if (o->pio != ev->pio || o->addr != ev->addr || o->len != ev->len || o->match != ev->match)
            continue;
        if ((o->match && o->datamatch != ev->datamatch) ||
            !same_eventfd(ev->user_fd, o->fd, o->user_fd))
            continue;
        close(o->fd);
        *o = v->e[--v->n];
        return 0;
    }
    return -ENOENT;
}

static int args_check(const struct kvm_ioeventfd *a)
{
    u32 known = KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN;

    if (a->flags & ~known)
        return -EINVAL;
    if (a->len != 0 && a->len != 1 && a->len != 2 && a->len != 4 && a->len != 8)
        return -EINVAL;
    if (a->addr + a->len < a->addr)
        return -EINVAL;
    if (!a->len && (a->flags & KVM_IOEVENTFD_FLAG_DATAMATCH))
        return -EINVAL;
    return check_eventfd(a->fd);
}

int ioevents_ioctl(struct ioevents *v, const struct kvm_ioeventfd *args)
{
    struct ioevent ev = {
        .addr = args->addr,
        .datamatch = args->datamatch,
        .len = args->len,
        .pio = args->flags & KVM_IOEVENTFD_FLAG_PIO,
        .match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH,
        .fd = -1,
        .user_fd = args->fd,
    };
    bool remove = args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN;
    int rc = args_check(args);

    if (rc)
        return rc;
    if (!remove) {
        ev.fd = dup_eventfd(args->fd);
        if (ev.fd < 0)
            return ev.fd;
    }
    pthread_rwlock_wrlock(&v->lock);
    rc = remove ? ioevent_remove(v, &ev) : ioevent_add(v, &ev);
    pthread_rwlock_unlock(&v->lock);
    if (rc && ev.fd >= 0)
        close(ev.fd);
    return rc;
}

static bool hits(const struct ioevent *e, bool pio, u64 addr, unsigned len, u64 val)
{
    if (e->addr != addr || e->pio != pio)
        return false;
    if (!e->len)
        return true;
    return e->len == len && (!e->match || e->datamatch == val);
}

bool ioevents_write(struct ioevents *v, bool pio, u64 addr, unsigned len, const void *data)
{
    bool hit = false;
    u64 val = 0;

    memcpy(&val, data, len < sizeof(val) ? len : sizeof(val));
    pthread_rwlock_rdlock(&v->lock);
    for (unsigned i = 0; i < v->n && !hit; i++) {
        hit = hits(&v->e[i], pio, addr, len, val);
        if (hit)
            signal_eventfd(v->e[i].fd);
    }
    pthread_rwlock_unlock(&v->lock);
    return hit;
}
