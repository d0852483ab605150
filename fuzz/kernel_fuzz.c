// SPDX-License-Identifier: MIT
// Kernel images from anywhere: bzImage header, each decompressor, the ELF loader, notes, modules, ELF needs.
#include "fuzz.h"
#include "mem/mem.h"
#include "vmm/bzimage.h"
#include "vmm/elf.h"
#include "vmm/initramfs/elfdeps.h"
#include "vmm/initramfs/modules.h"

#include <stdlib.h>
#include <sys/mman.h>

#define RAM          (8ul << 20)
#define UNPACKED_MAX (4u << 20) /* what a bzImage may announce here, so that a run stays short */

static struct mem *memory(void)
{
    static struct mem *m;
    void *ram;

    if (m)
        return m;
    ram =
        mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram == MAP_FAILED || mem_create(&m) || mem_slot_set(m, 0, 0, RAM, ram, 0))
        abort();
    return m;
}

/* What a kernel that parses must promise. */
static void load(const struct blob *image)
{
    struct vmm_error err = {{0}};
    struct elf_kernel k;

    if (elf_parse(image, &k, &err)) {
        if (!err.text[0])
            abort(); /* refused without a reason */
        return;
    }
    if (k.start >= k.end || k.pvh_entry > UINT32_MAX)
        abort();
    if (elf_load(image, memory(), &err) && !err.text[0])
        abort();
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    struct blob image = {.data = malloc(size + 1), .size = size}, vmlinux;
    struct vmm_error err = {{0}};
    struct elf_needs needs;
    u32 announced = 0;

    if (!image.data)
        return 0;
    memcpy(image.data, data, size);
    bzimage_version(&image);
    if (size >= 4)
        memcpy(&announced, data + size - 4, 4);
    if (bzimage_is(&image) && announced <= UNPACKED_MAX) {
        if (bzimage_unpack(&image, &vmlinux, &err) == 0) {
            if (!vmlinux.size || vmlinux.size > announced)
                abort();
            load(&vmlinux);
            blob_free(&vmlinux);
        } else if (!err.text[0]) {
            abort();
        }
    } else {
        load(&image);
        module_info(&image, "depends");
        if (elf_needs_read(&image, &needs) == 0)
            elf_needs_free(&needs);
    }
    free(image.data);
    return 0;
}
