// SPDX-License-Identifier: MIT
// /sys/module/kvm* as KVM clients see it: the parameters that they look at, and no vendor module.

#include "base/types.h"
#include "preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODULE "/sys/module/kvm"
#define PARAMETERS MODULE "/parameters/"

/* Parameters of kvm.ko (Documentation/admin-guide/kernel-parameters.txt, kvm.*) with the values that describe us. */
static const struct {
    const char *name, *value;
} parameters[] = {
    {"eager_page_split", "N\n"},
    {"enable_pmu", "N\n"},
    {"enable_vmware_backdoor", "N\n"},
    {"flush_on_reuse", "N\n"},
    {"force_emulation_prefix", "0\n"},
    {"ignore_msrs", "N\n"},
    {"kvmclock_periodic_sync", "Y\n"},
    {"mitigate_smt_rsb", "N\n"},
    {"nx_huge_pages", "never\n"},
    {"report_ignored_msrs", "Y\n"},
    {"tdp_mmu", "N\n"},
};

static const char *contents(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(parameters); i++) {
        if (!strcmp(path + strlen(PARAMETERS), parameters[i].name))
            return parameters[i].value;
    }
    return NULL;
}

bool preload_sysfs_find(const char *path, bool *present)
{
    size_t n = strlen(MODULE);

    if (strncmp(path, MODULE, n) || (path[n] && path[n] != '/' && path[n] != '_'))
        return false;
    *present = !strncmp(path, PARAMETERS, strlen(PARAMETERS)) ? contents(path) != NULL
                                                              : path[n] != '_';
    return true;
}

bool preload_sysfs_open(const char *path, int flags, int *fd)
{
    const char *text;
    bool present;
    int m;

    if (!preload_sysfs_find(path, &present))
        return false;
    *fd = -1;
    errno = ENOENT;
    if (!present)
        return true;
    if (strncmp(path, PARAMETERS, strlen(PARAMETERS)) || !(text = contents(path)))
        return false; /* directories: whatever the host has */
    if ((flags & O_ACCMODE) != O_RDONLY) {
        errno = EACCES;
        return true;
    }
    m = memfd_create("kvm-parameter", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    if (m >= 0 && (write(m, text, strlen(text)) < 0 || lseek(m, 0, SEEK_SET) < 0)) {
        close(m);
        m = -1;
    }
    *fd = m;
    return true;
}
