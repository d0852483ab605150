// SPDX-License-Identifier: MIT
// The snapshot file: a header, sections with checksums, an end. docs/snapshot.md has the layout.
#pragma once

#include "base/state.h"
#include "vmm/blob.h"
#include "vmm/error.h"

#define SNAPSHOT_MAGIC   "UVIRTSNP"
#define SNAPSHOT_VERSION 3

/* What a section holds. Numbers are the file's, and never change their meaning. */
enum snapshot_type {
    SNAPSHOT_CONFIG = 1,  /* how to build the machine: the command line's business */
    SNAPSHOT_MACHINE = 2, /* chips, clock, the board's own devices */
    SNAPSHOT_CPU = 3,     /* one vCPU; instance: its index */
    SNAPSHOT_DEVICE = 4,  /* one virtio device; instance: its place on the board */
    SNAPSHOT_MEMORY = 5,  /* pages of guest memory; instance: 0, 1, 2, … */
    SNAPSHOT_SESSION = 6, /* bytes between the guest and the host's streams */
    SNAPSHOT_END = 15,
};

struct snapshot_header {
    char magic[8];
    u32 version;
    u32 reserved[4];
    u32 crc; /* of the bytes before it */
};
_Static_assert(sizeof(struct snapshot_header) == 32, "layout of the file");

struct snapshot_section_header {
    u32 type, instance;
    u64 length; /* of the payload, which zeros fill up to a multiple of 8 */
    u32 crc;    /* of the payload */
    u32 reserved[2];
    u32 header_crc; /* of the bytes before it */
};
_Static_assert(sizeof(struct snapshot_section_header) == 32, "layout of the file");

/* The payload of SNAPSHOT_END. */
struct snapshot_end {
    u64 sections; /* before this one */
    u32 crc;      /* of the file's header and all their section headers, in order */
    u32 reserved;
};
_Static_assert(sizeof(struct snapshot_end) == 16, "layout of the file");

/* "cpu 1", "memory 0", for messages. */
struct snapshot_name {
    char text[32];
};
struct snapshot_name snapshot_section_name(u32 type, u32 instance);

/* --- writing --- */

struct snapshot_writer {
    int fd;
    u64 sections, bytes;
    u32 crc;
};

/* Write the header to (fd), which stays the caller's. 0, or -errno and a sentence. */
int snapshot_write_begin(struct snapshot_writer *w, int fd, struct vmm_error *err);

/* One section with these bytes. */
int snapshot_write(struct snapshot_writer *w, u32 type, u32 instance, const void *data, size_t len,
                   struct vmm_error *err);

/* One section with what (s) has saved, or its failure; releases (s). */
int snapshot_write_state(struct snapshot_writer *w, u32 type, u32 instance, struct state *s,
                         struct vmm_error *err);

/* The end, and everything onto the disk: 0 only after fsync(). */
int snapshot_write_end(struct snapshot_writer *w, struct vmm_error *err);

/* --- reading --- */

struct snapshot_section {
    u32 type, instance;
    const u8 *data;
    u64 length;
};

struct snapshot_file {
    struct snapshot_section *sections; /* all but the end */
    unsigned nr_sections, nr_memory;
};

/*
 * Look through (image) and check everything that can be checked without knowing what sections mean:
 * magic, version, headers, lengths, all checksums, no section twice. 0, -EBADMSG with a sentence
 * that says what is wrong where, or -ENOMEM. (image) must outlive (ret).
 */
int snapshot_parse(const struct blob *image, struct snapshot_file *ret, struct vmm_error *err);
void snapshot_file_free(struct snapshot_file *f);

/* The section, or NULL. */
const struct snapshot_section *snapshot_find(const struct snapshot_file *f, u32 type, u32 instance);

/* A loader for the section's bytes: 0, or -EBADMSG with a sentence when it is not there. */
int snapshot_section_load(const struct snapshot_file *f, u32 type, u32 instance, struct state *ret,
                          struct vmm_error *err);

/* After the section's function has run over (s): 0, or (s)'s failure as a sentence with the field. */
int snapshot_section_done(struct state *s, u32 type, u32 instance, struct vmm_error *err);
