// SPDX-License-Identifier: MIT
// Lists of strings.
#include "vmm/initramfs/strv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int strv_add_n(struct strv *v, const char *s, size_t len)
{
    char **more = realloc(v->s, (v->n + 1) * sizeof(*more));
    char *copy;

    if (!more)
        return -ENOMEM;
    v->s = more;
    copy = strndup(s, len);
    if (!copy)
        return -ENOMEM;
    v->s[v->n++] = copy;
    return 0;
}

int strv_add(struct strv *v, const char *s)
{
    return strv_add_n(v, s, strlen(s));
}

int strv_split(struct strv *v, const char *list, char separator)
{
    int rc = 0;

    while (*list && rc == 0) {
        const char *end = strchrnul(list, separator);

        if (end != list)
            rc = strv_add_n(v, list, (size_t)(end - list));
        list = *end ? end + 1 : end;
    }
    return rc;
}

bool strv_has(const struct strv *v, const char *s)
{
    for (size_t i = 0; i < v->n; i++)
        if (!strcmp(v->s[i], s))
            return true;
    return false;
}

void strv_free(struct strv *v)
{
    for (size_t i = 0; i < v->n; i++)
        free(v->s[i]);
    free(v->s);
    *v = (struct strv){0};
}
