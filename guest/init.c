// SPDX-License-Identifier: MIT
// The first process of a `uvirt run -- COMMAND` guest: runs the command, carries its streams, reports its end.

/*
 * Theory of operation
 *
 * Start: mount what programs expect, load the modules that the packer put into /uvirt/modules,
 * connect to the host (link.h), read /uvirt/config (src/vmm/initramfs/pack.h), start
 * the command in its own session on a pty or on pipes.
 *
 * Then one poll() loop moves bytes between those and the flows of a channel (vmm/channel.h): a pipe is
 * read only while its flow has room, so whoever is slow slows down the other side. When the command
 * has ended, what it left in pipes or pty is still sent, then CONTROL_EXITED, and the host pulls
 * the plug. Processes that the command left behind do not delay that.
 */
#include "init.h"
#include "link.h"
#include "net.h"
#include "vmm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONFIG_BYTES_MAX (4u << 20)
#define UNPLUG_WAIT_MS   5000

/* --- messages and the end --- */

void say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    dprintf(2, "uvirt init: ");
    vdprintf(2, fmt, ap);
    dprintf(2, "\n");
    va_end(ap);
}

static void power_off(void) __attribute__((noreturn));

static void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

void fail(const char *what)
{
    say("%s: %s", what, strerror(errno));
    power_off();
}

void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

/* --- the system around the command --- */

static const struct mount_row {
    const char *type, *dir, *data;
    unsigned long flags;
} mounts[] = {
    {"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
    {"devtmpfs", "/dev", "mode=0755", MS_NOSUID},
    {"devpts", "/dev/pts", "mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV},
};

static void mount_all(void)
{
    for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
        const struct mount_row *m = &mounts[i];

        mkdir(m->dir, 0755);
        if (mount(m->type, m->dir, m->type, m->flags, m->data) < 0)
            say("mount %s: %s", m->dir, strerror(errno));
    }
    if (symlink("/proc/self/fd", "/dev/fd") < 0 || symlink("fd/0", "/dev/stdin") < 0 ||
        symlink("fd/1", "/dev/stdout") < 0 || symlink("fd/2", "/dev/stderr") < 0)
        say("links in /dev: %s", strerror(errno));
}

static void load_modules(void)
{
    char path[64];

    for (unsigned i = 0; i < 100; i++) {
        int fd;

        snprintf(path, sizeof(path), "/uvirt/modules/%02u.ko", i);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return;
        if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)
            say("%s: %s", path, strerror(errno));
        close(fd);
        unlink(path);
    }
}

/* --- configuration --- */

static struct {
    const char *exec, *cwd;
    char **argv, **envp;
    size_t argc, envc;
    bool tty, errtty, net;
    struct winsize size;
} config;

static void append(char ***list, size_t *n, char *s)
{
    char **more = realloc(*list, (*n + 2) * sizeof(*more));

    if (!more)
        fail("memory");
    more[(*n)++] = s;
    more[*n] = NULL;
    *list = more;
}

static void set_option(char *key, char *value)
{
    if (!strcmp(key, "exec"))
        config.exec = value;
    else if (!strcmp(key, "cwd"))
        config.cwd = value;
    else if (!strcmp(key, "arg"))
        append(&config.argv, &config.argc, value);
    else if (!strcmp(key, "env"))
        append(&config.envp, &config.envc, value);
    else if (!strcmp(key, "tty"))
        config.tty = true;
    else if (!strcmp(key, "errtty"))
        config.errtty = true;
    else if (!strcmp(key, "net"))
        config.net = true;
    else if (!strcmp(key, "cols"))
        config.size.ws_col = (unsigned short)atoi(value);
    else if (!strcmp(key, "rows"))
        config.size.ws_row = (unsigned short)atoi(value);
}

static void read_config(void)
{
    int fd = open("/uvirt/config", O_RDONLY | O_CLOEXEC);
    char *text;
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > CONFIG_BYTES_MAX)
        fail("/uvirt/config");
    text = calloc(1, (size_t)st.st_size + 1);
    if (!text)
        fail("memory");
    n = read(fd, text, (size_t)st.st_size);
    close(fd);
    for (char *p = text; n > 0 && p < text + n; p += strlen(p) + 1) {
        char *value = strchr(p, '=');

        if (!value)
            continue;
        *value++ = 0;
        set_option(p, value);
        p = value;
    }
    if (!config.exec || !config.argc) {
        errno = EINVAL;
        fail("/uvirt/config");
    }
    if (!config.envp)
        append(&config.envp, &config.envc, NULL);
}

static void enter_directory(void)
{
    char path[4096];

    if (!config.cwd || strlen(config.cwd) >= sizeof(path))
        return;
    for (const char *p = strchr(config.cwd + 1, '/');; p = strchr(p + 1, '/')) {
        size_t len = p ? (size_t)(p - config.cwd) : strlen(config.cwd);

        memcpy(path, config.cwd, len);
        path[len] = 0;
        mkdir(path, 0755);
        if (!p)
            break;
    }
    if (chdir(config.cwd) < 0)
        say("%s: %s", config.cwd, strerror(errno));
}

/* --- streams --- */

static struct channel channel;

/* The command's stdin, and where its stdout and stderr come from; -1: none, or not any more. */
static struct stream {
    enum channel_flow flow;
    int fd;
    bool shared; /* the pty, which is nobody's to close */
} streams[3] = {
    {CHANNEL_STDIN, -1, false}, {CHANNEL_STDOUT, -1, false}, {CHANNEL_STDERR, -1, false}};
static int pty = -1;

static void stream_close(struct stream *s)
{
    if (s->fd >= 0 && !s->shared)
        close(s->fd);
    s->fd = -1;
}

/* Give the command what has come for it. True if it took something. */
static bool feed(struct stream *s)
{
    const void *p;
    size_t len = channel_data(&channel, s->flow, &p);
    ssize_t n = 0;

    if (s->fd >= 0 && len) {
        n = write(s->fd, p, len);
        if (n > 0)
            channel_take(&channel, s->flow, (size_t)n);
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            stream_close(s);
    }
    if (s->fd < 0 && !channel_over(&channel, s->flow))
        channel_close(&channel, s->flow);
    if (channel_over(&channel, s->flow))
        stream_close(s);
    return n > 0;
}

static bool has_room(const struct stream *s)
{
    void *p;

    return s->fd >= 0 && channel_room(&channel, s->flow, &p);
}

/* Read once what the command wrote, if there is room. True if something came. */
static bool collect(struct stream *s)
{
    void *p;
    size_t room = channel_room(&channel, s->flow, &p);
    ssize_t n;

    if (channel_deaf(&channel, s->flow) && !s->shared)
        stream_close(s); /* nobody will read it: the command must learn of it */
    if (s->fd < 0 || !room)
        return false;
    n = read(s->fd, p, room);
    if (n > 0)
        channel_put(&channel, s->flow, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) /* a pty says EIO at its end */
        stream_close(s);
    return n > 0;
}

/* Send all that the command wrote before it ended. */
static void finish(struct stream *s)
{
    for (;;) {
        struct pollfd p = {.fd = link_fd(), .events = POLLIN};

        if (!collect(s) && (s->fd < 0 || has_room(s)))
            break;
        if (!has_room(s))
            poll(&p, 1, -1);
        link_exchange(&channel);
    }
    channel_end(&channel, s->flow);
}

static void tell_host(uint32_t type, uint32_t a)
{
    struct control_message m = {.type = type, .a = a};

    channel_write(&channel, CHANNEL_CONTROL, &m, sizeof(m));
}

/* Everything is said: the host pulls the plug once it has heard it all. */
static void wait_for_the_end(void) __attribute__((noreturn));

static void wait_for_the_end(void)
{
    struct pollfd p;

    do {
        link_exchange(&channel);
        p = (struct pollfd){.fd = link_fd(), .events = POLLIN};
    } while (poll(&p, 1, channel_all_sent(&channel) ? UNPLUG_WAIT_MS : -1));
    power_off();
}

/* --- the command --- */

static void use_pipe(struct stream *s, bool input, int *child_fd)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        fail("pipe");
    *child_fd = p[input ? 0 : 1];
    s->fd = p[input ? 1 : 0];
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    fcntl(s->fd, F_SETPIPE_SZ, CHANNEL_WINDOW); /* so that a record is as large as it may be */
}

static int open_pty(void)
{
    int n, unlock = 0, slave;
    char path[32];

    pty = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (pty < 0 || ioctl(pty, TIOCSPTLCK, &unlock) < 0 || ioctl(pty, TIOCGPTN, &n) < 0)
        fail("pty");
    snprintf(path, sizeof(path), "/dev/pts/%d", n);
    slave = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        fail(path);
    if (config.size.ws_col)
        ioctl(pty, TIOCSWINSZ, &config.size);
    return slave;
}

static void connect_streams(int child[3])
{
    child[2] = -1;
    if (config.tty) {
        child[0] = child[1] = open_pty();
        for (unsigned i = 0; i < 2; i++) {
            streams[i].fd = pty;
            streams[i].shared = true;
        }
        if (config.errtty)
            child[2] = child[0];
    } else {
        use_pipe(&streams[0], true, &child[0]);
        use_pipe(&streams[1], false, &child[1]);
    }
    if (child[2] < 0)
        use_pipe(&streams[2], false, &child[2]);
}

static void run_child(const int child[3], int report) __attribute__((noreturn));

static void run_child(const int child[3], int report)
{
    sigset_t none;
    int e;

    setsid();
    if (config.tty)
        ioctl(child[0], TIOCSCTTY, 0);
    for (int i = 0; i < 3; i++)
        dup2(child[i], i);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execve(config.exec, config.argv, config.envp);
    e = errno;
    if (write(report, &e, sizeof(e)) < 0)
        _exit(126);
    _exit(127);
}

static pid_t start_command(void)
{
    int child[3], report[2], e = 0;
    pid_t pid;

    connect_streams(child);
    if (pipe2(report, O_CLOEXEC) < 0)
        fail("pipe");
    pid = fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0)
        run_child(child, report[1]);
    close(report[1]);
    for (int i = 0; i < 3; i++)
        if (i == 0 || child[i] != child[0])
            close(child[i]);
    if (read(report[0], &e, sizeof(e)) > 0) {
        tell_host(CONTROL_FAILED, (uint32_t)e);
        wait_for_the_end();
    }
    close(report[0]);
    return pid;
}

/* --- the loop --- */

static void obey(const struct control_message *m, pid_t command)
{
    struct winsize size = {.ws_col = (unsigned short)m->a, .ws_row = (unsigned short)m->b};

    switch (m->type) {
    case CONTROL_SIGNAL:
        kill(-command, (int)m->a);
        tell_host(CONTROL_SIGNALLED, m->a);
        break;
    case CONTROL_WINSIZE:
        if (pty >= 0)
            ioctl(pty, TIOCSWINSZ, &size);
        break;
    default:
        break;
    }
}

/* Reap everybody. True, with the status as a shell has it, once the command is among them. */
static bool reap(pid_t command, uint32_t *status)
{
    bool ended = false;
    int st;
    pid_t pid;

    while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
        if (pid != command)
            continue;
        *status = WIFSIGNALED(st) ? 128u + (uint32_t)WTERMSIG(st) : (uint32_t)WEXITSTATUS(st);
        ended = true;
    }
    return ended;
}

static uint32_t carry(pid_t command, int children)
{
    struct signalfd_siginfo info;
    struct control_message m;
    uint32_t status = 0;
    const void *data;

    for (;;) {
        struct pollfd p[5] = {{.fd = children, .events = POLLIN},
                              {.fd = -1, .events = POLLIN},
                              {.fd = -1, .events = POLLOUT}};

        do {
            link_exchange(&channel);
            while (channel_read(&channel, CHANNEL_CONTROL, &m, sizeof(m)))
                obey(&m, command);
        } while (feed(&streams[0])); /* the host hears of it */
        p[1].fd = link_fd();
        if (channel_data(&channel, CHANNEL_STDIN, &data))
            p[2].fd = streams[0].fd;
        for (unsigned i = 1; i < 3; i++)
            p[2 + i] =
                (struct pollfd){.fd = has_room(&streams[i]) ? streams[i].fd : -1, .events = POLLIN};
        poll(p, 5, -1);
        for (unsigned i = 1; i < 3; i++)
            if (p[2 + i].revents || channel_deaf(&channel, streams[i].flow))
                collect(&streams[i]);
        if (p[0].revents && read(children, &info, sizeof(info)) > 0 && reap(command, &status))
            return status;
    }
}

static void networks(void)
{
    const char *failed;

    net_loopback_up();
    failed = config.net ? net_user_up() : NULL;
    if (failed)
        say("%s: %s", failed, strerror(errno));
}

int main(void)
{
    sigset_t set;
    uint32_t status;
    pid_t command;
    int children;

    mount_all();
    load_modules();
    read_config();
    networks();
    if (sethostname("uvirt", 5) < 0)
        say("sethostname: %s", strerror(errno));
    link_open(&channel);
    enter_directory();
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    children = signalfd(-1, &set, SFD_CLOEXEC);
    if (children < 0)
        fail("signalfd");
    command = start_command();
    tell_host(CONTROL_STARTED, 0);
    status = carry(command, children);
    finish(&streams[1]);
    finish(&streams[2]);
    sync();
    tell_host(CONTROL_EXITED, status);
    wait_for_the_end();
}
