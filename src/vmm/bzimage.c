// SPDX-License-Identifier: MIT
// Find and unpack the payload of a bzImage (Linux' Documentation/arch/x86/boot.rst).
#include "vmm/bzimage.h"
#include "vmm/unpack.h"

#include <errno.h>
#include <string.h>

/* Offsets into the file, all from boot.rst. */
enum {
    SETUP_SECTS = 0x1f1,
    BOOT_FLAG = 0x1fe,
    HEADER_MAGIC = 0x202,
    PROTOCOL_VERSION = 0x206,
    KERNEL_VERSION = 0x20e,
    PAYLOAD_OFFSET = 0x248,
    PAYLOAD_LENGTH = 0x24c,
    HEADER_END = 0x250,
};

#define SECTOR               512u
#define VERSION_WITH_PAYLOAD 0x208
#define VMLINUX_MAX          (1u << 30)

static u32 field(const struct blob *b, size_t off, unsigned bytes)
{
    u32 v = 0;

    memcpy(&v, b->data + off, bytes);
    return v;
}

bool bzimage_is(const struct blob *image)
{
    return image->size >= HEADER_END && field(image, BOOT_FLAG, 2) == 0xaa55 &&
           !memcmp(image->data + HEADER_MAGIC, "HdrS", 4);
}

int bzimage_unpack(const struct blob *image, struct blob *ret, struct vmm_error *err)
{
    u64 start, len;
    u32 sectors, size;

    if (!bzimage_is(image))
        return vmm_fail(err, -EINVAL, "it is not a bzImage");
    if (field(image, PROTOCOL_VERSION, 2) < VERSION_WITH_PAYLOAD)
        return vmm_fail(err, -EINVAL, "the bzImage is older than boot protocol 2.08");
    sectors = field(image, SETUP_SECTS, 1);
    start = (u64)((sectors ? sectors : 4) + 1) * SECTOR + field(image, PAYLOAD_OFFSET, 4);
    len = field(image, PAYLOAD_LENGTH, 4);
    if (len < 8 || start + len > image->size)
        return vmm_fail(err, -EINVAL,
                        "the bzImage is truncated: its header speaks of %llu bytes, "
                        "the file has %zu",
                        (unsigned long long)(start + len), image->size);
    /* The build appends the unpacked size to the payload; gzip has it there anyway. */
    size = field(image, start + len - 4, 4);
    if (size == 0 || size > VMLINUX_MAX)
        return vmm_fail(err, -EINVAL, "the bzImage says that it unpacks to %u bytes", size);
    return unpack(image->data + start, len, size, ret, err);
}

const char *bzimage_version(const struct blob *image)
{
    size_t at;

    if (!bzimage_is(image) || !field(image, KERNEL_VERSION, 2))
        return NULL;
    at = field(image, KERNEL_VERSION, 2) + SECTOR;
    if (at >= image->size || !memchr(image->data + at, 0, image->size - at))
        return NULL;
    return (const char *)image->data + at;
}
