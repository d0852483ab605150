# SPDX-License-Identifier: MIT
# A shell that keeps to itself: arithmetic, function calls, strings, case.
f() { r=$(( ($1 * 17 + 3) % 1009 )); }
i=0 s= r=1 n=0
while [ $i -lt 60000 ]; do
    f $((r + i))
    case $r in
    1*) n=$((n + 1)) ;;
    *7) s=${s#?}x ;;
    *) s=y$s; s=${s%y} ;;
    esac
    [ ${#s} -gt 20 ] && s=
    i=$((i + 1))
done
[ $n -gt 1 ]
