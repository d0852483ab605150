// SPDX-License-Identifier: MIT
// Reading and writing the frame of a snapshot file.

/*
 * A flipped bit anywhere is found: in the file's header and section headers by their own checksums, in a payload by
 * the one in its header, in padding because it must be zero. A section that is gone, or in another order, is found by
 * the end's checksum over all headers. Nobody is kept from forging a file: checksums are against accidents, and what
 * is loaded is checked again by whoever it belongs to.
 */
#include "vmm/snapshot/format.h"
#include "vmm/snapshot/crc32c.h"

#include <stdio.h>
#include <unistd.h>

#define ALIGNMENT    8
#define SECTIONS_MAX (1u << 20) /* of memory */
#define OTHERS_MAX   1024

static const char *const type_names[] = {
    [SNAPSHOT_CONFIG] = "config", [SNAPSHOT_MACHINE] = "machine", [SNAPSHOT_CPU] = "cpu",
    [SNAPSHOT_DEVICE] = "device", [SNAPSHOT_MEMORY] = "memory",   [SNAPSHOT_SESSION] = "session",
    [SNAPSHOT_END] = "end",
};

static bool known(u32 type)
{
    return type < ARRAY_SIZE(type_names) && type_names[type];
}

struct snapshot_name snapshot_section_name(u32 type, u32 instance)
{
    struct snapshot_name n;

    if (known(type))
        snprintf(n.text, sizeof(n.text), "%s %u", type_names[type], instance);
    else
        snprintf(n.text, sizeof(n.text), "type %u", type);
    return n;
}

/* --- writing --- */

static int put(struct snapshot_writer *w, const void *data, size_t len, struct vmm_error *err)
{
    const u8 *p = data;

    while (len) {
        ssize_t n = write(w->fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int e = errno;

            return vmm_fail(err, -e, "writing: %s", strerror(e));
        }
        p += n;
        len -= (size_t)n;
        w->bytes += (u64)n;
    }
    return 0;
}

int snapshot_write_begin(struct snapshot_writer *w, int fd, struct vmm_error *err)
{
    struct snapshot_header h = {.version = SNAPSHOT_VERSION};

    memcpy(h.magic, SNAPSHOT_MAGIC, sizeof(h.magic));
    h.crc = crc32c(0, &h, offsetof(struct snapshot_header, crc));
    *w = (struct snapshot_writer){.fd = fd, .crc = crc32c(0, &h, sizeof(h))};
    return put(w, &h, sizeof(h), err);
}

int snapshot_write(struct snapshot_writer *w, u32 type, u32 instance, const void *data, size_t len,
                   struct vmm_error *err)
{
    struct snapshot_section_header h = {
        .type = type, .instance = instance, .length = len, .crc = crc32c(0, data, len)};
    static const u8 zeros[ALIGNMENT];
    int rc;

    h.header_crc = crc32c(0, &h, offsetof(struct snapshot_section_header, header_crc));
    rc = put(w, &h, sizeof(h), err);
    if (rc == 0)
        rc = put(w, data, len, err);
    if (rc == 0)
        rc = put(w, zeros, ALIGN_UP(len, ALIGNMENT) - len, err);
    w->crc = crc32c(w->crc, &h, sizeof(h));
    w->sections++;
    return rc;
}

int snapshot_write_state(struct snapshot_writer *w, u32 type, u32 instance, struct state *s,
                         struct vmm_error *err)
{
    int rc = s->error;

    if (rc)
        vmm_fail(err, rc, "saving %s, %s: %s", snapshot_section_name(type, instance).text, s->field,
                 strerror(-rc));
    else
        rc = snapshot_write(w, type, instance, s->data, s->size, err);
    state_free(s);
    return rc;
}

int snapshot_write_end(struct snapshot_writer *w, struct vmm_error *err)
{
    struct snapshot_end e = {.sections = w->sections, .crc = w->crc};
    int rc = snapshot_write(w, SNAPSHOT_END, 0, &e, sizeof(e), err);

    if (rc == 0 && fsync(w->fd) && errno != EINVAL &&
        errno != EROFS) { /* pipes have nothing to sync */
        rc = -errno;
        vmm_fail(err, rc, "writing: %s", strerror(-rc));
    }
    return rc;
}

/* --- reading --- */

static int bad(struct vmm_error *err, const char *what)
{
    return vmm_fail(err, -EBADMSG, "%s", what);
}

static int check_header(const struct blob *image, struct snapshot_header *h, struct vmm_error *err)
{
    size_t n = image->size < sizeof(h->magic) ? image->size : sizeof(h->magic);

    if (!n || memcmp(image->data, SNAPSHOT_MAGIC, n))
        return bad(err, "magic: it is not a snapshot");
    if (image->size < sizeof(*h))
        return bad(err, "header: truncated");
    memcpy(h, image->data, sizeof(*h));
    if (h->version != SNAPSHOT_VERSION)
        return vmm_fail(err, -EBADMSG, "version: %u is not known (accepted: %u)", h->version,
                        SNAPSHOT_VERSION);
    if (h->crc != crc32c(0, h, offsetof(struct snapshot_header, crc)))
        return bad(err, "header: damaged, its checksum is wrong");
    return 0;
}

/* The section at (*at): its header's copy and its payload; moves on. */
static int next_section(const struct blob *image, size_t *at, struct snapshot_section_header *h,
                        struct snapshot_section *ret, struct vmm_error *err)
{
    size_t left = image->size - *at, padded;
    const u8 *payload;

    if (left < sizeof(*h))
        return vmm_fail(err, -EBADMSG, "section at byte %zu: header: truncated", *at);
    memcpy(h, image->data + *at, sizeof(*h));
    if (h->header_crc != crc32c(0, h, offsetof(struct snapshot_section_header, header_crc)))
        return vmm_fail(err, -EBADMSG,
                        "section at byte %zu: header: damaged, its checksum is wrong", *at);
    left -= sizeof(*h);
    if (h->length > left || ALIGN_UP(h->length, ALIGNMENT) > left)
        return vmm_fail(err, -EBADMSG, "section %s: truncated",
                        snapshot_section_name(h->type, h->instance).text);
    padded = ALIGN_UP(h->length, ALIGNMENT);
    payload = image->data + *at + sizeof(*h);
    for (size_t i = h->length; i < padded; i++)
        if (payload[i])
            return vmm_fail(err, -EBADMSG, "section %s: damaged, its padding is not zero",
                            snapshot_section_name(h->type, h->instance).text);
    if (h->crc != crc32c(0, payload, h->length))
        return vmm_fail(err, -EBADMSG, "section %s: damaged, its checksum is wrong",
                        snapshot_section_name(h->type, h->instance).text);
    *ret = (struct snapshot_section){h->type, h->instance, payload, h->length};
    *at += sizeof(*h) + padded;
    return 0;
}

static int check_end(const struct snapshot_section *s, u64 sections, u32 crc, size_t left,
                     struct vmm_error *err)
{
    struct snapshot_end e;

    if (s->length != sizeof(e))
        return bad(err, "section end 0: it has the wrong length");
    memcpy(&e, s->data, sizeof(e));
    if (e.sections != sections)
        return vmm_fail(err, -EBADMSG, "section end 0: %llu sections where %llu should be",
                        (unsigned long long)sections, (unsigned long long)e.sections);
    if (e.crc != crc)
        return bad(err, "section end 0: the checksum over all sections is wrong");
    if (left)
        return vmm_fail(err, -EBADMSG, "section end 0: %zu bytes follow it", left);
    return 0;
}

static int add(struct snapshot_file *f, unsigned *room, const struct snapshot_section *s,
               struct vmm_error *err)
{
    struct snapshot_section *more;
    bool memory = s->type == SNAPSHOT_MEMORY;

    if (!known(s->type))
        return vmm_fail(err, -EBADMSG, "section type: %u is not known", s->type);
    /* Memory's come in order; the others are few, so that looking them up is walking. */
    if (memory
            ? s->instance != f->nr_memory || f->nr_memory == SECTIONS_MAX
            : f->nr_sections - f->nr_memory == OTHERS_MAX || snapshot_find(f, s->type, s->instance))
        return vmm_fail(err, -EBADMSG, "section %s: one too many, or out of order",
                        snapshot_section_name(s->type, s->instance).text);
    f->nr_memory += memory;
    if (f->nr_sections == *room) {
        more = reallocarray(f->sections, *room ? *room * 2 : 32, sizeof(*more));
        if (!more)
            return vmm_fail(err, -ENOMEM, "out of memory");
        *room = *room ? *room * 2 : 32;
        f->sections = more;
    }
    f->sections[f->nr_sections++] = *s;
    return 0;
}

int snapshot_parse(const struct blob *image, struct snapshot_file *ret, struct vmm_error *err)
{
    struct snapshot_file f = {.sections = NULL};
    struct snapshot_section_header h;
    struct snapshot_header head;
    struct snapshot_section s;
    unsigned room = 0;
    size_t at = sizeof(head);
    int rc = check_header(image, &head, err);
    u32 crc;

    if (rc)
        return rc;
    crc = crc32c(0, &head, sizeof(head));
    for (;;) {
        rc = next_section(image, &at, &h, &s, err);
        if (rc || s.type == SNAPSHOT_END)
            break;
        crc = crc32c(crc, &h, sizeof(h));
        rc = add(&f, &room, &s, err);
        if (rc)
            break;
    }
    if (rc == 0)
        rc = check_end(&s, f.nr_sections, crc, image->size - at, err);
    if (rc) {
        snapshot_file_free(&f);
        return rc;
    }
    *ret = f;
    return 0;
}

void snapshot_file_free(struct snapshot_file *f)
{
    free(f->sections);
    *f = (struct snapshot_file){.sections = NULL};
}

const struct snapshot_section *snapshot_find(const struct snapshot_file *f, u32 type, u32 instance)
{
    for (unsigned i = 0; i < f->nr_sections; i++)
        if (f->sections[i].type == type && f->sections[i].instance == instance)
            return &f->sections[i];
    return NULL;
}

int snapshot_section_load(const struct snapshot_file *f, u32 type, u32 instance, struct state *ret,
                          struct vmm_error *err)
{
    const struct snapshot_section *s = snapshot_find(f, type, instance);

    if (!s)
        return vmm_fail(err, -EBADMSG, "section %s: it is missing",
                        snapshot_section_name(type, instance).text);
    *ret = state_loader(s->data, s->length);
    return 0;
}

/* The member's own name. */
static const char *field_name(const char *field)
{
    const char *arrow;

    while ((arrow = strstr(field, "->")))
        field = arrow + 2;
    return field;
}

int snapshot_section_done(struct state *s, u32 type, u32 instance, struct vmm_error *err)
{
    state_end(s);
    if (!s->error)
        return 0;
    if (s->error == -ENOMEM)
        return vmm_fail(err, -ENOMEM, "out of memory");
    return vmm_fail(err, s->error, "section %s: %s: missing, or not possible",
                    snapshot_section_name(type, instance).text, field_name(s->field));
}
