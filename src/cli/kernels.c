// SPDX-License-Identifier: MIT
// Find kernels and their modules on this machine.
#include "cli/kernels.h"
#include "vmm/bzimage.h"

#include <errno.h>
#include <glob.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEVELS_UP 4 /* build/meson/src/cli/uvirt: build/kernels is three directories up */

/* The newest match of (pattern) by its vmlinuz-VERSION. */
static bool newest_match(const char *pattern, char ret[PATH_MAX])
{
    const char *best = NULL;
    glob_t g;

    if (glob(pattern, 0, NULL, &g))
        return false;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        const char *this = g.gl_pathv[i];

        if (!best || strverscmp(strrchr(this, '/'), strrchr(best, '/')) > 0)
            best = this;
    }
    if (best)
        snprintf(ret, PATH_MAX, "%s", best);
    globfree(&g);
    return best != NULL;
}

/* Call (try) with each directory that may hold VERSION/boot and VERSION/lib until it returns true. */
static bool each_root(bool (*try)(const char *root, const void *arg, char *ret), const void *arg,
                      char *ret)
{
    const char *env = getenv("UVIRT_KERNELS");
    char dir[PATH_MAX], root[PATH_MAX + 16];
    ssize_t n;

    if (env && *env)
        return try(env, arg, ret);
    n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
    if (n <= 0)
        return false;
    dir[n] = 0;
    for (int i = 0; i < LEVELS_UP; i++) {
        char *slash = strrchr(dir, '/');

        if (!slash)
            break;
        *slash = 0;
        snprintf(root, sizeof(root), "%s/kernels", dir);
        if (try(root, arg, ret))
            return true;
    }
    return false;
}

static bool try_newest(const char *root, const void *arg, char *ret)
{
    char pattern[PATH_MAX + 64];

    (void)arg;
    snprintf(pattern, sizeof(pattern), "%s/*/boot/vmlinuz-*", root);
    return newest_match(pattern, ret);
}

int kernels_newest(char ret[PATH_MAX])
{
    if (each_root(try_newest, NULL, ret) || newest_match("/boot/vmlinuz-*", ret))
        return 0;
    return -ENOENT;
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool try_modules(const char *root, const void *version, char *ret)
{
    char pattern[PATH_MAX + 300];
    glob_t g;
    bool found;

    snprintf(pattern, sizeof(pattern), "%s/*/lib/modules/%s", root, (const char *)version);
    if (glob(pattern, 0, NULL, &g))
        return false;
    found = g.gl_pathc > 0;
    if (found)
        snprintf(ret, PATH_MAX, "%s", g.gl_pathv[0]);
    globfree(&g);
    return found;
}

/* "VERSION (builder...) ..." in a bzImage, "Linux version VERSION (...)" in an ELF kernel. */
static bool image_version(const struct blob *image, char version[256])
{
    static const char banner[] = "Linux version ";
    const char *p = bzimage_version(image);
    size_t left, len = 0;

    if (!p && image->size) {
        p = memmem(image->data, image->size, banner, sizeof(banner) - 1);
        p = p ? p + sizeof(banner) - 1 : NULL;
    }
    if (!p)
        return false;
    left = image->size - (size_t)(p - (const char *)image->data);
    while (len < left && len < 255 && p[len] > ' ' && p[len] != '/' && p[len] != '*')
        len++;
    memcpy(version, p, len);
    version[len] = 0;
    return len > 0;
}

int kernels_modules(const char *path, const struct blob *image, char ret[PATH_MAX])
{
    static const char *const beside[] = {"/lib/modules/", "/../lib/modules/", "/modules/"};
    char version[256], copy[PATH_MAX], full[PATH_MAX + 300];
    const char *dir;

    if (!image_version(image, version) || strlen(path) >= sizeof(copy))
        return -ENOENT;
    strcpy(copy, path);
    dir = dirname(copy);
    for (size_t i = 0; i < ARRAY_SIZE(beside) + 1; i++) {
        if (i < ARRAY_SIZE(beside))
            snprintf(full, sizeof(full), "%s%s%s", dir, beside[i], version);
        else
            snprintf(full, sizeof(full), "/lib/modules/%s", version);
        if (strlen(full) < PATH_MAX && is_dir(full)) {
            strcpy(ret, full);
            return 0;
        }
    }
    return each_root(try_modules, version, ret) ? 0 : -ENOENT;
}
