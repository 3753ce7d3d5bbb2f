#!/bin/sh
# Runs every fuzz target of the module for a time each, two at a time; fails when one finds
# something or when there is none.
set -eu
time=${1:-1m}
list=$(git ls-files '*_test.go' | xargs grep -H -o '^func Fuzz[A-Za-z0-9_]*' |
  sed -E 's|^(.*)/[^/]*:func (.*)$|\1 \2|' | sort -u)
[ -n "$list" ] || { echo "no fuzz target found"; exit 1; }
one='dir=$1 target=$2
  out=$(${GO:-go} test "./$dir" -run "^\$" -fuzz "^$target\$" -fuzztime "$0" -parallel 1 2>&1) || {
    echo "$out"; echo "FAILED fuzz $dir $target"; exit 255; }
  echo "held: $dir $target ($(echo "$out" | grep -o "execs: [0-9]*" | tail -1))"'
# Compile first, so that the time is spent on inputs.
echo "$list" | cut -d' ' -f1 | sort -u | while read -r dir; do
  ${GO:-go} test "./$dir" -run '^$' -fuzz '^FuzzNothingOfThisName$' -fuzztime 1x >/dev/null 2>&1 || true
done
echo "$list" | xargs -P 2 -L 1 sh -c "$one" "$time"
echo "$(echo "$list" | wc -l) fuzz targets held"
