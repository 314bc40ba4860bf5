#!/usr/bin/env bash
# Serves a model with no more permissions than that takes.
#
#   scripts/serve.sh [flags]        scripts/serve.sh --help lists the flags
#
#   MODEL=folder|org/name HOST=address PORT=number ARGS="more flags" stand in for flags, as in `make serve`.
#   A flag wins over these, these over KVRM_MODEL and so on. PRINT=1 shows the command and does not run it.
#
# The server may listen on its one address, read its own runtime (a Worker is loaded by reading) and the model,
# read variables named KVRM_*, and load the native library, or with --backend auto one of two. Only a model that is named org/name, to be
# downloaded, adds Hugging Face's hosts, variables and cache folder.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
read -ra words <<<"${ARGS:-}"
flags=("${words[@]}" "$@")

# The value that the flags give for $1; nothing when they do not.
flag_value() {
  local i
  for ((i = 0; i < ${#flags[@]}; i++)); do
    case "${flags[i]}" in
      "$1") printf '%s' "${flags[i + 1]:-}" && return ;;
      "$1="*) printf '%s' "${flags[i]#*=}" && return ;;
    esac
  done
}

# Sets $2 to the value of flag $1; where no flag gives it, to that of the later arguments which comes first.
resolve() {
  local flag=$1 name=$2 value
  shift 2
  value="$(flag_value "$flag")"
  while [[ -z "$value" && $# -gt 0 ]]; do
    value=$1 && shift
    # What no flag says has to reach the server too.
    [[ -z "$value" ]] || flags+=("$flag" "$value")
  done
  printf -v "$name" '%s' "$value"
}

model="" host="" port="" backend="" lib=""
resolve --model model "${MODEL:-}" "${KVRM_MODEL:-}" "$root/models/tiny"
resolve --host host "${HOST:-}" "${KVRM_HOST:-}" 127.0.0.1
resolve --port port "${PORT:-}" "${KVRM_PORT:-}" 8000
resolve --backend backend "${KVRM_BACKEND:-}" auto
resolve --lib lib "${KVRM_LIB:-}"
if [[ -z "$lib" ]]; then
  case "$backend" in
    cuda | cpu) lib="$root/build/libkvrm_$backend.so" ;;
    *) lib="$root/build/libkvrm_cpu.so,$root/build/libkvrm_cuda.so" ;;
  esac
fi
if [[ "$host" == *:* ]]; then host="[$host]"; fi

net="$host:$port"
read="$root/runtime,$root/ffi,$model"
env='KVRM_*'
more=()
if [[ ! -e "$model" && "$model" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+(@.+)?$ ]]; then
  home="${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}"
  cache="${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$home/hub}}"
  export HF_HUB_CACHE="$cache"
  endpoint="${HF_ENDPOINT:-https://huggingface.co}"
  endpoint="${endpoint#*://}"
  net+=",${endpoint%%/*},*.huggingface.co,*.hf.co"
  read+=",$cache,${HF_TOKEN_PATH:-$home/token}"
  env+=',HF_*,HUGGINGFACE_HUB_CACHE,HUGGING_FACE_HUB_TOKEN,XDG_CACHE_HOME,HOME'
  more+=("--allow-write=$cache" --allow-sys=homedir)
fi

deno="$root/.deno/bin/deno"
[[ -x "$deno" ]] || deno=deno
command=(
  "$deno" run --no-prompt --frozen --config "$root/deno.json"
  "--allow-net=$net" "--allow-read=$read" "--allow-env=$env" "--allow-ffi=$lib" "${more[@]}"
  "$root/server.ts" "${flags[@]}"
)
if [[ -n "${PRINT:-}" ]]; then
  printf '%s\n' "${command[*]@Q}"
else
  exec "${command[@]}"
fi
