// SPDX-License-Identifier: MIT
// A growing list of strings that it owns.
#pragma once

#include "base/types.h"

struct strv {
    char **s;
    size_t n;
};

/* Append a copy of (s), or of its first (len) bytes. 0 or -ENOMEM. */
int strv_add(struct strv *v, const char *s);
int strv_add_n(struct strv *v, const char *s, size_t len);

/* Append the non-empty parts of (list), split at (separator). 0 or -ENOMEM. */
int strv_split(struct strv *v, const char *list, char separator);

bool strv_has(const struct strv *v, const char *s);
void strv_free(struct strv *v);
