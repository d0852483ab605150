// SPDX-License-Identifier: MIT
// How a snapshot's VM was built, as bytes.
#include "cli/run_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRING_MAX 8192

/* A string, at most STRING_MAX bytes; loading allocates it. */
static void string_state(struct state *s, const char *field, char **text)
{
    u32 len = *text ? (u32)strlen(*text) : 0;

    state_bytes(s, field, &len, sizeof(len));
    state_check(s, len <= STRING_MAX, field);
    if (s->loading && !s->error) {
        *text = calloc(1, len + 1);
        if (!*text)
            state_fail(s, -ENOMEM, field);
    }
    if (s->error)
        return;
    state_bytes(s, field, *text, len);
    state_check(s, *text && strlen(*text) == len, field);
}

void run_config_state(struct run_config *c, struct state *s)
{
    STATE_BOOL(s, c->command);
    STATE_BOOL(s, c->tty);
    STATE_BOOL(s, c->errtty);
    string_state(s, "name", &c->name);
    string_state(s, "engine", &c->engine);
    STATE(s, c->nr_disks);
    STATE_CHECK(s, c->nr_disks <= RUN_DISKS_MAX, c->nr_disks);
    for (u32 i = 0; i < c->nr_disks && !s->error; i++) {
        STATE(s, c->disks[i].size);
        STATE(s, c->disks[i].written_ns);
        STATE_BOOL(s, c->disks[i].readonly);
    }
    STATE(s, c->nr_options);
    STATE_CHECK(s, c->nr_options <= RUN_CONFIG_OPTIONS_MAX, c->nr_options);
    if (s->loading && !s->error) {
        c->options = calloc(c->nr_options + 1, sizeof(*c->options));
        if (!c->options)
            state_fail(s, -ENOMEM, "options");
    }
    for (u32 i = 0; i < c->nr_options && !s->error; i++)
        string_state(s, "option", &c->options[i]);
}

void run_config_free(struct run_config *c)
{
    for (u32 i = 0; c->options && i < c->nr_options; i++)
        free(c->options[i]);
    free(c->options);
    free(c->name);
    free(c->engine);
    *c = (struct run_config){.command = false};
}

int run_config_load(const struct snapshot_file *f, struct run_config *ret, struct vmm_error *err)
{
    struct state s;
    int rc = snapshot_section_load(f, SNAPSHOT_CONFIG, 0, &s, err);

    *ret = (struct run_config){.command = false};
    if (rc)
        return rc;
    run_config_state(ret, &s);
    return snapshot_section_done(&s, SNAPSHOT_CONFIG, 0, err);
}
