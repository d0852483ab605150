// SPDX-License-Identifier: MIT
// Carries bytes between this process and the guest's command.

/*
 * Theory of operation
 *
 * The virtio-console has four ports (vmm/control.h). Its callbacks run in a vCPU's thread with the
 * device lock held: they only move bytes into buffers here and write (wake). The main thread sits
 * in poll(); it takes the device lock for every look at the buffers or call into the device, and
 * never while it reads or writes files. So a reader of stdout that stalls fills our buffer, then
 * the guest's ring, then blocks the command, and nothing else.
 *
 * The end: CONTROL_EXITED comes after all output was put into the rings. It counts once both
 * output buffers are empty and the rings do not wait for room.
 *
 * Signals are blocked in all threads and read from a signalfd. Before the command has started
 * they end uvirt. After that they go to the command; two SIGINT, SIGQUIT or SIGTERM within two seconds
 * end uvirt. In raw mode Ctrl-C is a byte for the command's terminal, and Ctrl-] three
 * times within a second ends uvirt.
 */
#include "cli/session.h"
#include "base/state.h"
#include "cli/term.h"
#include "virtio/console.h"
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { PORT_CONTROL, PORT_STDIN, PORT_STDOUT, PORT_STDERR, NR_PORTS };

#define OUT_BYTES        65536
#define IN_BYTES         16384
#define CONTROL_OUT_MAX  16
#define ESCAPE           0x1d /* Ctrl-] */
#define ESCAPES          3
#define SERIAL_RETRY_MS  2
#define DOUBLE_SIGNAL_NS 2000000000ull
#define ESCAPE_NS        1000000000ull

/* Bytes from the guest for (fd). */
struct out {
    struct session *s;
    int fd, port;
    size_t len;
    bool dead; /* nobody reads (fd): drop everything */
    u8 buf[OUT_BYTES];
};

struct session {
    struct session_config cfg;
    struct vm *vm;
    struct virtio_device *console;
    int wake, signals;
    struct out out[2];

    /* stdin */
    u8 in[IN_BYTES];
    size_t in_start, in_end;
    bool in_eof, in_closed;
    unsigned escapes;
    u64 escape_since;

    /* control */
    u8 from_guest[sizeof(struct control_message)];
    size_t from_guest_len;
    struct control_message to_guest[CONTROL_OUT_MAX];
    size_t to_guest_len; /* in bytes, from the start of (to_guest) */
    bool started, done;
    struct session_result result;

    int last_signal;
    u64 last_signal_ns;
    u64 end_ns; /* when session_stop() runs out of patience; 0: never */
};

static u64 now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

static void wake(struct session *s)
{
    u64 one = 1;
    ssize_t n = write(s->wake, &one, sizeof(one));

    (void)n; /* fails only when the counter is full, and then it is readable */
}

/* --- callbacks of the console: device lock held --- */

static void guest_says(struct session *s, const struct control_message *m)
{
    switch (m->type) {
    case CONTROL_STARTED:
        s->started = true;
        break;
    case CONTROL_EXITED:
        s->done = true;
        s->result = (struct session_result){SESSION_EXITED, (int)(m->a & 0xff)};
        break;
    case CONTROL_FAILED:
        s->done = true;
        s->result = (struct session_result){SESSION_CANNOT_EXEC, (int)(m->a & 0xfff)};
        break;
    default:
        break;
    }
}

static size_t control_output(void *opaque, const void *data, size_t len)
{
    struct session *s = opaque;
    const u8 *p = data;

    for (size_t i = 0; i < len; i++) {
        struct control_message m;

        s->from_guest[s->from_guest_len++] = p[i];
        if (s->from_guest_len < sizeof(m))
            continue;
        memcpy(&m, s->from_guest, sizeof(m));
        s->from_guest_len = 0;
        guest_says(s, &m);
    }
    wake(s);
    return len;
}

static size_t stream_output(void *opaque, const void *data, size_t len)
{
    struct out *o = opaque;
    size_t room = sizeof(o->buf) - o->len;

    if (o->dead)
        return len;
    if (len > room)
        len = room;
    memcpy(o->buf + o->len, data, len);
    o->len += len;
    wake(o->s);
    return len;
}

static void wake_session(void *opaque)
{
    wake(opaque);
}

static void wake_session_open(void *opaque, bool open)
{
    (void)open;
    wake(opaque);
}

static size_t discard_output(void *opaque, const void *data, size_t len)
{
    (void)opaque;
    (void)data;
    return len;
}

static const struct virtio_console_port_ops control_ops = {
    .output = control_output, .writable = wake_session, .guest_open = wake_session_open};
static const struct virtio_console_port_ops stdin_ops = {
    .output = discard_output, .writable = wake_session, .guest_open = wake_session_open};
static const struct virtio_console_port_ops stream_ops = {.output = stream_output};

/* --- creation --- */

static const int signals_taken[] = {SIGINT,   SIGTERM, SIGHUP,  SIGQUIT,
                                    SIGWINCH, SIGUSR1, SIGUSR2, SIGCONT};

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_SIZE(signals_taken); i++)
        sigaddset(&set, signals_taken[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int create_console(struct session *s)
{
    const struct virtio_console_port_config ports[NR_PORTS] = {
        [PORT_CONTROL] = {CONTROL_PORT, false, &control_ops, s},
        [PORT_STDIN] = {CONTROL_PORT_STDIN, false, &stdin_ops, s},
        [PORT_STDOUT] = {CONTROL_PORT_STDOUT, false, &stream_ops, &s->out[0]},
        [PORT_STDERR] = {CONTROL_PORT_STDERR, false, &stream_ops, &s->out[1]},
    };

    return virtio_console_create(ports, NR_PORTS, &s->console);
}

int session_create(const struct session_config *cfg, struct virtio_device **ret_console,
                   struct session **ret)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc = 0;

    if (!s)
        return -ENOMEM;
    s->cfg = *cfg;
    for (int i = 0; i < 2; i++) {
        s->out[i].s = s;
        s->out[i].fd = STDOUT_FILENO + i;
        s->out[i].port = PORT_STDOUT + i;
    }
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->signals = open_signals();
    if (s->wake < 0 || s->signals < 0)
        rc = -errno;
    if (rc == 0 && cfg->command)
        rc = create_console(s);
    if (rc) {
        session_free(s);
        return rc;
    }
    if (cfg->command)
        *ret_console = s->console;
    *ret = s;
    return 0;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    if (s->wake >= 0)
        close(s->wake);
    if (s->signals >= 0)
        close(s->signals);
    free(s);
}

/* --- towards the guest --- */

static void lock(struct session *s)
{
    pthread_mutex_lock(&vm_board(s->vm)->lock);
}

static void unlock(struct session *s)
{
    pthread_mutex_unlock(&vm_board(s->vm)->lock);
}

static void finish(struct session *s, int how, int status)
{
    s->done = true;
    s->result.how = how;
    s->result.status = status;
}

/* Device lock held. */
static void flush_control(struct session *s)
{
    size_t n;

    if (!s->to_guest_len || !virtio_console_guest_open(s->console, PORT_CONTROL))
        return;
    n = virtio_console_write(s->console, PORT_CONTROL, s->to_guest, s->to_guest_len);
    memmove(s->to_guest, (u8 *)s->to_guest + n, s->to_guest_len - n);
    s->to_guest_len -= n;
}

/* Device lock held. What does not fit is lost: the guest has stopped to listen. */
static void tell_guest(struct session *s, u32 type, u32 a, u32 b)
{
    struct control_message m = {type, a, b};

    if (!s->cfg.command || s->to_guest_len + sizeof(m) > sizeof(s->to_guest))
        return;
    memcpy((u8 *)s->to_guest + s->to_guest_len, &m, sizeof(m));
    s->to_guest_len += sizeof(m);
    flush_control(s);
}

/* Device lock held. */
static void flush_input(struct session *s)
{
    size_t len = s->in_end - s->in_start, n = 0;

    if (len && s->cfg.command)
        n = virtio_console_write(s->console, PORT_STDIN, s->in + s->in_start, len);
    else if (len)
        n = serial8250_input(&vm_board(s->vm)->com1, s->in + s->in_start, len);
    s->in_start += n;
    if (s->in_start == s->in_end && s->in_eof && !s->in_closed && s->cfg.command &&
        virtio_console_guest_open(s->console, PORT_STDIN)) {
        virtio_console_set_open(s->console, PORT_STDIN, false);
        s->in_closed = true;
    }
}

/* Ctrl-] three times within a second. */
static bool escaped(struct session *s, const u8 *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != ESCAPE) {
            s->escapes = 0;
            continue;
        }
        if (s->escapes == 0 || now_ns() - s->escape_since > ESCAPE_NS) {
            s->escapes = 0;
            s->escape_since = now_ns();
        }
        if (++s->escapes == ESCAPES)
            return true;
    }
    return false;
}

static void read_input(struct session *s)
{
    ssize_t n = read(STDIN_FILENO, s->in, sizeof(s->in));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    s->in_start = s->in_end = 0;
    if (n <= 0) {
        s->in_eof = true;
        return;
    }
    s->in_end = (size_t)n;
    if (s->cfg.tty && escaped(s, s->in, (size_t)n))
        finish(s, SESSION_SIGNAL, SIGINT);
}

/* --- from the guest --- */

static void hang_up(struct session *s, struct out *o)
{
    lock(s);
    o->dead = true;
    o->len = 0;
    tell_guest(s, CONTROL_HANGUP, (u32)(o->port - PORT_STDIN), 0);
    virtio_console_resume(s->console, (unsigned)o->port);
    unlock(s);
}

/* One write of what is there; at most PIPE_BUF bytes, which never block after POLLOUT. */
static void write_output(struct session *s, struct out *o)
{
    u8 piece[4096];
    size_t len;
    ssize_t n;

    lock(s);
    len = o->len < sizeof(piece) ? o->len : sizeof(piece);
    memcpy(piece, o->buf, len);
    unlock(s);
    if (!len)
        return;
    n = write(o->fd, piece, len);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < 0) {
        hang_up(s, o);
        return;
    }
    lock(s);
    memmove(o->buf, o->buf + n, o->len - (size_t)n);
    o->len -= (size_t)n;
    if (s->console && virtio_console_stalled(s->console, (unsigned)o->port))
        virtio_console_resume(s->console, (unsigned)o->port);
    unlock(s);
}

/* Device lock held. */
static bool output_pending(struct session *s)
{
    for (int i = 0; i < 2; i++)
        if (s->out[i].len ||
            (s->console && virtio_console_stalled(s->console, (unsigned)s->out[i].port)))
            return true;
    return false;
}

/* --- signals --- */

static void take_signal(struct session *s, int sig)
{
    unsigned short cols, rows;
    bool twice = sig == s->last_signal && now_ns() - s->last_signal_ns < DOUBLE_SIGNAL_NS;

    if (sig == SIGCONT) {
        if (s->cfg.tty && s->started)
            term_raw(STDIN_FILENO, false);
        return;
    }
    if (sig == SIGWINCH) {
        if (s->cfg.tty && term_size(STDOUT_FILENO, &cols, &rows))
            tell_guest(s, CONTROL_WINSIZE, cols, rows);
        return;
    }
    if (!s->cfg.command || !s->started ||
        (twice && (sig == SIGINT || sig == SIGTERM || sig == SIGQUIT))) {
        finish(s, SESSION_SIGNAL, sig);
        return;
    }
    s->last_signal = sig;
    s->last_signal_ns = now_ns();
    tell_guest(s, CONTROL_SIGNAL, (u32)sig, 0);
}

/* Device lock held. */
static void take_signals(struct session *s)
{
    struct signalfd_siginfo info;

    while (read(s->signals, &info, sizeof(info)) == sizeof(info))
        take_signal(s, (int)info.ssi_signo);
}

/* --- the loop --- */

enum { FD_WAKE, FD_END, FD_SIGNALS, FD_STDIN, FD_CONTROL, FD_OUT, NR_FDS = FD_OUT + 2 };

/* Device lock held. Is it time to read more of stdin? */
static bool wants_input(struct session *s)
{
    if (s->in_eof || s->in_start < s->in_end)
        return false;
    return s->cfg.command ? virtio_console_guest_open(s->console, PORT_STDIN) : s->cfg.serial_input;
}

static int ms_until(u64 ns)
{
    u64 now = now_ns();

    return ns <= now ? 0 : (int)((ns - now + 999999) / 1000000);
}

/* Device lock held. Returns poll()'s timeout. */
static int prepare(struct session *s, struct pollfd p[NR_FDS])
{
    bool pending = s->in_start < s->in_end;

    p[FD_WAKE] = (struct pollfd){.fd = s->wake, .events = POLLIN};
    p[FD_END] = (struct pollfd){.fd = vm_end_fd(s->vm), .events = POLLIN};
    p[FD_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    p[FD_STDIN] = (struct pollfd){.fd = wants_input(s) ? STDIN_FILENO : -1, .events = POLLIN};
    p[FD_CONTROL] =
        (struct pollfd){.fd = s->cfg.control ? s->cfg.control_fd : -1, .events = POLLIN};
    for (int i = 0; i < 2; i++)
        p[FD_OUT + i] = (struct pollfd){.fd = s->out[i].len ? s->out[i].fd : -1, .events = POLLOUT};
    if (!s->cfg.command && pending)
        return SERIAL_RETRY_MS;
    return s->end_ns ? ms_until(s->end_ns) : -1;
}

/* Device lock held. The guest's news since the last look. */
static void look(struct session *s, bool *raw)
{
    if (s->started && s->cfg.tty && !*raw) {
        *raw = true;
        term_raw(STDIN_FILENO, false);
    }
    if (s->cfg.command)
        flush_control(s);
    flush_input(s);
}

static void step(struct session *s, struct pollfd p[NR_FDS], int timeout)
{
    u64 count;

    if (poll(p, NR_FDS, timeout) < 0)
        return;
    if (p[FD_WAKE].revents && read(s->wake, &count, sizeof(count)) < 0)
        return;
    for (int i = 0; i < 2; i++)
        if (p[FD_OUT + i].revents)
            write_output(s, &s->out[i]);
    if (p[FD_STDIN].revents)
        read_input(s);
    if (p[FD_CONTROL].revents)
        s->cfg.control(s->cfg.control_opaque);
    if (s->end_ns && s->end_ns <= now_ns())
        session_stop(s, 0);
}

void session_stop(struct session *s, unsigned seconds)
{
    lock(s);
    if (!s->cfg.command || !s->started || !seconds) {
        finish(s, SESSION_SIGNAL, SIGTERM);
    } else {
        tell_guest(s, CONTROL_SIGNAL, SIGTERM, 0);
        s->end_ns = now_ns() + seconds * 1000000000ull;
    }
    unlock(s);
}

void session_suspend(struct session *s)
{
    lock(s);
    finish(s, SESSION_SUSPENDED, 0);
    unlock(s);
}

/* --- saved state --- */

/* (len) bytes from the start of a buffer of (room). */
static void buffer_state(struct state *st, const char *field, void *buf, size_t room, size_t *len)
{
    u32 n = (u32)*len;

    state_bytes(st, field, &n, sizeof(n));
    state_check(st, n <= room, field);
    state_bytes(st, field, buf, n);
    if (!st->error)
        *len = n;
}

static void out_state(struct out *o, struct state *st)
{
    STATE_BOOL(st, o->dead);
    buffer_state(st, "output", o->buf, sizeof(o->buf), &o->len);
}

void session_state(struct session *s, struct state *st)
{
    size_t pending = s->in_end - s->in_start;
    u32 how = s->result.how, status = (u32)s->result.status;

    STATE_BOOL(st, s->started);
    STATE_BOOL(st, s->done);
    STATE(st, how);
    STATE_CHECK(st, how <= SESSION_CANNOT_EXEC, how);
    STATE(st, status);
    STATE_CHECK(st, status <= 255, status);
    buffer_state(st, "from_guest", s->from_guest, sizeof(s->from_guest) - 1, &s->from_guest_len);
    buffer_state(st, "to_guest", s->to_guest, sizeof(s->to_guest), &s->to_guest_len);
    buffer_state(st, "input", s->in + (st->loading ? 0 : s->in_start), sizeof(s->in), &pending);
    STATE_BOOL(st, s->in_eof);
    STATE_BOOL(st, s->in_closed);
    out_state(&s->out[0], st);
    out_state(&s->out[1], st);
    if (!st->loading || st->error)
        return;
    s->in_start = 0;
    s->in_end = pending;
    s->result.how = how;
    s->result.status = (int)status;
}

void session_run(struct session *s, struct vm *vm, struct session_result *ret)
{
    struct pollfd p[NR_FDS];
    bool raw = false, ended = false, over = false;
    int timeout;

    s->vm = vm;
    if (s->started && s->cfg.tty) { /* restored: the terminal is another one */
        lock(s);
        take_signal(s, SIGWINCH);
        unlock(s);
    }
    if (!s->cfg.command && s->cfg.tty && s->cfg.serial_input) {
        term_raw(STDIN_FILENO, false);
        raw = true;
    }
    while (!over) {
        lock(s);
        look(s, &raw);
        timeout = prepare(s, p);
        over = (s->done && (s->result.how >= SESSION_SIGNAL || !output_pending(s))) ||
               (ended && !output_pending(s));
        unlock(s);
        if (over)
            break;
        if (ended)
            p[FD_END].fd = -1;
        step(s, p, timeout);
        lock(s);
        if (p[FD_SIGNALS].revents)
            take_signals(s);
        ended = ended || (p[FD_END].fd >= 0 && p[FD_END].revents);
        unlock(s);
    }
    term_restore();
    *ret = s->done ? s->result : (struct session_result){SESSION_GUEST_ENDED, 0};
}
