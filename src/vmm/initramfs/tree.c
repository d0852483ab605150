// SPDX-License-Identifier: MIT
// The file tree that becomes an initramfs, kept sorted by path in a binary search tree.
#include "vmm/initramfs/tree.h"

#include <errno.h>
#include <limits.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as in path resolution of Linux */

struct tree {
    void *root; /* of tsearch(), struct tree_node */
};

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct tree_node *)a)->path, ((const struct tree_node *)b)->path);
}

int tree_create(struct tree **ret)
{
    struct tree *t = calloc(1, sizeof(*t));

    if (!t)
        return -ENOMEM;
    *ret = t;
    return 0;
}

static void free_node(void *p)
{
    struct tree_node *n = p;

    free((void *)(uintptr_t)n->path);
    free((void *)(uintptr_t)n->source);
    free((void *)(uintptr_t)n->data);
    free(n);
}

void tree_free(struct tree *t)
{
    if (!t)
        return;
    tdestroy(t->root, free_node);
    free(t);
}

const struct tree_node *tree_find(const struct tree *t, const char *path)
{
    struct tree_node key = {.path = path};
    struct tree_node **found = tfind(&key, &t->root, compare);

    return found ? *found : NULL;
}

/* Copies (from) and all that it points to. */
static int add(struct tree *t, const struct tree_node *from)
{
    struct tree_node *n;

    if (tree_find(t, from->path))
        return 0;
    n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    *n = *from;
    n->path = strdup(from->path);
    n->source = from->source ? strdup(from->source) : NULL;
    n->data = from->data ? malloc(from->len + 1) : NULL;
    if (n->data)
        memcpy((void *)(uintptr_t)n->data, from->data, from->len);
    if (!n->path || (from->source && !n->source) || (from->data && !n->data) ||
        !tsearch(n, &t->root, compare)) {
        free_node(n);
        return -ENOMEM;
    }
    return 0;
}

static int add_parents(struct tree *t, const char *path)
{
    char dir[PATH_MAX];
    int rc = 0;

    if (strlen(path) >= sizeof(dir))
        return -ENAMETOOLONG;
    for (const char *p = strchr(path + 1, '/'); p && rc == 0; p = strchr(p + 1, '/')) {
        memcpy(dir, path, (size_t)(p - path));
        dir[p - path] = 0;
        rc = add(t, &(struct tree_node){.path = dir, .mode = S_IFDIR | 0755});
    }
    return rc;
}

static int add_with_parents(struct tree *t, const struct tree_node *n)
{
    int rc = add_parents(t, n->path);

    return rc ? rc : add(t, n);
}

int tree_add_dir(struct tree *t, const char *path, mode_t mode)
{
    return add_with_parents(t, &(struct tree_node){.path = path, .mode = S_IFDIR | mode});
}

int tree_add_data(struct tree *t, const char *path, mode_t mode, const void *data, size_t len)
{
    return add_with_parents(
        t, &(struct tree_node){.path = path, .mode = S_IFREG | mode, .data = data, .len = len});
}

int tree_add_link(struct tree *t, const char *path, const char *target)
{
    return add_with_parents(
        t, &(struct tree_node){
               .path = path, .mode = S_IFLNK | 0777, .data = target, .len = strlen(target)});
}

int tree_add_device(struct tree *t, const char *path, mode_t mode, unsigned major, unsigned minor)
{
    return add_with_parents(
        t,
        &(struct tree_node){.path = path, .mode = S_IFCHR | mode, .major = major, .minor = minor});
}

/*
 * Resolution as the kernel does it: (done) has no links and exists in the tree, (rest) is still
 * to be walked. A link puts its target in front of (rest).
 */
struct resolve {
    char done[PATH_MAX], rest[PATH_MAX];
    unsigned links;
};

static int follow_link(struct tree *t, struct resolve *r, const char *path)
{
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    int rc;

    if (n < 0)
        return -errno;
    target[n] = 0;
    if (++r->links > LINKS_MAX)
        return -ELOOP;
    rc = add(t, &(struct tree_node){
                    .path = path, .mode = S_IFLNK | 0777, .data = target, .len = (size_t)n});
    if (rc)
        return rc;
    if ((size_t)n + 1 + strlen(r->rest) >= sizeof(rest))
        return -ENAMETOOLONG;
    strcpy(rest, target);
    strcat(rest, "/");
    strcat(rest, r->rest);
    strcpy(r->rest, rest);
    if (target[0] == '/')
        r->done[0] = 0;
    return 0;
}

/* Take the next component off (rest). Returns its length, 0 at the end. */
static size_t next_component(struct resolve *r, char name[NAME_MAX + 1])
{
    const char *p = r->rest + strspn(r->rest, "/");
    size_t len = strcspn(p, "/");

    if (len > NAME_MAX)
        len = NAME_MAX; /* lstat() of it will fail */
    memcpy(name, p, len);
    name[len] = 0;
    memmove(r->rest, p + len, strlen(p + len) + 1);
    return len;
}

static int add_component(struct tree *t, struct resolve *r, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    int rc;

    if (!strcmp(name, "."))
        return 0;
    if (!strcmp(name, "..")) {
        char *slash = strrchr(r->done, '/');

        if (slash)
            *slash = 0;
        return 0;
    }
    if (strlen(r->done) + strlen(name) + 2 > sizeof(path))
        return -ENAMETOOLONG;
    strcpy(path, r->done);
    strcat(path, "/");
    strcat(path, name);
    if (lstat(path, &st) < 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return follow_link(t, r, path);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return -EINVAL;
    if (!S_ISDIR(st.st_mode) && r->rest[strspn(r->rest, "/")])
        return -ENOTDIR;
    rc = add(t, &(struct tree_node){.path = path,
                                    .mode = st.st_mode & (S_IFMT | 07777),
                                    .mtime = st.st_mtime,
                                    .source = S_ISREG(st.st_mode) ? path : NULL});
    strcpy(r->done, path);
    return rc;
}

int tree_add_host(struct tree *t, const char *path, char *real)
{
    struct resolve r = {.done = ""};
    char name[NAME_MAX + 1];
    int rc = 0;

    if (path[0] != '/')
        return -EINVAL;
    if (strlen(path) >= sizeof(r.rest))
        return -ENAMETOOLONG;
    strcpy(r.rest, path);
    while (rc == 0 && next_component(&r, name))
        rc = add_component(t, &r, name);
    if (rc == 0 && real)
        strcpy(real, r.done[0] ? r.done : "/");
    return rc;
}

struct walk {
    int (*fn)(const struct tree_node *n, void *arg);
    void *arg;
    int rc;
};

/* Sorted by path: a parent is a prefix of its children and comes first. */
static void visit(const void *nodep, VISIT which, void *closure)
{
    struct walk *w = closure;

    if ((which == postorder || which == leaf) && w->rc == 0)
        w->rc = w->fn(*(struct tree_node *const *)nodep, w->arg);
}

int tree_walk(const struct tree *t, int (*fn)(const struct tree_node *n, void *arg), void *arg)
{
    struct walk w = {fn, arg, 0};

    twalk_r(t->root, visit, &w);
    return w.rc;
}
