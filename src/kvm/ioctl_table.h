// SPDX-License-Identifier: MIT
// Every ioctl, one row each: KVM_ROW_<class>(request, argument, type, handler, capability, documentation).

/*
 * Included several times with the macros defined to make declarations (handlers.h) and the dispatch table
 * (ioctl.c); docs/kvm-abi.md is printed from the latter. The search goes from the top, so the hot one
 * stands there.
 * The direction is ours, not the number's: some of Linux's numbers have it wrong. The type is char where the
 * argument is no pointer.
 */

KVM_ROW_VCPU(KVM_RUN, VALUE, char, kvm_vcpu_run, 0,
    "Run guest code until an exit, which struct kvm_run describes. EINTR: a signal or immediate_exit.")
KVM_ROW_VCPU(KVM_GET_REGS, OUT, struct kvm_regs, kvm_vcpu_get_regs, 0,
    "General registers, RIP, RFLAGS.")
KVM_ROW_VCPU(KVM_SET_REGS, IN, struct kvm_regs, kvm_vcpu_set_regs, 0,
    "The inverse; drops a pending exception.")
KVM_ROW_VCPU(KVM_GET_SREGS, OUT, struct kvm_sregs, kvm_vcpu_get_sregs, 0,
    "Segments, descriptor tables, control registers, EFER, APIC base.")
KVM_ROW_VCPU(KVM_SET_SREGS, IN, struct kvm_sregs, kvm_vcpu_set_sregs, 0,
    "The inverse. EINVAL for control registers that no guest could load.")
KVM_ROW_VCPU(KVM_GET_SREGS2, OUT, struct kvm_sregs2, kvm_vcpu_get_sregs2, KVM_CAP_SREGS2,
    "The same with the PDPTEs of PAE paging in place of the interrupt bitmap.")
KVM_ROW_VCPU(KVM_SET_SREGS2, IN, struct kvm_sregs2, kvm_vcpu_set_sregs2, KVM_CAP_SREGS2,
    "The inverse.")
KVM_ROW_VCPU(KVM_GET_FPU, OUT, struct kvm_fpu, kvm_vcpu_get_fpu, 0,
    "x87 and XMM0-15.")
KVM_ROW_VCPU(KVM_SET_FPU, IN, struct kvm_fpu, kvm_vcpu_set_fpu, 0,
    "The inverse; MXCSR stays.")
KVM_ROW_VCPU(KVM_GET_XSAVE, VAR, struct kvm_xsave, kvm_vcpu_get_xsave, KVM_CAP_XSAVE,
    "Standard-format image of 4096 bytes, laid out as the vCPU's CPUID.0D says (Intel's layout where that cannot be). "
    "EINVAL once CPUID offers tile data.")
KVM_ROW_VCPU(KVM_GET_XSAVE2, VAR, struct kvm_xsave, kvm_vcpu_get_xsave2, KVM_CAP_XSAVE2,
    "The image in full: as many bytes as KVM_CHECK_EXTENSION(KVM_CAP_XSAVE2) says at most.")
KVM_ROW_VCPU(KVM_SET_XSAVE, VAR, struct kvm_xsave, kvm_vcpu_set_xsave, KVM_CAP_XSAVE,
    "The inverse of both. EINVAL for components that are not supported or a bad header.")
KVM_ROW_VCPU(KVM_GET_XSAVE_EXTENSION, VAR, struct kvm_xsave_extension, kvm_vcpu_get_xsave_extension,
    KVM_CAP_X86_XSAVE_EXTENSION,
    "The image in full in a struct of 12288 bytes, the rest zero: the form of the first proposal of guest AMX. It shares its "
    "capability number, 191, with KVM_CAP_SYS_HYPERV_CPUID, which is not offered.")
KVM_ROW_VCPU(KVM_SET_XSAVE_EXTENSION, VAR, struct kvm_xsave_extension, kvm_vcpu_set_xsave_extension,
    KVM_CAP_X86_XSAVE_EXTENSION,
    "The inverse, under KVM_SET_XSAVE's rules; the bytes past the image are ignored.")
KVM_ROW_VCPU(KVM_GET_XCRS, OUT, struct kvm_xcrs, kvm_vcpu_get_xcrs, KVM_CAP_XCRS,
    "XCR0.")
KVM_ROW_VCPU(KVM_SET_XCRS, IN, struct kvm_xcrs, kvm_vcpu_set_xcrs, KVM_CAP_XCRS,
    "Set XCR0; EINVAL where XSETBV would fault.")
KVM_ROW_VCPU(KVM_GET_MSRS, VAR, struct kvm_msrs, kvm_vcpu_get_msrs, 0,
    "Read MSRs in order; returns how many before the first that failed.")
KVM_ROW_VCPU(KVM_SET_MSRS, VAR, struct kvm_msrs, kvm_vcpu_set_msrs, 0,
    "Write MSRs in order; returns how many before the first that failed.")
KVM_ROW_VCPU(KVM_SET_CPUID, VAR, struct kvm_cpuid, kvm_vcpu_set_cpuid, 0,
    "As KVM_SET_CPUID2, in the old layout.")
KVM_ROW_VCPU(KVM_SET_CPUID2, VAR, struct kvm_cpuid2, kvm_vcpu_set_cpuid2, KVM_CAP_EXT_CPUID,
    "The guest's CPUID. E2BIG past 256 entries; EINVAL for a change after the first KVM_RUN; EPERM for tile data without "
    "permission. XSAVE images have their areas where 0D.n:EBX says if those lie past the header, within KVM_GET_XSAVE's "
    "image and apart; else where Intel has them, and the subleaves are changed to say so.")
KVM_ROW_VCPU(KVM_GET_CPUID2, VAR, struct kvm_cpuid2, kvm_vcpu_get_cpuid2, KVM_CAP_EXT_CPUID,
    "The guest's CPUID as it would read it now.")
KVM_ROW_VCPU(KVM_GET_VCPU_EVENTS, OUT, struct kvm_vcpu_events, kvm_vcpu_get_events, KVM_CAP_VCPU_EVENTS,
    "Exceptions, interrupts and NMIs under way.")
KVM_ROW_VCPU(KVM_SET_VCPU_EVENTS, IN, struct kvm_vcpu_events, kvm_vcpu_set_events, KVM_CAP_VCPU_EVENTS,
    "The inverse.")
KVM_ROW_VCPU(KVM_GET_MP_STATE, OUT, struct kvm_mp_state, kvm_vcpu_get_mp_state, KVM_CAP_MP_STATE,
    "RUNNABLE, UNINITIALIZED, INIT_RECEIVED or HALTED.")
KVM_ROW_VCPU(KVM_SET_MP_STATE, IN, struct kvm_mp_state, kvm_vcpu_set_mp_state, KVM_CAP_MP_STATE,
    "EINVAL for anything but RUNNABLE without irqchip.")
KVM_ROW_VCPU(KVM_GET_LAPIC, OUT, struct kvm_lapic_state, kvm_vcpu_get_lapic, KVM_CAP_IRQCHIP,
    "The LAPIC's register page. EINVAL without irqchip.")
KVM_ROW_VCPU(KVM_SET_LAPIC, IN, struct kvm_lapic_state, kvm_vcpu_set_lapic, KVM_CAP_IRQCHIP,
    "The inverse.")
KVM_ROW_VCPU(KVM_GET_DEBUGREGS, OUT, struct kvm_debugregs, kvm_vcpu_get_debugregs, KVM_CAP_DEBUGREGS,
    "DR0-3, DR6, DR7.")
KVM_ROW_VCPU(KVM_SET_DEBUGREGS, IN, struct kvm_debugregs, kvm_vcpu_set_debugregs, KVM_CAP_DEBUGREGS,
    "The inverse. EINVAL for upper halves or flags.")
KVM_ROW_VCPU(KVM_INTERRUPT, IN, struct kvm_interrupt, kvm_vcpu_interrupt, 0,
    "Queue an external interrupt. ENXIO with an in-kernel irqchip, EEXIST with a split one that has one queued.")
KVM_ROW_VCPU(KVM_NMI, NONE, char, kvm_vcpu_nmi, KVM_CAP_USER_NMI,
    "Queue an NMI.")
KVM_ROW_VCPU(KVM_SET_SIGNAL_MASK, VAR, struct kvm_signal_mask, kvm_vcpu_set_signal_mask, 0,
    "Signals blocked during KVM_RUN; a null argument: the thread's own mask.")
KVM_ROW_VCPU(KVM_SET_GUEST_DEBUG, IN, struct kvm_guest_debug, kvm_vcpu_set_guest_debug, KVM_CAP_SET_GUEST_DEBUG,
    "Single step, hardware and software breakpoints, injected #DB and #BP. EBUSY: an exception is pending.")
KVM_ROW_VCPU(KVM_TRANSLATE, INOUT, struct kvm_translation, kvm_vcpu_translate, 0,
    "Linear to guest-physical address by the current page tables.")
KVM_ROW_VCPU(KVM_SET_TSC_KHZ, VALUE, char, kvm_vcpu_set_tsc_khz, KVM_CAP_TSC_CONTROL,
    "As on the VM descriptor.")
KVM_ROW_VCPU(KVM_GET_TSC_KHZ, NONE, char, kvm_vcpu_get_tsc_khz, KVM_CAP_GET_TSC_KHZ,
    "The host's TSC frequency.")
KVM_ROW_VCPU(KVM_KVMCLOCK_CTRL, NONE, char, kvm_vcpu_kvmclock_ctrl, KVM_CAP_KVMCLOCK_CTRL,
    "Tell the guest's watchdog that the VM was stopped. EINVAL when it has no kvmclock.")
KVM_ROW_VCPU(KVM_TPR_ACCESS_REPORTING, INOUT, struct kvm_tpr_access_ctl, kvm_vcpu_tpr_access_reporting, KVM_CAP_IRQCHIP,
    "Accepted; TPR accesses never trap here, so none is reported. EINVAL without irqchip.")
KVM_ROW_VCPU(KVM_SET_VAPIC_ADDR, IN, struct kvm_vapic_addr, kvm_vcpu_set_vapic_addr, KVM_CAP_IRQCHIP,
    "Accepted; guests whose TPR accesses are not patched need no TPR page. EINVAL without irqchip.")
KVM_ROW_VCPU(KVM_X86_SETUP_MCE, IN, __u64, kvm_vcpu_setup_mce, KVM_CAP_MCE,
    "Set MCG_CAP and open the banks.")
KVM_ROW_VCPU(KVM_X86_SET_MCE, IN, struct kvm_x86_mce, kvm_vcpu_set_mce, KVM_CAP_MCE,
    "Record a machine check in a bank and raise #MC if it is uncorrected.")
KVM_ROW_VCPU(KVM_ENABLE_CAP, IN, struct kvm_enable_cap, kvm_vcpu_enable_cap, KVM_CAP_ENABLE_CAP,
    "KVM_CAP_ENFORCE_PV_FEATURE_CPUID: KVM's MSRs and hypercalls only as far as CPUID names them. EINVAL for any other.")
KVM_ROW_VCPU(KVM_GET_DEVICE_ATTR, IN, struct kvm_device_attr, kvm_vcpu_get_device_attr, KVM_CAP_VCPU_ATTRIBUTES,
    "KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET: guest TSC minus host TSC. Anything else: ENXIO.")
KVM_ROW_VCPU(KVM_SET_DEVICE_ATTR, IN, struct kvm_device_attr, kvm_vcpu_set_device_attr, KVM_CAP_VCPU_ATTRIBUTES,
    "The inverse.")
KVM_ROW_VCPU(KVM_HAS_DEVICE_ATTR, IN, struct kvm_device_attr, kvm_vcpu_has_device_attr, KVM_CAP_VCPU_ATTRIBUTES,
    "0 when the attribute is known, else ENXIO.")
KVM_ROW_VCPU(KVM_PRE_FAULT_MEMORY, INOUT, struct kvm_pre_fault_memory, kvm_vcpu_pre_fault_memory,
    KVM_CAP_PRE_FAULT_MEMORY, "Make guest memory present. Updates gpa and size to what is left.")
KVM_ROW_VCPU(KVM_GET_STATS_FD, NONE, char, kvm_vcpu_get_stats_fd, KVM_CAP_BINARY_STATS_FD,
    "A descriptor to read the vCPU's statistics from.")

KVM_ROW_SYSTEM(KVM_GET_API_VERSION, NONE, char, kvm_system_get_api_version, 0,
    "Always 12 (KVM_API_VERSION).")
KVM_ROW_SYSTEM(KVM_CREATE_VM, VALUE, char, kvm_system_create_vm, 0,
    "A VM descriptor. The type must be 0 (KVM_X86_DEFAULT_VM).")
KVM_ROW_SYSTEM(KVM_CHECK_EXTENSION, VALUE, char, kvm_system_check_extension, 0,
    "Value of a capability, 0 when it is not there.")
KVM_ROW_SYSTEM(KVM_GET_VCPU_MMAP_SIZE, NONE, char, kvm_system_get_vcpu_mmap_size, 0,
    "12288: struct kvm_run, the port I/O page, the coalesced MMIO ring.")
KVM_ROW_SYSTEM(KVM_GET_SUPPORTED_CPUID, VAR, struct kvm_cpuid2, kvm_system_get_supported_cpuid, KVM_CAP_EXT_CPUID,
    "What the engine can give a guest on this host, with KVM's paravirtual leaves. E2BIG when nent is too small.")
KVM_ROW_SYSTEM(KVM_GET_MSR_INDEX_LIST, VAR, struct kvm_msr_list, kvm_system_get_msr_index_list, 0,
    "MSRs that make up a vCPU's state. E2BIG sets nmsrs to the number needed.")
KVM_ROW_SYSTEM(KVM_GET_MSR_FEATURE_INDEX_LIST, VAR, struct kvm_msr_list, kvm_system_get_msr_feature_index_list,
    KVM_CAP_GET_MSR_FEATURES, "MSRs that KVM_GET_MSRS reads on the system descriptor.")
KVM_ROW_SYSTEM(KVM_GET_MSRS, VAR, struct kvm_msrs, kvm_system_get_msrs, KVM_CAP_GET_MSR_FEATURES,
    "Values of feature MSRs. Returns how many were read.")
KVM_ROW_SYSTEM(KVM_GET_DEVICE_ATTR, IN, struct kvm_device_attr, kvm_system_get_device_attr, KVM_CAP_SYS_ATTRIBUTES,
    "Group 0, KVM_X86_XCOMP_GUEST_SUPP: the XCR0 bits that guests can have. Anything else: ENXIO.")
KVM_ROW_SYSTEM(KVM_HAS_DEVICE_ATTR, IN, struct kvm_device_attr, kvm_system_has_device_attr, KVM_CAP_SYS_ATTRIBUTES,
    "0 when KVM_GET_DEVICE_ATTR knows the attribute, else ENXIO.")
KVM_ROW_SYSTEM(KVM_X86_GET_MCE_CAP_SUPPORTED, OUT, __u64, kvm_system_get_mce_cap, KVM_CAP_MCE,
    "MCG_CAP bits that KVM_X86_SETUP_MCE accepts.")

KVM_ROW_VM(KVM_CREATE_VCPU, VALUE, char, kvm_vm_create_vcpu, 0,
    "A vCPU descriptor. EEXIST when the ID is taken, EINVAL when it is too big or the VM is full.")
KVM_ROW_VM(KVM_CHECK_EXTENSION, VALUE, char, kvm_vm_check_extension, KVM_CAP_CHECK_EXTENSION_VM,
    "As on the system descriptor.")
KVM_ROW_VM(KVM_SET_USER_MEMORY_REGION, IN, struct kvm_userspace_memory_region, kvm_vm_set_memory_region,
    KVM_CAP_USER_MEMORY,
    "Create, move, re-flag or (size 0) delete a slot. EEXIST on overlap; EINVAL for bad alignment, a changed size, "
    "address or read-only flag.")
KVM_ROW_VM(KVM_SET_USER_MEMORY_REGION2, IN, struct kvm_userspace_memory_region2, kvm_vm_set_memory_region2,
    KVM_CAP_USER_MEMORY2, "The same with the longer struct. KVM_MEM_GUEST_MEMFD is not offered: EINVAL.")
KVM_ROW_VM(KVM_GET_DIRTY_LOG, IN, struct kvm_dirty_log, kvm_vm_get_dirty_log, 0,
    "Bitmap of pages written since the last call; clears it unless manual protection is on. ENOENT: not logging.")
KVM_ROW_VM(KVM_CLEAR_DIRTY_LOG, IN, struct kvm_clear_dirty_log, kvm_vm_clear_dirty_log,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, "Clear the bits that are set in the given bitmap.")
KVM_ROW_VM(KVM_SET_NR_MMU_PAGES, VALUE, char, kvm_vm_set_nr_mmu_pages, KVM_CAP_MMU_SHADOW_CACHE_CONTROL,
    "Remembered; there are no shadow pages.")
KVM_ROW_VM(KVM_GET_NR_MMU_PAGES, NONE, char, kvm_vm_get_nr_mmu_pages, KVM_CAP_MMU_SHADOW_CACHE_CONTROL,
    "What KVM_SET_NR_MMU_PAGES said.")
KVM_ROW_VM(KVM_SET_TSS_ADDR, VALUE, char, kvm_vm_set_tss_addr, KVM_CAP_SET_TSS_ADDR,
    "Checked and remembered; the engine needs no TSS of its own.")
KVM_ROW_VM(KVM_SET_IDENTITY_MAP_ADDR, IN, __u64, kvm_vm_set_identity_map_addr, KVM_CAP_SET_IDENTITY_MAP_ADDR,
    "Checked and remembered. EINVAL once a vCPU exists.")
KVM_ROW_VM(KVM_SET_BOOT_CPU_ID, VALUE, char, kvm_vm_set_boot_cpu_id, KVM_CAP_SET_BOOT_CPU_ID,
    "ID of the bootstrap processor. EBUSY once a vCPU exists.")
KVM_ROW_VM(KVM_ENABLE_CAP, IN, struct kvm_enable_cap, kvm_vm_enable_cap, KVM_CAP_ENABLE_CAP_VM,
    "Turn on a VM capability; EINVAL for one that cannot be.")
KVM_ROW_VM(KVM_X86_SET_MSR_FILTER, IN, struct kvm_msr_filter, kvm_vm_set_msr_filter, KVM_CAP_X86_MSR_FILTER,
    "Which MSRs the guest may read and write. EINVAL for unknown flags, a bitmap of more than 1536 bytes, or no MSR at all.")
KVM_ROW_VM(KVM_CREATE_IRQCHIP, NONE, char, kvm_vm_create_irqchip, KVM_CAP_IRQCHIP,
    "Two 8259s, an IOAPIC, and a LAPIC for each vCPU to come. EEXIST; EINVAL once a vCPU exists.")
KVM_ROW_VM(KVM_GET_IRQCHIP, INOUT, struct kvm_irqchip, kvm_vm_get_irqchip, KVM_CAP_IRQCHIP,
    "State of the chip that chip_id names.")
KVM_ROW_VM(KVM_SET_IRQCHIP, IN, struct kvm_irqchip, kvm_vm_set_irqchip, KVM_CAP_IRQCHIP,
    "The inverse.")
KVM_ROW_VM(KVM_CREATE_PIT, NONE, char, kvm_vm_create_pit, KVM_CAP_PIT,
    "An 8254 with the speaker port. ENOENT without irqchip, EEXIST.")
KVM_ROW_VM(KVM_CREATE_PIT2, IN, struct kvm_pit_config, kvm_vm_create_pit2, KVM_CAP_PIT2,
    "An 8254; KVM_PIT_SPEAKER_DUMMY adds port 0x61.")
KVM_ROW_VM(KVM_GET_PIT, OUT, struct kvm_pit_state, kvm_vm_get_pit, KVM_CAP_PIT,
    "State of the channels. ENXIO without PIT.")
KVM_ROW_VM(KVM_SET_PIT, IN, struct kvm_pit_state, kvm_vm_set_pit, KVM_CAP_PIT,
    "The inverse.")
KVM_ROW_VM(KVM_GET_PIT2, OUT, struct kvm_pit_state2, kvm_vm_get_pit2, KVM_CAP_PIT_STATE2,
    "State of the channels with flags.")
KVM_ROW_VM(KVM_SET_PIT2, IN, struct kvm_pit_state2, kvm_vm_set_pit2, KVM_CAP_PIT_STATE2,
    "The inverse.")
KVM_ROW_VM(KVM_REINJECT_CONTROL, IN, struct kvm_reinject_control, kvm_vm_reinject_control, KVM_CAP_REINJECT_CONTROL,
    "Whether missed PIT ticks are made up for. ENXIO without PIT.")
KVM_ROW_VM(KVM_IRQ_LINE, IN, struct kvm_irq_level, kvm_vm_irq_line, KVM_CAP_IRQCHIP,
    "Drive a GSI. ENXIO without irqchip.")
KVM_ROW_VM(KVM_IRQ_LINE_STATUS, INOUT, struct kvm_irq_level, kvm_vm_irq_line_status, KVM_CAP_IRQ_INJECT_STATUS,
    "The same; status says to how many LAPICs it went, 0 coalesced, below 0 ignored.")
KVM_ROW_VM(KVM_SET_GSI_ROUTING, VAR, struct kvm_irq_routing, kvm_vm_set_gsi_routing, KVM_CAP_IRQ_ROUTING,
    "Replace the table from GSIs to pins and MSIs.")
KVM_ROW_VM(KVM_SIGNAL_MSI, IN, struct kvm_msi, kvm_vm_signal_msi, KVM_CAP_SIGNAL_MSI,
    "Deliver an MSI: above 0 delivered, 0 blocked by the guest.")
KVM_ROW_VM(KVM_IRQFD, IN, struct kvm_irqfd, kvm_vm_irqfd, KVM_CAP_IRQFD,
    "An eventfd that raises a GSI, with an optional resamplefd.")
KVM_ROW_VM(KVM_IOEVENTFD, IN, struct kvm_ioeventfd, kvm_vm_ioeventfd, KVM_CAP_IOEVENTFD,
    "An eventfd that a guest write to a port or address signals.")
KVM_ROW_VM(KVM_REGISTER_COALESCED_MMIO, IN, struct kvm_coalesced_mmio_zone, kvm_vm_register_coalesced,
    KVM_CAP_COALESCED_MMIO,
    "Guest writes there go to the ring in the first vCPU's mapping.")
KVM_ROW_VM(KVM_UNREGISTER_COALESCED_MMIO, IN, struct kvm_coalesced_mmio_zone, kvm_vm_unregister_coalesced,
    KVM_CAP_COALESCED_MMIO, "Remove the zones inside the given range.")
KVM_ROW_VM(KVM_GET_CLOCK, OUT, struct kvm_clock_data, kvm_vm_get_clock, KVM_CAP_ADJUST_CLOCK,
    "kvmclock now, with the host's TSC and real time.")
KVM_ROW_VM(KVM_SET_CLOCK, IN, struct kvm_clock_data, kvm_vm_set_clock, KVM_CAP_ADJUST_CLOCK,
    "Set kvmclock.")
KVM_ROW_VM(KVM_SET_TSC_KHZ, VALUE, char, kvm_vm_set_tsc_khz, KVM_CAP_VM_TSC_CONTROL,
    "The engine does not scale the TSC: EINVAL unless within 250 ppm of the host's.")
KVM_ROW_VM(KVM_GET_TSC_KHZ, NONE, char, kvm_vm_get_tsc_khz, KVM_CAP_GET_TSC_KHZ,
    "The host's TSC frequency.")
KVM_ROW_VM(KVM_GET_STATS_FD, NONE, char, kvm_vm_get_stats_fd, KVM_CAP_BINARY_STATS_FD,
    "A descriptor to read the VM's statistics from.")
