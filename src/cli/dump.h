// SPDX-License-Identifier: MIT
// The other end of `uvirt vsock-dump`: in a VM, and beside the socket of a vsock device.
#pragma once

#include "uvirt/vsock.h"

/*
 * "dump SNAPLEN" came over (conn), a SOCK_SEQPACKET socket: true if packets go there from now on (vsock/capture.h), and
 * (conn) is taken. False: an answer that begins with "error " was sent. (v) is NULL where there is no device.
 */
bool dump_answer(struct uvirt_vsock *v, int conn, const char *request);

#define DUMP_SUFFIX "_dump"

/*
 * A thread that listens for such requests at (path)DUMP_SUFFIX. NULL, and then there is none, if that cannot be; the
 * device is of use without. dump_stop(NULL) is fine.
 */
struct dump_service;
struct dump_service *dump_serve(struct uvirt_vsock *v, const char *path);
void dump_stop(struct dump_service *s);
