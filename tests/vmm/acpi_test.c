// SPDX-License-Identifier: MIT
// ACPI tables as a guest would walk them: signatures, checksums, addresses; AML lengths and descriptors.
#include "tap.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/board.h"

#include <errno.h>

static u8 area[BOARD_ACPI_SIZE];

static u64 get(const u8 *p, unsigned bytes)
{
    u64 v = 0;

    memcpy(&v, p, bytes);
    return v;
}

static u8 sum(const u8 *p, u64 len)
{
    u8 s = 0;

    while (len--)
        s += *p++;
    return s;
}

static const u8 *table_at(u64 gpa)
{
    return gpa >= BOARD_ACPI && gpa < BOARD_ACPI + sizeof(area) ? area + (gpa - BOARD_ACPI) : NULL;
}

static const u8 *check_table(u64 gpa, const char *signature)
{
    const u8 *t = table_at(gpa);

    if (!ok(t && !memcmp(t, signature, 4), "%s is where its pointer says", signature))
        return NULL;
    is_u64(sum(t, get(t + 4, 4)), 0, "%s: checksum", signature);
    return t;
}

/* The package length at (p): value and bytes used. */
static u32 pkg_length(const u8 *p, unsigned *used)
{
    unsigned more = p[0] >> 6;
    u32 v = more ? p[0] & 0xf : p[0] & 0x3f;

    for (unsigned i = 0; i < more; i++)
        v |= (u32)p[1 + i] << (4 + 8 * i);
    *used = more + 1;
    return v;
}

static void check_dsdt(const u8 *t, unsigned devices)
{
    u64 len = get(t + 4, 4);
    const u8 *aml = t + 36, *end = t + len, *in, *p;
    unsigned used, seen = 0, virtio = 0;
    u32 scope;

    ok(aml[0] == 0x10, "DSDT begins with Scope");
    scope = pkg_length(aml + 1, &used);
    ok(aml + 1 + scope < end && !memcmp(aml + 1 + used, "\\_SB_", 5), "Scope(\\_SB)");
    in = aml + 1 + used + 5;
    while (in < aml + 1 + scope) {
        if (in[0] != 0x5b || in[1] != 0x82)
            break;
        p = in + 2;
        in = p + pkg_length(p, &used);
        for (; p + 9 < in; p++) {
            if (memcmp(p, "LNRO0005", 9))
                continue;
            virtio++;
        }
        seen++;
    }
    ok(in == aml + 1 + scope, "the devices fill the scope exactly");
    is_u64(seen, devices + 1, "COM1 and the virtio devices");
    is_u64(virtio, devices, "LNRO0005");
    ok(in[0] == 0x08 && !memcmp(in + 1, "_S5_", 4) && in[5] == 0x12, "Name(_S5, Package)");
    ok(in + 6 + pkg_length(in + 6, &used) == end, "which ends the table");
}

static void check_madt(const u8 *t, unsigned cpus)
{
    const u8 *p = t + 44, *end = t + get(t + 4, 4);
    unsigned lapics = 0, ioapics = 0, sci = 0, nmi = 0;

    is_u64(get(t + 36, 4), BOARD_LAPIC, "MADT: LAPIC address");
    while (p + 2 <= end && p[1]) {
        lapics += p[0] == 0 && p[1] == 8 && p[3] == lapics && get(p + 4, 4) == 1;
        ioapics += p[0] == 1 && p[1] == 12 && get(p + 4, 4) == BOARD_IOAPIC && !get(p + 8, 4);
        sci += p[0] == 2 && p[3] == 9 && get(p + 4, 4) == 9 && get(p + 8, 2) == 0x0d;
        nmi += p[0] == 4 && p[2] == 0xff && p[5] == 1;
        p += p[1];
    }
    ok(p == end, "MADT: its entries fill it");
    is_u64(lapics, cpus, "MADT: LAPICs");
    is_u64(ioapics, 1, "MADT: IOAPIC");
    is_u64(sci, 1, "MADT: the SCI is active high, level");
    is_u64(nmi, 1, "MADT: NMI on LINT1");
}

static void test_tables(unsigned cpus, unsigned virtio)
{
    struct acpi_config cfg = {.cpus = cpus, .virtio = virtio};
    long n = acpi_build(&cfg, area, sizeof(area), BOARD_ACPI);
    const u8 *xsdt, *fadt, *madt, *dsdt;

    printf("# %u CPUs, %u devices: %ld bytes\n", cpus, virtio, n);
    ok(n > 0 && n <= (long)sizeof(area), "built");
    ok(!memcmp(area, "RSD PTR ", 8), "RSDP comes first");
    is_u64(sum(area, 20), 0, "RSDP: checksum");
    is_u64(sum(area, 36), 0, "RSDP: extended checksum");
    xsdt = check_table(get(area + 24, 8), "XSDT");
    is_u64(get(xsdt + 4, 4), 36 + 2 * 8, "XSDT: two tables");
    fadt = check_table(get(xsdt + 36, 8), "FACP");
    madt = check_table(get(xsdt + 44, 8), "APIC");
    is_u64(get(fadt + 40, 4), get(fadt + 140, 8), "FADT: one DSDT, twice");
    dsdt = check_table(get(fadt + 140, 8), "DSDT");
    ok(table_at(get(fadt + 36, 4)) && !(get(fadt + 36, 4) & 63), "FACS: 64-byte aligned");
    is_u64(get(fadt + 64, 4), BOARD_PM1A_CTRL, "FADT: PM1a control");
    ok((get(fadt + 112, 4) & BIT(10)) && get(fadt + 120, 8) == BOARD_RESET && fadt[128] == 6,
       "FADT: reset register");
    check_madt(madt, cpus);
    check_dsdt(dsdt, virtio);
}

static void test_limits(void)
{
    struct acpi_config cfg = {.cpus = 64, .virtio = BOARD_VIRTIO_MAX};
    long need = acpi_build(&cfg, area, sizeof(area), BOARD_ACPI), good = 0;
    struct aml a;
    u8 small[8];

    for (long size = 0; size < need; size++) {
        u8 *exact = malloc((size_t)size + 1);

        good += acpi_build(&cfg, exact, (size_t)size, BOARD_ACPI) == -ENOSPC;
        free(exact);
    }
    is_u64(good, need, "too small an area: refused at every size");
    aml_init(&a, small, sizeof(small));
    aml_scope(&a, "_SB");
    aml_end(&a);
    ok(a.overflow, "AML: too small a buffer is noticed");
    aml_name_string(&a, "TEXT", "more");
    ok(a.len <= sizeof(small), "AML: and nothing is written behind it");
}

static void test_aml(void)
{
    static const u8 com1_hid[] = {0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01};
    u8 buf[256];
    struct aml a;

    aml_init(&a, buf, sizeof(buf));
    aml_name_eisaid(&a, "_HID", "PNP0501");
    ok(a.len == sizeof(com1_hid) && !memcmp(buf, com1_hid, a.len), "EISAID(\"PNP0501\")");
    aml_init(&a, buf, sizeof(buf));
    aml_crs_memory_gsi(&a, 0xd0000000, 0x200, 16);
    ok(buf[5] == 0x11 && a.len == 5 + 1 + 3 + 2 + 12 + 9 + 2, "ResourceTemplate: length");
    ok(buf[11] == 0x86 && get(buf + 15, 4) == 0xd0000000 && get(buf + 19, 4) == 0x200,
       "Memory32Fixed");
    ok(buf[23] == 0x89 && buf[26] == 0x01 && get(buf + 28, 4) == 16,
       "Interrupt, level, active high");
    ok(buf[32] == 0x79, "EndTag");
}

int main(void)
{
    test_tables(1, 0);
    test_tables(2, 3);
    test_tables(64, BOARD_VIRTIO_MAX);
    test_limits();
    test_aml();
    return tap_done();
}
