// SPDX-License-Identifier: MIT
// /sys/module/kvm* as KVM clients see it: the parameters that they look at, and no vendor module.

#include "base/types.h"
#include "preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MODULE     "/sys/module/kvm"
#define PARAMETERS MODULE "/parameters/"

/*
 * Parameters of kvm.ko (Documentation/admin-guide/kernel-parameters.txt, kvm.*) with the values that describe us. There
 * is no vendor module, but a client that looks at its parameters because of the host's vendor finds those it looks at.
 */
static const struct preload_file files[] = {
    {PARAMETERS "eager_page_split", "N\n"},
    {PARAMETERS "enable_pmu", "N\n"},
    {PARAMETERS "enable_vmware_backdoor", "N\n"},
    {PARAMETERS "flush_on_reuse", "N\n"},
    {PARAMETERS "force_emulation_prefix", "0\n"},
    {PARAMETERS "ignore_msrs", "N\n"},
    {PARAMETERS "kvmclock_periodic_sync", "Y\n"},
    {PARAMETERS "mitigate_smt_rsb", "N\n"},
    {PARAMETERS "nx_huge_pages", "never\n"},
    {PARAMETERS "report_ignored_msrs", "Y\n"},
    {PARAMETERS "tdp_mmu", "N\n"},
    {MODULE "_amd/parameters/avic", "N\n"},
    {MODULE "_amd/parameters/npt", "Y\n"},
    {MODULE "_intel/parameters/ept", "Y\n"},
    {MODULE "_intel/parameters/unrestricted_guest", "Y\n"},
    /* The clock behind this KVM's clocks, whatever the host's own kernel keeps time with. */
    {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"},
};

static const char *contents(const char *path)
{
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        if (!strcmp(path, files[i].path))
            return files[i].text;
    }
    return NULL;
}

const struct preload_file *preload_sysfs_files(size_t *count)
{
    *count = ARRAY_SIZE(files);
    return files;
}

enum preload_kind preload_sysfs_kind(const char *path)
{
    size_t n = strlen(MODULE);

    if (contents(path))
        return PRELOAD_FILE;
    if (strncmp(path, MODULE, n) || (path[n] && path[n] != '/' && path[n] != '_'))
        return PRELOAD_NOT_OURS;
    if (!path[n] || !strcmp(path + n, "/") || !strcmp(path + n, "/parameters") ||
        !strcmp(path, PARAMETERS))
        return PRELOAD_DIRECTORY;
    return path[n] == '_' || !strncmp(path, PARAMETERS, strlen(PARAMETERS)) ? PRELOAD_ABSENT
                                                                            : PRELOAD_NOT_OURS;
}

bool preload_sysfs_open(const char *path, int flags, int *fd)
{
    enum preload_kind kind = preload_sysfs_kind(path);
    const char *text;
    int m;

    if (kind == PRELOAD_NOT_OURS || kind == PRELOAD_DIRECTORY)
        return false;
    *fd = -1;
    errno = ENOENT;
    if (kind == PRELOAD_ABSENT)
        return true;
    if ((flags & O_ACCMODE) != O_RDONLY) {
        errno = EACCES;
        return true;
    }
    text = contents(path);
    m = memfd_create(PRELOAD_FILE_NAME, flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
    if (m >= 0 && (write(m, text, strlen(text)) < 0 || lseek(m, 0, SEEK_SET) < 0)) {
        close(m);
        m = -1;
    }
    *fd = m;
    return true;
}
