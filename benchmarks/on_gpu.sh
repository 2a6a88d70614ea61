#!/bin/sh
# Runs all benchmarks on an accelerator, each in a process of its own, and writes what they measure
# as it comes: FOLDER/NAME.json and FOLDER/NAME.txt. One that fails, or takes more than LIMIT seconds,
# does not stop the others.
#
#   benchmarks/on_gpu.sh FOLDER [--seconds=8] [--config=experiments/spoken_digit.py] ...
set -u
[ $# -ge 1 ] || { echo "Name a folder for the results: $0 FOLDER [FLAG ...]" >&2; exit 2; }
folder=$1
shift
mkdir -p "$folder" || exit
failed=0
for name in recurrence kernels cells step input sweep memory convolution frontend streaming scaling; do
    check=
    [ $name = recurrence ] && check=--check
    echo "== $name"
    timeout "${LIMIT:-600}" "${PYTHON:-python}" -m benchmarks $name $check \
        --json="$folder/$name.json" "$@" >"$folder/$name.txt" 2>"$folder/$name.log" || {
        echo "$name failed: see $folder/$name.log" >&2
        failed=1
    }
    cat "$folder/$name.txt"
done
exit $failed
