# shellcheck shell=bash
# shellcheck disable=SC2034 # used by those that source this
# What gpu_check.sh and gpu_bench.sh share: unpacking, parts with a time limit each, the table and the JSON.
#
# Both run on a machine that has nvcc and g++ and maybe nothing else: what scripts/gpu_pack.sh packed is unpacked
# into build/carry, and nothing is fetched. With GPU_CHECK_EMULATE=1 they run on any machine, against the emulator.

emulate="${GPU_CHECK_EMULATE:-}"
out="${OUT:-$PWD/build/gpu}"
mkdir -p "$out" build
jobs="-j$(nproc)"
if [[ -n "$emulate" ]]; then
  library="$PWD/build/libkvrm_emulator.so" kind=emulator objects=build/emu device=emulator driver=none
  native_limit=690
else
  library="$PWD/build/libkvrm_cuda.so" kind=device objects=build/nvcc
  native_limit=90
  device="$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 || true)"
  driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)"
fi
commit="$(git rev-parse HEAD 2>/dev/null || cat .carry/commit 2>/dev/null || echo unknown)"

expand() {
  if command -v xz >/dev/null; then
    xz --decompress --stdout "$1"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"
  fi
}

# Uses what was carried, where it was: on a machine that has everything it stays packed.
unpack() {
  mkdir -p build/carry/bin
  if [[ -s .carry/deno.xz && .carry/deno.xz -nt build/carry/bin/deno ]]; then
    expand .carry/deno.xz >build/carry/bin/deno
    chmod +x build/carry/bin/deno
  fi
  if [[ -s .carry/npm.tar.xz && .carry/npm.tar.xz -nt build/carry/deno/npm ]]; then
    mkdir -p build/carry/deno
    expand .carry/npm.tar.xz | tar -C build/carry/deno -x
    touch build/carry/deno/npm
  fi
  if [[ -s .carry/hwy.tar.xz && .carry/hwy.tar.xz -nt build/carry/include/hwy ]]; then
    mkdir -p build/carry/include
    expand .carry/hwy.tar.xz | tar -C build/carry/include -x
    touch build/carry/include/hwy
  fi
  deno --version
}
export PATH="$PWD/build/carry/bin:$PWD/.deno/bin:$PATH"
if [[ -s .carry/npm.tar.xz ]]; then export DENO_DIR="$PWD/build/carry/deno"; fi
if [[ -s .carry/hwy.tar.xz ]]; then export CPATH="$PWD/build/carry/include${CPATH:+:$CPATH}"; fi
if [[ -d .carry/models ]]; then export KVRM_SHARED="$PWD/.carry"; fi
export NO_COLOR=1

# The machine's own architecture: others take minutes to compile, and do not run here.
arch() {
  local capability
  capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)"
  case "$capability" in
    9.0) echo 90a ;;
    *) echo "${capability/./}" ;;
  esac
}

rows=() failures=0
log="$out/${0##*/}.log"
log="${log/.sh.log/.log}"
: >"$log"

# part NAME SECONDS COMMAND...: runs it, at most so long, and notes how it went. Output goes to the log; of a part
# that failed the end is shown as well; with $show, all of those that are neither built nor unpacked.
show=
part() {
  local name=$1 limit=$2 start end status result text seconds
  shift 2
  text="$(mktemp)"
  printf '%-44s' "$name"
  start="$(date +%s.%N)"
  status=0
  if declare -F "$1" >/dev/null; then
    "$@" >"$text" 2>&1 </dev/null || status=$?
  else
    timeout -k 5 "$limit" "$@" >"$text" 2>&1 </dev/null || status=$?
  fi
  end="$(date +%s.%N)"
  seconds="$(awk "BEGIN { printf \"%.1f\", $end - $start }")"
  detail="$(summary "$text")"
  case "$status" in
    0) result=ok ;;
    124 | 137) result="over $limit s" ;;
    *) result="failed ($status)" ;;
  esac
  # A runner that ran nothing has shown nothing.
  if [[ "$result" == ok && "$detail" == "0 passed"* ]]; then result="ran no test"; fi
  [[ "$result" == ok ]] || failures=$((failures + 1))
  printf '%-14s %8s s  %s\n' "$result" "$seconds" "$detail"
  if [[ -n "$show" && "$name" != unpack && "$name" != build* ]]; then
    sed 's/^/    /' "$text"
  elif [[ "$result" != ok ]]; then
    tail -n 25 "$text" | sed 's/^/    /'
  fi
  { printf '\n==== %s: %s\n' "$name" "$*" && cat "$text"; } >>"$log"
  rm -f "$text"
  rows+=("{\"name\": \"$name\", \"result\": \"$result\", \"seconds\": $seconds, \"detail\": \"$detail\"}")
}

# How many tests a part ran, as its runners say.
summary() {
  awk '
    /^native: [0-9]+ passed/ { passed += $2; failed += $4; seen = 1 }
    /^(ok|FAILED) \| [0-9]+ passed/ {
      for (i = 2; i <= NF; i++) {
        if ($i == "passed") passed += $(i - 1)
        if ($i == "failed") failed += $(i - 1)
        if ($i == "ignored") skipped += $(i - 1)
      }
      seen = 1
    }
    /ERROR SUMMARY: / { sub(/.*ERROR SUMMARY: /, ""); errors = $0 }
    /RACECHECK SUMMARY: / { sub(/.*RACECHECK SUMMARY: /, ""); errors = $0 }
    END {
      if (seen) printf "%d passed, %d failed%s", passed, failed, skipped ? ", " skipped " skipped" : ""
      if (errors != "") printf "%s%s", seen ? "; " : "", errors
    }' "$1" | tr -d '"'
}

# report FILE: writes the parts as JSON and the closing line; fails when one failed.
report() {
  local i
  {
    printf '{\n  "date": "%s",\n  "commit": "%s",\n  "device": "%s",\n  "driver": "%s",\n  "parts": [\n' \
      "$(date -u +%FT%TZ)" "$commit" "$device" "$driver"
    for i in "${!rows[@]}"; do
      printf '    %s%s\n' "${rows[i]}" "$([[ $i -lt $((${#rows[@]} - 1)) ]] && echo ,)"
    done
    printf '  ]\n}\n'
  } >"$1"
  printf '\n%d parts, %d failed; %s and %s\n' "${#rows[@]}" "$failures" "$1" "$log"
  ((failures == 0))
}
