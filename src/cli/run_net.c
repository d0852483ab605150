// SPDX-License-Identifier: MIT
// Parse `--net user,...`.
#include "cli/run_net.h"
#include "cli/cli.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char bad_forward[] =
    "not a forward (accepted: hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT, "
    "an ADDR being one of IPv4 or, in brackets, of IPv6)";

/* "ADDR:PORT" up to the end; ADDR may be empty, which leaves (a) of no family. 0 or -EINVAL. */
static int parse_end(char *text, union usernet_address *a)
{
    char *colon = strrchr(text, ':'), *close;
    unsigned long port;

    if (!colon || cli_number(colon + 1, 1, 65535, &port))
        return -EINVAL;
    *colon = 0;
    memset(a, 0, sizeof(*a));
    a->in.sin_port = htons((u16)port); /* at the same place in both families */
    if (!*text)
        return 0;
    if (*text != '[') {
        a->sa.sa_family = AF_INET;
        return inet_pton(AF_INET, text, &a->in.sin_addr) == 1 ? 0 : -EINVAL;
    }
    close = strchr(text, ']');
    if (!close || close[1])
        return -EINVAL;
    *close = 0;
    a->sa.sa_family = AF_INET6;
    return inet_pton(AF_INET6, text + 1, &a->in6.sin6_addr) == 1 ? 0 : -EINVAL;
}

/* Both ends get the family of the one that names it; IPv4 if none does. 0 or -EINVAL. */
static int agree(struct usernet_forward *f)
{
    sa_family_t host = f->host.sa.sa_family, guest = f->guest.sa.sa_family;

    if (!host && !guest)
        host = AF_INET;
    f->host.sa.sa_family = host ? host : guest;
    f->guest.sa.sa_family = guest ? guest : host;
    return f->host.sa.sa_family == f->guest.sa.sa_family ? 0 : -EINVAL;
}

/* "tcp:[HOST]:PORT-[GUEST]:PORT"; no protocol is TCP. Changes (text). */
static int parse_forward(char *text, struct usernet_forward *f)
{
    char *colon = strchr(text, ':'), *dash = strchr(text, '-');

    if (!colon || !dash || dash < colon)
        return -EINVAL;
    *colon = *dash = 0;
    f->udp = !strcmp(text, "udp");
    if (*text && !f->udp && strcmp(text, "tcp"))
        return -EINVAL;
    if (parse_end(colon + 1, &f->host) || parse_end(dash + 1, &f->guest))
        return -EINVAL;
    return agree(f);
}

static int add_forward(struct run_net *n, const char *word, char *value, const char **why)
{
    if (n->nr_forwards == RUN_FORWARDS_MAX) {
        *why = "too many forwards (accepted: 32)";
        return -EINVAL;
    }
    n->words[n->nr_forwards] = strdup(word);
    if (!n->words[n->nr_forwards])
        return -ENOMEM;
    if (parse_forward(value, &n->forwards[n->nr_forwards])) {
        free(n->words[n->nr_forwards]);
        *why = bad_forward;
        return -EINVAL;
    }
    n->nr_forwards++;
    return 0;
}

static int parse_word(struct run_net *n, char *word, const char **why)
{
    if (!strncmp(word, "hostfwd=", 8)) {
        char *copy = strdup(word + 8);
        int rc = copy ? add_forward(n, word, copy, why) : -ENOMEM;

        free(copy);
        return rc;
    }
    if (strcmp(word, "restrict=on") && strcmp(word, "restrict=off"))
        return -EINVAL;
    n->restricted = !strcmp(word, "restrict=on");
    return 0;
}

int run_net_parse(struct run_net *n, const char *value, const char **why)
{
    char *text = strdup(value), *rest = text, *word;
    int rc;

    if (!text)
        return -ENOMEM;
    word = strsep(&rest, ",");
    rc = strcmp(word, "user") ? -EINVAL : 0;
    while (rc == 0 && (word = strsep(&rest, ",")))
        rc = parse_word(n, word, why);
    free(text);
    n->user = n->user || rc == 0;
    return rc;
}

void run_net_free(struct run_net *n)
{
    for (unsigned i = 0; i < n->nr_forwards; i++)
        free(n->words[i]);
}
