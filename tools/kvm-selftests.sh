#!/bin/bash
# SPDX-License-Identifier: MIT
# Linux's KVM selftests, unmodified, under `uvirt exec --kvm`: builds them from Debian's linux-source-6.12
# package into build/kvm-selftests, runs each and prints a table.
#
# usage: tools/kvm-selftests.sh [--build | NAME...]        docs/kvm-selftests.md is what it prints without NAME.
# The program under test is $UVIRT, else build/uvirt; a test may take $KVM_SELFTESTS_LIMIT seconds, else 180.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
out=$top/build/kvm-selftests
uvirt=${UVIRT:-$top/build/uvirt}
limit=${KVM_SELFTESTS_LIMIT:-180}
source=/usr/src/linux-source-6.12.tar.xz

common='access_tracking_perf_test coalesced_io_test demand_paging_test dirty_log_perf_test dirty_log_test
    guest_memfd_test guest_print_test hardware_disable_test kvm_binary_stats_test kvm_create_max_vcpus
    kvm_page_table_test max_guest_memory_test memslot_modification_stress_test memslot_perf_test
    pre_fault_memory_test rseq_test set_memory_region_test steal_time system_counter_offset_test'
x86='amx_test apic_bus_clock_test cpuid_test cr4_cpuid_sync_test debug_regs dirty_log_page_splitting_test
    exit_on_emulation_failure_test fix_hypercall_test get_msr_index_features hwcr_msr_test hyperv_clock
    hyperv_cpuid hyperv_evmcs hyperv_extended_hypercalls hyperv_features hyperv_ipi hyperv_svm_test
    hyperv_tlb_flush kvm_clock_test kvm_pv_test max_vcpuid_cap_test monitor_mwait_test nested_exceptions_test
    nx_huge_pages_test platform_info_test pmu_counters_test pmu_event_filter_test private_mem_conversions_test
    private_mem_kvm_exits_test recalc_apic_map_test set_boot_cpu_id set_sregs_test sev_init2_tests
    sev_migrate_tests sev_smoke_test smaller_maxphyaddr_emulation_test smm_test state_test svm_int_ctl_test
    svm_nested_shutdown_test svm_nested_soft_inject_test svm_vmcall_test sync_regs_test triple_fault_event_test
    tsc_msrs_test tsc_scaling_sync ucna_injection_test userspace_io_test userspace_msr_exit_test
    vmx_apic_access_test vmx_close_while_nested_test vmx_dirty_log_test vmx_exception_with_invalid_guest_state
    vmx_invalid_nested_guest_state vmx_msrs_test vmx_nested_tsc_scaling_test vmx_pmu_caps_test
    vmx_preemption_timer_test vmx_set_nested_state_test vmx_tsc_adjust_test xapic_ipi_test xapic_state_test
    xcr0_cpuid_test xen_shinfo_test xen_vmcall_test xss_msr_test'

# shellcheck disable=SC2086
names() {
    printf '%s\n' $common
    printf 'x86_64/%s\n' $x86
}

# What a test gets told, where its default asks for more than a small machine has.
arguments() {
    case $1 in
    max_guest_memory_test) echo '-c 2 -m 1 -s 1' ;; # of memory: 128 GiB by default
    memslot_perf_test) echo '-s 512 -l 1' ;;        # slots: 32764 by default
    esac
}

# hardware_disable_test makes and kills 512 VMs, with waits of a tenth of a second in between.
seconds() {
    case $1 in
    hardware_disable_test) echo $((limit * 5)) ;;
    *) echo "$limit" ;;
    esac
}

packages() {
    local sudo='' list='linux-source-6.12 xz-utils gcc make rsync bc flex bison libelf-dev libcap-dev libnuma-dev'
    # shellcheck disable=SC2086
    if ! dpkg -s $list > /dev/null 2>&1; then
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo apt-get install -y --no-install-recommends $list > /dev/null
    fi
}

# The tests build in their own tree and want its exported headers.
build() {
    local work tests n
    packages
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    tar -C "$work" --strip-components=1 -xJf "$source"
    tests=$work/tools/testing/selftests/kvm
    { make -C "$work" -j2 headers && make -C "$tests" -j2; } > "$work/log" 2>&1 ||
        { tail -n 30 "$work/log" >&2; exit 1; }
    mkdir -p "$out/x86_64"
    for n in $(names); do
        cp "$tests/$n" "$out/$n"
    done
    rm -rf "$work"
    trap - EXIT
}

# The last line that says something, short.
reason() {
    tr '\r' '\n' < "$out/log" | grep -av '^ *$' | tail -n 1 |
        sed -E 's/^1\.\.0 # SKIP *-? *//; s/^ *//; s/Requirement not met: /needs /; s/\|/\\|/g' | cut -c 1-160
}

# One test: a row of the table. A test ends with 0, or 4 (KSFT_SKIP).
row() {
    local rc=0 args most
    args=$(arguments "$1")
    most=$(seconds "$1")
    # shellcheck disable=SC2086
    (cd "$out" && exec timeout -k 10 "$most" "$uvirt" exec --kvm -- "./$1" $args) > "$out/log" 2>&1 < /dev/null || rc=$?
    case $rc in
    0) echo "| $1${args:+ $args} | pass | |" ;;
    4) echo "| $1${args:+ $args} | skip | $(reason) |" ;;
    124 | 137) echo "| $1${args:+ $args} | fail | not done after $most s |" ;;
    *) echo "| $1${args:+ $args} | fail | $(reason) |" ;;
    esac
}

for n in $(names); do
    [ -x "$out/$n" ] || { build; break; }
done
[ "${1:-}" != --build ] || exit 0
if [ $# -gt 0 ]; then
    for n in "$@"; do row "$n"; done
    exit 0
fi

cat << 'HEAD'
<!-- Printed by tools/kvm-selftests.sh; do not edit. -->

# Linux's KVM selftests on uvirt

`tools/testing/selftests/kvm` of Linux 6.12, unmodified, each run by `uvirt exec --kvm -- TEST`. A skip is the test's own
decision and its own words: what it needs and did not find. On hosts of another vendor other tests are skipped: the tests
look at the host's CPUID for that.

| Test | Result | Why |
|---|---|---|
HEAD
for n in $(names); do row "$n"; done | tee "$out/table"
printf '\n%s passed, %s skipped, %s failed.\n' "$(grep -c '| pass |' "$out/table" || true)" \
    "$(grep -c '| skip |' "$out/table" || true)" "$(grep -c '| fail |' "$out/table" || true)"
