// SPDX-License-Identifier: MIT
// Accesses that user space serves: KVM_EXIT_IO and KVM_EXIT_MMIO, one fragment at a time.

#include "kvm/kvm.h"

#include <string.h>

static u64 load(const void *buf, unsigned size)
{
    u64 v = 0;

    memcpy(&v, buf, size);
    return v;
}

static bool same(const struct kvm_frag *f, bool pio, u64 addr, unsigned size)
{
    return f->pio == pio && f->addr == addr && f->size == size;
}

static struct kvm_frag *enqueue(struct kvm_vcpu *v)
{
    struct kvm_io *io = &v->io;

    if (io->queued == KVM_IO_FRAGS) {
        io->overflow = true;
        return NULL;
    }
    return &io->queue[io->queued++];
}

bool kvm_io_bulk_left(const struct kvm_vcpu *v)
{
    return v->io.bulk_used < v->io.bulk_size && v->cpu->rip == v->io.bulk_rip;
}

/* The next element of what user space gave a REP INS. */
static bool bulk_take(struct kvm_vcpu *v, u64 port, void *buf, unsigned size)
{
    struct kvm_io *io = &v->io;

    if (io->bulk_used >= io->bulk_size)
        return false;
    if (port != io->bulk_port || size != io->bulk_width) {
        io->bulk_size = 0; /* another instruction */
        return false;
    }
    memcpy(buf, io->bulk + io->bulk_used, size);
    io->bulk_used += size;
    return true;
}

int kvm_io_read(struct kvm_vcpu *v, bool pio, u64 addr, void *buf, unsigned size)
{
    struct kvm_io *io = &v->io;
    struct kvm_frag *f;

    if (pio && io->used >= io->logged && bulk_take(v, addr, buf, size))
        return OP_NEXT;
    if (io->used < io->logged) {
        f = &io->log[io->used];
        if (same(f, pio, addr, size)) {
            io->used++;
            memcpy(buf, &f->data, size);
            return OP_NEXT;
        }
        io->logged = io->used; /* another instruction than before: the rest is of no use */
    }
    f = enqueue(v);
    if (f) {
        *f = (struct kvm_frag){.addr = addr, .size = (u8)size, .pio = pio, .count = 1};
        if (pio && v->cpu->io_elements > 1)
            f->count = v->cpu->io_elements;
        io->waiting = true;
    }
    return OP_EXIT;
}

int kvm_io_write(struct kvm_vcpu *v, bool pio, u64 addr, const void *buf, unsigned size)
{
    struct kvm_frag *f = enqueue(v);

    cpu_request(v->cpu, CPU_REQ_EXIT);
    if (!f)
        return OP_EXIT;
    *f = (struct kvm_frag){
        .addr = addr, .size = (u8)size, .count = 1, .pio = pio, .write = true, .data = load(buf, size)};
    return OP_STOP;
}

/* Put the fragment that is next into kvm_run. */
static void show(struct kvm_vcpu *v)
{
    const struct kvm_frag *f = &v->io.queue[v->io.shown];
    struct kvm_run *run = v->run;

    if (f->pio) {
        run->exit_reason = KVM_EXIT_IO;
        run->io.direction = f->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
        run->io.size = f->size;
        run->io.port = (u16)f->addr;
        run->io.count = f->count;
        run->io.data_offset = KVM_PIO_OFFSET;
        if (f->write)
            memcpy((u8 *)run + KVM_PIO_OFFSET, &f->data, f->size);
        v->stats.io_exits++;
        return;
    }
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = f->addr;
    run->mmio.len = f->size;
    run->mmio.is_write = f->write;
    memset(run->mmio.data, 0, sizeof(run->mmio.data));
    if (f->write)
        memcpy(run->mmio.data, &f->data, f->size);
    v->stats.mmio_exits++;
}

static void key_of(const struct cpu *c, u64 key[4])
{
    key[0] = c->rip;
    key[1] = c->r[REG_RCX];
    key[2] = c->r[REG_RSI];
    key[3] = c->r[REG_RDI];
}

bool kvm_io_stopped(struct kvm_vcpu *v)
{
    struct kvm_io *io = &v->io;
    u64 key[4];

    key_of(v->cpu, key);
    if (!io->waiting || memcmp(key, io->key, sizeof(key)))
        io->logged = 0;
    memcpy(io->key, key, sizeof(key));
    io->used = 0;
    io->shown = 0;
    if (!io->queued)
        return false;
    show(v);
    return true;
}

/* Take user space's answer to a read. */
static void answer(struct kvm_vcpu *v, struct kvm_frag *f)
{
    struct kvm_io *io = &v->io;
    const void *from = f->pio ? (u8 *)v->run + KVM_PIO_OFFSET : v->run->mmio.data;

    f->data = load(from, f->size);
    if (io->logged < KVM_IO_FRAGS)
        io->log[io->logged++] = *f;
    io->bulk_size = f->count > 1 ? f->count * f->size : 0;
    if (!io->bulk_size)
        return;
    memcpy(io->bulk, from, io->bulk_size);
    io->bulk_used = f->size; /* the first is in the log */
    io->bulk_rip = v->cpu->rip;
    io->bulk_port = (u16)f->addr;
    io->bulk_width = f->size;
}

enum kvm_io_next kvm_io_complete(struct kvm_vcpu *v)
{
    struct kvm_io *io = &v->io;
    struct kvm_frag *f;
    u64 key[4];

    if (io->shown >= io->queued)
        return KVM_IO_IDLE;
    f = &io->queue[io->shown++];
    if (!f->write)
        answer(v, f);
    if (io->shown < io->queued) {
        show(v);
        return KVM_IO_SHOWN;
    }
    io->queued = io->shown = 0;
    if (!io->waiting)
        return KVM_IO_IDLE;
    io->waiting = false;
    key_of(v->cpu, key);
    if (key[0] == io->key[0])
        return KVM_IO_STEP;
    io->logged = 0; /* user space moved RIP away from it */
    io->bulk_size = 0;
    return KVM_IO_IDLE;
}

void kvm_io_drop(struct kvm_vcpu *v)
{
    struct kvm_io *io = &v->io;

    io->queued = io->shown = io->logged = io->used = 0;
    io->bulk_size = io->bulk_used = 0;
    io->waiting = io->overflow = false;
}
