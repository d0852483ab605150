// SPDX-License-Identifier: MIT
// The host's end of a running guest: its command's streams, signals and end; or its serial console.
#pragma once

#include "vmm/vm.h"

struct session;

struct session_config {
    bool command; /* a command runs, over the virtio-console; else the serial port is the console */
    bool tty;     /* stdin and stdout are a terminal: raw mode */
    bool serial_input; /* without command: stdin goes to the serial port */
};

/* How it went. */
struct session_result {
    enum {
        SESSION_EXITED,      /* the command ended; (status) as a shell has it */
        SESSION_CANNOT_EXEC, /* the guest could not execute it; (status): errno */
        SESSION_GUEST_ENDED, /* the guest ended first: ask vm_ended() */
        SESSION_SIGNAL,      /* the user ended it; (status): signal */
    } how;
    int status;
};

/*
 * Block the signals that session_run() takes care of; call it before any thread is started.
 * The device for vm_add_virtio() goes to (ret_console) if there is a command. 0 or -errno.
 */
int session_create(const struct session_config *cfg, struct virtio_device **ret_console,
                   struct session **ret);

/* Carry bytes and signals until the command or the guest ends. */
void session_run(struct session *s, struct vm *vm, struct session_result *ret);

/* After vm_stop(). NULL is fine. */
void session_free(struct session *s);
