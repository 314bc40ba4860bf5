#!/usr/bin/env bash
# Everything that only a GPU can show: builds for this machine's card, runs the native tests and the golden models on
# it, compares it with the CPU, and lets compute-sanitizer look at small cases. A part that fails does not stop the
# rest; the exit code says whether one did.
#
#   scripts/gpu_check.sh [build|native|golden|memcheck|racecheck|synccheck|initcheck ...]     default: all
#
#   OUT=folder            where check.json and gpu_check.log go; default build/gpu
#   GPU_CHECK_EMULATE=1   a rehearsal without a GPU: the emulator's library, no compute-sanitizer
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC1091
source scripts/gpu_lib.sh

# What compute-sanitizer looks at: tools, binary, words that select its tests. Small cases: it slows down a
# hundredfold. racecheck and synccheck are about shared memory and barriers: kernels alone.
readonly all=memcheck,racecheck,synccheck,initcheck kernels=memcheck,racecheck,synccheck host=memcheck,initcheck
readonly sanitized=(
  "$all begin_test"
  "$all edits_test"
  "$all pointwise_test"
  "$all gemm_test FeaturesThatFillNoTile ResidualAddsTheProduct GateAndUp"
  "$all gemm_qkv_test MatchFloat64"
  "$all attention_test PlainArithmetic OnTensorCores ManyHeads PaddedWindow BehindTheWindow"
  "$kernels sampling_test SampleGreedy SampleFilters SampleAdjusts"
  "$kernels prompt_logprobs_test"
  "$kernels device_test"
  "$host gpu_engine_test StepsInFlight BlocksFullOfNan TheHostTier"
  "$host transport_test HostTier"
  "$host weights_test Stacks Pieces Quantised"
)
readonly sanitizer_limit=90

readonly deno_test=(deno test --allow-all --no-prompt --frozen --cached-only)

if (($# == 0)); then set -- build native golden memcheck racecheck synccheck initcheck; fi
echo "${device:-no GPU}, driver ${driver:-none}, commit $commit"
part unpack 60 unpack

for stage in "$@"; do
  case "$stage" in
    build)
      if [[ -n "$emulate" ]]; then
        part "build libraries" 600 make "$jobs" build/libkvrm_emulator.so build/libkvrm_cpu.so
        # shellcheck disable=SC2046
        part "build tests" 600 make "$jobs" -k $(make -s list-emulator-tests | tr " " "\n" | cut -d : -f 1)
      else
        archs="$(arch || true)"
        part "build libraries" 420 make "$jobs" -k "CUDA_ARCHS=$archs" NVCCFLAGS=-lineinfo cuda-library build/libkvrm_cpu.so
        part "build tests" 300 make "$jobs" -k "CUDA_ARCHS=$archs" NVCCFLAGS=-lineinfo cuda-device-tests
      fi
      ;;
    native)
      for test in $(make -s "list-$kind-tests"); do
        read -ra words <<<"${test//:/ }"
        part "${words[0]#"$objects"/}" "$native_limit" "${words[@]}"
      done
      ;;
    golden)
      export KVRM_GPU_LIB="$library"
      limit="${emulate:+3}300" # an emulator takes its time
      KVRM_LIB="$library" part "golden models" "$limit" "${deno_test[@]}" tests/runtime/golden_models_test.ts
      KVRM_LIB="$library" part "determinism" "$limit" "${deno_test[@]}" tests/runtime/determinism_test.ts
      KVRM_LIB="$library" part "engine" "$limit" "${deno_test[@]}" tests/runtime/engine_test.ts
      part "GPU beside CPU" "$limit" "${deno_test[@]}" tests/cuda
      ;;
    memcheck | racecheck | synccheck | initcheck)
      if [[ -n "$emulate" ]]; then continue; fi
      for line in "${sanitized[@]}"; do
        read -r tools binary words <<<"$line"
        [[ ",$tools," == *",$stage,"* ]] || continue
        # shellcheck disable=SC2086 # the words
        part "$stage: $binary" "$sanitizer_limit" compute-sanitizer --tool "$stage" --error-exitcode 9 \
          "$objects/cuda/$binary" $words
      done
      ;;
    *)
      echo "unknown part '$stage', wanted build, native, golden or a tool of compute-sanitizer" >&2
      exit 2
      ;;
  esac
done
report "$out/check.json"
