// SPDX-License-Identifier: MIT
// What the command line adds to a VM's snapshot: how the VM was built, and its session.
#include "cli/run_vm.h"
#include "vmm/snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

int run_disk_look(const char *path, struct run_config_disk *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;
    struct stat st;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        rc = -errno;
    ret->size = (u64)st.st_size;
    if (rc == 0 && S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &ret->size))
        rc = -errno;
    ret->written_ns = (s64)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    close(fd);
    return rc;
}

/* Append "(name)=(value)". 0 or -ENOMEM. */
static int add_option(struct run_config *c, const char *name, const char *value)
{
    return c->nr_options < RUN_CONFIG_OPTIONS_MAX &&
                   asprintf(&c->options[c->nr_options], "%s=%s", name, value) >= 0
               ? (c->nr_options++, 0)
               : -ENOMEM;
}

static int add_disks(const struct run *r, struct run_config *c, struct vmm_error *err)
{
    int rc = 0;

    for (unsigned i = 0; i < r->o.nr_disks && rc == 0; i++) {
        char full[PATH_MAX], value[PATH_MAX + 4];

        if (!realpath(r->o.disks[i].path, full) || run_disk_look(full, &c->disks[i]))
            return vmm_fail(err, -errno, "--disk %s: %s", r->o.disks[i].path, strerror(errno));
        c->disks[i].readonly = r->o.disks[i].readonly;
        c->nr_disks = i + 1;
        snprintf(value, sizeof(value), "%s%s", full, r->o.disks[i].readonly ? ",ro" : "");
        rc = add_option(c, "disk", value);
    }
    return rc;
}

static int make_config(const struct run *r, struct run_config *c, struct vmm_error *err)
{
    int rc;

    *c = (struct run_config){.command = r->o.command != NULL, .tty = r->tty, .errtty = r->errtty};
    c->name = strdup(r->o.command ? r->o.command[0] : r->kernel_path);
    c->engine = strdup(r->be->name);
    c->options = calloc(RUN_CONFIG_OPTIONS_MAX, sizeof(*c->options));
    if (!c->name || !c->engine || !c->options)
        return vmm_fail(err, -ENOMEM, "out of memory");
    rc = add_disks(r, c, err);
    for (size_t i = 0; i + 1 < r->o.devices.n && rc == 0; i += 2)
        rc = add_option(c, r->o.devices.s[i], r->o.devices.s[i + 1]);
    return rc == -ENOMEM ? vmm_fail(err, rc, "out of memory") : rc;
}

static int save_config(struct run *r, struct snapshot_writer *w, struct vmm_error *err)
{
    struct state s = state_saver();
    struct run_config c;
    int rc = make_config(r, &c, err);

    if (rc == 0) {
        run_config_state(&c, &s);
        rc = snapshot_write_state(w, SNAPSHOT_CONFIG, 0, &s, err);
    }
    run_config_free(&c);
    return rc;
}

/* --- all of it --- */

static int save_session(struct run *r, struct snapshot_writer *w, struct vmm_error *err)
{
    struct state s = state_saver();

    session_state(r->session, &s);
    return snapshot_write_state(w, SNAPSHOT_SESSION, 0, &s, err);
}

int run_snapshot_save(struct run *r, int fd, bool compress, struct vmm_error *err)
{
    struct snapshot_options o = {.compress = compress};
    pthread_mutex_t *lock = &vm_board(r->vm)->lock;
    struct snapshot_writer w;
    int rc = vm_pause(r->vm, err);

    if (rc)
        return rc;
    pthread_mutex_lock(lock);
    rc = snapshot_write_begin(&w, fd, err);
    if (rc == 0)
        rc = save_config(r, &w, err);
    if (rc == 0)
        rc = save_session(r, &w, err);
    if (rc == 0)
        rc = snapshot_save_vm(r->vm, &o, &w, err);
    if (rc == 0)
        rc = snapshot_write_end(&w, err);
    pthread_mutex_unlock(lock);
    if (rc)
        vm_resume(r->vm);
    return rc;
}
