// SPDX-License-Identifier: MIT
// virtio-blk: every request type against a temporary file, its limits, and malformed requests.
#include "driver.h"
#include "virtio/blk.h"

#include "../tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <sys/mman.h>
#include <unistd.h>

#define V1      BIT(VIRTIO_F_VERSION_1)
#define SECTORS 64
#define HEADER  DRIVER_DATA
#define STATUS  (DRIVER_DATA + 0x100)
#define DATA    (DRIVER_DATA + 0x1000)

static struct driver v;
static int fd = -1;

/* Sector n is full of n. */
static void fill_disk(void)
{
    u8 sector[512];

    for (unsigned i = 0; i < SECTORS; i++) {
        memset(sector, i, sizeof(sector));
        if (pwrite(fd, sector, sizeof(sector), i * 512) != 512)
            exit(99);
    }
}

static void open_disk(bool readonly, u64 features)
{
    struct virtio_device *dev;

    fd = memfd_create("disk", 0);
    fill_disk();
    if (virtio_blk_create(&(struct virtio_blk_backend){dup(fd), readonly, "uvirt-0"}, &dev))
        exit(99);
    driver_open(&v, dev);
    driver_start(&v, V1 | features, 1);
}

static void close_disk(void)
{
    driver_close(&v);
    close(fd);
}

/* A request with (len) bytes of data at DATA; its status, or -1 if none came. */
static int request(u32 type, u64 sector, u32 len, bool data_in, u32 *ret_used)
{
    struct virtio_blk_outhdr h = {.type = type, .sector = sector};
    struct virtq_seg segs[] = {{HEADER, sizeof(h)}, {DATA, len}, {STATUS, 1}};
    u8 *status = driver_at(&v, STATUS);
    u32 id, used = 0;

    *status = 0xee;
    memcpy(driver_at(&v, HEADER), &h, sizeof(h));
    if (!len)
        segs[1] = segs[2];
    driver_add(&v, 0, segs, 1 + (len && !data_in), 1 + (len && data_in));
    driver_kick(&v, 0);
    if (!driver_used(&v, 0, &id, &used))
        return -1;
    if (ret_used)
        *ret_used = used;
    return *status;
}

static u8 disk_byte(u64 at)
{
    u8 b = 0xee;

    if (pread(fd, &b, 1, at) != 1)
        return 0xdd;
    return b;
}

static void test_config(void)
{
    struct virtio_blk_config c;

    for (unsigned i = 0; i < sizeof(c); i++)
        virtio_mmio_read(v.t, VIRTIO_MMIO_CONFIG + i, (u8 *)&c + i, 1);
    is_u64(c.capacity, SECTORS, "capacity");
    is_u64(c.blk_size, 512, "block size");
    is_u64(c.seg_max, VIRTQ_SIZE_MAX - 2, "segments");
    is_u64(driver_reg(&v, VIRTIO_MMIO_CONFIG + 0xf0), 0, "nothing behind the configuration");
}

static void test_io(void)
{
    u8 *data = driver_at(&v, DATA);
    u32 used;

    is_u64(request(VIRTIO_BLK_T_IN, 5, 1024, true, &used), VIRTIO_BLK_S_OK, "reading two sectors");
    ok(data[0] == 5 && data[511] == 5 && data[512] == 6 && used == 1025, "their bytes");
    memset(data, 0x77, 512);
    is_u64(request(VIRTIO_BLK_T_OUT, 9, 512, false, &used), VIRTIO_BLK_S_OK, "writing one");
    ok(disk_byte(9 * 512) == 0x77 && disk_byte(10 * 512 - 1) == 0x77 &&
           disk_byte(9 * 512 - 1) == 8 && disk_byte(10 * 512) == 10 && used == 1,
       "that one and no other");
    is_u64(request(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK, "flush");
    memset(data, 0xaa, 32);
    is_u64(request(VIRTIO_BLK_T_GET_ID, 0, 20, true, NULL), VIRTIO_BLK_S_OK, "the serial number");
    ok(!memcmp(data, "uvirt-0\0\0\0\0\0\0\0\0\0\0\0\0\0\xaa", 21), "is what it is");
    is_u64(request(99, 0, 0, false, NULL), VIRTIO_BLK_S_UNSUPP, "an unknown request");
}

static void test_limits(void)
{
    u32 used;

    is_u64(request(VIRTIO_BLK_T_IN, SECTORS - 1, 512, true, NULL), VIRTIO_BLK_S_OK,
           "the last sector");
    is_u64(request(VIRTIO_BLK_T_IN, SECTORS - 1, 1024, true, &used), VIRTIO_BLK_S_IOERR,
           "past the end");
    is_u64(used, 0, "promises no bytes");
    is_u64(request(VIRTIO_BLK_T_IN, SECTORS, 512, true, NULL), VIRTIO_BLK_S_IOERR, "at the end");
    is_u64(request(VIRTIO_BLK_T_IN, 1ull << 55, 512, true, NULL), VIRTIO_BLK_S_IOERR,
           "a sector whose byte offset wraps");
    is_u64(request(VIRTIO_BLK_T_OUT, ~0ull, 512, false, NULL), VIRTIO_BLK_S_IOERR,
           "the last sector there could be");
    is_u64(request(VIRTIO_BLK_T_IN, 0, 100, true, NULL), VIRTIO_BLK_S_IOERR, "half a sector");
    if (ftruncate(fd, 512))
        exit(99);
    is_u64(request(VIRTIO_BLK_T_IN, 0, 1024, true, NULL), VIRTIO_BLK_S_IOERR,
           "a file that has shrunk");
    fill_disk();
}

static int range(u32 type, u64 sector, u32 sectors, u32 flags)
{
    struct virtio_blk_discard_write_zeroes r = {sector, sectors, flags};

    memcpy(driver_at(&v, DATA), &r, sizeof(r));
    return request(type, 0, sizeof(r), false, NULL);
}

static void test_ranges(void)
{
    is_u64(range(VIRTIO_BLK_T_DISCARD, 16, 8, 0), VIRTIO_BLK_S_OK, "discard");
    is_u64(disk_byte(16 * 512), 0, "reads as zero");
    ok(disk_byte(16 * 512 - 1) == 15 && disk_byte(24 * 512) == 24, "its neighbours stay");
    is_u64(range(VIRTIO_BLK_T_WRITE_ZEROES, 32, 8, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP),
           VIRTIO_BLK_S_OK, "write zeroes");
    is_u64(disk_byte(32 * 512), 0, "reads as zero");
    is_u64(range(VIRTIO_BLK_T_DISCARD, SECTORS - 1, 2, 0), VIRTIO_BLK_S_IOERR, "past the end");
    is_u64(range(VIRTIO_BLK_T_DISCARD, ~0ull, 1, 0), VIRTIO_BLK_S_IOERR, "wrapping");
    is_u64(range(VIRTIO_BLK_T_DISCARD, 0, 1, 1), VIRTIO_BLK_S_UNSUPP, "a flag it does not have");
    is_u64(request(VIRTIO_BLK_T_DISCARD, 0, 8, false, NULL), VIRTIO_BLK_S_IOERR, "half a range");
}

static void test_readonly(void)
{
    open_disk(true, BIT(VIRTIO_BLK_F_RO));
    driver_set(&v, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
    ok(driver_reg(&v, VIRTIO_MMIO_DEVICE_FEATURES) & BIT(VIRTIO_BLK_F_RO), "read-only is offered");
    ok(!(driver_reg(&v, VIRTIO_MMIO_DEVICE_FEATURES) & BIT(VIRTIO_BLK_F_DISCARD)),
       "discard is not");
    is_u64(request(VIRTIO_BLK_T_IN, 1, 512, true, NULL), VIRTIO_BLK_S_OK, "it reads");
    is_u64(request(VIRTIO_BLK_T_OUT, 1, 512, false, NULL), VIRTIO_BLK_S_IOERR, "no writes");
    is_u64(range(VIRTIO_BLK_T_DISCARD, 1, 1, 0), VIRTIO_BLK_S_IOERR, "no discard");
    is_u64(range(VIRTIO_BLK_T_WRITE_ZEROES, 1, 1, 0), VIRTIO_BLK_S_IOERR, "no zeroes");
    is_u64(disk_byte(512), 1, "nothing changed");
    close_disk();
}

static bool failed(void)
{
    bool yes = driver_reg(&v, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;

    driver_start(&v, V1, 1);
    return yes;
}

static void test_malformed(void)
{
    struct virtq_seg segs[] = {{HEADER, 16}, {DATA, 512}, {STATUS, 1}};

    driver_add(&v, 0, segs, 2, 0);
    driver_kick(&v, 0);
    ok(failed(), "no room for a status fails the device");
    segs[0].len = 15;
    driver_add(&v, 0, segs, 1, 2);
    driver_kick(&v, 0);
    ok(failed(), "half a header fails the device");
    driver_add(&v, 0, segs, 0, 3);
    driver_kick(&v, 0);
    ok(failed(), "no header fails the device");
    is_u64(request(VIRTIO_BLK_T_IN, 5, 512, true, NULL), VIRTIO_BLK_S_OK, "a reset heals it");

    /* The layout of buffers is the driver's choice (virtio 2.7.4). */
    segs[0] = (struct virtq_seg){HEADER, 7};
    segs[1] = (struct virtq_seg){HEADER + 7, 9};
    segs[2] = (struct virtq_seg){DATA, 513};
    memcpy(driver_at(&v, HEADER), &(struct virtio_blk_outhdr){.type = 0, .sector = 3}, 16);
    memset(driver_at(&v, DATA), 0xee, 513);
    driver_add(&v, 0, segs, 2, 1);
    driver_kick(&v, 0);
    ok(*(u8 *)driver_at(&v, DATA) == 3 && *(u8 *)driver_at(&v, DATA + 512) == 0,
       "a header in two buffers, data and status in one");
}

static void test_create(void)
{
    struct virtio_device *dev;
    int p[2];

    if (pipe(p))
        exit(99);
    is_u64(virtio_blk_create(&(struct virtio_blk_backend){p[0]}, &dev), -EINVAL, "a pipe");
    is_u64(virtio_blk_create(&(struct virtio_blk_backend){-1}, &dev), -EBADF, "no file");
    close(p[0]);
    close(p[1]);
}

int main(void)
{
    test_create();
    open_disk(false, BIT(VIRTIO_BLK_F_FLUSH));
    test_config();
    test_io();
    test_limits();
    test_malformed();
    close_disk();
    open_disk(false, BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES));
    test_ranges();
    close_disk();
    test_readonly();
    return tap_done();
}
