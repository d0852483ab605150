// SPDX-License-Identifier: MIT
// The first process of a `uvirt run -- COMMAND` guest: runs the command, carries its streams, reports its end.

/*
 * Theory of operation
 *
 * Start: mount what programs expect, load the modules that the packer put into /uvirt/modules,
 * find the four ports of src/vmm/control.h, read /uvirt/config (src/vmm/initramfs/pack.h), start
 * the command in its own session on a pty or on pipes.
 *
 * Then one poll() loop moves bytes. A stream is a source, a sink and a buffer: the source is read
 * only while the buffer is empty, so whoever is slow slows down the other side. When the command
 * has ended, what it left in pipes or pty is still sent, then CONTROL_EXITED, and the host pulls
 * the plug. Processes that the command left behind do not delay that.
 */
#include "net.h"
#include "vmm/control.h"

#include <dirent.h>
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
#define STREAM_BYTES     32768
#define PORT_WAIT_MS     20000
#define UNPLUG_WAIT_S    5

/* --- messages and the end --- */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* To the console: the host shows it when the guest ends without having run the command. */
static void say(const char *fmt, ...)
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

static void fail(const char *what) __attribute__((noreturn));

static void fail(const char *what)
{
    say("%s: %s", what, strerror(errno));
    power_off();
}

static void sleep_ms(long ms)
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

/* --- ports --- */

enum { PORT_CONTROL, PORT_STDIN, PORT_STDOUT, PORT_STDERR, NR_PORTS };

static const char *const port_names[NR_PORTS] = {CONTROL_PORT, CONTROL_PORT_STDIN,
                                                 CONTROL_PORT_STDOUT, CONTROL_PORT_STDERR};
static int ports[NR_PORTS] = {-1, -1, -1, -1};

static void open_port(const char *device)
{
    char path[300], name[64] = "";
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", device);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    n = read(fd, name, sizeof(name) - 1);
    close(fd);
    if (n <= 0)
        return;
    name[strcspn(name, "\n")] = 0;
    for (unsigned i = 0; i < NR_PORTS; i++) {
        if (ports[i] >= 0 || strcmp(name, port_names[i]))
            continue;
        snprintf(path, sizeof(path), "/dev/%s", device);
        ports[i] = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    }
}

static bool open_ports(void)
{
    DIR *d = opendir("/sys/class/virtio-ports");
    struct dirent *e;

    if (!d)
        return false;
    while ((e = readdir(d)))
        if (e->d_name[0] != '.')
            open_port(e->d_name);
    closedir(d);
    for (unsigned i = 0; i < NR_PORTS; i++)
        if (ports[i] < 0)
            return false;
    return true;
}

static void wait_for_ports(void)
{
    for (unsigned ms = 0; ms < PORT_WAIT_MS; ms += 2) {
        if (open_ports())
            return;
        sleep_ms(2);
    }
    errno = ENODEV;
    fail("the virtio-console ports (modules virtio_mmio and virtio_console)");
}

/* Blocks until all is sent; the host reads this port promptly. */
static void tell_host(uint32_t type, uint32_t a)
{
    struct control_message m = {.type = type, .a = a};
    size_t done = 0;

    while (done < sizeof(m)) {
        ssize_t n = write(ports[PORT_CONTROL], (char *)&m + done, sizeof(m) - done);
        struct pollfd p = {.fd = ports[PORT_CONTROL], .events = POLLOUT};

        if (n > 0)
            done += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            poll(&p, 1, -1);
        else if (n < 0 && errno != EINTR)
            fail("control port");
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

struct stream {
    int from, to; /* -1: this end is closed */
    size_t start, end;
    char buf[STREAM_BYTES];
    bool owned_from, owned_to; /* close them when done; ports stay open */
};

static struct stream streams[3]; /* stdin, stdout, stderr of the command */
static int pty = -1;

static void close_end(int *fd, bool owned)
{
    if (*fd >= 0 && owned)
        close(*fd);
    *fd = -1;
}

static bool stream_has(const struct stream *s)
{
    return s->start < s->end;
}

/* Read once if there is room. True if something came. */
static bool stream_fill(struct stream *s)
{
    ssize_t n;

    if (s->from < 0 || stream_has(s))
        return false;
    n = read(s->from, s->buf, sizeof(s->buf));
    if (n > 0) {
        s->start = 0;
        s->end = (size_t)n;
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) /* a pty says EIO at its end */
        close_end(&s->from, s->owned_from);
    return false;
}

/* Write once. */
static void stream_drain(struct stream *s)
{
    ssize_t n;

    if (s->to >= 0 && stream_has(s)) {
        n = write(s->to, s->buf + s->start, s->end - s->start);
        if (n > 0)
            s->start += (size_t)n;
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            close_end(&s->to, s->owned_to);
    }
    if (s->to < 0) { /* nobody will read it: the source must learn of it */
        s->start = s->end;
        close_end(&s->from, s->owned_from);
    }
    if (s->from < 0 && !stream_has(s))
        close_end(&s->to, s->owned_to);
}

/* Send all that the command wrote before it ended. */
static void stream_finish(struct stream *s)
{
    do {
        for (stream_drain(s); stream_has(s); stream_drain(s)) {
            struct pollfd p = {.fd = s->to, .events = POLLOUT};

            poll(&p, 1, -1);
        }
    } while (stream_fill(s));
}

/* --- the command --- */

static void use_pipe(struct stream *s, int port, bool input, int *child_fd)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        fail("pipe");
    *child_fd = p[input ? 0 : 1];
    s->from = input ? port : p[0];
    s->to = input ? p[1] : port;
    s->owned_from = !input;
    s->owned_to = input;
    fcntl(p[input ? 1 : 0], F_SETFL, O_NONBLOCK);
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
    for (unsigned i = 0; i < 3; i++) {
        streams[i].from = streams[i].to = -1;
        child[i] = -1;
    }
    if (config.tty) {
        child[0] = child[1] = open_pty();
        streams[0] = (struct stream){.from = ports[PORT_STDIN], .to = pty};
        streams[1] = (struct stream){.from = pty, .to = ports[PORT_STDOUT]};
        if (config.errtty)
            child[2] = child[0];
    } else {
        use_pipe(&streams[0], ports[PORT_STDIN], true, &child[0]);
        use_pipe(&streams[1], ports[PORT_STDOUT], false, &child[1]);
    }
    if (child[2] < 0)
        use_pipe(&streams[2], ports[PORT_STDERR], false, &child[2]);
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
        sleep(UNPLUG_WAIT_S);
        power_off();
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
        break;
    case CONTROL_WINSIZE:
        if (pty >= 0)
            ioctl(pty, TIOCSWINSZ, &size);
        break;
    case CONTROL_HANGUP:
        if ((m->a == 1 || m->a == 2) && streams[m->a].owned_from) {
            close_end(&streams[m->a].from, true);
            streams[m->a].start = streams[m->a].end;
        }
        break;
    default:
        break;
    }
}

static void read_control(pid_t command)
{
    static union {
        struct control_message m;
        char bytes[sizeof(struct control_message)];
    } in;
    static size_t have;
    ssize_t n = read(ports[PORT_CONTROL], in.bytes + have, sizeof(in) - have);

    if (n <= 0)
        return;
    have += (size_t)n;
    if (have == sizeof(in)) {
        have = 0;
        obey(&in.m, command);
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
    uint32_t status = 0;

    for (;;) {
        struct pollfd p[8] = {{.fd = children, .events = POLLIN},
                              {.fd = ports[PORT_CONTROL], .events = POLLIN}};

        for (unsigned i = 0; i < 3; i++) {
            struct stream *s = &streams[i];

            p[2 + 2 * i] = (struct pollfd){.fd = stream_has(s) ? -1 : s->from, .events = POLLIN};
            p[3 + 2 * i] = (struct pollfd){.fd = stream_has(s) ? s->to : -1, .events = POLLOUT};
        }
        poll(p, 8, -1);
        if (p[1].revents)
            read_control(command);
        for (unsigned i = 0; i < 3; i++) {
            if (p[2 + 2 * i].revents)
                stream_fill(&streams[i]);
            stream_drain(&streams[i]);
        }
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
    wait_for_ports();
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
    stream_finish(&streams[1]);
    stream_finish(&streams[2]);
    sync();
    tell_host(CONTROL_EXITED, status);
    sleep(UNPLUG_WAIT_S);
    power_off();
}
