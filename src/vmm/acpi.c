// SPDX-License-Identifier: MIT
// RSDP, XSDT, FADT, FACS, DSDT and MADT (ACPI 6.4, chapter 5).
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/board.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OEM_ID       "UVIRT "
#define OEM_TABLE_ID "UVIRT   "

struct header {
    char signature[4];
    u32 length;
    u8 revision, checksum;
    char oem_id[6], oem_table_id[8];
    u32 oem_revision;
    char creator_id[4];
    u32 creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 36, "ACPI 6.4, table 5.4");

struct gas {
    u8 space, width, offset, access; /* space 1: system I/O */
    u64 address;
} __attribute__((packed));

struct fadt {
    struct header h;
    u32 facs, dsdt;
    u8 reserved0, preferred_profile;
    u16 sci_int;
    u32 smi_cmd;
    u8 acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    u32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst_cnt;
    u16 p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
    u8 duty_offset, duty_width, day_alarm, month_alarm, century;
    u16 boot_arch;
    u8 reserved1;
    u32 flags;
    struct gas reset_reg;
    u8 reset_value;
    u16 arm_boot_arch;
    u8 minor;
    u64 x_facs, x_dsdt;
    struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1;
    struct gas sleep_control, sleep_status;
    u64 hypervisor_vendor;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "ACPI 6.4, table 5.9");

#define FADT_WBINVD        BIT(0)
#define FADT_PROC_C1       BIT(2)
#define FADT_POWER_BUTTON  BIT(4) /* set: not fixed hardware */
#define FADT_SLEEP_BUTTON  BIT(5)
#define FADT_FIX_RTC       BIT(6) /* set: no RTC wake status in fixed hardware */
#define FADT_RESET_REG_SUP BIT(10)

#define BOOT_ARCH_LEGACY_DEVICES BIT(0)
#define BOOT_ARCH_NO_VGA         BIT(2)
#define BOOT_ARCH_NO_ASPM        BIT(4)

struct facs {
    char signature[4];
    u32 length, hardware_signature, waking_vector, global_lock, flags;
    u64 x_waking_vector;
    u8 version, reserved[31];
} __attribute__((packed));
_Static_assert(sizeof(struct facs) == 64, "ACPI 6.4, table 5.12");

struct rsdp {
    char signature[8];
    u8 checksum;
    char oem_id[6];
    u8 revision;
    u32 rsdt, length;
    u64 xsdt;
    u8 checksum_all, reserved[3];
} __attribute__((packed));
_Static_assert(sizeof(struct rsdp) == 36, "ACPI 6.4, table 5.3");

/* Interrupt source override flags: active high, edge or level (ACPI 6.4, table 5.25). */
#define MPS_HIGH_LEVEL  0x0d
#define LAPIC_ENABLED   1
#define PCAT_COMPATIBLE 1
#define ALL_PROCESSORS  0xff

struct writer {
    u8 *buf;
    size_t size, len;
    u32 base;
    bool overflow;
};

/* Space for (len) bytes at the next multiple of 64, zeroed; a scratch area once there is none. */
static void *take(struct writer *w, size_t len, u32 *ret_gpa)
{
    size_t at = ALIGN_UP(w->len, 64);

    if (w->overflow || at > w->size || len > w->size - at) {
        w->overflow = true;
        return NULL;
    }
    memset(w->buf + at, 0, len);
    w->len = at + len;
    *ret_gpa = w->base + (u32)at;
    return w->buf + at;
}

static u8 checksum(const void *p, size_t len)
{
    const u8 *b = p;
    u8 sum = 0;

    while (len--)
        sum += *b++;
    return (u8)-sum;
}

static void finish(void *table, const char *signature, u8 revision, size_t len)
{
    struct header h = {
        .length = (u32)len,
        .revision = revision,
        .oem_revision = 1,
        .creator_revision = 1,
    };

    memcpy(h.signature, signature, 4);
    memcpy(h.oem_id, OEM_ID, 6);
    memcpy(h.oem_table_id, OEM_TABLE_ID, 8);
    memcpy(h.creator_id, "UVRT", 4);
    memcpy(table, &h, sizeof(h));
    ((u8 *)table)[offsetof(struct header, checksum)] = checksum(table, len);
}

static u32 build_dsdt(struct writer *w, const struct acpi_config *cfg)
{
    static const u8 s5[] = {BOARD_S5, BOARD_S5, 0, 0};
    u8 body[4096];
    struct aml a;
    u32 gpa = 0;
    u8 *table;

    aml_init(&a, body, sizeof(body));
    aml_scope(&a, "_SB");
    aml_device(&a, "COM1");
    aml_name_eisaid(&a, "_HID", "PNP0501");
    aml_name_int(&a, "_UID", 1);
    aml_crs_io_irq(&a, BOARD_COM1, 8, BOARD_IRQ_COM1);
    aml_end(&a);
    for (unsigned i = 0; i < cfg->virtio; i++) {
        char name[5];

        snprintf(name, sizeof(name), "VM%02u", i % 100);
        aml_device(&a, name);
        aml_name_string(&a, "_HID", "LNRO0005"); /* the id that Linux' virtio_mmio knows */
        aml_name_int(&a, "_UID", i);
        aml_name_int(&a, "_CCA", 1);
        aml_crs_memory_gsi(&a, BOARD_VIRTIO + i * BOARD_VIRTIO_STEP, VIRTIO_MMIO_WINDOW,
                           BOARD_IRQ_VIRTIO + i);
        aml_end(&a);
    }
    aml_end(&a);
    aml_name_bytes(&a, "_S5", s5, sizeof(s5));
    table = a.overflow ? NULL : take(w, sizeof(struct header) + a.len, &gpa);
    if (!table) {
        w->overflow = true;
        return 0;
    }
    memcpy(table + sizeof(struct header), body, a.len);
    finish(table, "DSDT", 2, sizeof(struct header) + a.len);
    return gpa;
}

static struct gas port_register(u16 port, u8 bytes)
{
    return (struct gas){.space = 1, .width = (u8)(bytes * 8), .access = bytes, .address = port};
}

static u32 build_fadt(struct writer *w, u32 facs, u32 dsdt)
{
    u32 gpa = 0;
    struct fadt *f = take(w, sizeof(*f), &gpa);

    if (!f)
        return 0;
    f->facs = facs;
    f->dsdt = dsdt;
    f->x_dsdt = dsdt;
    f->sci_int = BOARD_IRQ_SCI;
    f->pm1a_evt = BOARD_PM1A_EVENT;
    f->pm1a_cnt = BOARD_PM1A_CTRL;
    f->pm1_evt_len = 4;
    f->pm1_cnt_len = 2;
    f->x_pm1a_evt = port_register(BOARD_PM1A_EVENT, 4);
    f->x_pm1a_evt.access = 2;
    f->x_pm1a_cnt = port_register(BOARD_PM1A_CTRL, 2);
    f->p_lvl2_lat = 0xfff; /* no C2, no C3 */
    f->p_lvl3_lat = 0xfff;
    f->century = 0x32;
    f->boot_arch = BOOT_ARCH_LEGACY_DEVICES | BOOT_ARCH_NO_VGA | BOOT_ARCH_NO_ASPM;
    f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_POWER_BUTTON | FADT_SLEEP_BUTTON | FADT_FIX_RTC |
               FADT_RESET_REG_SUP;
    f->reset_reg = port_register(BOARD_RESET, 1);
    f->reset_value = BOARD_RESET_FULL;
    f->minor = 4;
    memcpy(&f->hypervisor_vendor, "uvirt", 5);
    finish(f, "FACP", 6, sizeof(*f));
    return gpa;
}

static u32 build_facs(struct writer *w)
{
    u32 gpa = 0;
    struct facs *f = take(w, sizeof(*f), &gpa);

    if (!f)
        return 0;
    memcpy(f->signature, "FACS", 4);
    f->length = sizeof(*f);
    f->version = 2;
    return gpa;
}

static u8 *madt_override(u8 *p, u8 irq, u32 gsi, u16 flags)
{
    p[0] = 2;
    p[1] = 10;
    p[3] = irq;
    memcpy(p + 4, &gsi, 4);
    memcpy(p + 8, &flags, 2);
    return p + 10;
}

static u32 build_madt(struct writer *w, const struct acpi_config *cfg)
{
    size_t len = sizeof(struct header) + 8 + cfg->cpus * 8 + 12 + 10 + 6;
    const u32 lapic = BOARD_LAPIC, ioapic = BOARD_IOAPIC, flags = PCAT_COMPATIBLE;
    u32 gpa = 0;
    u8 *t = take(w, len, &gpa), *p;

    if (!t)
        return 0;
    p = t + sizeof(struct header);
    memcpy(p, &lapic, 4);
    memcpy(p + 4, &flags, 4);
    p += 8;
    for (unsigned i = 0; i < cfg->cpus; i++, p += 8) {
        p[1] = 8; /* type 0: local APIC */
        p[2] = (u8)i;
        p[3] = (u8)i;
        p[4] = LAPIC_ENABLED;
    }
    p[0] = 1; /* IOAPIC, id = cpus, GSI base 0 */
    p[1] = 12;
    p[2] = (u8)cfg->cpus;
    memcpy(p + 4, &ioapic, 4);
    p += 12;
    /* No override for the timer: KVM's own routing has GSI n, 0 too, on pin n. */
    p = madt_override(p, BOARD_IRQ_SCI, BOARD_IRQ_SCI, MPS_HIGH_LEVEL);
    p[0] = 4; /* local APIC NMI: LINT1 of all */
    p[1] = 6;
    p[2] = ALL_PROCESSORS;
    p[5] = 1;
    finish(t, "APIC", 5, len);
    return gpa;
}

long acpi_build(const struct acpi_config *cfg, void *buf, size_t size, u32 base)
{
    struct writer w = {.buf = buf, .size = size, .base = base};
    u32 rsdp_gpa = 0, xsdt_gpa = 0, facs, dsdt;
    u64 tables[2];
    struct rsdp *r = take(&w, sizeof(*r), &rsdp_gpa);
    u8 *x = take(&w, sizeof(struct header) + sizeof(tables), &xsdt_gpa);

    facs = build_facs(&w);
    dsdt = build_dsdt(&w, cfg);
    tables[0] = build_fadt(&w, facs, dsdt);
    tables[1] = build_madt(&w, cfg);
    if (w.overflow)
        return -ENOSPC;
    memcpy(x + sizeof(struct header), tables, sizeof(tables));
    finish(x, "XSDT", 1, sizeof(struct header) + sizeof(tables));
    memcpy(r->signature, "RSD PTR ", 8);
    memcpy(r->oem_id, OEM_ID, 6);
    r->revision = 2;
    r->length = sizeof(*r);
    r->xsdt = xsdt_gpa;
    r->checksum = checksum(r, 20);
    r->checksum_all = checksum(r, sizeof(*r));
    return (long)w.len;
}
