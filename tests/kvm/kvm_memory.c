// SPDX-License-Identifier: MIT
// Memory regions and the dirty log: the rules of the slots, and what a guest sees of them.

#include "client.h"

static void test_rules(void)
{
    struct vm m = vm_new(0x100000);
    uint8_t *more = ram_alloc(0x10000);

    ok(!slot(&m, 0, 0, 0x100000, m.ram, 0), "setting a slot to what it is");
    fails(slot(&m, 1, 0x100800, 0x1000, more, 0), EINVAL, "unaligned gpa");
    fails(slot(&m, 1, 0x100000, 0x1001, more, 0), EINVAL, "unaligned size");
    fails(slot(&m, 1, 0x100000, 0x1000, more + 1, 0), EINVAL, "unaligned host address");
    fails(slot(&m, 1, 0x100000, 0x1000, more, 0x80), EINVAL, "unknown flag");
    fails(slot(&m, 0x10001, 0x100000, 0x1000, more, 0), EINVAL, "unknown address space");
    fails(slot(&m, 0xffff, 0x100000, 0x1000, more, 0), EINVAL, "slot number too big");
    fails(slot(&m, 1, -0x1000ull, 0x2000, more, 0), EINVAL, "wrap around");
    fails(slot(&m, 1, 0x200000, 0x1000, (void *)-0x1000ul, 0), EINVAL, "a kernel address");
    fails(slot(&m, 1, 0xff000, 0x2000, more, 0), EEXIST, "overlap");
    fails(slot(&m, 1, 0x200000, 0, more, 0), EINVAL, "deleting what is not there");
    ok(!slot(&m, 1, 0x200000, 0x4000, more, 0), "a second slot");
    fails(slot(&m, 1, 0x200000, 0x5000, more, 0), EINVAL, "growing it");
    fails(slot(&m, 1, 0x200000, 0x4000, more + 0x1000, 0), EINVAL, "other memory behind it");
    fails(slot(&m, 1, 0x200000, 0x4000, more, KVM_MEM_READONLY), EINVAL, "making it read-only");
    ok(!slot(&m, 1, 0x300000, 0x4000, more, 0), "moving it");
    fails(slot(&m, 1, 0xfe000, 0x4000, more, 0), EEXIST, "moving it onto another");
    ok(!slot(&m, 1, 0x300000, 0x4000, more, KVM_MEM_LOG_DIRTY_PAGES), "logging it");
    ok(!slot(&m, 1, 0, 0, NULL, 0), "deleting it");
    ok(!slot(&m, 1, 0x200000, 0x4000, more, KVM_MEM_READONLY), "a read-only one");
    munmap(more, 0x10000);
    vm_free(&m);
}

static void test_region2(void)
{
    struct vm m = vm_new(0x100000);
    struct kvm_userspace_memory_region2 r = {
        .slot = 1, .guest_phys_addr = 0x100000, .memory_size = 0x1000, .userspace_addr = (uintptr_t)m.ram};

    ok(!kv(m.fd, KVM_SET_USER_MEMORY_REGION2, &r), "KVM_SET_USER_MEMORY_REGION2");
    r.slot = 2;
    r.guest_phys_addr = 0x200000;
    r.flags = KVM_MEM_GUEST_MEMFD;
    fails(kv(m.fd, KVM_SET_USER_MEMORY_REGION2, &r), EINVAL, "no guest_memfd");
    vm_free(&m);
}

/* Stores to 0x2000, 0x2ffc (crossing to 0x3000), 0x6000; each round ends with HLT. */
GUEST16(dirty_code, "1: movw $1, 0x2000\n movl $-1, 0x4ffe\n movb $2, 0x6000\n hlt\n movb $3, 0x2001\n hlt\n jmp 1b")

static uint64_t log_of(const struct vm *m, int *rc)
{
    uint64_t bits[4] = {0};
    struct kvm_dirty_log l = {.slot = 0, .dirty_bitmap = bits};

    *rc = kv(m->fd, KVM_GET_DIRTY_LOG, &l);
    return bits[0];
}

static void test_dirty_log(void)
{
    BOOT16(m, v, dirty_code);
    int rc;

    log_of(&m, &rc);
    ok(rc == -1 && errno == ENOENT, "no log unless asked for");
    ok(!slot(&m, 0, 0, 0x100000, m.ram, KVM_MEM_LOG_DIRTY_PAGES), "logging on");
    is_u64(log_of(&m, &rc), 0, "nothing written yet");
    runs_to(&v, KVM_EXIT_HLT, "first round");
    is_u64(log_of(&m, &rc), 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6, "pages 2, 4, 5, 6");
    is_u64(log_of(&m, &rc), 0, "reading clears");
    runs_to(&v, KVM_EXIT_HLT, "second round");
    is_u64(log_of(&m, &rc), 1 << 2, "a page that was written before is noticed again");
    runs_to(&v, KVM_EXIT_HLT, "third round");
    ok(!slot(&m, 0, 0, 0x100000, m.ram, 0), "logging off");
    log_of(&m, &rc);
    ok(rc == -1 && errno == ENOENT, "no log any more");
    vcpu_free(&v);
    vm_free(&m);
}

static void test_manual_log(void)
{
    BOOT16(m, v, dirty_code);
    struct kvm_enable_cap c = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
    uint64_t bits[4] = {1 << 2};
    struct kvm_clear_dirty_log l = {.slot = 0, .num_pages = 64, .dirty_bitmap = bits};
    int rc;

    ok(!kv(m.fd, KVM_ENABLE_CAP, &c), "manual protection");
    slot(&m, 0, 0, 0x100000, m.ram, KVM_MEM_LOG_DIRTY_PAGES);
    runs_to(&v, KVM_EXIT_HLT, "first round");
    log_of(&m, &rc);
    is_u64(log_of(&m, &rc), 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6, "reading does not clear");
    ok(!kv(m.fd, KVM_CLEAR_DIRTY_LOG, &l), "KVM_CLEAR_DIRTY_LOG");
    is_u64(log_of(&m, &rc), 1 << 4 | 1 << 5 | 1 << 6, "clears what it names");
    runs_to(&v, KVM_EXIT_HLT, "second round");
    is_u64(log_of(&m, &rc), 1 << 2 | 1 << 4 | 1 << 5 | 1 << 6, "and the page is watched again");
    l.first_page = 3;
    fails(kv(m.fd, KVM_CLEAR_DIRTY_LOG, &l), EINVAL, "first page in the middle of a word");
    l.first_page = 0;
    l.num_pages = 100000;
    ok(kv(m.fd, KVM_CLEAR_DIRTY_LOG, &l) == -1, "past the end");
    vcpu_free(&v);
    vm_free(&m);
}

/* Read and write through segment 0x2000: gpa 0x20000. */
GUEST16(window_code, "mov $0x2000, %ax\n mov %ax, %ds\n movw 0, %bx\n movw $0x1234, 0\n hlt\n movw 0, %bx\n hlt")

static void test_readonly(void)
{
    struct vm m = {0};
    uint8_t *rom = ram_alloc(0x10000);
    struct vcpu v;

    m = vm_new(0x10000);
    v = vcpu_new(&m, 0);
    load_code(&m, CODE_AT, window_code, window_code_end);
    vcpu_real_mode(&v, CODE_AT);
    memcpy(rom, "\xcd\xab", 2);
    ok(!slot(&m, 1, 0x20000, 0x10000, rom, KVM_MEM_READONLY), "ROM at 0x20000");
    runs_to(&v, KVM_EXIT_MMIO, "a write to ROM is MMIO");
    ok(v.run->mmio.is_write && v.run->mmio.phys_addr == 0x20000 && v.run->mmio.len == 2 &&
           !memcmp(v.run->mmio.data, "\x34\x12", 2),
       "with address, length and data");
    is_u64(regs_of(&v).rbx, 0xabcd, "the read before it was of memory");
    runs_to(&v, KVM_EXIT_HLT, "on to HLT");
    ok(!memcmp(rom, "\xcd\xab", 2), "the ROM is as it was");
    ok(!slot(&m, 1, 0, 0, NULL, 0), "the ROM goes");
    runs_to(&v, KVM_EXIT_MMIO, "then a read is MMIO");
    vcpu_free(&v);
    vm_free(&m);
    munmap(rom, 0x10000);
}

/* The same address with other memory behind it. */
static void test_replace(void)
{
    BOOT16(m, v, window_code);
    uint8_t *a = ram_alloc(0x1000), *b = ram_alloc(0x1000);

    slot(&m, 0, 0, 0, NULL, 0);
    ok(!slot(&m, 0, 0, 0x10000, m.ram, 0) && !slot(&m, 1, 0x20000, 0x1000, a, 0), "memory at 0x20000");
    memcpy(a, "\x11\x11", 2);
    memcpy(b, "\x22\x22", 2);
    runs_to(&v, KVM_EXIT_HLT, "run");
    is_u64(regs_of(&v).rbx, 0x1111, "the guest reads it");
    is_u64(a[0] | a[1] << 8, 0x1234, "and writes it");
    ok(!slot(&m, 1, 0, 0, NULL, 0) && !slot(&m, 1, 0x20000, 0x1000, b, 0), "other memory there");
    runs_to(&v, KVM_EXIT_HLT, "run on");
    is_u64(regs_of(&v).rbx, 0x2222, "the guest reads that");
    vcpu_free(&v);
    vm_free(&m);
    munmap(a, 0x1000);
    munmap(b, 0x1000);
}

int main(void)
{
    test_rules();
    test_region2();
    test_dirty_log();
    test_manual_log();
    test_readonly();
    test_replace();
    return tap_done();
}
