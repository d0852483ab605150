// SPDX-License-Identifier: MIT
// One decompressor per format that Linux packs kernels and modules with, over zlib, liblzma, libzstd and liblz4.
#include "vmm/unpack.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define LZMA_MEMORY_MAX  (512ull << 20)
#define LZ4_LEGACY_BLOCK (8u << 20) /* a legacy block unpacks to at most this */

/* Unpack into (out), (*len) bytes long, and say how much came out. */
typedef int (*unpack_fn)(const u8 *in, size_t in_len, u8 *out, size_t *len);

static int unpack_gzip(const u8 *in, size_t in_len, u8 *out, size_t *len)
{
    z_stream z = {0};
    int rc;

    if (in_len > UINT32_MAX || *len > UINT32_MAX)
        return -EINVAL;
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return -ENOMEM;
    z.next_in = (u8 *)(uintptr_t)in;
    z.avail_in = (uInt)in_len;
    z.next_out = out;
    z.avail_out = (uInt)*len;
    rc = inflate(&z, Z_FINISH);
    *len = z.total_out;
    inflateEnd(&z);
    return rc == Z_STREAM_END ? 0 : -EINVAL;
}

static int unpack_xz(const u8 *in, size_t in_len, u8 *out, size_t *len)
{
    u64 limit = LZMA_MEMORY_MAX;
    size_t in_pos = 0, out_pos = 0;
    lzma_ret rc =
        lzma_stream_buffer_decode(&limit, 0, NULL, in, &in_pos, in_len, out, &out_pos, *len);

    *len = out_pos;
    return rc == LZMA_OK ? 0 : rc == LZMA_MEM_ERROR ? -ENOMEM : -EINVAL;
}

static int unpack_lzma(const u8 *in, size_t in_len, u8 *out, size_t *len)
{
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_ret rc = lzma_alone_decoder(&s, LZMA_MEMORY_MAX);

    if (rc != LZMA_OK)
        return rc == LZMA_MEM_ERROR ? -ENOMEM : -EINVAL;
    s.next_in = in;
    s.avail_in = in_len;
    s.next_out = out;
    s.avail_out = *len;
    rc = lzma_code(&s, LZMA_FINISH);
    *len = s.total_out;
    lzma_end(&s);
    return rc == LZMA_STREAM_END ? 0 : -EINVAL;
}

static int unpack_zstd(const u8 *in, size_t in_len, u8 *out, size_t *len)
{
    size_t frame = ZSTD_findFrameCompressedSize(in, in_len);
    size_t got;

    if (ZSTD_isError(frame))
        return -EINVAL;
    got = ZSTD_decompress(out, *len, in, frame);
    if (ZSTD_isError(got))
        return -EINVAL;
    *len = got;
    return 0;
}

static u32 get_le32(const u8 *p)
{
    return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24;
}

/*
 * Legacy frames have no end mark. Linux appends four bytes of unpacked size to its payload,
 * which would be a block length: the last four bytes of the input are never a block's head.
 */
static int unpack_lz4(const u8 *in, size_t in_len, u8 *out, size_t *len)
{
    size_t pos = 4, done = 0;

    while (in_len - pos > 4) {
        u32 block = get_le32(in + pos);
        size_t room = *len - done;
        int got;

        pos += 4;
        if (block == 0 || block > in_len - pos || block > LZ4_COMPRESSBOUND(LZ4_LEGACY_BLOCK))
            return -EINVAL;
        if (room > LZ4_LEGACY_BLOCK)
            room = LZ4_LEGACY_BLOCK;
        got =
            LZ4_decompress_safe((const char *)in + pos, (char *)out + done, (int)block, (int)room);
        if (got < 0)
            return -EINVAL;
        pos += block;
        done += (size_t)got;
    }
    *len = done;
    return done ? 0 : -EINVAL;
}

static const struct format {
    const char *name;
    u8 magic[6];
    u8 magic_len;
    unpack_fn fn; /* NULL: known, but not unpacked here */
} formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
    {"lzma", {0x5d, 0, 0}, 3, unpack_lzma},
    {"bzip2", {'B', 'Z', 'h'}, 3, NULL},
    {"lzo", {0x89, 'L', 'Z', 'O'}, 4, NULL},
};

static const struct format *find_format(const void *data, size_t len)
{
    for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
        if (len >= formats[i].magic_len && !memcmp(data, formats[i].magic, formats[i].magic_len))
            return &formats[i];
    return NULL;
}

const char *unpack_format(const void *data, size_t len)
{
    const struct format *f = find_format(data, len);

    return f ? f->name : NULL;
}

int unpack(const void *data, size_t len, size_t max, struct blob *ret, struct vmm_error *err)
{
    const struct format *f = find_format(data, len);
    struct blob out;
    size_t got = max;
    int rc;

    if (!f)
        return vmm_fail(err, -EOPNOTSUPP, "packed in a format that is not known");
    if (!f->fn)
        return vmm_fail(err, -EOPNOTSUPP,
                        "packed with %s, which is not supported (gzip, xz, zstd, "
                        "lz4 and lzma are)",
                        f->name);
    if (len < 8)
        return vmm_fail(err, -EINVAL, "the %s data is truncated", f->name);
    rc = blob_alloc(max, &out);
    if (rc)
        return vmm_fail(err, rc, "no memory to unpack %zu bytes", max);
    rc = f->fn(data, len, out.data, &got);
    if (rc == 0 && got == 0)
        rc = -EINVAL;
    if (rc) {
        blob_free(&out);
        return vmm_fail(err, rc, "the %s data is corrupt or truncated", f->name);
    }
    blob_shrink(&out, got);
    *ret = out;
    return 0;
}
