#!/usr/bin/env bash
# Runs test binaries, as many at once as there are cores, and prints what each said, in their order. Fails when one does.
#
#   scripts/run_binaries.sh binary[:word:word...] ...
set -uo pipefail

out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

# shellcheck disable=SC2317 # xargs runs it
run() {
  local at="$1" words
  IFS=: read -ra words <<<"$2"
  "${words[@]}" >"$out/$at" 2>&1
  echo $? >"$out/$at.rc"
}
export -f run
export out

for ((i = 1; i <= $#; i++)); do printf '%s\0%s\0' "$i" "${!i}"; done |
  xargs -0 -n 2 -P "$(nproc)" bash -c 'run "$@"' _

failed=0
for ((i = 1; i <= $#; i++)); do
  echo "# ${!i//:/ }"
  cat "$out/$i"
  [[ "$(cat "$out/$i.rc" 2>/dev/null)" == 0 ]] || failed=1
done
exit $failed
