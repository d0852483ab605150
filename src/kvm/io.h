// SPDX-License-Identifier: MIT
// Accesses that user space serves: the queue of exits they make and the log that completes them.
#pragma once

#include "base/types.h"

/*
 * The CPU restarts an instruction whose read cannot be answered, and finishes one whose write is
 * only posted. So one instruction can make several exits:
 *
 *   queue   what user space has yet to see, in order: any number of writes, then at most one read
 *   log     the reads of the waiting instruction that user space has answered; the next try takes
 *           them in order, up to the first read that is new
 *
 * A REP INS is answered in bulk, up to a page at a time: the first answer goes to the log as any other, those after it
 * wait in (bulk) and are used up one by one as the instruction moves on.
 *
 * The log belongs to one state of RIP and the string registers. A REP instruction that moved on has
 * used its answers up: they are dropped.
 */
#define KVM_IO_FRAGS 80 /* FXSAVE to MMIO makes 64 */

struct kvm_frag {
    u64 addr;
    u64 data;
    u32 count; /* elements of (size); more than 1 only for REP INS */
    u8 size;   /* 1 to 8 */
    bool pio, write;
};

struct kvm_io {
    struct kvm_frag queue[KVM_IO_FRAGS];
    unsigned queued, shown;
    struct kvm_frag log[KVM_IO_FRAGS];
    unsigned logged, used;
    bool waiting; /* an instruction waits for the read at the end of the queue */
    bool overflow;
    u64 key[4];   /* RIP, RCX, RSI, RDI when it began to */
    u8 bulk[PAGE_SIZE];
    u64 bulk_rip; /* of the REP INS that it is for */
    u32 bulk_size, bulk_used; /* bytes */
    u16 bulk_port;
    u8 bulk_width;
};

struct kvm_vcpu;

/* Guest accesses that nobody below took. For struct cpu_bus: op_results. */
int kvm_io_read(struct kvm_vcpu *v, bool pio, u64 addr, void *buf, unsigned size);
int kvm_io_write(struct kvm_vcpu *v, bool pio, u64 addr, const void *buf, unsigned size);

/*
 * The CPU has stopped: true when user space has to see something first (then kvm_run says what).
 * Must be called after every cpu_run() and cpu_step().
 */
bool kvm_io_stopped(struct kvm_vcpu *v);

enum kvm_io_next { KVM_IO_IDLE /* nothing was pending */, KVM_IO_SHOWN /* another exit */, KVM_IO_STEP /* cpu_step() now */ };

/* KVM_RUN again: take user space's answer. */
enum kvm_io_next kvm_io_complete(struct kvm_vcpu *v);

/* Is the REP INS at RIP still to be fed from what user space gave? */
bool kvm_io_bulk_left(const struct kvm_vcpu *v);

/* Forget everything: the vCPU was reset or its state replaced. */
void kvm_io_drop(struct kvm_vcpu *v);
