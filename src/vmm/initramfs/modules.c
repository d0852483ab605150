// SPDX-License-Identifier: MIT
// Find kernel modules and their dependencies without depmod: by file name and .modinfo.
#include "vmm/initramfs/modules.h"
#include "vmm/unpack.h"

#include <elf.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MODULE_BYTES_MAX (64ul << 20)
#define NAME_BYTES       64 /* MODULE_NAME_LEN of Linux, and a bit */
#define DEPTH_MAX        16

static const char *const suffixes[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};

/* --- .modinfo --- */

static bool section(const struct blob *f, const Elf64_Ehdr *eh, unsigned i, Elf64_Shdr *sh)
{
    u64 at = eh->e_shoff + (u64)i * sizeof(*sh);

    if (at < eh->e_shoff || at > f->size || f->size - at < sizeof(*sh))
        return false;
    memcpy(sh, f->data + at, sizeof(*sh));
    return sh->sh_type == SHT_NOBITS ||
           (sh->sh_offset <= f->size && sh->sh_size <= f->size - sh->sh_offset);
}

static bool find_section(const struct blob *f, const char *name, Elf64_Shdr *ret)
{
    Elf64_Ehdr eh;
    Elf64_Shdr names;
    size_t len = strlen(name) + 1;

    if (f->size < sizeof(eh))
        return false;
    memcpy(&eh, f->data, sizeof(eh));
    if (memcmp(eh.e_ident, ELFMAG, SELFMAG) || eh.e_ident[EI_CLASS] != ELFCLASS64 ||
        eh.e_shentsize != sizeof(names) || !section(f, &eh, eh.e_shstrndx, &names) ||
        names.sh_type == SHT_NOBITS)
        return false;
    for (unsigned i = 0; i < eh.e_shnum; i++) {
        if (!section(f, &eh, i, ret))
            return false;
        if (ret->sh_name < names.sh_size && len <= names.sh_size - ret->sh_name &&
            !memcmp(f->data + names.sh_offset + ret->sh_name, name, len))
            return ret->sh_type != SHT_NOBITS;
    }
    return false;
}

const char *module_info(const struct blob *ko, const char *key)
{
    size_t len = strlen(key);
    Elf64_Shdr sh;
    const char *p, *end;

    if (!find_section(ko, ".modinfo", &sh) || !sh.sh_size)
        return NULL;
    p = (const char *)ko->data + sh.sh_offset;
    end = p + sh.sh_size;
    if (end[-1])
        return NULL;
    for (; p < end; p += strlen(p) + 1)
        if (!strncmp(p, key, len) && p[len] == '=')
            return p + len + 1;
    return NULL;
}

/* --- where the files are --- */

/* The module name of a file: base name without suffix, dashes as underscores. */
static bool module_name(const char *path, char out[NAME_BYTES])
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *dot = strstr(base, ".ko");
    size_t len = dot ? (size_t)(dot - base) : 0;

    if (!len || len >= NAME_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        out[i] = base[i] == '-' ? '_' : base[i];
    out[len] = 0;
    return true;
}

/* nftw() has no argument for its function. */
static __thread struct strv *walk_paths;
static __thread size_t walk_prefix;

static int walk_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    char name[NAME_BYTES];

    (void)st;
    (void)ftw;
    if (type != FTW_F || !module_name(path, name))
        return 0;
    return strv_add(walk_paths, path + walk_prefix);
}

/* All module files below (dir), relative to it; modules.order knows them without a walk. */
static int list_files(const char *dir, struct strv *ret)
{
    char path[PATH_MAX], line[PATH_MAX];
    FILE *f;
    int rc = 0;

    snprintf(path, sizeof(path), "%s/modules.order", dir);
    f = fopen(path, "re");
    if (!f) {
        walk_paths = ret;
        walk_prefix = strlen(dir) + 1;
        return nftw(dir, walk_one, 16, FTW_PHYS) < 0 ? -errno : 0;
    }
    while (rc == 0 && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = 0;
        rc = strv_add(ret, line);
    }
    fclose(f);
    return rc;
}

/* The file of module (name): modules.order says ".ko" whatever it is packed with. */
static bool find_file(const char *dir, const struct strv *files, const char *name,
                      char out[PATH_MAX])
{
    char this[NAME_BYTES];

    for (size_t i = 0; i < files->n; i++) {
        const char *dot;

        if (!module_name(files->s[i], this) || strcmp(this, name))
            continue;
        dot = strstr(strrchr(files->s[i], '/') ? strrchr(files->s[i], '/') : files->s[i], ".ko");
        for (size_t j = 0; j < ARRAY_SIZE(suffixes); j++) {
            snprintf(out, PATH_MAX, "%s/%.*s%s", dir, (int)(dot - files->s[i]), files->s[i],
                     suffixes[j]);
            if (access(out, R_OK) == 0)
                return true;
        }
    }
    return false;
}

/* --- loading --- */

static int read_module(const char *path, struct blob *ret, struct vmm_error *err)
{
    struct vmm_error why = {{0}};
    struct blob f;
    int rc = blob_map(path, &f);

    if (rc)
        return vmm_fail(err, rc, "%s: %s", path, strerror(-rc));
    if (f.size >= SELFMAG && !memcmp(f.data, ELFMAG, SELFMAG)) {
        *ret = f;
        return 0;
    }
    rc = unpack(f.data, f.size, MODULE_BYTES_MAX, ret, &why);
    blob_free(&f);
    return rc ? vmm_fail(err, rc, "%s: %s", path, why.text) : 0;
}

static bool loaded(const struct modules *m, const char *name)
{
    for (unsigned i = 0; i < m->n; i++)
        if (!strcmp(m->m[i].name, name))
            return true;
    return false;
}

struct loader {
    const char *dir;
    struct strv files;
    struct modules *out;
    struct vmm_error *err;
};

static int load(struct loader *l, const char *name, unsigned depth)
{
    char path[PATH_MAX];
    struct strv depends = {0};
    struct blob ko;
    const char *list;
    int rc;

    if (loaded(l->out, name) || !find_file(l->dir, &l->files, name, path))
        return 0;
    if (depth > DEPTH_MAX || l->out->n == MODULES_MAX)
        return vmm_fail(l->err, -E2BIG, "%s: too many modules depend on each other", path);
    rc = read_module(path, &ko, l->err);
    if (rc)
        return rc;
    list = module_info(&ko, "depends");
    rc = list ? strv_split(&depends, list, ',') : 0;
    for (size_t i = 0; i < depends.n && rc == 0; i++) {
        for (char *p = depends.s[i]; *p; p++)
            *p = *p == '-' ? '_' : *p;
        rc = load(l, depends.s[i], depth + 1);
    }
    strv_free(&depends);
    if (rc == 0 && l->out->n == MODULES_MAX)
        rc = vmm_fail(l->err, -E2BIG, "%s: too many modules", path);
    if (rc == 0) {
        l->out->m[l->out->n].name = strdup(name);
        l->out->m[l->out->n].ko = ko;
        if (!l->out->m[l->out->n++].name)
            return vmm_fail(l->err, -ENOMEM, "out of memory");
        return 0;
    }
    blob_free(&ko);
    return rc;
}

int modules_load(const char *dir, const char *const *names, unsigned n, struct modules *ret,
                 struct vmm_error *err)
{
    struct loader l = {.dir = dir, .out = ret, .err = err};
    int rc;

    *ret = (struct modules){0};
    rc = list_files(dir, &l.files);
    if (rc)
        vmm_fail(err, rc, "kernel modules in %s: %s", dir, strerror(-rc));
    for (unsigned i = 0; i < n && rc == 0; i++)
        rc = load(&l, names[i], 0);
    strv_free(&l.files);
    return rc;
}

void modules_free(struct modules *m)
{
    for (unsigned i = 0; i < m->n; i++) {
        free(m->m[i].name);
        blob_free(&m->m[i].ko);
    }
    m->n = 0;
}
