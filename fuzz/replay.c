// SPDX-License-Identifier: MIT
// Runs a fuzz target over every file of the given directories, one TAP point each: seeds as tests.
#include "fuzz.h"

#include "../tests/tap.h"

#include <dirent.h>

#define INPUT_MAX (1 << 20)

static void replay(const char *dir, const char *name)
{
    static u8 data[INPUT_MAX];
    char path[4096];
    FILE *f;
    u8 *copy;
    size_t n;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "rb");
    if (!ok(f, "%s opens", name))
        return;
    n = fread(data, 1, sizeof(data), f);
    fclose(f);
    copy = malloc(n ? n : 1); /* exactly as long as the input, so that a sanitizer sees overruns */
    if (!copy)
        exit(99);
    memcpy(copy, data, n);
    fflush(stdout);
    ok(!LLVMFuzzerTestOneInput(copy, n), "%s", name);
    free(copy);
}

int main(int argc, char **argv)
{
    static const u8 nothing[1];

    ok(!LLVMFuzzerTestOneInput(nothing, 0), "the empty input");
    for (int i = 1; i < argc; i++) {
        struct dirent **names;
        int n = scandir(argv[i], &names, NULL, alphasort);

        ok(n > 2, "%s has seeds", argv[i]);
        for (int k = 0; k < n; k++) {
            if (names[k]->d_name[0] != '.')
                replay(argv[i], names[k]->d_name);
            free(names[k]);
        }
        if (n >= 0)
            free(names);
    }
    return tap_done();
}
