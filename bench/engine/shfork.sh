# SPDX-License-Identifier: MIT
# A hundred external commands: fork, exec of busybox ($1), wait, and a command substitution.
i=0
while [ $i -lt 100 ]; do
    x=$("$1" echo $i)
    i=$((x + 1))
done
