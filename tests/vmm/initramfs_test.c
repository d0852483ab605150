// SPDX-License-Identifier: MIT
// The packer: cpio archives read back, libraries against ld.so's own answer, modules, whole trees.
#include "tap.h"
#include "vmm/initramfs/elfdeps.h"
#include "vmm/initramfs/modules.h"
#include "vmm/initramfs/pack.h"
#include "vmm/initramfs/tree.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/uvirt-initramfs-XXXXXX";

/* --- reading an archive back --- */

struct entry {
    char name[256];
    u32 mode, mtime, size, major, minor;
    const u8 *data;
};

static u32 hex(const u8 *p)
{
    char text[9] = {0};

    memcpy(text, p, 8);
    return (u32)strtoul(text, NULL, 16);
}

/* The entry at *pos, which moves on. False at the trailer or where the format is broken. */
static bool next_entry(const struct blob *a, size_t *pos, struct entry *e)
{
    const u8 *h = a->data + *pos;
    u32 name_len;

    if (*pos + 110 > a->size || memcmp(h, "070701", 6))
        return false;
    e->mode = hex(h + 14);
    e->mtime = hex(h + 46);
    e->size = hex(h + 54);
    e->major = hex(h + 78);
    e->minor = hex(h + 86);
    name_len = hex(h + 94);
    if (!name_len || name_len > sizeof(e->name) || h[110 + name_len - 1])
        return false;
    memcpy(e->name, h + 110, name_len);
    *pos = ALIGN_UP(*pos + 110 + name_len, 4);
    e->data = a->data + *pos;
    *pos = ALIGN_UP(*pos + e->size, 4);
    return *pos <= a->size && strcmp(e->name, "TRAILER!!!");
}

static bool find_entry(const struct blob *a, const char *name, struct entry *e)
{
    size_t pos = 0;

    while (next_entry(a, &pos, e))
        if (!strcmp(e->name, name))
            return true;
    return false;
}

/* Every entry's directory came before it. */
static bool parents_first(const struct blob *a)
{
    struct entry e, seen;
    size_t pos = 0;

    while (next_entry(a, &pos, &e)) {
        char *slash = strrchr(e.name, '/');
        size_t until = 0, end = pos;
        bool found = false;

        if (!slash)
            continue;
        *slash = 0;
        while (!found && until < end && next_entry(a, &until, &seen))
            found = !strcmp(seen.name, e.name) && S_ISDIR(seen.mode);
        if (!found)
            return false;
    }
    return true;
}

/* --- helpers --- */

static const char *path_in(const char *name)
{
    static char path[4][256];
    static unsigned n;

    n = (n + 1) % 4;
    snprintf(path[n], sizeof(path[n]), "%s/%s", dir, name);
    return path[n];
}

static void write_file(const char *name, const void *data, size_t len, mode_t mode)
{
    int fd = open(path_in(name), O_WRONLY | O_CREAT | O_TRUNC, mode);

    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        ok(false, "writing %s", name);
    close(fd);
}

/* --- tests --- */

static void test_tree(void)
{
    struct tree *t;
    struct blob a = {0};
    struct entry e;
    char real[PATH_MAX];

    write_file("file", "content", 7, 0640);
    ok(mkdir(path_in("sub"), 0755) == 0 && symlink("../file", path_in("sub/link")) == 0 &&
           symlink("sub", path_in("alias")) == 0 && symlink("loop", path_in("loop")) == 0 &&
           mkfifo(path_in("fifo"), 0600) == 0,
       "set up");
    tree_create(&t);
    is_u64(tree_add_host(t, path_in("alias/link"), real), 0, "a file behind two links");
    ok(!strcmp(real, path_in("file")), "its real name");
    ok(tree_add_host(t, path_in("loop"), NULL) == -ELOOP, "a link to itself");
    ok(tree_add_host(t, path_in("nothing"), NULL) == -ENOENT, "a missing file");
    ok(tree_add_host(t, path_in("file/below"), NULL) == -ENOTDIR, "below a file");
    ok(tree_add_host(t, path_in("fifo"), NULL) == -EINVAL, "a FIFO");
    ok(tree_add_host(t, "relative", NULL) == -EINVAL, "a relative path");
    tree_add_data(t, "/deep/down/data", 0600, "xyz", 3);
    tree_add_data(t, "/deep/down/data", 0600, "other", 5);
    tree_add_link(t, "/deep/link", "down/data");
    tree_add_device(t, "/dev/console", 0600, 5, 1);
    is_u64(cpio_write(t, &a, NULL), 0, "archive");
    ok(parents_first(&a), "directories come before what is in them");
    ok(find_entry(&a, path_in("file") + 1, &e) && e.size == 7 && !memcmp(e.data, "content", 7) &&
           e.mode == (S_IFREG | 0640) && e.mtime,
       "a host file: contents, mode, time");
    ok(find_entry(&a, path_in("alias") + 1, &e) && S_ISLNK(e.mode) && e.size == 3 &&
           !memcmp(e.data, "sub", 3),
       "the first link");
    ok(find_entry(&a, path_in("sub/link") + 1, &e) && S_ISLNK(e.mode) &&
           !memcmp(e.data, "../file", 7),
       "the second link");
    ok(find_entry(&a, "deep/down/data", &e) && e.size == 3, "data: the first one stays");
    ok(find_entry(&a, "dev/console", &e) && e.mode == (S_IFCHR | 0600) && e.major == 5 &&
           e.minor == 1,
       "a device");
    blob_free(&a);
    unlink(path_in("file"));
    ok(cpio_write(t, &a, NULL) == -ENOENT, "a file that has gone");
    blob_free(&a);
    tree_free(t);
}

/* Lines of ld.so's list: "name => /path (0x...)" or "/path (0x...)". */
static void test_elfdeps(const char *program)
{
    struct tree *t;
    struct elfdeps d;
    struct vmm_error err = {{0}};
    char command[512], line[1024], real[PATH_MAX];
    unsigned listed = 0, found = 0;
    FILE *f;

    tree_create(&t);
    elfdeps_init(&d, t);
    is_u64(tree_add_host(t, program, real), 0, "%s", program);
    is_u64(elfdeps_add(&d, real, &err), 0, "%s: dependencies (%s)", program, err.text);
    snprintf(command, sizeof(command), "LD_TRACE_LOADED_OBJECTS=1 %s", program);
    f = popen(command, "r");
    while (f && fgets(line, sizeof(line), f)) {
        char *path = strchr(line, '/');

        if (!path)
            continue; /* the vDSO */
        path[strcspn(path, " \n")] = 0;
        listed++;
        if (realpath(path, real) && tree_find(t, real))
            found++;
        else
            printf("# %s is missing\n", path);
    }
    if (f)
        pclose(f);
    ok(listed >= 2 && found == listed, "%s: all %u objects that ld.so loads", program, listed);
    elfdeps_fini(&d);
    tree_free(t);
}

static void test_elf_needs_bounds(const char *program)
{
    struct blob whole, cut;
    struct elf_needs n;
    unsigned crashed = 0;

    if (blob_map(program, &whole)) {
        skip("no such program", "cut ELF files");
        return;
    }
    for (size_t size = 0; size < whole.size; size += size < 2048 ? 1 : whole.size / 61) {
        cut = (struct blob){.data = malloc(size + 1), .size = size};
        memcpy(cut.data, whole.data, size);
        if (elf_needs_read(&cut, &n) == 0)
            elf_needs_free(&n);
        free(cut.data);
        crashed++;
    }
    ok(crashed > 2000, "%s, cut at %u lengths, is read without harm", program, crashed);
    ok(elf_needs_read(&(struct blob){.data = (u8 *)"#!/bin/sh\n", .size = 10}, &n) == -ENOEXEC,
       "a script is not ELF");
    blob_free(&whole);
}

/* A module that says no more than its .modinfo. */
static size_t make_module(const char *depends, u8 out[4096])
{
    static const char names[] = "\0.shstrtab\0.modinfo";
    Elf64_Ehdr eh = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                     .e_type = ET_REL,
                     .e_machine = EM_X86_64,
                     .e_shoff = 64,
                     .e_shentsize = sizeof(Elf64_Shdr),
                     .e_shnum = 3,
                     .e_shstrndx = 1};
    Elf64_Shdr sh[3] = {
        {0},
        {.sh_name = 1, .sh_type = SHT_STRTAB, .sh_offset = 512, .sh_size = sizeof(names)},
        {.sh_name = 11, .sh_type = SHT_PROGBITS, .sh_offset = 1024},
    };
    size_t len = (size_t)sprintf((char *)out + 1024, "license=GPL%cdepends=%s", 0, depends) + 1;

    sh[2].sh_size = len;
    memcpy(out, &eh, sizeof(eh));
    memcpy(out + 64, sh, sizeof(sh));
    memcpy(out + 512, names, sizeof(names));
    return 1024 + len;
}

static void test_modules(void)
{
    static const char *const names[] = {"leaf", "not_there", "leaf"};
    static u8 ko[4096], xz[8192];
    struct modules m;
    struct vmm_error err = {{0}};
    size_t len, pos = 0;

    mkdir(path_in("mod"), 0755);
    mkdir(path_in("mod/kernel"), 0755);
    len = make_module("branch,trunk-wood", ko);
    lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, ko, len, xz, &pos, sizeof(xz));
    write_file("mod/kernel/leaf.ko.xz", xz, pos, 0644);
    write_file("mod/kernel/branch.ko", ko, make_module("trunk-wood", ko), 0644);
    write_file("mod/kernel/trunk-wood.ko", ko, make_module("", ko), 0644);
    is_u64(modules_load(path_in("mod"), names, 3, &m, &err), 0, "modules (%s)", err.text);
    ok(m.n == 3 && !strcmp(m.m[0].name, "trunk_wood") && !strcmp(m.m[1].name, "branch") &&
           !strcmp(m.m[2].name, "leaf"),
       "each once, and after what it depends on");
    ok(m.n == 3 && m.m[2].ko.size == len && !memcmp(m.m[2].ko.data, ELFMAG, SELFMAG), "unpacked");
    modules_free(&m);

    write_file("mod/modules.order", "kernel/leaf.ko\nkernel/branch.ko\n", 32, 0644);
    is_u64(modules_load(path_in("mod"), names, 1, &m, NULL), 0, "with modules.order");
    is_u64(m.n, 2, "what it does not list is taken as built in");
    modules_free(&m);
    unlink(path_in("mod/modules.order"));

    write_file("mod/kernel/trunk-wood.ko", ko, make_module("leaf", ko), 0644);
    ok(modules_load(path_in("mod"), names, 1, &m, NULL) == -E2BIG, "a circle of dependencies");
    modules_free(&m);
    write_file("mod/kernel/leaf.ko.xz", xz, pos / 2, 0644);
    ok(modules_load(path_in("mod"), names, 1, &m, &err) == -EINVAL &&
           strstr(err.text, "leaf.ko.xz"),
       "a truncated module is named");
    modules_free(&m);
    ok(modules_load(path_in("none"), names, 1, &m, NULL) == -ENOENT, "no modules at all");
    modules_free(&m);
    for (size_t cut = 0; cut < len; cut++) {
        struct blob b = {.data = malloc(cut + 1), .size = cut};

        memcpy(b.data, ko, cut);
        module_info(&b, "depends");
        free(b.data);
    }
    ok(true, ".modinfo of cut modules is read without harm");
}

static void test_find(void)
{
    char path[256], found[PATH_MAX];

    mkdir(path_in("a"), 0755);
    mkdir(path_in("b"), 0755);
    write_file("a/tool", "#!/bin/sh\n", 10, 0644);
    write_file("b/tool", "#!/bin/sh\n", 10, 0755);
    write_file("a/plain", "x", 1, 0644);
    snprintf(path, sizeof(path), "%s/a:relative::%s/b", dir, dir);
    ok(pack_find("tool", "/", path, found) == 0 && !strcmp(found, path_in("b/tool")),
       "PATH passes over what cannot be executed");
    ok(pack_find("plain", "/", path, found) == -EACCES, "only one without x");
    ok(pack_find("absent", "/", path, found) == -ENOENT, "not in PATH");
    ok(pack_find("./tool", path_in("b"), "", found) == 0, "relative to the working directory");
    ok(pack_find("./absent", path_in("b"), path, found) == -ENOENT, "missing");
    ok(pack_find("", "/", path, found) == -ENOENT, "empty name");
}

static void test_pack(void)
{
    static char *argv[] = {(char *)"script", (char *)"a b", NULL};
    struct strv env = {0}, none = {0}, add = {0};
    struct modules modules = {0};
    struct vmm_error err = {{0}};
    struct pack_config cfg = {.argv = argv,
                              .cwd = dir,
                              .env = &env,
                              .add = &add,
                              .libs = &none,
                              .path = "/usr/bin:/bin",
                              .modules = &modules,
                              .init = "init!",
                              .init_size = 5};
    struct blob a = {0};
    struct entry e;
    char command[256];

    write_file("script", "#!/usr/bin/env -S VAR=1 sh -e\n", 30, 0755);
    mkdir(path_in("extra"), 0755);
    write_file("extra/one", "1", 1, 0644);
    symlink("gone", path_in("extra/dangling"));
    strcpy(command, path_in("script"));
    cfg.command = command;
    strv_add(&env, "A=b");
    strv_add(&add, "extra");
    is_u64(pack_build(&cfg, &a, &err), 0, "pack (%s)", err.text);
    ok(find_entry(&a, "init", &e) && e.size == 5 && e.mode == (S_IFREG | 0755), "init");
    ok(find_entry(&a, command + 1, &e), "the script");
    ok(find_entry(&a, "usr/bin/env", &e) && find_entry(&a, "usr/bin/sh", &e),
       "its interpreter, and env's");
    ok(find_entry(&a, path_in("extra/one") + 1, &e) &&
           find_entry(&a, path_in("extra/dangling") + 1, &e),
       "--add, with a link to nowhere");
    ok(find_entry(&a, "uvirt/config", &e) && memmem(e.data, e.size, "arg=a b", 8) &&
           memmem(e.data, e.size, "env=A=b", 8),
       "the configuration");
    ok(parents_first(&a), "directories first");
    blob_free(&a);
    write_file("script", "#!interpreter\n", 14, 0755);
    ok(pack_build(&cfg, &a, &err) == -ENOEXEC, "an interpreter without an absolute path");
    write_file("script", command, (size_t)sprintf(command, "#!%s\n", path_in("script")), 0755);
    strcpy(command, path_in("script"));
    ok(pack_build(&cfg, &a, &err) == -ELOOP, "a script that interprets itself");
    blob_free(&a);
    strv_free(&env);
    strv_free(&add);
}

int main(void)
{
    char command[300];

    if (!mkdtemp(dir))
        return tap_skip_all("no temporary directory");
    test_tree();
    test_elfdeps("/bin/ls");
    test_elfdeps("/usr/bin/env");
    test_elf_needs_bounds("/bin/ls");
    test_modules();
    test_find();
    test_pack();
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    if (system(command))
        printf("# %s is left\n", dir);
    return tap_done();
}
