#!/usr/bin/env bash
# How fast the CUDA backend is on this machine's card: its copy bandwidth first, then the kernels one by one, then
# whole steps, loading and capture, each beside its limit.
#
#   scripts/gpu_bench.sh [build|kernels|steps ...]     default: all
#
#   OUT=folder            where bench.json, kernels.jsonl, steps.json and gpu_bench.log go; default build/gpu
#   GPU_CHECK_EMULATE=1   a rehearsal without a GPU: it shows that everything runs, not how fast
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC1091
source scripts/gpu_lib.sh
show=1

if (($# == 0)); then set -- build kernels steps; fi
echo "${device:-no GPU}, driver ${driver:-none}, commit $commit"
part unpack 60 unpack

for stage in "$@"; do
  case "$stage" in
    build)
      if [[ -n "$emulate" ]]; then
        part "build library" 600 make "$jobs" build/libkvrm_emulator.so
        part "build benches" 600 make "$jobs" emulator-benches
      else
        archs="$(arch || true)"
        part "build library" 420 make "$jobs" -k "CUDA_ARCHS=$archs" cuda-library
        part "build benches" 300 make "$jobs" -k "CUDA_ARCHS=$archs" cuda-device-benches
      fi
      ;;
    kernels)
      # The copy is what everything else is measured against.
      for binary in $(make -s "list-$kind-benches" | tr ' ' '\n' | sort -t / -k 4 -s |
        awk '/copy|bandwidth/ { print; next } { rest = rest $0 "\n" } END { printf "%s", rest }'); do
        part "${binary#"$objects"/}" 240 "$binary"
      done
      ;;
    steps)
      KVRM_LIB="$library" KVRM_BENCH_SHAPE="${emulate:+tiny}" part "steps" 300 \
        deno run --allow-all --no-prompt --frozen --cached-only --v8-flags=--expose-gc bench/main.ts gpu \
        --json "$out/steps.json"
      ;;
    *)
      echo "unknown part '$stage', wanted build, kernels or steps" >&2
      exit 2
      ;;
  esac
done
# The benches print one object a line.
grep -E '^ *\{"name"' "$log" | sed -E 's/^ *//; s/,$//' >"$out/kernels.jsonl" || true
report "$out/bench.json"
