// SPDX-License-Identifier: MIT
// irqfds and ioeventfds on real eventfds, with the service thread at work.
#include "irq_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

static void bump(int fd)
{
    u64 one = 1;

    if (write(fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

/* The counter, which is then 0 again; 0 if nothing is there. */
static u64 count(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    u64 n = 0;

    if (poll(&p, 1, 0) <= 0 || read(fd, &n, sizeof(n)) != sizeof(n))
        return 0;
    return n;
}

static int irqfd(struct fake *f, int fd, u32 gsi, u32 flags, int resample)
{
    struct kvm_irqfd a = {.fd = (u32)fd, .gsi = gsi, .flags = flags, .resamplefd = (u32)resample};

    return irqchip_irqfd(f->chip, &a);
}

static void start(struct fake *f)
{
    struct kvm_irq_routing_entry e[] = {
        {.gsi = 10, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = {KVM_IRQCHIP_IOAPIC, 10}},
        {.gsi = 24, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = 0x61}},
    };

    fake_init(f, 1);
    software_enable(f, 0);
    irqchip_routing_set(f->chip, e, 2, 0);
}

static void irqfds(void)
{
    int fd = eventfd(0, 0), dupe, pipes[2];
    struct fake f;

    start(&f);
    is_u64(irqfd(&f, fd, 24, 0, 0), 0, "assign, to a blocking eventfd");
    is_u64((u32)irqfd(&f, fd, 10, 0, 0), (u32)-EBUSY, "an eventfd twice");
    dupe = dup(fd);
    is_u64((u32)irqfd(&f, dupe, 10, 0, 0), (u32)-EBUSY, "by another number too");
    irqchip_service(f.chip);
    ok(!lapic_intr_pending(L(&f, 0)), "quiet");
    bump(dupe);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x61, "signal, message");
    ok(requests(&f, 0) & CPU_REQ_RECHECK, "which makes memory suspect");
    wr(&f, 0, 0xb0, 0);
    is_u64(count(fd), 0, "the counter is consumed");
    close(fd);
    bump(dupe);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x61, "the descriptor may be closed");
    wr(&f, 0, 0xb0, 0);
    is_u64(irqfd(&f, dupe, 24, KVM_IRQFD_FLAG_DEASSIGN, 0), 0, "deassign by another number");
    bump(dupe);
    irqchip_service(f.chip);
    ok(!lapic_intr_pending(L(&f, 0)), "silent");
    is_u64(irqfd(&f, dupe, 24, 0, 0), 0, "assign with a count already there");
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x61, "counts");

    is_u64((u32)irqfd(&f, 9999, 24, 0, 0), (u32)-EBADF, "no descriptor");
    if (pipe(pipes))
        abort();
    is_u64((u32)irqfd(&f, pipes[0], 24, 0, 0), (u32)-EINVAL, "not an eventfd");
    is_u64((u32)irqfd(&f, dupe, 24, 4, 0), (u32)-EINVAL, "unknown flag");
    close(pipes[0]);
    close(pipes[1]);
    close(dupe);
    fake_fini(&f);
}

static void resample(void)
{
    int fd = eventfd(0, EFD_NONBLOCK), again = eventfd(0, EFD_NONBLOCK);
    struct fake f;

    start(&f);
    redir(&f, 10, BIT(15) | 0x4a);
    is_u64(irqfd(&f, fd, 10, KVM_IRQFD_FLAG_RESAMPLE, again), 0, "assign with resamplefd");
    bump(fd);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "level interrupt");
    is_u64(count(again), 0, "no resample before EOI");
    wr(&f, 0, 0xb0, 0);
    is_u64(count(again), 1, "EOI signals the resamplefd");
    ok(!lapic_intr_pending(L(&f, 0)), "and the line is down");
    bump(fd);
    irqchip_service(f.chip);
    is_u64((u32)lapic_intr_ack(L(&f, 0)), 0x4a, "the device asks again");
    wr(&f, 0, 0xb0, 0);
    is_u64(count(again), 1, "and again is told");
    bump(fd);
    irqchip_service(f.chip);
    lapic_intr_ack(L(&f, 0));
    is_u64(irqfd(&f, fd, 10, KVM_IRQFD_FLAG_DEASSIGN, 0), 0, "deassign while the line is up");
    wr(&f, 0, 0xb0, 0);
    is_u64(count(again), 0, "no more signals");
    ok(!lapic_intr_pending(L(&f, 0)), "the line went with it");
    is_u64((u32)irqfd(&f, fd, 10, KVM_IRQFD_FLAG_RESAMPLE, 9999), (u32)-EBADF, "no resamplefd");
    close(fd);
    close(again);
    fake_fini(&f);
}

struct waiter {
    struct cpu cpu;
    _Atomic bool kicked;
};

static void note(void *arg)
{
    atomic_store(&((struct waiter *)arg)->kicked, true);
}

static void by_thread(void)
{
    static struct waiter w;
    struct timespec nap = {0, 1000000};
    struct kvm_irqfd a = {.fd = (u32)eventfd(0, 0), .gsi = 20};
    struct irqchip *chip;
    struct lapic *l;
    u32 val = 0x1ff, sel = 0x10 + 40;
    int tries = 2000;

    if (irqchip_create(&chip, NULL) || lapic_create(&l, chip, &w.cpu, 0, true, note, &w))
        abort();
    irqchip_mmio_write(chip, l, 0xfee000f0, &val, 4);
    val = 0x54;
    irqchip_mmio_write(chip, l, 0xfec00000, &sel, 4);
    irqchip_mmio_write(chip, l, 0xfec00010, &val, 4);
    is_u64(irqchip_irqfd(chip, &a), 0, "assign with a service thread");
    bump((int)a.fd);
    while (!atomic_load(&w.kicked) && tries--)
        nanosleep(&nap, NULL);
    is_u64((u32)lapic_intr_ack(l), 0x54, "the thread delivers");
    a.flags = KVM_IRQFD_FLAG_DEASSIGN;
    irqchip_irqfd(chip, &a);
    close((int)a.fd);
    lapic_free(l);
    irqchip_free(chip);
}

static int ioevent(struct ioevents *e, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
    struct kvm_ioeventfd a = {
        .fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match};

    return ioevents_ioctl(e, &a);
}

static bool hit(struct ioevents *e, bool pio, u64 addr, unsigned len, u64 val)
{
    return ioevents_write(e, pio, addr, len, &val);
}

#define MATCH    KVM_IOEVENTFD_FLAG_DATAMATCH
#define PIO      KVM_IOEVENTFD_FLAG_PIO
#define DEASSIGN KVM_IOEVENTFD_FLAG_DEASSIGN

static void ioeventfds(void)
{
    int a = eventfd(0, EFD_NONBLOCK), b = eventfd(0, EFD_NONBLOCK), fill = 0;
    struct ioevents *e;

    if (ioevents_create(&e))
        abort();
    is_u64(ioevent(e, a, 0xd0000050, 4, MATCH, 0), 0, "MMIO, datamatch 0");
    is_u64(ioevent(e, b, 0xd0000050, 4, MATCH, 1), 0, "datamatch 1");
    ok(hit(e, false, 0xd0000050, 4, 1), "a write of 1 is taken");
    ok(count(a) == 0 && count(b) == 1, "by the second");
    ok(hit(e, false, 0xd0000050, 4, 0) && count(a) == 1, "0 by the first");
    ok(!hit(e, false, 0xd0000050, 4, 2), "2 by neither");
    ok(!hit(e, false, 0xd0000050, 2, 0), "another length by neither");
    ok(!hit(e, true, 0xd0000050, 4, 0), "a port is another space");
    ok(!hit(e, false, 0xd0000051, 4, 0), "the next address is another");
    is_u64((u32)ioevent(e, b, 0xd0000050, 4, MATCH, 0), (u32)-EEXIST, "the same match twice");
    is_u64((u32)ioevent(e, b, 0xd0000050, 4, 0, 0), (u32)-EEXIST, "a wildcard over a match");
    is_u64((u32)ioevent(e, b, 0xd0000050, 0, 0, 0), (u32)-EEXIST, "any length over one");
    is_u64(ioevent(e, b, 0xd0000050, 2, 0, 0), 0, "another length beside it");
    is_u64(ioevent(e, a, 0x60, 1, PIO, 0), 0, "a port");
    ok(hit(e, true, 0x60, 1, 0xff) && count(a) == 1, "any value");
    is_u64(ioevent(e, a, 0x1000, 0, 0, 0), 0, "any length");
    ok(hit(e, false, 0x1000, 8, 5) && hit(e, false, 0x1000, 1, 5) && count(a) == 2, "takes all");
    is_u64(ioevent(e, a, 0x2000, 8, MATCH, 0x1122334455667788), 0, "8 bytes");
    ok(hit(e, false, 0x2000, 8, 0x1122334455667788) && count(a) == 1, "compares all of them");
    ok(!hit(e, false, 0x2000, 8, 0x0022334455667788), "to the last");

    is_u64((u32)ioevent(e, a, 0x3000, 0, MATCH, 0), (u32)-EINVAL, "datamatch without length");
    is_u64((u32)ioevent(e, a, 0x3000, 3, 0, 0), (u32)-EINVAL, "length 3");
    is_u64((u32)ioevent(e, a, ~0ull, 4, 0, 0), (u32)-EINVAL, "wraps");
    is_u64((u32)ioevent(e, a, 0x3000, 4, 0x80, 0), (u32)-EINVAL, "unknown flag");
    is_u64((u32)ioevent(e, 9999, 0x3000, 4, 0, 0), (u32)-EBADF, "no descriptor");

    is_u64((u32)ioevent(e, b, 0xd0000050, 4, MATCH | DEASSIGN, 0), (u32)-ENOENT,
           "deassign by another eventfd");
    is_u64(ioevent(e, a, 0xd0000050, 4, MATCH | DEASSIGN, 0), 0, "deassign");
    ok(!hit(e, false, 0xd0000050, 4, 0), "nobody takes it now");
    ok(hit(e, false, 0xd0000050, 4, 1), "its neighbour lives");
    while (fill < 2000 && !ioevent(e, a, 0x100000 + (u64)fill * 8, 4, 0, 0))
        fill++;
    ok(fill > 900 && fill <= 1000, "there is a limit");
    is_u64((u32)ioevent(e, a, 0x900000, 4, 0, 0), (u32)-ENOSPC, "with its error");
    ioevents_free(e);
    close(a);
    close(b);
}

int main(void)
{
    irqfds();
    resample();
    by_thread();
    ioeventfds();
    return tap_done();
}
