// SPDX-License-Identifier: MIT
// Raw mode and its end.
#include "cli/term.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

static struct termios saved;
static volatile sig_atomic_t raw_fd = -1;
static bool hooked;

void term_restore(void)
{
    int fd = raw_fd;

    if (fd < 0)
        return;
    raw_fd = -1;
    tcsetattr(fd, TCSADRAIN, &saved);
}

/* tcsetattr() is async-signal-safe; then the signal does what it would have done. */
static void die(int sig)
{
    term_restore();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void hook(void)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGXCPU, SIGXFSZ};

    if (hooked)
        return;
    hooked = true;
    atexit(term_restore);
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++) {
        struct sigaction sa, old;

        if (sigaction(fatal[i], NULL, &old) || (old.sa_flags & SA_SIGINFO) ||
            old.sa_handler != SIG_DFL)
            continue; /* somebody (a sanitizer) has plans for it */
        sa = (struct sigaction){.sa_handler = die, .sa_flags = SA_NODEFER};
        sigaction(fatal[i], &sa, NULL);
    }
}

int term_raw(int fd, bool output)
{
    struct termios t;

    if (tcgetattr(fd, &t) < 0)
        return -errno;
    hook();
    if (raw_fd < 0)
        saved = t;
    t = saved;
    cfmakeraw(&t);
    if (output)
        t.c_oflag |= OPOST;
    raw_fd = fd;
    return tcsetattr(fd, TCSADRAIN, &t) < 0 ? -errno : 0;
}

bool term_size(int fd, unsigned short *cols, unsigned short *rows)
{
    struct winsize w;

    if (ioctl(fd, TIOCGWINSZ, &w) < 0 || !w.ws_col || !w.ws_row)
        return false;
    *cols = w.ws_col;
    *rows = w.ws_row;
    return true;
}
