// SPDX-License-Identifier: MIT
// Parsing of `--vsock`, printing of its counters.
#include "cli/run_vsock.h"
#include "cli/cli.h"
#include "vsock/stats.h"

#include <errno.h>
#include <linux/virtio_vsock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The latest that have ended, and some that are open. */
#define CONNECTIONS_MAX (VSOCK_STATS_KEPT + 64)

static void print_counts(const struct vsock_counts *c)
{
    fprintf(stderr, ": to it %llu bytes in %llu packets, from it %llu in %llu, waits %llu\n",
            (unsigned long long)c->tx_bytes, (unsigned long long)c->tx_pkts,
            (unsigned long long)c->rx_bytes, (unsigned long long)c->rx_pkts,
            (unsigned long long)c->waits);
}

static int set_cid(struct run_vsock *v, const char *text, const char **why)
{
    unsigned long cid;

    if (cli_number(text, 3, UINT32_MAX - 1, &cid)) {
        *why = "no guest can have that CID (accepted: cid=3 to cid=4294967294)";
        return -EINVAL;
    }
    v->cid = (u32)cid;
    return 0;
}

static int set_path(struct run_vsock *v, const char *text, const char **why)
{
    if (!*text) {
        *why = "path= is empty (accepted: path=SOCKET or path=DIRECTORY)";
        return -EINVAL;
    }
    free(v->path);
    v->path = strdup(text);
    return v->path ? 0 : -ENOMEM;
}

static int set_dump(struct run_vsock *v, const char *text, const char **why)
{
    if (!*text) {
        *why = "dump= is empty (accepted: dump=FILE)";
        return -EINVAL;
    }
    free(v->dump);
    v->dump = strdup(text);
    return v->dump ? 0 : -ENOMEM;
}

static int set_framing(struct run_vsock *v, const char *text, const char **why)
{
    v->marker = !strcmp(text, "marker");
    if (v->marker || !strcmp(text, "eom"))
        return 0;
    *why = "no such framing (accepted: framing=eom or framing=marker)";
    return -EINVAL;
}

static const struct {
    const char *name;
    int (*set)(struct run_vsock *v, const char *text, const char **why);
} words[] = {
    {"cid=", set_cid},
    {"path=", set_path},
    {"framing=", set_framing},
    {"dump=", set_dump},
};

static int parse_word(struct run_vsock *v, const char *word, const char **why)
{
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        size_t len = strlen(words[i].name);

        if (!strncmp(word, words[i].name, len))
            return words[i].set(v, word + len, why);
    }
    return -EINVAL;
}

int run_vsock_parse(struct run_vsock *v, const char *value, const char **why)
{
    char *copy = strdup(value), *save, *word = copy ? strtok_r(copy, ",", &save) : NULL;
    int rc = copy ? 0 : -ENOMEM;

    for (; word && rc == 0; word = strtok_r(NULL, ",", &save))
        rc = parse_word(v, word, why);
    free(copy);
    if (rc == 0 && !v->cid) {
        *why = "it has no CID (accepted: " RUN_VSOCK_FORM ")";
        return -EINVAL;
    }
    return rc;
}

void run_vsock_free(struct run_vsock *v)
{
    free(v->path);
    free(v->dump);
}

void run_vsock_print_stats(struct uvirt_vsock *v)
{
    struct vsock_connection *list = calloc(CONNECTIONS_MAX, sizeof(*list));
    struct vsock_counts sum;
    size_t n;
    u64 ever;

    if (v && list) {
        n = vsock_stats_get(v, list, CONNECTIONS_MAX, &sum, &ever);
        fprintf(stderr, "stats: vsock connections %llu\n", (unsigned long long)ever);
        for (size_t i = 0; i < n; i++) {
            const struct vsock_connection *c = &list[i];

            fprintf(stderr, "stats:   guest %u:%u, %u:%u %s%s", c->remote_cid, c->remote_port,
                    c->local_cid, c->local_port,
                    c->type == VIRTIO_VSOCK_TYPE_STREAM ? "stream" : "seqpacket",
                    c->open ? ", open" : "");
            print_counts(&c->counts);
        }
        fprintf(stderr, "stats: vsock in all");
        print_counts(&sum);
    }
    free(list);
}
