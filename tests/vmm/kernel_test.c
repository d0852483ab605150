// SPDX-License-Identifier: MIT
// Kernel images: every packing, truncation at every length, hostile headers, the PVH note, the copy to memory.
#include "tap.h"
#include "vmm/bzimage.h"
#include "vmm/elf.h"
#include "vmm/unpack.h"

#include <elf.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <sys/mman.h>
#include <zlib.h>
#include <zstd.h>

#define RAM       (16ul << 20)
#define LOAD_AT   0x200000ul
#define ENTRY     0x200040ul
#define PVH_ENTRY 0x200080u
#define TEXT      3000u
#define BSS       5000u
#define IMAGE     8192u

/* A vmlinux of one segment and one note segment. */
struct vmlinux {
    Elf64_Ehdr eh;
    Elf64_Phdr ph[2];
    struct {
        Elf64_Nhdr other;
        char other_name[8];
        u8 other_desc[4];
        Elf64_Nhdr nh;
        char name[4];
        u32 desc;
    } note;
    u8 pad[4096 - sizeof(Elf64_Ehdr) - 2 * sizeof(Elf64_Phdr) - 44];
    u8 text[TEXT];
    u8 rest[IMAGE - 4096 - TEXT];
};
_Static_assert(sizeof(struct vmlinux) == IMAGE, "layout");

static struct vmlinux vmlinux(void)
{
    struct vmlinux v = {
        .eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
               .e_type = ET_EXEC,
               .e_machine = EM_X86_64,
               .e_version = 1,
               .e_entry = ENTRY,
               .e_phoff = offsetof(struct vmlinux, ph),
               .e_ehsize = sizeof(Elf64_Ehdr),
               .e_phentsize = sizeof(Elf64_Phdr),
               .e_phnum = 2},
        .ph = {{.p_type = PT_LOAD,
                .p_offset = offsetof(struct vmlinux, text),
                .p_vaddr = LOAD_AT,
                .p_paddr = LOAD_AT,
                .p_filesz = TEXT,
                .p_memsz = TEXT + BSS},
               {.p_type = PT_NOTE,
                .p_offset = offsetof(struct vmlinux, note),
                .p_filesz = sizeof(v.note)}},
        .note = {.other = {5, 1, 18},
                 .other_name = "GNU!",
                 .nh = {4, 4, 18},
                 .name = "Xen",
                 .desc = PVH_ENTRY},
    };

    for (unsigned i = 0; i < TEXT; i++)
        v.text[i] = (u8)(i * 7 + (i >> 8));
    return v;
}

static size_t pack_gzip(const void *in, size_t len, u8 *out, size_t room)
{
    z_stream z = {0};
    size_t n;

    deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
    z.next_in = (u8 *)(uintptr_t)in;
    z.avail_in = (uInt)len;
    z.next_out = out;
    z.avail_out = (uInt)room;
    deflate(&z, Z_FINISH);
    n = z.total_out;
    deflateEnd(&z);
    return n;
}

static size_t pack_xz(const void *in, size_t len, u8 *out, size_t room)
{
    size_t pos = 0;

    lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, in, len, out, &pos, room);
    return pos;
}

static size_t pack_zstd(const void *in, size_t len, u8 *out, size_t room)
{
    return ZSTD_compress(out, room, in, len, 19);
}

static size_t pack_lz4(const void *in, size_t len, u8 *out, size_t room)
{
    static const u8 magic[4] = {0x02, 0x21, 0x4c, 0x18};
    int n = LZ4_compress_default(in, (char *)out + 8, (int)len, (int)room - 8);
    u32 block = (u32)n;

    memcpy(out, magic, 4);
    memcpy(out + 4, &block, 4);
    return 8 + (size_t)n;
}

static size_t pack_lzma(const void *in, size_t len, u8 *out, size_t room)
{
    lzma_stream s = LZMA_STREAM_INIT;
    lzma_options_lzma o;
    size_t n;

    lzma_lzma_preset(&o, 6);
    if (lzma_alone_encoder(&s, &o) != LZMA_OK)
        return 0;
    s.next_in = in;
    s.avail_in = len;
    s.next_out = out;
    s.avail_out = room;
    n = lzma_code(&s, LZMA_FINISH) == LZMA_STREAM_END ? s.total_out : 0;
    lzma_end(&s);
    return n;
}

static const struct packing {
    const char *name;
    size_t (*pack)(const void *in, size_t len, u8 *out, size_t room);
} packings[] = {
    {"gzip", pack_gzip}, {"xz", pack_xz},     {"zstd", pack_zstd},
    {"lz4", pack_lz4},   {"lzma", pack_lzma},
};

/* A bzImage around (payload); returns its size. */
static size_t bzimage(const u8 *payload, size_t len, u32 unpacked, u8 *out)
{
    u32 offset = 0x100, total = (u32)len + 4;
    size_t start = 2 * 512 + offset;

    memset(out, 0, start);
    out[0x1f1] = 1;
    out[0x1fe] = 0x55;
    out[0x1ff] = 0xaa;
    memcpy(out + 0x202, "HdrS\x0f\x02", 6);
    out[0x20e] = 0x80; /* version string at 0x280 */
    out[0x20f] = 0x00;
    strcpy((char *)out + 0x280, "6.9.0-test (me@here) #1");
    memcpy(out + 0x248, &offset, 4);
    memcpy(out + 0x24c, &total, 4);
    memcpy(out + start, payload, len);
    memcpy(out + start + len, &unpacked, 4);
    return start + total;
}

/* A private copy of exactly (size) bytes, so that a sanitizer sees reads behind it. */
static struct blob exact(const void *data, size_t size)
{
    struct blob b = {.data = malloc(size ? size : 1), .size = size};

    memcpy(b.data, data, size);
    return b;
}

static void test_packings(void)
{
    static u8 packed[65536], image[65536 + 2048];
    struct vmlinux v = vmlinux();

    for (size_t i = 0; i < ARRAY_SIZE(packings); i++) {
        const struct packing *p = &packings[i];
        size_t len = p->pack(&v, sizeof(v), packed, sizeof(packed));
        size_t size = bzimage(packed, len, sizeof(v), image);
        struct blob b = exact(image, size), out = {0};
        struct vmm_error err = {{0}};
        int refused = 0, said = 0;

        ok(unpack_format(packed, len) && !strcmp(unpack_format(packed, len), p->name),
           "%s: recognised", p->name);
        is_u64(bzimage_unpack(&b, &out, &err), 0, "%s: unpacked", p->name);
        ok(out.size == sizeof(v) && !memcmp(out.data, &v, sizeof(v)), "%s: the same bytes",
           p->name);
        blob_free(&out);
        free(b.data);
        for (size_t cut = 0; cut < size; cut++) {
            struct blob c = exact(image, cut);

            err.text[0] = 0;
            refused += bzimage_unpack(&c, &out, &err) < 0;
            said += err.text[0] != 0;
            free(c.data);
        }
        is_u64(refused, size, "%s: refused when cut, at every length", p->name);
        is_u64(said, size, "%s: with a reason", p->name);
        size = bzimage(packed, len, sizeof(v) - 1, image);
        b = exact(image, size);
        ok(bzimage_unpack(&b, &out, &err) == -EINVAL, "%s: more bytes than announced", p->name);
        free(b.data);
    }
}

static void test_headers(void)
{
    static u8 packed[65536], image[65536 + 2048];
    struct vmlinux v = vmlinux();
    size_t size =
        bzimage(packed, pack_gzip(&v, sizeof(v), packed, sizeof(packed)), sizeof(v), image);
    struct blob b = {.data = image, .size = size}, out = {0};
    const u32 huge = 0xfffffff0;
    u32 keep;

    ok(bzimage_version(&b) && !strncmp(bzimage_version(&b), "6.9.0-test", 10), "version string");
    memset(image + 0x20e, 0xff, 2);
    ok(!bzimage_version(&b), "version string outside the file");
    image[0x207] = 1;
    ok(bzimage_unpack(&b, &out, NULL) == -EINVAL, "boot protocol without payload fields");
    image[0x207] = 2;
    memcpy(&keep, image + 0x248, 4);
    memcpy(image + 0x248, &huge, 4);
    ok(bzimage_unpack(&b, &out, NULL) == -EINVAL, "payload offset that wraps");
    memcpy(image + 0x248, &keep, 4);
    memcpy(image + 0x24c, &huge, 4);
    ok(bzimage_unpack(&b, &out, NULL) == -EINVAL, "payload length that wraps");
    memset(image + 2 * 512 + 0x100, 'B', 3);
    ok(unpack("BZh91AY&SY", 10, 4096, &out, NULL) == -EOPNOTSUPP, "bzip2 is refused by name");
    ok(unpack("nothing known", 13, 4096, &out, NULL) == -EOPNOTSUPP, "unknown packing");
}

static int parse(struct vmlinux v, struct elf_kernel *k)
{
    struct blob b = exact(&v, sizeof(v));
    int rc = elf_parse(&b, k, NULL);

    free(b.data);
    return rc;
}

static void test_elf(void)
{
    struct vmlinux v = vmlinux();
    struct elf_kernel k = {0};
    int refused = 0;

    is_u64(parse(v, &k), 0, "a good kernel");
    is_u64(k.entry, ENTRY, "64-bit entry");
    is_u64(k.pvh_entry, PVH_ENTRY, "PVH entry, behind a note of another owner");
    is_u64(k.start, LOAD_AT, "start");
    is_u64(k.end, ALIGN_UP(LOAD_AT + TEXT + BSS, PAGE_SIZE), "end, with its BSS");

    v.note.nh.n_type = 17;
    is_u64(parse(v, &k), 0, "no PVH note");
    is_u64(k.pvh_entry, 0, "no PVH entry");
    v = vmlinux();
    v.note.other.n_namesz = 0xfffffffd;
    is_u64(parse(v, &k), 0, "a note with a wild length");
    is_u64(k.pvh_entry, 0, "ends the search");

#define BAD(field, value, what)                                                                    \
    v = vmlinux();                                                                                 \
    v.field = (value);                                                                             \
    ok(parse(v, &k) == -EINVAL, "refused: %s", what)
    BAD(eh.e_ident[EI_CLASS], ELFCLASS32, "32-bit ELF");
    BAD(eh.e_machine, EM_AARCH64, "another machine");
    BAD(eh.e_type, ET_REL, "an object file");
    BAD(eh.e_phnum, 0, "no program headers");
    BAD(eh.e_phnum, 0xffff, "too many program headers");
    BAD(eh.e_phoff, UINT64_MAX - 8, "program headers at the end of the address space");
    BAD(eh.e_phoff, IMAGE - 8, "program headers behind the file");
    BAD(eh.e_phentsize, 32, "program headers of another size");
    BAD(ph[0].p_offset, UINT64_MAX - 100, "segment offset that wraps");
    BAD(ph[0].p_filesz, IMAGE, "segment longer than the file");
    BAD(ph[0].p_memsz, TEXT - 1, "segment with less memory than file");
    BAD(ph[0].p_paddr, UINT64_MAX - 100, "segment address that wraps");
    BAD(ph[1].p_offset, IMAGE + 1, "note behind the file");
    BAD(ph[0].p_type, PT_NULL, "nothing to load");

    v = vmlinux();
    for (size_t cut = 0; cut < sizeof(v); cut++) {
        struct blob b = exact(&v, cut);

        refused += elf_parse(&b, &k, NULL) < 0;
        free(b.data);
    }
    is_u64(refused, offsetof(struct vmlinux, rest), "refused when cut before its segments end");
}

static void test_load(void)
{
    struct vmlinux v = vmlinux();
    struct blob b = {.data = (u8 *)&v, .size = sizeof(v)};
    u8 *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mem *m;
    bool zero = true;

    mem_create(&m);
    mem_slot_set(m, 0, 0, RAM, ram, 0);
    memset(ram, 0xaa, RAM);
    is_u64(elf_load(&b, m, NULL), 0, "load");
    ok(!memcmp(ram + LOAD_AT, v.text, TEXT), "the text is there");
    for (unsigned i = 0; i < BSS; i++)
        zero = zero && ram[LOAD_AT + TEXT + i] == 0;
    ok(zero, "the BSS is zero");
    ok(ram[LOAD_AT - 1] == 0xaa && ram[LOAD_AT + TEXT + BSS] == 0xaa, "nothing around it");
    v.ph[0].p_paddr = RAM - TEXT;
    ok(elf_load(&b, m, NULL) == -EINVAL, "does not fit");
    v.ph[0].p_paddr = RAM * 2;
    ok(elf_load(&b, m, NULL) == -EINVAL, "outside of memory");
    mem_free(m);
    munmap(ram, RAM);
}

int main(void)
{
    test_packings();
    test_headers();
    test_elf();
    test_load();
    return tap_done();
}
