// SPDX-License-Identifier: MIT
// virtio-blk: requests on a file or block device, done inline.
#include "virtio/blk.h"
#include "virtio/state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define QUEUE_SIZE   256
#define SECTOR_SHIFT 9
#define PIECES       64 /* of guest memory per system call */
/* One discard or write-zeroes segment a request, at most 1 GiB. */
#define RANGE_MAX_SECTORS (1u << 21)

struct blk {
    struct virtio_device dev;
    struct virtq_chain chain;
    struct virtio_blk_config config; /* what the driver sees; host order is little-endian */
    int fd;
    bool readonly;
    char serial[VIRTIO_BLK_ID_BYTES];
};

static u64 capacity(const struct blk *b)
{
    return (u64)b->config.capacity << SECTOR_SHIFT;
}

/* Byte range of (len) bytes from (sector) on, if it lies on the disk and is whole sectors. */
static bool range_of(const struct blk *b, u64 sector, u64 len, u64 *ret_off)
{
    if (sector > b->config.capacity || len % (1 << SECTOR_SHIFT) ||
        len > capacity(b) - (sector << SECTOR_SHIFT))
        return false;
    *ret_off = sector << SECTOR_SHIFT;
    return true;
}

/* Move (len) bytes between the disk at (off) and the chain. */
static u8 transfer(struct blk *b, u64 off, u64 len, bool write)
{
    struct virtq_chain *c = &b->chain;
    struct iovec iov[PIECES];

    while (len) {
        unsigned n = write ? virtq_out_iov(c, len, iov, PIECES) : virtq_in_iov(c, len, iov, PIECES);
        ssize_t done = write ? pwritev(b->fd, iov, n, off) : preadv(b->fd, iov, n, off);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return VIRTIO_BLK_S_IOERR;
        if (write)
            virtq_out_skip(c, done);
        else
            virtq_in_done(c, done);
        off += done;
        len -= done;
    }
    return VIRTIO_BLK_S_OK;
}

static u8 flush(struct blk *b)
{
    return fdatasync(b->fd) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/* VIRTIO_BLK_T_IN: everything writable but the status byte is data. */
static u8 do_read(struct blk *b, u64 sector)
{
    u64 off, len = b->chain.in.left - 1;

    return range_of(b, sector, len, &off) ? transfer(b, off, len, false) : VIRTIO_BLK_S_IOERR;
}

static u8 do_write(struct blk *b, u64 sector)
{
    u64 off, len = b->chain.out.left;
    u8 status;

    if (b->readonly || !range_of(b, sector, len, &off))
        return VIRTIO_BLK_S_IOERR;
    status = transfer(b, off, len, true);
    /* Without a flush command the driver relies on writes being stable (virtio 5.2.6.2). */
    if (status == VIRTIO_BLK_S_OK && !virtio_device_has(&b->dev, VIRTIO_BLK_F_FLUSH))
        status = flush(b);
    return status;
}

static u8 do_get_id(struct blk *b)
{
    u64 n = b->chain.in.left - 1;

    if (n > sizeof(b->serial))
        n = sizeof(b->serial);
    return virtq_in(&b->chain, b->serial, n) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/* VIRTIO_BLK_T_DISCARD and _WRITE_ZEROES (virtio 5.2.6.2). */
static u8 do_range(struct blk *b, u32 type)
{
    bool zeroes = type == VIRTIO_BLK_T_WRITE_ZEROES;
    struct virtio_blk_discard_write_zeroes r;
    int mode = FALLOC_FL_KEEP_SIZE;
    u64 off;

    if (b->readonly || b->chain.out.left != sizeof(r) || virtq_out(&b->chain, &r, sizeof(r)))
        return VIRTIO_BLK_S_IOERR;
    if (r.flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0))
        return VIRTIO_BLK_S_UNSUPP;
    if (r.num_sectors > RANGE_MAX_SECTORS ||
        !range_of(b, r.sector, (u64)r.num_sectors << SECTOR_SHIFT, &off))
        return VIRTIO_BLK_S_IOERR;
    if (!r.num_sectors)
        return VIRTIO_BLK_S_OK;
    mode |= zeroes && !(r.flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) ? FALLOC_FL_ZERO_RANGE
                                                                      : FALLOC_FL_PUNCH_HOLE;
    if (fallocate(b->fd, mode, off, (u64)r.num_sectors << SECTOR_SHIFT))
        return !zeroes && errno == EOPNOTSUPP ? VIRTIO_BLK_S_OK /* discard is a hint */
               : errno == EOPNOTSUPP          ? VIRTIO_BLK_S_UNSUPP
                                              : VIRTIO_BLK_S_IOERR;
    if (zeroes && !virtio_device_has(&b->dev, VIRTIO_BLK_F_FLUSH))
        return flush(b);
    return VIRTIO_BLK_S_OK;
}

/* Do the request in b->chain and leave its status in the last writable byte. */
static int request(struct blk *b)
{
    struct virtq_chain *c = &b->chain;
    struct virtio_blk_outhdr h;
    u8 status;
    int rc;

    if (!c->in.left)
        return -EPROTO; /* nowhere to put a status */
    rc = virtq_out(c, &h, sizeof(h));
    if (rc)
        return rc;
    switch (h.type) {
    case VIRTIO_BLK_T_IN:
        status = do_read(b, h.sector);
        break;
    case VIRTIO_BLK_T_OUT:
        status = do_write(b, h.sector);
        break;
    case VIRTIO_BLK_T_FLUSH:
        status = flush(b);
        break;
    case VIRTIO_BLK_T_GET_ID:
        status = do_get_id(b);
        break;
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES:
        status = do_range(b, h.type);
        break;
    default:
        status = VIRTIO_BLK_S_UNSUPP;
        break;
    }
    /* The status is the last byte, behind whatever a failed request did not fill. */
    virtq_in_skip(c, c->in.left - 1);
    return virtq_in(c, &status, 1);
}

static void blk_notify(struct virtio_device *d, unsigned q)
{
    struct blk *b = container_of(d, struct blk, dev);
    struct virtq *vq = &d->queues[q];
    int rc;

    do {
        virtq_disable_notify(vq);
        while ((rc = virtq_pop(vq, &b->chain)) > 0) {
            rc = request(b);
            if (!rc)
                rc = virtq_push(vq, &b->chain);
            if (rc)
                break;
        }
        if (rc) {
            virtio_device_fail(d);
            return;
        }
    } while (virtq_enable_notify(vq));
    virtio_device_used(d, vq);
}

static void blk_config_read(struct virtio_device *d, u32 off, void *buf, u32 len)
{
    struct blk *b = container_of(d, struct blk, dev);

    virtio_config_copy(buf, off, len, &b->config, sizeof(b->config));
}

/* Requests are done inline: none is under way. The disk itself is not saved, but it must be the same. */
static void blk_state(struct virtio_device *d, struct state *s)
{
    struct blk *b = container_of(d, struct blk, dev);
    u64 sectors = b->config.capacity;
    bool readonly = b->readonly;

    STATE(s, sectors);
    STATE_CHECK(s, sectors == b->config.capacity, sectors);
    STATE_BOOL(s, readonly);
    STATE_CHECK(s, readonly == b->readonly, readonly);
    STATE(s, b->serial);
}

static void blk_free(struct virtio_device *d)
{
    struct blk *b = container_of(d, struct blk, dev);

    close(b->fd);
    virtio_device_fini(d);
    free(b);
}

static const struct virtio_device_ops blk_ops = {
    .id = VIRTIO_ID_BLOCK,
    .notify = blk_notify,
    .config_read = blk_config_read,
    .state = blk_state,
    .free = blk_free,
};

/* Size of the disk in bytes. */
static int disk_size(int fd, u64 *ret)
{
    struct stat st;
    u64 size;

    if (fstat(fd, &st))
        return -errno;
    if (S_ISREG(st.st_mode))
        size = st.st_size;
    else if (!S_ISBLK(st.st_mode))
        return -EINVAL;
    else if (ioctl(fd, BLKGETSIZE64, &size))
        return -errno;
    *ret = size;
    return 0;
}

int virtio_blk_create(const struct virtio_blk_backend *cfg, struct virtio_device **ret)
{
    u64 features = BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_FLUSH) | BIT(VIRTIO_BLK_F_BLK_SIZE);
    struct blk *b;
    u64 size = 0;
    int rc = disk_size(cfg->fd, &size);

    if (rc)
        return rc;
    b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    features |= cfg->readonly ? BIT(VIRTIO_BLK_F_RO)
                              : BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES);
    rc = virtio_device_init(&b->dev, &blk_ops, 1, QUEUE_SIZE, features);
    if (rc) {
        free(b);
        return rc;
    }
    b->fd = cfg->fd;
    b->readonly = cfg->readonly;
    if (cfg->serial)
        memcpy(b->serial, cfg->serial, strnlen(cfg->serial, sizeof(b->serial)));
    b->config = (struct virtio_blk_config){
        .capacity = size >> SECTOR_SHIFT,
        .seg_max = QUEUE_SIZE - 2, /* a request also has a header and a status */
        .blk_size = 1 << SECTOR_SHIFT,
        .max_discard_sectors = RANGE_MAX_SECTORS,
        .max_discard_seg = 1,
        .discard_sector_alignment = 1,
        .max_write_zeroes_sectors = RANGE_MAX_SECTORS,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };
    *ret = &b->dev;
    return 0;
}
