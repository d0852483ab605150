// SPDX-License-Identifier: MIT
// The KVM layer's own objects: what stands behind a system, VM or vCPU descriptor.
#pragma once

#include "base/types.h"
#include "cpu/cpu.h"
#include "cpu/world.h"
#include "kvm/io.h"
#include "kvm/irqchip.h"
#include "kvm/uapi.h"
#include "mem/mem.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * Glossary
 *
 *   object   what a descriptor stands for: system, VM or vCPU; counted references
 *   row      one ioctl in ioctl_table.h: number, argument, handler, capability
 *   raw      an ioctl argument as the caller gave it: a value, or an address not yet trusted
 *   frag     one I/O or MMIO access of at most 8 bytes that user space serves (io.h)
 *   outside  a vCPU's thread not in guest code; src/cpu/world.h
 *
 * Lock order, outermost first. Nothing is taken against it.
 *
 *   vcpu.mutex      one ioctl at a time on a vCPU; held through KVM_RUN
 *   vm.lock         slots, vCPU list, chips, VM settings
 *   the world       cpu_world_exclusive(): every vCPU outside guest code
 *   fd table lock   fd.c; chip locks: irqchip.h
 *
 * Bus callbacks (bus.c) run inside guest code: they must not take vcpu.mutex or vm.lock, since a
 * holder of vm.lock may be waiting for this very vCPU to get outside. What they read of a VM is
 * either fixed before the first vCPU exists (irqchip) or has a lock of its own (coalesced).
 */

enum kvm_class { KVM_CLASS_SYSTEM, KVM_CLASS_VM, KVM_CLASS_VCPU, KVM_CLASS_COUNT };

/* --- objects and descriptors (fd.c) --- */

struct kvm_object {
    enum kvm_class class;
    void (*destroy)(struct kvm_object *o); /* the last reference is gone */
    /* protected by the table lock */
    unsigned refs;
    unsigned fds; /* descriptors known to stand for it */
    unsigned generation;
    bool stray;   /* made for a descriptor that came from another process */
    u64 dev, ino; /* of the memfd: how a dup() is recognised */
    struct kvm_object *next;
};

/* One reference, no descriptor yet. */
void kvm_object_init(struct kvm_object *o, enum kvm_class class, void (*destroy)(struct kvm_object *));
void kvm_object_get(struct kvm_object *o);
void kvm_object_put(struct kvm_object *o);

/* True when (o) is another process's, which this one came from by fork() or got it from: its threads are elsewhere. */
bool kvm_object_foreign(const struct kvm_object *o);

/* A fresh close-on-exec memfd of (size) bytes, sealed against resizing: a descriptor, or -errno. */
int kvm_fd_make(const char *name, size_t size);

/* Let (fd) stand for (o), taking over one reference. 0, or -errno with the reference still the caller's. */
int kvm_fd_bind(int fd, struct kvm_object *o);

/* The object behind (fd) with a reference for the caller, or NULL. (hot): skip the check that fd was not recycled. */
struct kvm_object *kvm_fd_get(int fd, bool hot);

/* Close one descriptor. 0, or -EBADF when it is not one of ours. */
int kvm_fd_close(int fd);

/* --- the caller's memory (uaccess.c) --- */

/* memcpy to or from an address that may be bad: 0 or -EFAULT. */
int kvm_copy_in(void *dst, unsigned long src, size_t n);
int kvm_copy_out(unsigned long dst, const void *src, size_t n);

/* --- the VM --- */

#define KVM_VCPUS_MAX CPU_WORLD_MAX
#define KVM_VCPU_IDS_MAX (KVM_VCPUS_MAX * 4)
#define KVM_SLOTS_MAX 32764
#define KVM_EXITS_AVOIDABLE (KVM_X86_DISABLE_EXITS_HLT | KVM_X86_DISABLE_EXITS_PAUSE) /* with an irqchip none happens anyway */
#define KVM_PIO_OFFSET PAGE_SIZE
#define KVM_RING_OFFSET (2 * PAGE_SIZE)
#define KVM_MMAP_SIZE (3 * PAGE_SIZE)

struct kvm_vcpu;

enum kvm_irqchip_mode { KVM_CHIP_NONE, KVM_CHIP_KERNEL, KVM_CHIP_SPLIT };

struct kvm_vm {
    struct kvm_object o;
    struct mem *mem;
    struct cpu_world *world;
    struct kvmclock *clock;
    struct ioevents *ioevents;
    struct coalesced *coalesced;

    pthread_mutex_t lock;
    /* protected by (lock); fixed once a vCPU exists */
    struct irqchip *irqchip; /* NULL: KVM_CHIP_NONE */
    enum kvm_irqchip_mode chip_mode;
    u32 boot_cpu_id;
    u32 max_vcpu_id;
    /* protected by (lock) */
    struct kvm_vcpu *vcpu[KVM_VCPUS_MAX];
    unsigned vcpu_count;
    u64 tss_addr, identity_map_addr;
    u64 mmu_pages;
    u64 disabled_quirks;
    bool exception_payload, triple_fault_event;
    bool hlt_in_guest; /* KVM_X86_DISABLE_EXITS_HLT: nothing to gain from KVM_HC_KICK_CPU */
    u64 manual_dirty_log; /* KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET */
    _Atomic u32 msr_exit_reasons;      /* KVM_MSR_EXIT_REASON_*: MSR accesses that user space wants to hear of */
    _Atomic bool platform_info_hidden; /* guests get #GP for MSR_PLATFORM_INFO */
    struct msr_filter *msr_filter;     /* NULL: none; replaced with the world held, read inside */
    _Atomic s64 tsc_offset; /* that vCPUs in step share; vCPU threads read and write it */
    struct kvm_stats_fd *stats;
};

/* --- the vCPU --- */

struct kvm_vcpu_stats {
    u64 exits, io_exits, mmio_exits, signal_exits, irq_window_exits, halt_exits, halt_wakeup;
};

/* An MSR access that user space decides. msr_user.c. */
struct kvm_msr_exit {
    bool waiting;  /* shown to user space, or about to be */
    bool answered; /* the step that follows takes (error) and (data) */
    bool write;
    u8 error;
    u32 index, reason;
    u64 data, rip;
};

struct kvm_vcpu {
    struct kvm_object o; /* (o.destroy) drops the VM's reference; the memory lives as long as the VM */
    struct kvm_vm *vm;
    struct cpu *cpu;
    struct lapic *lapic; /* NULL without irqchip */
    struct vclock clock;
    struct kvm_run *run; /* KVM_MMAP_SIZE bytes, shared with user space: read once, trust nothing */
    u32 id;

    pthread_mutex_t mutex;
    /* protected by (mutex) */
    u32 mp_state; /* KVM_MP_STATE_* */
    bool sipi_latched; /* KVM_SET_MP_STATE(SIPI_RECEIVED) */
    bool has_run;
    bool tpr_reporting;
    bool pv_enforced;    /* KVM_CAP_ENFORCE_PV_FEATURE_CPUID */
    bool triple_fault;   /* to be reported as KVM_EXIT_SHUTDOWN */
    bool sigmask_active;
    u64 sigmask;         /* KVM_SET_SIGNAL_MASK: blocked during KVM_RUN */
    u64 apic_base, cr8;  /* without irqchip */
    int irq_queued;      /* vector that KVM_INTERRUPT gave, or -1 */
    struct kvm_io io;
    struct kvm_msr_exit msr_exit;
    struct kvm_vcpu_stats stats;
    struct kvm_stats_fd *stats_fd;

    /* owned by the thread in KVM_RUN */
    u64 blocked_signals; /* those that must not interrupt it */
    u64 saved_signals;   /* the thread's own mask */
    bool signal_seen;
    bool window_open;

    int wake_fd;            /* eventfd, made for the first sleep (else -1); written by kvm_vcpu_kick() */
    _Atomic bool sleeping;  /* pairs with the chips' state: set, then look; they set, then kick */
};

static inline struct kvm_vm *kvm_vm_of(struct kvm_object *o) { return container_of(o, struct kvm_vm, o); }
static inline struct kvm_vcpu *kvm_vcpu_of(struct kvm_object *o)
{
    return container_of(o, struct kvm_vcpu, o);
}

/* A system descriptor, or -errno. system.c. */
int kvm_system_open(void);

/* KVM_CREATE_VM's work: a VM descriptor, or -errno. */
int kvm_vm_create(unsigned long type);

/* KVM_ENABLE_CAP(KVM_CAP_SPLIT_IRQCHIP): LAPICs here, IOAPIC and 8259s in user space. With vm.lock. vm_irq.c. */
int kvm_vm_split_irqchip(struct kvm_vm *vm, u64 pins);

/* KVM_CREATE_VCPU's work. Called with vm.lock. A descriptor, or -errno. */
int kvm_vcpu_create(struct kvm_vm *vm, u32 id);

/* Free a vCPU that nobody can reach any more. NULL and half-built ones are fine. */
void kvm_vcpu_free(struct kvm_vcpu *v);

/* Wake the vCPU's thread if it sleeps in KVM_RUN. Any thread. */
void kvm_vcpu_kick(void *vcpu);

/* Apply INIT, SIPI and NMI that wait in the LAPIC. The caller holds v->mutex. */
void kvm_vcpu_accept_events(struct kvm_vcpu *v);

/* The value of IA32_APIC_BASE, whoever keeps it. */
u64 kvm_vcpu_apic_base(const struct kvm_vcpu *v);
u8 kvm_vcpu_cr8(struct kvm_vcpu *v);
void kvm_vcpu_set_cr8(struct kvm_vcpu *v, u8 tpr);

/* Size of this vCPU's XSAVE image at the ABI: 4096 until its CPUID offers tile data, then what CPUID.0D says. */
u32 kvm_vcpu_xsave_size(const struct kvm_vcpu *v);

/* What the CPU calls back for I/O, MSRs and interrupts; (owner) is a struct kvm_vcpu. bus.c. */
extern const struct cpu_bus kvm_bus;

/* --- MSR accesses for user space (msr_user.c) --- */

struct msr_filter;

void msr_filter_free(struct msr_filter *f);

/* KVM_ENABLE_CAP(KVM_CAP_X86_USER_SPACE_MSR). 0 or -EINVAL. */
int kvm_msr_exit_reasons(struct kvm_vm *vm, u64 reasons);

/* For struct cpu_bus: op_results. */
int kvm_msr_trap(struct kvm_vcpu *v, enum cpu_msr_trap why, u32 index, bool write, u64 *val);

/* The CPU has stopped: true when user space has to decide an access first (then kvm_run says which). */
bool kvm_msr_stopped(struct kvm_vcpu *v);

/* KVM_RUN again: take user space's answer. True when the instruction is to be stepped now. */
bool kvm_msr_complete(struct kvm_vcpu *v);

/* --- paravirtual features (pv_feature.c) --- */

/* May the guest use this MSR of KVM's, make this hypercall? Those that are no feature's it may. */
bool kvm_pv_msr_allowed(const struct kvm_vcpu *v, u32 index);
bool kvm_pv_hypercall_allowed(const struct kvm_vcpu *v, u64 nr);

/* --- capabilities (cap.c) --- */

/* KVM_CHECK_EXTENSION; (vm) is NULL on the system descriptor. 0 for what is not there. */
int kvm_cap_check(const struct kvm_vm *vm, unsigned long cap);

/* --- guest permission for dynamic XSAVE components (perm.c) --- */

/* The XCR0 bits that guests of this process may have. */
u64 kvm_xcomp_guest_perm(void);

/* The process has a vCPU: no more permissions. */
void kvm_xcomp_freeze(void);

/* --- host signals (signal.c) --- */

/* Around KVM_RUN: block every signal that can wait, and afterwards let them through again. */
void kvm_signals_hold(struct kvm_vcpu *v);
void kvm_signals_release(struct kvm_vcpu *v);

/* Is there a signal that must end KVM_RUN? */
bool kvm_signals_pending(const struct kvm_vcpu *v);

/* --- coalesced MMIO and PIO (coalesced.c) --- */

struct coalesced;

int coalesced_create(struct coalesced **ret);
void coalesced_free(struct coalesced *z);

/* The ring that user space reads: the first vCPU's third page. */
void coalesced_ring_set(struct coalesced *z, struct kvm_coalesced_mmio_ring *ring);

/* KVM_(UN)REGISTER_COALESCED_MMIO. 0, -EINVAL, -ENOSPC. */
int coalesced_register(struct coalesced *z, const struct kvm_coalesced_mmio_zone *zone);
int coalesced_unregister(struct coalesced *z, const struct kvm_coalesced_mmio_zone *zone);

/* A guest write: true when it went into the ring. Any thread. */
bool coalesced_write(struct coalesced *z, bool pio, u64 addr, unsigned len, const void *data);

/* --- binary statistics (stats.c) --- */

struct kvm_stats_fd;

/* KVM_GET_STATS_FD: a descriptor that reads as the documented header, descriptors and live values. -errno. */
int kvm_stats_vm_fd(struct kvm_vm *vm);
int kvm_stats_vcpu_fd(struct kvm_vcpu *v);
/* Bring the values behind the descriptor up to date; cheap when nobody asked for one. */
void kvm_stats_vcpu_update(struct kvm_vcpu *v);
void kvm_stats_free(struct kvm_stats_fd *s);

/* --- ioctl rows (ioctl.c) --- */

enum kvm_arg {
    KVM_ARG_NONE,  /* ignored */
    KVM_ARG_VALUE, /* the number itself */
    KVM_ARG_IN,    /* copied in before the handler */
    KVM_ARG_OUT,   /* copied out when the handler succeeds */
    KVM_ARG_INOUT,
    KVM_ARG_VAR    /* variable length: the handler copies */
};

struct kvm_row {
    enum kvm_class class;
    u32 request;
    const char *name;
    enum kvm_arg arg;
    const char *type;
    u32 size;
    int cap; /* 0: always there */
    const char *cap_name;
    const char *doc;
    union {
        int (*system)(void *arg, unsigned long raw);
        int (*vm)(struct kvm_vm *vm, void *arg, unsigned long raw);
        int (*vcpu)(struct kvm_vcpu *v, void *arg, unsigned long raw);
    } fn;
};

/* The rows of the table, for the documentation and the tests. */
const struct kvm_row *kvm_rows(unsigned *count);

/* Called after each ioctl with its row (NULL: unknown) and result. NULL turns it off. */
typedef void (*kvm_trace_fn)(void *arg, int fd, u32 request, const struct kvm_row *row, long result);
void kvm_trace_set(kvm_trace_fn fn, void *arg);
