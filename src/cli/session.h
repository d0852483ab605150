// SPDX-License-Identifier: MIT
// The host's end of a running guest: its command's streams, signals and end; or its serial console.
#pragma once

#include "uvirt/vsock.h"
#include "vmm/vm.h"

struct session;

struct session_config {
    bool command; /* a command runs, its streams over vsock; else the serial port is the console */
    bool tty;     /* stdin and stdout are a terminal: raw mode */
    bool serial_input; /* without command: stdin goes to the serial port */

    /* Called by session_run(), without locks, whenever (control_fd) is readable. NULL: no such descriptor. */
    void (*control)(void *opaque);
    void *control_opaque;
    int control_fd;
};

/* How it went. */
struct session_result {
    enum {
        SESSION_EXITED,      /* the command ended; (status) as a shell has it */
        SESSION_CANNOT_EXEC, /* the guest could not execute it; (status): errno */
        SESSION_GUEST_ENDED, /* the guest ended first: ask vm_ended() */
        SESSION_SIGNAL,      /* the user ended it; (status): signal */
        SESSION_SUSPENDED,   /* session_suspend() */
    } how;
    int status;
};

/* Block the signals that session_run() takes care of; call it before any thread is started. 0 or -errno. */
int session_create(const struct session_config *cfg, struct session **ret);

/* If there is a command: wait for its guest at the host's end (v) of the VM's vsock. 0 or -errno. */
int session_listen(struct session *s, struct uvirt_vsock *v);

/* Carry bytes and signals until the command or the guest ends. */
void session_run(struct session *s, struct vm *vm, struct session_result *ret);

/*
 * From (control): the command gets SIGTERM, and after (seconds), or at once if there is none, the session ends as by
 * SIGTERM.
 */
void session_stop(struct session *s, unsigned seconds);

/* From (control): it is all in a snapshot now, so end here, and let nothing more out. */
void session_suspend(struct session *s);

/*
 * From (control): save what is under way between the guest and the outside (base/state.h); or load it into a fresh
 * session before session_run(). Of the streams it loads, those that had ended stay so. The guest, whose connection a
 * restore ends (TRANSPORT_RESET), makes another one and goes on from there.
 */
struct state;
void session_state(struct session *s, struct state *st);

/* Let go of the vsock of session_listen(). NULL is fine. */
void session_hang_up(struct session *s);

/* After vm_stop(). NULL is fine. */
void session_free(struct session *s);
