// SPDX-License-Identifier: MIT
// The frame of snapshot files: checksums, sections, and that no damage goes unseen.
#include "tap.h"
#include "vmm/snapshot/crc32c.h"
#include "vmm/snapshot/format.h"

#include <sys/mman.h>
#include <unistd.h>

static struct blob image;

static void test_crc(void)
{
    u8 zeros[32] = {0}, ones[32], odd[1021];
    bool same = true;

    memset(ones, 0xff, sizeof(ones));
    for (size_t i = 0; i < sizeof(odd); i++)
        odd[i] = (u8)(i * 37 + (i >> 3));
    is_u64(crc32c(0, "123456789", 9), 0xe3069283, "the check value of CRC32C");
    is_u64(crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa, "RFC 3720 B.4: 32 bytes of zeros");
    is_u64(crc32c(0, ones, sizeof(ones)), 0x62a8ab43, "RFC 3720 B.4: 32 bytes of ones");
    is_u64(crc32c_table(0, "123456789", 9), 0xe3069283, "the table gives the same");
    for (size_t n = 0; n <= sizeof(odd); n++)
        same = same && crc32c(0, odd, n) == crc32c_table(0, odd, n) &&
               crc32c(crc32c(0, odd, n), odd + n, sizeof(odd) - n) == crc32c(0, odd, sizeof(odd));
    ok(same, "instruction and table agree at every length, and sums go on from sums");
}

/* --- struct state --- */

struct thing {
    u8 a;
    u32 b;
    bool c;
    u64 d[3];
};

static void thing_state(struct thing *t, struct state *s)
{
    STATE(s, t->a);
    STATE(s, t->b);
    STATE_BOOL(s, t->c);
    STATE(s, t->d);
    STATE_CHECK(s, t->b < 1000, t->b);
}

static void test_state(void)
{
    struct thing in = {7, 999, true, {1, 2, 3}}, out = {0};
    struct state s = state_saver(), l;
    u8 copy[64];

    thing_state(&in, &s);
    ok(!s.error && s.size == 30, "fields are put without gaps");
    memcpy(copy, s.data, s.size);
    l = state_loader(copy, s.size);
    thing_state(&out, &l);
    state_end(&l);
    ok(!l.error && out.a == 7 && out.b == 999 && out.c && out.d[2] == 3, "and come back");
    l = state_loader(copy, s.size - 1);
    thing_state(&out, &l);
    ok(l.error == -EBADMSG && !strcmp(l.field, "t->d"), "what is cut off is named");
    l = state_loader(copy, s.size);
    l.size++;
    thing_state(&out, &l);
    state_end(&l);
    ok(l.error == -EBADMSG && !strcmp(l.field, "end"), "so is what is too much");
    copy[5] = 2;
    l = state_loader(copy, s.size);
    thing_state(&out, &l);
    ok(l.error == -EBADMSG && !strcmp(l.field, "t->c"), "a bool is 0 or 1");
    copy[5] = 1;
    copy[2] = 0xff;
    l = state_loader(copy, s.size);
    thing_state(&out, &l);
    ok(l.error == -EBADMSG && !strcmp(l.field, "t->b"), "a value that is checked");
    state_free(&s);
}

/* --- the file --- */

static void write_file(void)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    struct vmm_error err = {{0}};
    struct snapshot_writer w;
    struct state s = state_saver();
    u32 word = 0x12345678;
    int rc = fd < 0 ? -1 : snapshot_write_begin(&w, fd, &err);

    if (rc == 0)
        rc = snapshot_write(&w, SNAPSHOT_CONFIG, 0, "hello", 5, &err);
    if (rc == 0)
        rc = snapshot_write(&w, SNAPSHOT_MEMORY, 0, "01234567", 8, &err);
    STATE(&s, word);
    if (rc == 0)
        rc = snapshot_write_state(&w, SNAPSHOT_CPU, 3, &s, &err);
    if (rc == 0)
        rc = snapshot_write(&w, SNAPSHOT_MEMORY, 1, "", 0, &err);
    if (rc == 0)
        rc = snapshot_write_end(&w, &err);
    if (rc || blob_alloc(w.bytes, &image) ||
        pread(fd, image.data, image.size, 0) != (ssize_t)image.size)
        exit(99);
    close(fd);
}

static void test_round_trip(void)
{
    struct vmm_error err = {{0}};
    struct snapshot_file f;
    const struct snapshot_section *s;
    struct state l;
    u32 word = 0;

    if (!ok(snapshot_parse(&image, &f, &err) == 0, "a file is read back"))
        return;
    is_u64(f.nr_sections, 4, "all sections");
    s = snapshot_find(&f, SNAPSHOT_CONFIG, 0);
    ok(s && s->length == 5 && !memcmp(s->data, "hello", 5), "bytes are the same");
    ok(snapshot_section_load(&f, SNAPSHOT_CPU, 3, &l, &err) == 0, "a section's loader");
    STATE(&l, word);
    ok(snapshot_section_done(&l, SNAPSHOT_CPU, 3, &err) == 0 && word == 0x12345678,
       "gives its value");
    ok(snapshot_section_load(&f, SNAPSHOT_CPU, 2, &l, &err) == -EBADMSG &&
           !strcmp(err.text, "section cpu 2: it is missing"),
       "one that is missing: %s", err.text);
    snapshot_file_free(&f);
}

static bool refused(const struct blob *b, struct vmm_error *err)
{
    struct snapshot_file f;

    *err = (struct vmm_error){{0}};
    if (snapshot_parse(b, &f, err) == 0) {
        snapshot_file_free(&f);
        return false;
    }
    return err->text[0];
}

static void test_damage(void)
{
    struct vmm_error err;
    struct blob b;
    unsigned flips = 0, cuts = 0;
    size_t first_bad = 0;

    for (size_t bit = 0; bit < 8 * image.size; bit++) {
        image.data[bit / 8] ^= (u8)(1 << bit % 8);
        if (refused(&image, &err))
            flips++;
        else if (!first_bad)
            first_bad = bit + 1;
        image.data[bit / 8] ^= (u8)(1 << bit % 8);
    }
    is_u64(flips, 8 * image.size, "every flipped bit is found");
    for (size_t n = 0; n < image.size; n++) {
        b = (struct blob){.data = image.data, .size = n};
        cuts += refused(&b, &err);
    }
    is_u64(cuts, image.size, "every cut is found");
}

/* Put (value) into the file header's version and make its checksum right. */
static void set_version(u32 value)
{
    struct snapshot_header h;

    memcpy(&h, image.data, sizeof(h));
    h.version = value;
    h.crc = crc32c(0, &h, offsetof(struct snapshot_header, crc));
    memcpy(image.data, &h, sizeof(h));
}

static void test_others(void)
{
    struct blob b, foreign = {.data = (u8 *)(uintptr_t) "\177ELF and so on, for more than 32 bytes",
                              .size = 38};
    struct snapshot_section_header h;
    struct vmm_error err;
    u8 *longer = calloc(1, image.size + 8);
    char later[32];

    ok(refused(&foreign, &err) && strstr(err.text, "magic"), "a foreign file: %s", err.text);
    b = (struct blob){.data = NULL};
    ok(refused(&b, &err) && strstr(err.text, "magic"), "an empty file: %s", err.text);
    snprintf(later, sizeof(later), "version: %u", SNAPSHOT_VERSION + 1u);
    set_version(SNAPSHOT_VERSION + 1);
    ok(refused(&image, &err) && strstr(err.text, later), "a later version: %s", err.text);
    set_version(SNAPSHOT_VERSION);
    ok(!refused(&image, &err), "(and back)");
    if (!longer)
        exit(99);
    memcpy(longer, image.data, image.size);
    b = (struct blob){.data = longer, .size = image.size + 8};
    ok(refused(&b, &err) && strstr(err.text, "follow"), "more behind the end: %s", err.text);
    memcpy(&h, longer + sizeof(struct snapshot_header), sizeof(h));
    h.type = 77;
    h.header_crc = crc32c(0, &h, offsetof(struct snapshot_section_header, header_crc));
    memcpy(longer + sizeof(struct snapshot_header), &h, sizeof(h));
    ok(refused(&b, &err) && strstr(err.text, "type: 77"), "an unknown section: %s", err.text);
    h.type = SNAPSHOT_CONFIG;
    h.length = UINT64_MAX - 3;
    h.header_crc = crc32c(0, &h, offsetof(struct snapshot_section_header, header_crc));
    memcpy(longer + sizeof(struct snapshot_header), &h, sizeof(h));
    ok(refused(&b, &err) && strstr(err.text, "truncated"), "an absurd length: %s", err.text);
    free(longer);
}

int main(void)
{
    test_crc();
    test_state();
    write_file();
    test_round_trip();
    test_damage();
    test_others();
    blob_free(&image);
    return tap_done();
}
