// SPDX-License-Identifier: MIT
// Carries bytes between this process and the guest's command.

/*
 * Theory of operation
 *
 * Everything here belongs to the main thread, which sits in poll(). What the command writes and reads are flows of a
 * channel (vmm/channel.h), whose records the link carries over vsock to and from the init in the guest. Packets come and
 * go in other threads; their events only write (wake). A reader of stdout that stalls fills that flow's window, then the
 * pipe in the guest, then blocks the command, and nothing else.
 *
 * The end: CONTROL_EXITED counts once both flows of output have ended and everything of them is written.
 *
 * Signals are blocked in all threads and read from a signalfd. Before the command has started
 * they end uvirt. After that they go to the command, and what it makes of them is its own affair, with two ways out: a
 * second one that means it (is_second) ends uvirt, and so does a guest whose init does not say CONTROL_SIGNALLED within
 * ANSWER_NS, as nothing in there can be expected to end. In raw mode Ctrl-C is a byte for the command's terminal, and Ctrl-] three
 * times within a second ends uvirt.
 */
#include "cli/session.h"
#include "base/state.h"
#include "cli/cli.h"
#include "cli/link.h"
#include "cli/sink.h"
#include "cli/term.h"
#include "vmm/control.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define SERIAL_BYTES     16384
#define ESCAPE           0x1d /* Ctrl-] */
#define ESCAPES          3
#define SERIAL_RETRY_MS  2
#define DOUBLE_SIGNAL_NS 2000000000ull
#define ESCAPE_NS        1000000000ull
#define ANSWER_NS        5000000000ull

static const struct output {
    enum channel_flow flow;
    int fd;
} outputs[] = {{CHANNEL_STDOUT, STDOUT_FILENO}, {CHANNEL_STDERR, STDERR_FILENO}};

#define NR_OUTPUTS ARRAY_SIZE(outputs)

struct session {
    struct session_config cfg;
    struct vm *vm;
    struct link *link; /* NULL: no command */
    int wake, signals;
    _Atomic bool woken; /* (wake) is readable, or about to be */
    struct channel channel;
    struct sink sinks[NR_OUTPUTS];

    /* stdin */
    u8 serial[SERIAL_BYTES]; /* on its way to the serial port, if there is no command */
    size_t serial_start, serial_end;
    bool in_eof;
    unsigned escapes;
    u64 escape_since;

    bool started, done;
    struct session_result result;

    int last_signal;
    u64 last_signal_ns;
    u64 answer_ns; /* when the guest is to have said that it got (last_signal); 0: it has */
    u64 end_ns;    /* when session_stop() runs out of patience; 0: never */
};

static u64 now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (u64)ts.tv_sec * 1000000000ull + (u64)ts.tv_nsec;
}

/* From any thread. */
static void wake(void *opaque)
{
    struct session *s = opaque;
    u64 one = 1;
    ssize_t n;

    if (atomic_exchange(&s->woken, true))
        return;
    n = write(s->wake, &one, sizeof(one));
    (void)n; /* fails only when the counter is full, and then it is readable */
}

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

int session_create(const struct session_config *cfg, struct session **ret)
{
    struct session *s = calloc(1, sizeof(*s));
    int rc = 0;

    if (!s)
        return -ENOMEM;
    s->cfg = *cfg;
    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        sink_open(&s->sinks[i], outputs[i].fd);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->signals = open_signals();
    if (s->wake < 0 || s->signals < 0)
        rc = -errno;
    if (rc) {
        session_free(s);
        return rc;
    }
    *ret = s;
    return 0;
}

int session_listen(struct session *s, struct uvirt_vsock *v)
{
    return link_create(v, &s->channel, wake, s, &s->link);
}

void session_hang_up(struct session *s)
{
    if (s)
        link_free(s->link);
    if (s)
        s->link = NULL;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    session_hang_up(s);
    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        sink_close(&s->sinks[i]);
    if (s->wake >= 0)
        close(s->wake);
    if (s->signals >= 0)
        close(s->signals);
    free(s);
}

/* --- towards the guest --- */

static void finish(struct session *s, int how, int status)
{
    s->done = true;
    s->result.how = how;
    s->result.status = status;
}

/* What does not fit is lost: the guest has stopped to listen. */
static void tell_guest(struct session *s, u32 type, u32 a, u32 b)
{
    struct control_message m = {type, a, b};

    if (s->cfg.command)
        channel_write(&s->channel, CHANNEL_CONTROL, &m, sizeof(m));
}

static void feed_serial(struct session *s)
{
    struct board *b = vm_board(s->vm);

    if (s->serial_start == s->serial_end)
        return;
    pthread_mutex_lock(&b->lock);
    s->serial_start +=
        serial8250_input(&b->com1, s->serial + s->serial_start, s->serial_end - s->serial_start);
    pthread_mutex_unlock(&b->lock);
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

/* Room for input: (*p) and its size. */
static size_t input_room(struct session *s, void **p)
{
    *p = s->serial;
    if (s->cfg.command)
        return channel_room(&s->channel, CHANNEL_STDIN, p);
    return s->serial_start == s->serial_end ? sizeof(s->serial) : 0;
}

static void read_input(struct session *s)
{
    void *p;
    size_t room = input_room(s, &p);
    ssize_t n = read(STDIN_FILENO, p, room);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        s->in_eof = true;
        channel_end(&s->channel, CHANNEL_STDIN);
        return;
    }
    if (s->cfg.tty && escaped(s, p, (size_t)n))
        finish(s, SESSION_SIGNAL, SIGINT);
    if (s->cfg.command) {
        channel_put(&s->channel, CHANNEL_STDIN, (size_t)n);
        return;
    }
    s->serial_start = 0;
    s->serial_end = (size_t)n;
}

/* --- from the guest --- */

static void write_output(struct session *s, unsigned i)
{
    const void *p;
    size_t len = channel_data(&s->channel, outputs[i].flow, &p);
    ssize_t n = sink_write(&s->sinks[i], p, len);

    if (n >= 0)
        channel_take(&s->channel, outputs[i].flow, (size_t)n);
    else if (n != -EAGAIN && n != -EINTR)
        channel_close(&s->channel, outputs[i].flow); /* nobody reads it any more */
}

static bool output_pending(const struct session *s)
{
    const void *p;

    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        if (channel_data(&s->channel, outputs[i].flow, &p))
            return true;
    return false;
}

/* All that there will ever be is written. */
static bool output_over(const struct session *s)
{
    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        if (!channel_over(&s->channel, outputs[i].flow))
            return false;
    return true;
}

static void guest_says(struct session *s, const struct control_message *m)
{
    switch (m->type) {
    case CONTROL_STARTED:
        s->started = true;
        break;
    case CONTROL_EXITED:
        finish(s, SESSION_EXITED, (int)(m->a & 0xff));
        break;
    case CONTROL_FAILED:
        finish(s, SESSION_CANNOT_EXEC, (int)(m->a & 0xfff));
        break;
    case CONTROL_SIGNALLED:
        if ((int)m->a == s->last_signal)
            s->answer_ns = 0;
        break;
    default:
        break;
    }
}

/* --- signals --- */

/* SIGTERM once more, at any time; SIGINT and SIGQUIT, which programs are sent to do other things, soon. */
static bool is_second(const struct session *s, int sig)
{
    if (sig != s->last_signal || !s->last_signal_ns)
        return false;
    return sig == SIGTERM ||
           ((sig == SIGINT || sig == SIGQUIT) && now_ns() - s->last_signal_ns < DOUBLE_SIGNAL_NS);
}

static bool is_terminating(int sig)
{
    return sig == SIGTERM || sig == SIGINT || sig == SIGQUIT || sig == SIGHUP;
}

/* The guest has stood still meanwhile: what it owes an answer to counts from now. */
static void wait_anew(struct session *s)
{
    if (s->answer_ns)
        s->answer_ns = now_ns() + ANSWER_NS;
}

static void take_signal(struct session *s, int sig)
{
    unsigned short cols, rows;

    if (sig == SIGCONT) {
        wait_anew(s);
        if (s->cfg.tty && s->started)
            term_raw(STDIN_FILENO, false);
        return;
    }
    if (sig == SIGWINCH) {
        if (s->cfg.tty && term_size(STDOUT_FILENO, &cols, &rows))
            tell_guest(s, CONTROL_WINSIZE, cols, rows);
        return;
    }
    if (!s->cfg.command || !s->started || is_second(s, sig)) {
        finish(s, SESSION_SIGNAL, sig);
        return;
    }
    if (is_terminating(sig)) {
        s->last_signal = sig;
        s->last_signal_ns = now_ns();
        s->answer_ns = s->last_signal_ns + ANSWER_NS;
    }
    tell_guest(s, CONTROL_SIGNAL, (u32)sig, 0);
}

static void take_signals(struct session *s)
{
    struct signalfd_siginfo info;

    while (read(s->signals, &info, sizeof(info)) == sizeof(info))
        take_signal(s, (int)info.ssi_signo);
}

/* --- the loop --- */

enum { FD_WAKE, FD_END, FD_SIGNALS, FD_STDIN, FD_CONTROL, FD_OUT, NR_FDS = FD_OUT + NR_OUTPUTS };

/* Is it time to read more of stdin? */
static bool wants_input(struct session *s)
{
    void *p;

    if (s->in_eof || !input_room(s, &p))
        return false;
    if (s->cfg.command)
        return s->channel.up && !channel_deaf(&s->channel, CHANNEL_STDIN);
    return s->cfg.serial_input;
}

static int ms_until(u64 ns)
{
    u64 now = now_ns();

    return ns <= now ? 0 : (int)((ns - now + 999999) / 1000000);
}

/* Returns poll()'s timeout. */
static int prepare(struct session *s, struct pollfd p[NR_FDS])
{
    const void *data;
    u64 until;

    p[FD_WAKE] = (struct pollfd){.fd = s->wake, .events = POLLIN};
    p[FD_END] = (struct pollfd){.fd = vm_end_fd(s->vm), .events = POLLIN};
    p[FD_SIGNALS] = (struct pollfd){.fd = s->signals, .events = POLLIN};
    p[FD_STDIN] = (struct pollfd){.fd = wants_input(s) ? STDIN_FILENO : -1, .events = POLLIN};
    p[FD_CONTROL] =
        (struct pollfd){.fd = s->cfg.control ? s->cfg.control_fd : -1, .events = POLLIN};
    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        p[FD_OUT + i] = (struct pollfd){
            .fd = channel_data(&s->channel, outputs[i].flow, &data) ? outputs[i].fd : -1,
            .events = POLLOUT};
    if (s->serial_start < s->serial_end)
        return SERIAL_RETRY_MS;
    until = s->end_ns && (!s->answer_ns || s->end_ns < s->answer_ns) ? s->end_ns : s->answer_ns;
    return until ? ms_until(until) : -1;
}

/* What came from the guest, and what is to go there. True: there may be more at once. */
static bool exchange(struct session *s, bool *raw)
{
    struct control_message m;
    bool more = s->link && link_run(s->link);

    while (!s->done && channel_read(&s->channel, CHANNEL_CONTROL, &m, sizeof(m)))
        guest_says(s, &m);
    if (s->started && s->cfg.tty && !*raw) {
        *raw = true;
        term_raw(STDIN_FILENO, false);
    }
    feed_serial(s);
    return more;
}

static void step(struct session *s, struct pollfd p[NR_FDS], int timeout)
{
    u64 count;

    if (poll(p, NR_FDS, timeout) < 0)
        return;
    if (p[FD_WAKE].revents) {
        if (read(s->wake, &count, sizeof(count)) < 0)
            return;
        atomic_store(&s->woken, false);
    }
    for (unsigned i = 0; i < NR_OUTPUTS; i++)
        if (p[FD_OUT + i].revents)
            write_output(s, i);
    if (p[FD_STDIN].revents)
        read_input(s);
    if (p[FD_SIGNALS].revents)
        take_signals(s);
    if (p[FD_CONTROL].revents) {
        s->cfg.control(s->cfg.control_opaque);
        wait_anew(s);
    }
    if (s->end_ns && s->end_ns <= now_ns())
        session_stop(s, 0);
}

void session_stop(struct session *s, unsigned seconds)
{
    if (!s->cfg.command || !s->started || !seconds) {
        finish(s, SESSION_SIGNAL, SIGTERM);
    } else {
        tell_guest(s, CONTROL_SIGNAL, SIGTERM, 0);
        s->end_ns = now_ns() + seconds * 1000000000ull;
    }
}

void session_suspend(struct session *s)
{
    finish(s, SESSION_SUSPENDED, 0);
}

void session_state(struct session *s, struct state *st)
{
    u32 how = s->result.how, status = (u32)s->result.status;

    STATE_BOOL(st, s->started);
    STATE_BOOL(st, s->done);
    STATE(st, how);
    STATE_CHECK(st, how <= SESSION_CANNOT_EXEC, how);
    STATE(st, status);
    STATE_CHECK(st, status <= 255, status);
    STATE_BOOL(st, s->in_eof);
    channel_state(&s->channel, st);
    if (!st->loading || st->error)
        return;
    s->result.how = how;
    s->result.status = (int)status;
}

/* Nothing more is to be read of a guest that runs: should it have said by now that it got a signal? */
static void check_answer(struct session *s)
{
    if (s->done || !s->answer_ns || s->answer_ns > now_ns())
        return;
    term_restore();
    cli_error("the guest has not answered to signal %d for %u s: ended", s->last_signal,
              (unsigned)(ANSWER_NS / 1000000000));
    finish(s, SESSION_SIGNAL, s->last_signal);
}

/* (ended): the VM has. */
static bool is_over(const struct session *s, bool ended)
{
    if (ended && !output_pending(s))
        return true;
    return s->done && (s->result.how != SESSION_EXITED || output_over(s));
}

void session_run(struct session *s, struct vm *vm, struct session_result *ret)
{
    struct pollfd p[NR_FDS];
    bool raw = false, ended = false, more;
    int timeout;

    s->vm = vm;
    if (s->started && s->cfg.tty) /* restored: the terminal is another one */
        take_signal(s, SIGWINCH);
    if (!s->cfg.command && s->cfg.tty && s->cfg.serial_input) {
        term_raw(STDIN_FILENO, false);
        raw = true;
    }
    for (;;) {
        more = exchange(s, &raw);
        if (!more && !ended)
            check_answer(s);
        if (!more && is_over(s, ended))
            break;
        timeout = prepare(s, p);
        if (ended)
            p[FD_END].fd = -1;
        step(s, p, more ? 0 : timeout);
        ended = ended || (p[FD_END].fd >= 0 && p[FD_END].revents);
    }
    term_restore();
    *ret = s->done ? s->result : (struct session_result){SESSION_GUEST_ENDED, 0};
}
