// SPDX-License-Identifier: MIT
// The runtime directory and the sockets in it.
#include "cli/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".sock"

static int fail(char why[256], int rc, const char *what, const char *path)
{
    snprintf(why, 256, "%.180s: %s", path, what);
    return rc;
}

/* Nobody else may put sockets there: /tmp is everybody's. */
static int check_dir(const char *path, char why[256])
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return fail(why, -errno, strerror(errno), path);
    if (!S_ISDIR(st.st_mode))
        return fail(why, -ENOTDIR, "it is not a directory", path);
    if (st.st_uid != geteuid() || (st.st_mode & 0077))
        return fail(why, -EPERM, "it must belong to this user, with mode 0700", path);
    return 0;
}

int runtime_dir(bool create, char path[PATH_MAX], char why[256])
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");

    if (xdg && xdg[0] == '/' && strlen(xdg) < PATH_MAX - 16)
        snprintf(path, PATH_MAX, "%s/uvirt", xdg);
    else
        snprintf(path, PATH_MAX, "/tmp/uvirt-%u", (unsigned)geteuid());
    if (create && mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail(why, -errno, strerror(errno), path);
    return check_dir(path, why);
}

bool runtime_id_ok(const char *id)
{
    size_t len = strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");

    return len && !id[len] && len <= RUNTIME_ID_MAX && id[0] != '.' && id[0] != '-';
}

/* DIR/ID(suffix) as an address; false if it is too long for one. */
static bool address(const char *dir, const char *id, const char *suffix, struct sockaddr_un *sa)
{
    int n;

    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    n = snprintf(sa->sun_path, sizeof(sa->sun_path), "%s/%s%s", dir, id, suffix);
    return n > 0 && (size_t)n < sizeof(sa->sun_path);
}

static int connect_in(const char *dir, const char *id)
{
    struct sockaddr_un sa;
    int fd, rc;

    if (!address(dir, id, SUFFIX, &sa))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        return fd;
    rc = -errno;
    close(fd);
    return rc;
}

int runtime_connect(const char *id)
{
    char dir[PATH_MAX], why[256];
    int rc = runtime_dir(false, dir, why);

    return rc ? rc : connect_in(dir, id);
}

/* Only one at a time changes the directory. The descriptor to close, or -errno. */
static int lock_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd >= 0)
        flock(fd, LOCK_EX);
    return fd < 0 ? -errno : fd;
}

/* A socket appears under its name only when it listens, so that one which refuses is one whose VM is gone. */
static int listen_as(const char *dir, const char *id, char path[PATH_MAX])
{
    struct sockaddr_un fresh, final;
    int fd, rc;

    if (!address(dir, id, ".new", &fresh) || !address(dir, id, SUFFIX, &final))
        return -ENAMETOOLONG;
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(fresh.sun_path);
    if (bind(fd, (struct sockaddr *)&fresh, sizeof(fresh)) == 0 && listen(fd, 8) == 0) {
        rc = connect_in(dir, id);
        if (rc >= 0) {
            close(rc);
            rc = -EEXIST;
        } else {
            rc = rename(fresh.sun_path, final.sun_path) ? -errno : 0;
        }
    } else {
        rc = -errno;
    }
    unlink(fresh.sun_path);
    if (rc) {
        close(fd);
        return rc;
    }
    snprintf(path, PATH_MAX, "%s", final.sun_path);
    return fd;
}

int runtime_listen(const char *id, char path[PATH_MAX], char why[256])
{
    char dir[PATH_MAX], number[16];
    int rc = runtime_dir(true, dir, why), lock;

    if (rc)
        return rc;
    snprintf(number, sizeof(number), "%u", (unsigned)getpid());
    lock = lock_dir(dir);
    rc = lock < 0 ? lock : listen_as(dir, id ? id : number, path);
    if (lock >= 0)
        close(lock);
    if (rc == -EEXIST)
        return fail(why, rc, "a VM with this ID runs already", id ? id : number);
    return rc < 0 ? fail(why, rc, strerror(-rc), dir) : rc;
}

/* The ID in (name) = ID.sock. */
static bool id_of(const char *name, char id[RUNTIME_ID_MAX + 1])
{
    size_t len = strlen(name), suffix = strlen(SUFFIX);

    if (len <= suffix || len - suffix > RUNTIME_ID_MAX || strcmp(name + len - suffix, SUFFIX))
        return false;
    memcpy(id, name, len - suffix);
    id[len - suffix] = 0;
    return runtime_id_ok(id);
}

int runtime_each(void (*each)(void *opaque, const char *id), void *opaque)
{
    char dir[PATH_MAX], why[256], id[RUNTIME_ID_MAX + 1];
    struct dirent **names;
    int rc = runtime_dir(false, dir, why), n;

    if (rc)
        return rc;
    n = scandir(dir, &names, NULL, versionsort);
    if (n < 0)
        return -errno;
    for (int i = 0; i < n; i++) {
        if (id_of(names[i]->d_name, id))
            each(opaque, id);
        free(names[i]);
    }
    free(names);
    return 0;
}

void runtime_forget(const char *id)
{
    char dir[PATH_MAX], why[256];
    struct sockaddr_un sa;
    int lock, fd;

    if (runtime_dir(false, dir, why) || !address(dir, id, SUFFIX, &sa))
        return;
    lock = lock_dir(dir);
    fd = connect_in(dir, id); /* another may have taken its place */
    if (fd == -ECONNREFUSED)
        unlink(sa.sun_path);
    if (fd >= 0)
        close(fd);
    if (lock >= 0)
        close(lock);
}

/* --- messages --- */

union control_buffer {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

int runtime_send(int conn, int fd, const char *fmt, ...)
{
    char text[RUNTIME_MESSAGE_MAX];
    struct iovec v = {.iov_base = text};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    union control_buffer c = {.bytes = {0}};
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(text))
        return -EMSGSIZE;
    v.iov_len = (size_t)n;
    if (fd >= 0) {
        struct cmsghdr *h;

        m.msg_control = c.bytes;
        m.msg_controllen = sizeof(c.bytes);
        h = CMSG_FIRSTHDR(&m);
        *h = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fd))};
        memcpy(CMSG_DATA(h), &fd, sizeof(fd));
    }
    return sendmsg(conn, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int taken_fd(struct msghdr *m)
{
    int fd = -1;

    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
        if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
            h->cmsg_len == CMSG_LEN(sizeof(fd)))
            memcpy(&fd, CMSG_DATA(h), sizeof(fd));
    return fd;
}

int runtime_receive(int conn, int ms, char text[RUNTIME_MESSAGE_MAX], int *fd)
{
    struct pollfd p = {.fd = conn, .events = POLLIN};
    struct iovec v = {.iov_base = text, .iov_len = RUNTIME_MESSAGE_MAX - 1};
    union control_buffer c;
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = c.bytes, .msg_controllen = sizeof(c.bytes)};
    ssize_t n;
    int came, rc;

    do
        rc = poll(&p, 1, ms);
    while (rc < 0 && errno == EINTR);
    if (rc <= 0)
        return rc ? -errno : -ETIMEDOUT;
    n = recvmsg(conn, &m, MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -errno;
    text[n] = 0;
    came = taken_fd(&m);
    if (fd)
        *fd = came;
    else if (came >= 0)
        close(came);
    return (int)n;
}
