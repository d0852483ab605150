#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's KVM selftests, unmodified, under uvirt exec --kvm: those of the registers, exits, chips and memory that
# uvirt offers must pass, and skip for no reason but those named here.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)

"$top/tools/kvm-selftests.sh" --build || { echo "1..0 # SKIP Linux's KVM selftests could not be built"; exit 0; }

# A reason that a test may skip for: what it needs of the host.
allowed() {
    case $1 in
    x86_64/hwcr_msr_test) echo host_cpu_is_amd ;;
    *) echo 'no reason is good' ;;
    esac
}

n=0
for t in x86_64/amx_test x86_64/xcr0_cpuid_test x86_64/cpuid_test x86_64/cr4_cpuid_sync_test x86_64/state_test \
         x86_64/set_sregs_test x86_64/sync_regs_test x86_64/debug_regs x86_64/userspace_io_test \
         x86_64/userspace_msr_exit_test x86_64/platform_info_test x86_64/get_msr_index_features x86_64/tsc_msrs_test \
         x86_64/xapic_state_test x86_64/xapic_ipi_test x86_64/kvm_clock_test x86_64/hwcr_msr_test \
         x86_64/kvm_pv_test x86_64/recalc_apic_map_test \
         x86_64/apic_bus_clock_test x86_64/max_vcpuid_cap_test x86_64/set_boot_cpu_id x86_64/xss_msr_test \
         coalesced_io_test kvm_binary_stats_test kvm_create_max_vcpus pre_fault_memory_test \
         system_counter_offset_test set_memory_region_test dirty_log_test kvm_page_table_test demand_paging_test; do
    n=$((n + 1))
    row=$("$top/tools/kvm-selftests.sh" "$t")
    case $row in
    *'| pass |'*) echo "ok $n - selftests/kvm $t" ;;
    *'| skip |'*"$(allowed "$t")"*)
        why=${row#*| skip | }
        echo "ok $n - selftests/kvm $t # SKIP ${why% |}"
        ;;
    *)
        echo "not ok $n - selftests/kvm $t: $row"
        tail -n 20 "$top/build/kvm-selftests/log" | sed 's/^/# /'
        ;;
    esac
done
echo "1..$n"
