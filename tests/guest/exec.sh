#!/bin/bash
# SPDX-License-Identifier: MIT
# uvirt exec --kvm: the tests of the KVM API once more, as programs that open /dev/kvm themselves.
set -u
. "$(dirname "$0")/lib.bash"
build=$(dirname "$(readlink -f "$uvirt")")/../..

all_ok() {
    [ "$rc" = 0 ] && out '^1\.\.[1-9]' && ! out '^not ok'
}

for t in kvm_api kvm_exits kvm_memory kvm_msr kvm_smp kvm_state; do
    UVIRT_TEST_KVM=exec run exec --kvm -- "$build/tests/kvm/$t" </dev/null
    point "$t on the /dev/kvm of uvirt exec" all_ok
done
run exec --kvm -- sh -c 'cat /sys/module/kvm/parameters/force_emulation_prefix' </dev/null
point "kvm's parameters can be read" ended 0 0
run exec --kvm -- sh -c 'cat /sys/module/kvm_intel/parameters/nested' </dev/null
point "there is no vendor module" [ "$rc" != 0 ]
run exec --kvm -- sh -c 'exit 9' </dev/null
point "the program's status is uvirt's" ended 9
run exec --kvm -- /bin/busybox true </dev/null
point "a static program is refused" complains 126 'statically linked.*accepted'
run exec --kvm -- ./missing </dev/null
point "a program that is not there" complains 127 'command not found'
run exec -- true </dev/null
point "nothing to give" complains 125 'accepted: --kvm'
run exec --kvm </dev/null
point "no program" complains 125 'accepted: uvirt exec'
plan
