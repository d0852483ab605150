// SPDX-License-Identifier: MIT
// Option parsing: sizes, numbers, forms of options, where a command begins, and each complaint.
#include "cli/cli.h"
#include "tap.h"

#include <errno.h>

struct values {
    const char *text;
    unsigned flags;
};

static int set_text(void *opaque, const char *v, const char **why)
{
    ((struct values *)opaque)->text = v;
    if (!strcmp(v, "why"))
        *why = "because";
    return strcmp(v, "bad") && strcmp(v, "why") ? 0 : -EINVAL;
}

static int set_flag(void *opaque, const char *v, const char **why)
{
    ((struct values *)opaque)->flags++;
    return 0;
}

static const struct cli_option options[] = {
    {"text", "WORD", "a word", set_text},
    {"flag", NULL, "a flag", set_flag},
    {NULL, NULL, NULL, NULL},
};

static struct values seen;

static int parse(const char *a, const char *b, const char *c, const char *d)
{
    const char *argv[] = {"run", a, b, c, d, NULL};
    int argc = 1;

    while (argv[argc])
        argc++;
    seen = (struct values){0};
    return cli_parse(argc, (char **)(uintptr_t)argv, "usage", options, &seen);
}

static void test_sizes(void)
{
    static const struct {
        const char *text;
        u64 want;
    } good[] = {{"1", 1 << 20},
                {"512M", 512 << 20},
                {"2G", 2ull << 30},
                {"4096K", 4 << 20},
                {"3g", 3ull << 30},
                {"0", 0},
                {"17592186044415", 17592186044415ull << 20}};
    static const char *const bad[] = {"",
                                      "M",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1T",
                                      "1MM",
                                      "1 M",
                                      "0x10",
                                      "1.5G",
                                      "17592186044416",
                                      "99999999999999999999"};
    u64 v;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        v = 1;
        ok(cli_size(good[i].text, &v) == 0 && v == good[i].want, "size %s", good[i].text);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(cli_size(bad[i], &v) == -EINVAL, "size '%s' is refused", bad[i]);
}

static void test_numbers(void)
{
    static const char *const bad[] = {"", "0", "65", "-1", "1x", " 2", "99999999999999999999"};
    unsigned long v = 0;

    ok(cli_number("1", 1, 64, &v) == 0 && v == 1, "the smallest number");
    ok(cli_number("64", 1, 64, &v) == 0 && v == 64, "the largest number");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        ok(cli_number(bad[i], 1, 64, &v) == -EINVAL && v == 64, "number '%s' is refused", bad[i]);
}

static void test_parse(void)
{
    ok(parse("--text", "a", "--", "x") == 4 && !strcmp(seen.text, "a"), "--text a -- command");
    ok(parse("--text=a=b", "--flag", "x", NULL) == 3 && !strcmp(seen.text, "a=b") &&
           seen.flags == 1,
       "--text=a=b --flag command");
    ok(parse("x", "--flag", NULL, NULL) == 1 && seen.flags == 0,
       "options of the command are its own");
    ok(parse("--flag", "-", NULL, NULL) == 2, "a dash alone is no option");
    ok(parse("--", "--flag", NULL, NULL) == 2 && seen.flags == 0, "nothing after -- is an option");
    ok(parse(NULL, NULL, NULL, NULL) == 1, "nothing at all");
    ok(parse("--none", NULL, NULL, NULL) == -EINVAL, "unknown option");
    ok(parse("-x", NULL, NULL, NULL) == -EINVAL, "unknown short option");
    ok(parse("--tex", "a", NULL, NULL) == -EINVAL, "no abbreviations");
    ok(parse("--text", NULL, NULL, NULL) == -EINVAL, "a value is missing");
    ok(parse("--flag=1", NULL, NULL, NULL) == -EINVAL, "a value too many");
    ok(parse("--text", "bad", NULL, NULL) == -EINVAL, "a bad value");
    ok(parse("--text", "why", NULL, NULL) == -EINVAL, "a bad value with a reason");
}

int main(void)
{
    test_sizes();
    test_numbers();
    test_parse();
    return tap_done();
}
