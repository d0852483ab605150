// SPDX-License-Identifier: MIT
// Collect what a command needs into a file tree, and write it as an initramfs.
#include "vmm/initramfs/pack.h"
#include "vmm/initramfs/elfdeps.h"
#include "vmm/initramfs/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRIPT_DEPTH  4   /* as BINPRM_MAX_RECURSION of Linux */
#define SCRIPT_LINE   256 /* BINPRM_BUF_SIZE */
#define OPEN_DIRS_MAX 32

struct pack {
    const struct pack_config *cfg;
    struct tree *tree;
    struct elfdeps deps;
    struct vmm_error *err;
    bool shell; /* a shell or a script is among the programs: it will want tools */
};

/* --- finding commands --- */

static int check_executable(const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return errno == EACCES ? -EACCES : -ENOENT;
    if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return -EACCES;
    return 0;
}

static int join(const char *dir, size_t dir_len, const char *name, char ret[PATH_MAX])
{
    int n = snprintf(ret, PATH_MAX, "%.*s/%s", (int)dir_len, dir, name);

    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int pack_find(const char *name, const char *cwd, const char *path, char ret[PATH_MAX])
{
    char full[PATH_MAX];
    int rc, worst = -ENOENT;

    if (!*name)
        return -ENOENT;
    if (strchr(name, '/')) {
        rc = name[0] == '/' ? join("", 0, name + 1, full) : join(cwd, strlen(cwd), name, full);
        if (rc == 0)
            rc = check_executable(full);
        if (rc == 0)
            strcpy(ret, full);
        return rc;
    }
    while (*path) {
        size_t len = strcspn(path, ":");

        rc = len && path[0] == '/' ? join(path, len, name, full) : -ENOENT;
        if (rc == 0)
            rc = check_executable(full);
        if (rc == 0) {
            strcpy(ret, full);
            return 0;
        }
        if (rc == -EACCES)
            worst = rc;
        path += len + (path[len] == ':');
    }
    return worst;
}

/* --- programs --- */

static int add_program(struct pack *p, const char *path, unsigned depth);

/* The program of "#!/usr/bin/env [-S] [NAME=VALUE...] PROGRAM ...". */
static int add_env_target(struct pack *p, const char *script, char *args, unsigned depth)
{
    char path[PATH_MAX], *save, *word = strtok_r(args, " \t", &save);

    while (word && (*word == '-' || strchr(word, '=')))
        word = strtok_r(NULL, " \t", &save);
    if (!word)
        return 0;
    if (pack_find(word, p->cfg->cwd, p->cfg->path, path))
        return vmm_fail(p->err, -ENOENT, "%s: its interpreter %s is not found", script, word);
    return add_program(p, path, depth + 1);
}

static int add_script_interpreter(struct pack *p, const char *script, const struct blob *file,
                                  unsigned depth)
{
    char line[SCRIPT_LINE], *interp, *args;
    size_t len = file->size - 2 < sizeof(line) - 1 ? file->size - 2 : sizeof(line) - 1;
    const char *base;
    int rc;

    memcpy(line, file->data + 2, len);
    line[len] = 0;
    line[strcspn(line, "\n")] = 0;
    interp = line + strspn(line, " \t");
    args = interp + strcspn(interp, " \t");
    if (*args)
        *args++ = 0;
    if (*interp != '/')
        return vmm_fail(p->err, -ENOEXEC, "%s: its interpreter '%s' is not an absolute path",
                        script, interp);
    if (check_executable(interp))
        return vmm_fail(p->err, -ENOENT, "%s: its interpreter %s is not found", script, interp);
    rc = add_program(p, interp, depth + 1);
    base = strrchr(interp, '/') + 1;
    if (rc == 0 && !strcmp(base, "env"))
        rc = add_env_target(p, script, args, depth);
    return rc;
}

static bool is_shell(const char *path)
{
    static const char *const shells[] = {"sh", "bash", "dash", "ash", "ksh", "zsh"};
    const char *base = strrchr(path, '/') + 1;

    for (size_t i = 0; i < ARRAY_SIZE(shells); i++)
        if (!strcmp(base, shells[i]))
            return true;
    return false;
}

/* The file, what is behind its links, and what it needs to run. */
static int add_program(struct pack *p, const char *path, unsigned depth)
{
    char real[PATH_MAX];
    struct blob file;
    int rc = tree_add_host(p->tree, path, real);

    if (rc)
        return vmm_fail(p->err, rc, "%s: %s", path, strerror(-rc));
    if (depth > SCRIPT_DEPTH)
        return vmm_fail(p->err, -ELOOP, "%s: interpreters of scripts are nested too deep", path);
    p->shell = p->shell || is_shell(path);
    rc = blob_map(real, &file);
    if (rc)
        return vmm_fail(p->err, rc, "%s: %s", path, strerror(-rc));
    if (file.size > 2 && !memcmp(file.data, "#!", 2))
        rc = add_script_interpreter(p, path, &file, depth);
    else
        rc = elfdeps_add(&p->deps, real, p->err);
    blob_free(&file);
    return rc;
}

/* --- --add and --lib --- */

/* nftw() has no argument for its function. */
static __thread struct pack *walk_pack;
static __thread int walk_rc;

static int add_walked(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    struct pack *p = walk_pack;
    char real[PATH_MAX];
    int rc;

    (void)ftw;
    if (type == FTW_DNR || type == FTW_NS) {
        walk_rc = vmm_fail(p->err, -EACCES, "%s cannot be read", path);
        return 1;
    }
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode) && !S_ISLNK(st->st_mode))
        return 0;
    rc = tree_add_host(p->tree, path, real);
    if (S_ISLNK(st->st_mode) && (rc == -ENOENT || rc == -EINVAL || rc == -ELOOP))
        return 0; /* a link to nowhere is one in the guest as well */
    if (rc)
        vmm_fail(p->err, rc, "%s: %s", path, strerror(-rc));
    else if (S_ISREG(st->st_mode))
        rc = elfdeps_add(&p->deps, real, p->err);
    if (rc == -ENOENT)
        rc = 0; /* a plug-in whose library the host lacks does not work on the host either */
    walk_rc = rc;
    return rc != 0;
}

static int add_path(struct pack *p, const char *path)
{
    char full[PATH_MAX], real[PATH_MAX];
    int rc = path[0] == '/' ? join("", 0, path + 1, full)
                            : join(p->cfg->cwd, strlen(p->cfg->cwd), path, full);

    if (rc == 0)
        rc = tree_add_host(p->tree, full, real);
    if (rc)
        return vmm_fail(p->err, rc, "%s: %s", path, strerror(-rc));
    walk_pack = p;
    walk_rc = 0;
    if (nftw(real, add_walked, OPEN_DIRS_MAX, FTW_PHYS) < 0)
        return vmm_fail(p->err, -errno, "%s: %s", path, strerror(errno));
    return walk_rc;
}

/* --- the rest of the tree --- */

/* Names under which busybox is found, so that a script has the usual tools. */
static const char *const tools[] = {
    "ash",     "awk",      "base64",    "basename", "bc",       "cat",      "chmod",    "chown",
    "chroot",  "cmp",      "cp",        "cut",      "date",     "dd",       "df",       "diff",
    "dirname", "dmesg",    "du",        "echo",     "env",      "expr",     "false",    "find",
    "free",    "grep",     "gunzip",    "gzip",     "head",     "hexdump",  "hostname", "id",
    "insmod",  "ip",       "kill",      "less",     "ln",       "ls",       "lsmod",    "md5sum",
    "mkdir",   "mknod",    "mktemp",    "modprobe", "mount",    "mv",       "nc",       "nproc",
    "od",      "pgrep",    "pidof",     "ping",     "poweroff", "printenv", "printf",   "ps",
    "pwd",     "readlink", "realpath",  "reboot",   "reset",    "rm",       "rmdir",    "sed",
    "seq",     "sh",       "sha256sum", "sleep",    "sort",     "stat",     "stty",     "sync",
    "tail",    "tar",      "taskset",   "tee",      "test",     "time",     "timeout",  "top",
    "touch",   "tr",       "true",      "tty",      "umount",   "uname",    "uniq",     "uptime",
    "vi",      "wc",       "which",     "xargs",    "xxd",      "yes",      "zcat"};

static int add_tools(struct pack *p)
{
    static const char *const where[] = {"/bin/busybox", "/usr/bin/busybox", "/sbin/busybox"};
    char link[PATH_MAX];
    int rc = -ENOENT;
    size_t i;

    for (i = 0; i < ARRAY_SIZE(where); i++)
        if (check_executable(where[i]) == 0)
            break;
    if (i == ARRAY_SIZE(where))
        return 0;
    rc = add_program(p, where[i], 0);
    for (size_t j = 0; j < ARRAY_SIZE(tools) && rc == 0; j++) {
        snprintf(link, sizeof(link), PACK_TOOLS "/%s", tools[j]);
        rc = tree_add_link(p->tree, link, where[i]);
    }
    return rc;
}

static int add_base(struct pack *p)
{
    static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                                 "nobody:x:65534:65534:nobody:/:/bin/false\n";
    static const char group[] = "root:x:0:\nnogroup:x:65534:\n";
    static const char *const dirs[] = {"/dev", "/proc", "/root", "/run", "/sys"};
    int rc = tree_add_data(p->tree, PACK_INIT, 0755, p->cfg->init, p->cfg->init_size);

    for (size_t i = 0; i < ARRAY_SIZE(dirs) && rc == 0; i++)
        rc = tree_add_dir(p->tree, dirs[i], 0755);
    if (rc == 0)
        rc = tree_add_dir(p->tree, "/tmp", 01777);
    if (rc == 0)
        rc = tree_add_device(p->tree, "/dev/console", 0600, 5, 1);
    if (rc == 0)
        rc = tree_add_data(p->tree, "/etc/passwd", 0644, passwd, sizeof(passwd) - 1);
    if (rc == 0)
        rc = tree_add_data(p->tree, "/etc/group", 0644, group, sizeof(group) - 1);
    if (rc == 0 && access("/etc/ld.so.cache", R_OK) == 0)
        rc = tree_add_host(p->tree, "/etc/ld.so.cache", NULL);
    return rc ? vmm_fail(p->err, rc, "the guest's file tree: %s", strerror(-rc)) : 0;
}

static int add_modules(struct pack *p)
{
    char path[64];
    int rc = 0;

    for (unsigned i = 0; i < p->cfg->modules->n && rc == 0; i++) {
        const struct blob *ko = &p->cfg->modules->m[i].ko;

        snprintf(path, sizeof(path), PACK_MODULES "/%02u.ko", i);
        rc = tree_add_data(p->tree, path, 0644, ko->data, ko->size);
    }
    return rc ? vmm_fail(p->err, rc, "out of memory") : 0;
}

static int put(struct blob *b, const char *key, const char *value)
{
    int rc = blob_append(b, key, strlen(key));

    if (rc == 0)
        rc = blob_append(b, "=", 1);
    if (rc == 0)
        rc = blob_append(b, value, strlen(value) + 1);
    return rc;
}

static int put_number(struct blob *b, const char *key, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    return put(b, key, text);
}

static int put_library_path(struct pack *p, struct blob *b)
{
    int rc = blob_append(b, "env=LD_LIBRARY_PATH=", 20);

    for (size_t i = 0; i < p->deps.first.n && rc == 0; i++) {
        if (i)
            rc = blob_append(b, ":", 1);
        if (rc == 0)
            rc = blob_append(b, p->deps.first.s[i], strlen(p->deps.first.s[i]));
    }
    return rc ? rc : blob_append(b, "", 1);
}

static int add_config(struct pack *p)
{
    const struct pack_config *cfg = p->cfg;
    struct blob b = {0};
    /* A script sees the path that was executed as its $0: it must be the user's own word. */
    int rc = put(&b, "exec", strchr(cfg->argv[0], '/') ? cfg->argv[0] : cfg->command);

    if (rc == 0)
        rc = put(&b, "cwd", cfg->cwd);
    if (rc == 0 && cfg->tty)
        rc = put(&b, "tty", "1");
    if (rc == 0 && cfg->tty)
        rc = put_number(&b, "cols", cfg->cols);
    if (rc == 0 && cfg->tty)
        rc = put_number(&b, "rows", cfg->rows);
    if (rc == 0 && cfg->errtty)
        rc = put(&b, "errtty", "1");
    if (rc == 0 && cfg->net)
        rc = put(&b, "net", "user");
    for (char *const *a = cfg->argv; *a && rc == 0; a++)
        rc = put(&b, "arg", *a);
    for (size_t i = 0; i < cfg->env->n && rc == 0; i++)
        rc = put(&b, "env", cfg->env->s[i]);
    if (rc == 0 && p->deps.first.n)
        rc = put_library_path(p, &b);
    if (rc == 0)
        rc = tree_add_data(p->tree, PACK_CONFIG, 0600, b.data, b.size);
    blob_free(&b);
    return rc ? vmm_fail(p->err, rc, "out of memory") : 0;
}

static int collect(struct pack *p)
{
    const struct pack_config *cfg = p->cfg;
    char full[PATH_MAX];
    int rc = add_base(p);

    for (size_t i = 0; i < cfg->libs->n && rc == 0; i++) {
        const char *dir = cfg->libs->s[i];

        rc = dir[0] == '/' ? join("", 0, dir + 1, full)
                           : join(cfg->cwd, strlen(cfg->cwd), dir, full);
        if (rc == 0)
            rc = strv_add(&p->deps.first, full);
        if (rc)
            return vmm_fail(p->err, rc, "%s: %s", dir, strerror(-rc));
    }
    if (rc == 0)
        rc = add_program(p, cfg->command, 0);
    if (rc == 0 && p->shell)
        rc = add_tools(p);
    for (size_t i = 0; i < cfg->libs->n && rc == 0; i++)
        rc = add_path(p, cfg->libs->s[i]);
    for (size_t i = 0; i < cfg->add->n && rc == 0; i++)
        rc = add_path(p, cfg->add->s[i]);
    if (rc == 0)
        rc = add_modules(p);
    if (rc == 0)
        rc = add_config(p);
    return rc;
}

int pack_build(const struct pack_config *cfg, struct blob *out, struct vmm_error *err)
{
    struct pack p = {.cfg = cfg, .err = err};
    int rc = tree_create(&p.tree);

    if (rc)
        return vmm_fail(err, rc, "out of memory");
    rc = elfdeps_init(&p.deps, p.tree);
    rc = rc ? vmm_fail(err, rc, "out of memory") : collect(&p);
    if (rc == 0)
        rc = cpio_write(p.tree, out, err);
    elfdeps_fini(&p.deps);
    tree_free(p.tree);
    return rc;
}
