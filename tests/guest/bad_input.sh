#!/bin/bash
# SPDX-License-Identifier: MIT
# Bad input: one clear line that names the option, file or device, and uvirt's own exit codes.
set -u
. "$(dirname "$0")/lib.bash"
k=$(kernel 6.12)
limit=60

run run -- ./missing </dev/null
point "a command that is not there" complains 127 '\./missing: command not found'
run run -- no-such-program </dev/null
point "a command that is not in PATH" complains 127 'no-such-program: command not found'
run run -- /etc/passwd </dev/null
point "a command without x permission" complains 126 '/etc/passwd: Permission denied'
run run -- / </dev/null
point "a directory as command" complains 126 '/: Permission denied'
printf 'garbage' >"$work/garbage"
chmod +x "$work/garbage"
run run -- "$work/garbage" </dev/null
point "a file that is no program" complains 126 'garbage: Exec format error'
printf '#!/no/such/interpreter\n' >"$work/script"
chmod +x "$work/script"
run run -- "$work/script" </dev/null
point "a script without its interpreter" complains 126 '/no/such/interpreter'

for bad in z dz ,file ''; do
    run run --trace "$bad" -- true </dev/null
    point "--trace '$bad'" complains 125 '--trace .*accepted'
done
run run --trace d,/no/such/directory/file -- true </dev/null
point "--trace to a file that cannot be" complains 125 '--trace d,/no/such.*cannot be written'
for bad in 0 1 abc -5 5T 99999999999999999999 ''; do
    run run --mem "$bad" -- true </dev/null
    point "--mem '$bad'" complains 125 '--mem .*accepted'
done
for bad in 0 1000 two -1 ''; do
    run run --cpus "$bad" -- true </dev/null
    point "--cpus '$bad'" complains 125 '--cpus .*accepted'
done
run run --engine tcg -- true </dev/null
point "--engine" complains 125 '--engine tcg.*accepted.*auto\|soft\|kvm'
run run --cpu pentium -- true </dev/null
point "--cpu" complains 125 '--cpu pentium.*accepted'
run run --cpu host,+nonsense -- true </dev/null
point "--cpu, unknown feature" complains 125 '--cpu .*nonsense'
run run --serial nowhere -- true </dev/null
point "--serial" complains 125 '--serial nowhere.*accepted'
run run --serial file:/no/such/dir/file -- true </dev/null
point "--serial to a bad file" complains 125 '--serial file:.*No such file'
run run --nonsense -- true </dev/null
point "unknown option" complains 125 '--nonsense: unknown option'
run run --mem </dev/null
point "option without value" complains 125 '--mem needs a value.*accepted'
run nonsense </dev/null
point "unknown subcommand" complains 125 'nonsense: unknown command'

run run --kernel /no/such/kernel -- true </dev/null
point "a kernel that is not there" complains 125 '--kernel /no/such/kernel: No such file'
run run --kernel / -- true </dev/null
point "a kernel that is a directory" complains 125 '--kernel /: Is a directory'
run run --kernel /etc/passwd -- true </dev/null
point "a kernel that is none" complains 125 '--kernel /etc/passwd: .*accepted: bzImage'
: >"$work/empty"
run run --kernel "$work/empty" -- true </dev/null
point "an empty kernel" complains 125 '--kernel .*/empty: .*accepted: bzImage'
for size in 600 20000 5000000; do
    head -c $size "$k" >"$work/cut"
    run run --kernel "$work/cut" -- true </dev/null
    point "a bzImage cut at $size bytes" complains 125 '--kernel .*/cut: .*(truncated|corrupt)'
done
cp "$k" "$work/damaged"
dd if=/dev/urandom of="$work/damaged" bs=1k seek=2000 count=4 conv=notrunc 2>/dev/null
run run --kernel "$work/damaged" -- true </dev/null
point "a damaged bzImage" complains 125 '--kernel .*/damaged: .*(corrupt|truncated)'
run run --kernel /bin/ls -- true </dev/null
point "an ELF file that is no kernel" complains 125 '--kernel /bin/ls: '
run run --mem 64M -- true </dev/null
point "too little memory for this kernel" test "$rc" = 125

run run --initrd /no/such/initrd -- true </dev/null
point "an initrd that is not there" complains 125 '--initrd /no/such/initrd: No such file'
truncate -s 600M "$work/initrd"
run run --initrd "$work/initrd" --mem 512M -- true </dev/null
point "an initrd larger than memory" complains 125 '--initrd .*does not fit.*--mem'
run run --disk /no/such/disk -- true </dev/null
point "a disk that is not there" complains 125 '--disk /no/such/disk: No such file'
run run --disk /dev/null -- true </dev/null
point "a disk that is none" complains 125 '--disk /dev/null: neither'
run run --add /no/such/path -- true </dev/null
point "--add of what is not there" complains 126 '/no/such/path: No such file'
run run --append "$(head -c 3000 /dev/zero | tr '\0' x)" -- true </dev/null
point "a command line too long" complains 125 '--append.*at most'

# A kernel of two instructions: load an empty IDT, divide by zero.
cat >"$work/triple.S" <<'ASM'
    .section .note.pvh, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start
    .text
    .code32
    .globl start
start:
    lidt empty
    ud2
empty:
    .word 0
    .long 0
ASM
gcc -nostdlib -static -Wl,-Ttext=0x200000,--build-id=none,-e,start -o "$work/triple" "$work/triple.S" 2>/dev/null
run run --kernel "$work/triple" --initrd "$work/garbage" </dev/null
point "a triple fault" complains 125 'triple fault'
plan
