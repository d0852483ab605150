// SPDX-License-Identifier: MIT
// The address map of the machine, and the dispatch of port and MMIO accesses to its devices.
#pragma once

#include "mem/mem.h"
#include "virtio/mmio.h"
#include "vmm/cmos.h"
#include "vmm/serial8250.h"

#include <pthread.h>

/*
 * Guest-physical addresses:
 *
 *   0x0000_0500  GDT                    for the 64-bit boot protocol
 *   0x0000_6000  PVH start info, module list, memory map
 *   0x0000_7000  zero page              for the 64-bit boot protocol
 *   0x0000_9000  page tables, 6 pages   for the 64-bit boot protocol
 *   0x0002_0000  kernel command line
 *   0x0009_fc00  end of low RAM
 *   0x000e_0000  ACPI tables, up to 1 MiB (RAM, reserved in the memory map)
 *   0x0010_0000  RAM: kernel where it wants to be, initrd at the top below 3 GiB
 *   0xc000_0000  end of RAM below 4 GiB
 *   0xd000_0000  virtio-mmio devices, one page each
 *   0xfec0_0000  IOAPIC                 (KVM)
 *   0xfee0_0000  local APICs            (KVM)
 *   0xfffb_c000  identity-map page and TSS for VMX's real mode
 *   0x1_0000_0000  the rest of RAM
 *
 * Ports: 0x20-21, 0x40-43, 0x61, 0xa0-a1 PIC and PIT (KVM); 0x60, 0x64 keyboard controller,
 * reset line only; 0x70-71 CMOS; 0xe9 debug output; 0x3f8-3ff COM1; 0x600 PM1a event block,
 * 0x604 PM1a control (S5: power off); 0xcf9 reset.
 *
 * Interrupts (GSI): 4 COM1, 9 ACPI SCI, 16 … virtio-mmio.
 */
#define BOARD_GDT          0x500u
#define BOARD_PVH          0x6000u
#define BOARD_ZERO_PAGE    0x7000u
#define BOARD_PAGE_TABLES  0x9000u
#define BOARD_CMDLINE      0x20000u
#define BOARD_CMDLINE_SIZE 2048u /* COMMAND_LINE_SIZE of Linux on x86 */
#define BOARD_LOW_RAM_END  0x9fc00u
#define BOARD_ACPI         0xe0000u
#define BOARD_ACPI_SIZE    0x20000u
#define BOARD_HIGH_RAM     0x100000u
#define BOARD_RAM_HOLE     0xc0000000u
#define BOARD_VIRTIO       0xd0000000u
#define BOARD_VIRTIO_STEP  0x1000u
#define BOARD_IOAPIC       0xfec00000u
#define BOARD_LAPIC        0xfee00000u
#define BOARD_IDENTITY_MAP 0xfffbc000u
#define BOARD_TSS          0xfffbd000u
#define BOARD_RAM_ABOVE    0x100000000ull

#define BOARD_COM1       0x3f8u
#define BOARD_PM1A_EVENT 0x600u
#define BOARD_PM1A_CTRL  0x604u
#define BOARD_RESET      0xcf9u
#define BOARD_RESET_FULL 0x6u

#define BOARD_IRQ_COM1   4
#define BOARD_IRQ_SCI    9
#define BOARD_IRQ_VIRTIO 16
#define BOARD_VIRTIO_MAX 8 /* GSIs 16 … 23 */

/* SLP_TYPa of the S5 state, as the DSDT says. */
#define BOARD_S5 5

/* What the guest asked of the machine. */
enum board_request { BOARD_NOTHING, BOARD_POWER_OFF, BOARD_RESET_ALL };

struct board_config {
    struct mem *mem;
    /* Set interrupt line (gsi); called with the device lock held. */
    void (*irq)(void *opaque, unsigned gsi, bool level);
    /* Text of COM1 and of the debug port, NULL to drop it; called with the device lock held. */
    void (*serial_output)(void *opaque, const void *data, size_t len);
    void *irq_opaque, *serial_opaque;
};

struct board;
struct board_virtio {
    struct board *board;
    struct virtio_mmio *transport;
    unsigned gsi;
};

struct board {
    struct board_config cfg;
    pthread_mutex_t lock; /* the device lock: everything below, and all virtio devices */
    struct serial8250 com1;
    struct cmos cmos;
    u8 pm1_event[4], pm1_control[2];
    struct board_virtio virtio[BOARD_VIRTIO_MAX];
    unsigned nr_virtio;
};

void board_init(struct board *b, const struct board_config *cfg);

/* Frees the devices too. */
void board_fini(struct board *b);

/*
 * Plug in (d), which the board owns from now on, before the guest starts. 0, -ENOSPC
 * (BOARD_VIRTIO_MAX devices are there) or -ENOMEM; then (d) stays the caller's.
 */
int board_add_virtio(struct board *b, struct virtio_device *d);

/*
 * Save or load the board's own devices, or the virtio device in place (i) < nr_virtio; device lock
 * held. Loading raises no interrupts: board_redrive() raises what stood when it was saved, for
 * interrupt chips that were loaded meanwhile, and has all queues looked at once.
 */
struct state;
void board_state(struct board *b, struct state *s);
void board_virtio_state(struct board *b, unsigned i, struct state *s);
void board_redrive(struct board *b);

/*
 * A guest access; takes the device lock. Reads where nothing is give all ones, writes there
 * do nothing. Port accesses return what the guest asked of the machine.
 */
enum board_request board_port(struct board *b, u16 port, void *data, unsigned len, bool write);
void board_mmio(struct board *b, gpa_t gpa, void *data, unsigned len, bool write);
