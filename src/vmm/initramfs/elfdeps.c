// SPDX-License-Identifier: MIT
// Resolve DT_NEEDED as ld.so(8) describes, without running anything.
#include "vmm/initramfs/elfdeps.h"

#include <elf.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DYNAMIC_MAX   4096
#define INCLUDE_DEPTH 8
#define LIBRARY_DEPTH 64

/* --- one ELF file --- */

static const void *range(const struct blob *f, u64 off, u64 len)
{
    return off <= f->size && len <= f->size - off ? f->data + off : NULL;
}

/* The string at virtual address base + (off) of the table, bounded by the file. */
static const char *string_at(const struct blob *f, u64 table, u64 off)
{
    u64 at = table + off;

    if (at < table || at >= f->size || !memchr(f->data + at, 0, f->size - at))
        return NULL;
    return (const char *)f->data + at;
}

static bool read_ehdr(const struct blob *f, Elf64_Ehdr *eh)
{
    const void *p = range(f, 0, sizeof(*eh));

    if (!p || memcmp(p, ELFMAG, SELFMAG))
        return false;
    memcpy(eh, p, sizeof(*eh));
    return eh->e_ident[EI_CLASS] == ELFCLASS64 && eh->e_ident[EI_DATA] == ELFDATA2LSB &&
           eh->e_machine == EM_X86_64 && (eh->e_type == ET_EXEC || eh->e_type == ET_DYN) &&
           eh->e_phentsize == sizeof(Elf64_Phdr);
}

static bool read_phdr(const struct blob *f, const Elf64_Ehdr *eh, unsigned i, Elf64_Phdr *ph)
{
    const void *p = range(f, eh->e_phoff + (u64)i * sizeof(*ph), sizeof(*ph));

    if (!p)
        return false;
    memcpy(ph, p, sizeof(*ph));
    return true;
}

/* Virtual address to file offset through the PT_LOAD segments; UINT64_MAX if there is none. */
static u64 file_offset(const struct blob *f, const Elf64_Ehdr *eh, u64 vaddr)
{
    Elf64_Phdr ph;

    for (unsigned i = 0; i < eh->e_phnum && read_phdr(f, eh, i, &ph); i++)
        if (ph.p_type == PT_LOAD && vaddr >= ph.p_vaddr && vaddr - ph.p_vaddr < ph.p_filesz)
            return ph.p_offset + (vaddr - ph.p_vaddr);
    return UINT64_MAX;
}

static int read_dynamic(const struct blob *f, const Elf64_Ehdr *eh, const Elf64_Phdr *dyn,
                        struct elf_needs *n)
{
    const u8 *p = range(f, dyn->p_offset, dyn->p_filesz);
    u64 count = dyn->p_filesz / sizeof(Elf64_Dyn), strtab = UINT64_MAX;
    Elf64_Dyn d;
    int rc = 0;

    if (!p || count > DYNAMIC_MAX)
        return -EINVAL;
    for (u64 i = 0; i < count; i++) {
        memcpy(&d, p + i * sizeof(d), sizeof(d));
        if (d.d_tag == DT_STRTAB)
            strtab = file_offset(f, eh, d.d_un.d_ptr);
        if (d.d_tag == DT_NULL)
            count = i;
    }
    for (u64 i = 0; i < count && rc == 0; i++) {
        const char *s;

        memcpy(&d, p + i * sizeof(d), sizeof(d));
        if (d.d_tag != DT_NEEDED && d.d_tag != DT_RPATH && d.d_tag != DT_RUNPATH)
            continue;
        s = strtab == UINT64_MAX ? NULL : string_at(f, strtab, d.d_un.d_val);
        if (!s)
            return -EINVAL;
        rc = d.d_tag == DT_NEEDED
                 ? strv_add(&n->needed, s)
                 : strv_split(d.d_tag == DT_RPATH ? &n->rpath : &n->runpath, s, ':');
    }
    return rc;
}

int elf_needs_read(const struct blob *file, struct elf_needs *ret)
{
    struct elf_needs n = {0};
    Elf64_Ehdr eh;
    Elf64_Phdr ph;
    int rc = 0;

    if (!read_ehdr(file, &eh))
        return -ENOEXEC;
    for (unsigned i = 0; i < eh.e_phnum && rc == 0; i++) {
        if (!read_phdr(file, &eh, i, &ph)) {
            rc = -EINVAL;
        } else if (ph.p_type == PT_INTERP && !n.interp) {
            const char *s = string_at(file, ph.p_offset, 0);

            n.interp = s ? strdup(s) : NULL;
            rc = !s ? -EINVAL : !n.interp ? -ENOMEM : 0;
        } else if (ph.p_type == PT_DYNAMIC) {
            rc = read_dynamic(file, &eh, &ph, &n);
        }
    }
    if (rc) {
        elf_needs_free(&n);
        return rc;
    }
    *ret = n;
    return 0;
}

void elf_needs_free(struct elf_needs *n)
{
    free(n->interp);
    strv_free(&n->needed);
    strv_free(&n->rpath);
    strv_free(&n->runpath);
    *n = (struct elf_needs){0};
}

/* --- where libraries are --- */

static int read_conf(const char *path, struct strv *dirs, unsigned depth)
{
    FILE *f = depth < INCLUDE_DEPTH ? fopen(path, "re") : NULL;
    char line[PATH_MAX];
    int rc = 0;

    if (!f)
        return 0;
    while (rc == 0 && fgets(line, sizeof(line), f)) {
        char *s = line + strspn(line, " \t"), *end;

        end = s + strcspn(s, "#\n");
        while (end > s && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        *end = 0;
        if (!strncmp(s, "include", 7) && (s[7] == ' ' || s[7] == '\t')) {
            glob_t g;

            if (glob(s + 8 + strspn(s + 8, " \t"), 0, NULL, &g) == 0) {
                for (size_t i = 0; i < g.gl_pathc && rc == 0; i++)
                    rc = read_conf(g.gl_pathv[i], dirs, depth + 1);
                globfree(&g);
            }
        } else if (*s == '/') {
            rc = strv_add(dirs, s);
        }
    }
    fclose(f);
    return rc;
}

int elfdeps_init(struct elfdeps *d, struct tree *t)
{
    static const char *const defaults[] = {"/lib/x86_64-linux-gnu",
                                           "/usr/lib/x86_64-linux-gnu",
                                           "/lib64",
                                           "/usr/lib64",
                                           "/lib",
                                           "/usr/lib"};
    int rc;

    *d = (struct elfdeps){.tree = t};
    rc = read_conf("/etc/ld.so.conf", &d->system, 0);
    for (size_t i = 0; i < ARRAY_SIZE(defaults) && rc == 0; i++)
        rc = strv_add(&d->system, defaults[i]);
    return rc;
}

void elfdeps_fini(struct elfdeps *d)
{
    strv_free(&d->first);
    strv_free(&d->system);
    strv_free(&d->done);
}

/* --- resolution --- */

/* $ORIGIN and ${ORIGIN} in (path) become (origin). False if it does not fit. */
static bool expand_origin(const char *path, const char *origin, char out[PATH_MAX])
{
    size_t n = 0;

    while (*path) {
        size_t skip = !strncmp(path, "$ORIGIN", 7) ? 7 : !strncmp(path, "${ORIGIN}", 9) ? 9 : 0;
        const char *from = skip ? origin : path;
        size_t len = skip ? strlen(origin) : 1;

        if (n + len >= PATH_MAX)
            return false;
        memcpy(out + n, from, len);
        n += len;
        path += skip ? skip : 1;
    }
    out[n] = 0;
    return n > 0;
}

/* Is (path) a 64-bit ELF file? A library of another class in the same place is passed over. */
static bool usable(const char *path)
{
    struct blob f;
    Elf64_Ehdr eh;
    bool yes;

    if (blob_map(path, &f))
        return false;
    yes = read_ehdr(&f, &eh);
    blob_free(&f);
    return yes;
}

static bool find_in(const struct strv *dirs, const char *origin, const char *name,
                    char out[PATH_MAX])
{
    char dir[PATH_MAX];

    for (size_t i = 0; i < dirs->n; i++) {
        if (!expand_origin(dirs->s[i], origin, dir) || dir[0] != '/')
            continue;
        if (snprintf(out, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && usable(out))
            return true;
    }
    return false;
}

static int add_file(struct elfdeps *d, const char *real, unsigned depth, struct vmm_error *err);

static int add_library(struct elfdeps *d, const struct elf_needs *n, const char *user,
                       const char *name, unsigned depth, struct vmm_error *err)
{
    char path[PATH_MAX], real[PATH_MAX], origin[PATH_MAX];
    bool found;
    int rc;

    strcpy(origin, user);
    *strrchr(origin, '/') = 0;
    if (strchr(name, '/'))
        found = expand_origin(name, origin, path) && path[0] == '/';
    else
        found = (!n->runpath.n && find_in(&n->rpath, origin, name, path)) ||
                find_in(&d->first, origin, name, path) ||
                find_in(&n->runpath, origin, name, path) || find_in(&d->system, origin, name, path);
    if (!found)
        return vmm_fail(err, -ENOENT, "%s needs the library %s, which is not found", user, name);
    rc = tree_add_host(d->tree, path, real);
    if (rc)
        return vmm_fail(err, rc, "library %s: %s", path, strerror(-rc));
    return add_file(d, real, depth + 1, err);
}

static int add_needs(struct elfdeps *d, const struct elf_needs *n, const char *real, unsigned depth,
                     struct vmm_error *err)
{
    int rc = 0;

    if (n->interp) {
        rc = tree_add_host(d->tree, n->interp, NULL);
        if (rc)
            return vmm_fail(err, rc, "%s: its interpreter %s: %s", real, n->interp, strerror(-rc));
    }
    for (size_t i = 0; i < n->needed.n && rc == 0; i++)
        rc = add_library(d, n, real, n->needed.s[i], depth, err);
    return rc;
}

static int add_file(struct elfdeps *d, const char *real, unsigned depth, struct vmm_error *err)
{
    struct elf_needs n;
    struct blob f;
    int rc;

    if (strv_has(&d->done, real))
        return 0;
    rc = strv_add(&d->done, real);
    if (rc)
        return vmm_fail(err, rc, "out of memory");
    rc = blob_map(real, &f);
    if (rc)
        return vmm_fail(err, rc, "%s: %s", real, strerror(-rc));
    rc = elf_needs_read(&f, &n);
    blob_free(&f);
    if (rc == -ENOEXEC)
        return 0;
    if (rc)
        return vmm_fail(err, rc, "%s: malformed ELF file", real);
    rc = depth > LIBRARY_DEPTH ? vmm_fail(err, -ELOOP, "%s: libraries are nested too deep", real)
                               : add_needs(d, &n, real, depth, err);
    elf_needs_free(&n);
    return rc;
}

int elfdeps_add(struct elfdeps *d, const char *real, struct vmm_error *err)
{
    return add_file(d, real, 0, err);
}
