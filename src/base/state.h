// SPDX-License-Identifier: MIT
// The state of a device as bytes: one function per structure both saves and loads it.
#pragma once

#include "base/types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * A structure's function names its fields in order, with STATE() and friends; whether that copies
 * out or in is the state's matter. So what is loaded cannot differ in layout from what was saved:
 *
 *     void thing_state(struct thing *t, struct state *s)
 *     {
 *         STATE(s, t->level);
 *         STATE_BOOL(s, t->open);
 *         STATE_CHECK(s, t->level < LEVELS, t->level);
 *     }
 *
 * The first failure stays in (error), with the field's name in (field); all that follows does
 * nothing. Loaded values are a stranger's: check each that bounds or indexes something. Numbers
 * are little-endian, as on every host that this runs on.
 */
struct state {
    u8 *data;
    size_t size; /* saving: bytes so far; loading: bytes that there are */
    size_t room; /* saving: bytes allocated */
    size_t at;   /* loading: bytes used up */
    bool loading;
    int error; /* 0, -ENOMEM, or -EBADMSG */
    const char *field;
};

/* For saving: empty. Release with state_free(). */
static inline struct state state_saver(void)
{
    return (struct state){.data = NULL};
}

/* For loading from (data), which stays the caller's and is not written. */
static inline struct state state_loader(const void *data, size_t size)
{
    return (struct state){.data = (u8 *)(uintptr_t)data, .size = size, .loading = true};
}

static inline void state_free(struct state *s)
{
    if (!s->loading)
        free(s->data);
    *s = (struct state){.data = NULL};
}

static inline void state_fail(struct state *s, int error, const char *field)
{
    if (s->error)
        return;
    s->error = error;
    s->field = field;
}

/* Room for (len) bytes more. */
static inline bool state_grow(struct state *s, size_t len)
{
    size_t want = s->room ? s->room : 256;
    u8 *more;

    if (len <= s->room - s->size)
        return true;
    while (want - s->size < len) {
        if (want > SIZE_MAX / 2)
            return false;
        want *= 2;
    }
    more = realloc(s->data, want);
    if (!more)
        return false;
    s->data = more;
    s->room = want;
    return true;
}

/* (len) bytes at (p), called (field). When loading fails they stay as they are. */
static inline void state_bytes(struct state *s, const char *field, void *p, size_t len)
{
    if (s->error || !len)
        return;
    if (s->loading && len > s->size - s->at) {
        state_fail(s, -EBADMSG, field);
    } else if (s->loading) {
        memcpy(p, s->data + s->at, len);
        s->at += len;
    } else if (!state_grow(s, len)) {
        state_fail(s, -ENOMEM, field);
    } else {
        memcpy(s->data + s->size, p, len);
        s->size += len;
    }
}

static inline void state_bool(struct state *s, const char *field, bool *p)
{
    u8 v = *p;

    state_bytes(s, field, &v, sizeof(v));
    if (v > 1)
        state_fail(s, -EBADMSG, field);
    else
        *p = v;
}

/* The loaded value must be possible. */
static inline void state_check(struct state *s, bool possible, const char *field)
{
    if (s->loading && !possible)
        state_fail(s, -EBADMSG, field);
}

/* Everything was named: nothing may be left over. */
static inline void state_end(struct state *s)
{
    state_check(s, s->at == s->size, "end");
}

#define STATE(s, lvalue)         state_bytes(s, #lvalue, &(lvalue), sizeof(lvalue))
#define STATE_BOOL(s, lvalue)    state_bool(s, #lvalue, &(lvalue))
#define STATE_CHECK(s, cond, of) state_check(s, cond, #of)
