// SPDX-License-Identifier: MIT
// Fuzzes snapshot files: their frame as it is, and their sections behind a frame that is right.

/*
 * An input that begins with the magic is parsed as a file. Any other is a list of sections (type, instance, 32-bit
 * length, bytes) that gets a frame with correct checksums, which no mutation would find, and goes all the way into a VM:
 * plan, KVM's ioctls, devices, memory. The VM outlives an input. Invariants: no sanitizer report; a refusal has a
 * sentence; a frame made here is taken.
 */
#include "cli/run_config.h"
#include "fuzz.h"
#include "virtio/blk.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "vmm/snapshot/snapshot.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY       (32ull << 20)
#define SECTIONS_MAX 24

static struct vm *vm;
static int out;

static void drop(void *opaque, const void *frame, size_t len)
{
    (void)opaque;
    (void)frame;
    (void)len;
}

static void nothing(void *opaque)
{
    (void)opaque;
}

static void set_up(void)
{
    struct virtio_net_options net = {.kick = nothing, .transmit = drop};
    struct vm_config cfg = {.backend = &kvm_backend_soft, .cpus = 1, .memory = MEMORY};
    struct virtio_blk_backend disk = {.fd = memfd_create("disk", MFD_CLOEXEC)};
    struct virtio_device *d;

    out = memfd_create("snapshot", MFD_CLOEXEC);
    if (out < 0 || disk.fd < 0 || ftruncate(disk.fd, 65536) || vm_create(&cfg, &vm, NULL) ||
        virtio_net_create(&net, &d) || vm_add_virtio(vm, d) || virtio_rng_create(&d) ||
        vm_add_virtio(vm, d) || virtio_blk_create(&disk, &d) || vm_add_virtio(vm, d))
        abort();
}

static void need_sentence(int rc, const struct vmm_error *err)
{
    if (rc && !err->text[0])
        abort();
}

/* Everything that is done with a file whose frame is right. */
static void use(const struct snapshot_file *f)
{
    struct vmm_error err = {{0}};
    struct snapshot_plan plan;
    struct run_config config;

    need_sentence(run_config_load(f, &config, &err), &err);
    run_config_free(&config);
    err.text[0] = 0;
    need_sentence(snapshot_plan(f, &plan, &err), &err);
    snapshot_plan_free(&plan);
    err.text[0] = 0;
    need_sentence(snapshot_load_vm(vm, f, &err), &err);
}

static void parse(const u8 *data, size_t size, bool must)
{
    struct blob image = {.data = (u8 *)(uintptr_t)data, .size = size};
    struct vmm_error err = {{0}};
    struct snapshot_file f;
    int rc = snapshot_parse(&image, &f, &err);

    need_sentence(rc, &err);
    if (rc && must)
        abort();
    if (rc)
        return;
    use(&f);
    snapshot_file_free(&f);
}

/* Has this section been there already, or would it be out of order? */
static bool fits(u32 type, u32 instance)
{
    static u32 seen[SECTIONS_MAX][2];
    static unsigned n;
    static u32 memory;

    if (!type) {
        n = memory = 0;
        return false;
    }
    if (type == SNAPSHOT_MEMORY)
        return instance == memory && ++memory;
    for (unsigned i = 0; i < n; i++)
        if (seen[i][0] == type && seen[i][1] == instance)
            return false;
    if (n == SECTIONS_MAX)
        return false;
    seen[n][0] = type;
    seen[n++][1] = instance;
    return true;
}

static void frame_and_parse(struct fuzz_input in)
{
    struct snapshot_writer w;
    u8 *image;

    if (ftruncate(out, 0) || lseek(out, 0, SEEK_SET) || snapshot_write_begin(&w, out, NULL))
        abort();
    fits(0, 0);
    for (unsigned i = 0; i < SECTIONS_MAX && in.size; i++) {
        u32 type = fuzz_u8(&in) % (SNAPSHOT_SESSION + 1), instance = fuzz_u8(&in),
            len = fuzz_u32(&in);

        if (len > in.size)
            len = (u32)in.size;
        if (type && fits(type, instance) && snapshot_write(&w, type, instance, in.data, len, NULL))
            abort();
        in.data += len;
        in.size -= len;
    }
    if (snapshot_write_end(&w, NULL))
        abort();
    image = malloc(w.bytes);
    if (!image)
        return;
    if (pread(out, image, w.bytes, 0) != (ssize_t)w.bytes)
        abort();
    parse(image, w.bytes, true);
    free(image);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    if (!vm)
        set_up();
    if (size >= 8 && !memcmp(data, SNAPSHOT_MAGIC, 8))
        parse(data, size, false);
    else
        frame_and_parse((struct fuzz_input){data, size});
    return 0;
}
