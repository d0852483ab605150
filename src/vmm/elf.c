// SPDX-License-Identifier: MIT
// Load an ELF kernel: every offset and size is checked before it is used.
#include "vmm/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define PHDRS_MAX         256u
#define NOTE_PHYS32_ENTRY 18 /* XEN_ELFNOTE_PHYS32_ENTRY, with name "Xen" */

bool elf_is(const struct blob *image)
{
    return image->size >= SELFMAG && !memcmp(image->data, ELFMAG, SELFMAG);
}

static int read_header(const struct blob *image, Elf64_Ehdr *eh, struct vmm_error *err)
{
    if (!elf_is(image) || image->size < sizeof(*eh))
        return vmm_fail(err, -EINVAL, "the kernel's ELF header is truncated");
    memcpy(eh, image->data, sizeof(*eh));
    if (eh->e_ident[EI_CLASS] != ELFCLASS64 || eh->e_ident[EI_DATA] != ELFDATA2LSB ||
        eh->e_machine != EM_X86_64)
        return vmm_fail(err, -EINVAL, "the ELF kernel is not for x86-64");
    if (eh->e_type != ET_EXEC && eh->e_type != ET_DYN)
        return vmm_fail(err, -EINVAL, "the ELF kernel is not an executable");
    if (eh->e_phentsize != sizeof(Elf64_Phdr) || eh->e_phnum == 0 || eh->e_phnum > PHDRS_MAX)
        return vmm_fail(err, -EINVAL, "the ELF kernel has no usable program headers");
    if (eh->e_phoff > image->size ||
        image->size - eh->e_phoff < (u64)eh->e_phnum * sizeof(Elf64_Phdr))
        return vmm_fail(err, -EINVAL, "the ELF kernel is truncated before its program headers end");
    return 0;
}

static int read_phdr(const struct blob *image, const Elf64_Ehdr *eh, unsigned i, Elf64_Phdr *ph,
                     struct vmm_error *err)
{
    memcpy(ph, image->data + eh->e_phoff + (u64)i * sizeof(*ph), sizeof(*ph));
    if (ph->p_type != PT_LOAD && ph->p_type != PT_NOTE)
        return 0;
    if (ph->p_offset > image->size || image->size - ph->p_offset < ph->p_filesz)
        return vmm_fail(err, -EINVAL,
                        "the ELF kernel is truncated: segment %u ends behind the file", i);
    if (ph->p_type == PT_LOAD &&
        (ph->p_memsz < ph->p_filesz || ph->p_paddr + ph->p_memsz < ph->p_paddr))
        return vmm_fail(err, -EINVAL, "segment %u of the ELF kernel has an impossible size", i);
    return 0;
}

/* The 32-bit entry in one note segment, or 0. */
static gpa_t find_pvh_note(const u8 *p, u64 len)
{
    while (len >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr nh;
        u64 name, desc;

        memcpy(&nh, p, sizeof(nh));
        name = ALIGN_UP((u64)nh.n_namesz, 4);
        desc = ALIGN_UP((u64)nh.n_descsz, 4);
        p += sizeof(nh);
        len -= sizeof(nh);
        if (name > len || desc > len - name)
            return 0;
        if (nh.n_type == NOTE_PHYS32_ENTRY && nh.n_namesz == 4 && !memcmp(p, "Xen", 4) &&
            (nh.n_descsz == 4 || nh.n_descsz == 8)) {
            u64 entry = 0;

            memcpy(&entry, p + name, nh.n_descsz);
            return entry <= UINT32_MAX ? entry : 0;
        }
        p += name + desc;
        len -= name + desc;
    }
    return 0;
}

int elf_parse(const struct blob *image, struct elf_kernel *ret, struct vmm_error *err)
{
    struct elf_kernel k = {.start = UINT64_MAX};
    Elf64_Ehdr eh;
    int rc = read_header(image, &eh, err);

    if (rc)
        return rc;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;

        rc = read_phdr(image, &eh, i, &ph, err);
        if (rc)
            return rc;
        if (ph.p_type == PT_NOTE && !k.pvh_entry)
            k.pvh_entry = find_pvh_note(image->data + ph.p_offset, ph.p_filesz);
        if (ph.p_type != PT_LOAD || !ph.p_memsz)
            continue;
        if (ph.p_paddr < k.start)
            k.start = ph.p_paddr & PAGE_MASK;
        if (ph.p_paddr + ph.p_memsz > k.end)
            k.end = ALIGN_UP(ph.p_paddr + ph.p_memsz, PAGE_SIZE);
    }
    if (k.start >= k.end)
        return vmm_fail(err, -EINVAL, "the ELF kernel has nothing to load");
    k.entry = eh.e_entry;
    *ret = k;
    return 0;
}

int elf_load(const struct blob *image, struct mem *m, struct vmm_error *err)
{
    Elf64_Ehdr eh;
    int rc = read_header(image, &eh, err);

    if (rc)
        return rc;
    for (unsigned i = 0; i < eh.e_phnum; i++) {
        Elf64_Phdr ph;
        u8 *to;

        rc = read_phdr(image, &eh, i, &ph, err);
        if (rc)
            return rc;
        if (ph.p_type != PT_LOAD || !ph.p_memsz)
            continue;
        to = mem_span(m, ph.p_paddr, ph.p_memsz, true);
        if (!to)
            return vmm_fail(err, -EINVAL, "the kernel needs memory up to %llu MiB",
                            (unsigned long long)((ph.p_paddr + ph.p_memsz + 0xfffff) >> 20));
        memcpy(to, image->data + ph.p_offset, ph.p_filesz);
        memset(to + ph.p_filesz, 0, ph.p_memsz - ph.p_filesz);
        mem_written(m, ph.p_paddr, ph.p_memsz);
    }
    return 0;
}
