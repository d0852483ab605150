// SPDX-License-Identifier: MIT
// Memory for generated code: written through one mapping, executed through another.
#pragma once

#include "base/types.h"

#define CODEBUF_CHUNK (256u << 10)
#define CODEBUF_MAX (64u << 20) /* bytes of code a process may come to hold */

/*
 * Copy (len) bytes of position-independent code into executable memory, for the life of the
 * process. Any thread. Returns its address, or NULL when memory or the limit is used up.
 */
const void *codebuf_add(const void *code, size_t len);

/* Let codebuf_add() take no more than (bytes) in all, CODEBUF_MAX unless told. What is there stays. */
void codebuf_limit(size_t bytes);

/*
 * A place of (len) bytes to be rewritten again and again by one thread: (*ret_rw) is where to
 * write, the result where to execute. NULL when memory is used up; the limit does not apply.
 * After writing, codebuf_sync() before the call.
 */
const void *codebuf_slot(size_t len, void **ret_rw);
void codebuf_sync(void);
