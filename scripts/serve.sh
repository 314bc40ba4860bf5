#!/usr/bin/env bash
# Serves a model with no more permissions than that takes.
#
#   scripts/serve.sh [flags]        scripts/serve.sh --help lists the flags
#
#   MODEL=folder|file.gguf|org/name[:file] HOST=address PORT=number ARGS="more flags" stand in for flags, as in `make serve`.
#   A flag wins over these, these over KVRM_MODEL and so on. PRINT=1 shows the command and does not run it.
#
# The server may listen on its one address, read its own runtime (a Worker is loaded by reading) and the model,
# read variables named KVRM_*, and load the native library, or with --backend auto one of two. Only a model that is named org/name, to be
# downloaded, adds Hugging Face's hosts, variables and cache folder.
set -euo pipefail

# What the server checks for names that it does not know, and what its --startup-report counts from.
KVRM_VARIABLES="$(compgen -e KVRM_ || true)"
export KVRM_VARIABLES KVRM_STARTED="${EPOCHREALTIME/[.,]/}"

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

deno="$root/.deno/bin/deno"
[[ -x "$deno" ]] || deno=deno

# Fewer packages than the tests need, where scripts/bootstrap.sh has got just those.
project="$root/deno.json"
service="$root/.deno/service"
if [[ "$service/ready" -nt "$project" && "$service/ready" -nt "$root/deno.lock" ]]; then project="$service/deno.json"; fi

# What a config file says about the same things, asked of the one who reads it.
config="" file_model="" file_host="" file_port="" file_backend="" file_lib="" file_paths=""
resolve --config config "${KVRM_CONFIG:-}"
if [[ -n "$config" ]]; then
  values="$("$deno" run --no-prompt --frozen --config "$project" "--allow-read=$config" \
    "$root/cli/print_config.ts" "$config")" || exit $?
  {
    read -r file_model && read -r file_host && read -r file_port && read -r file_backend && read -r file_lib &&
      read -r file_paths
  } <<<"$values" || true # empty lines at the end are lost
fi
# Kubernetes sets KVRM_PORT to an address where a service is named kvrm.
if [[ "${KVRM_PORT:-}" == tcp://* ]]; then unset KVRM_PORT; fi

model="" host="" port="" backend="" lib="" cert="" key="" keys=""
resolve --model model "${MODEL:-}" "${KVRM_MODEL:-}" "$file_model" "$root/models/tiny"
resolve --host host "${HOST:-}" "${KVRM_HOST:-}" "$file_host" 127.0.0.1
resolve --port port "${PORT:-}" "${KVRM_PORT:-}" "$file_port" 8000
resolve --backend backend "${KVRM_BACKEND:-}" "$file_backend" auto
resolve --lib lib "${KVRM_LIB:-}" "$file_lib"
resolve --tls-cert cert "${KVRM_TLS_CERT:-}"
resolve --tls-key key "${KVRM_TLS_KEY:-}"
resolve --api-keys-file keys "${KVRM_API_KEYS_FILE:-}"
if [[ -z "$lib" ]]; then
  case "$backend" in
    cuda | cpu) lib="$root/build/libkvrm_$backend.so" ;;
    *) lib="$root/build/libkvrm_cpu.so,$root/build/libkvrm_cuda.so" ;;
  esac
fi
if [[ "$host" == *:* ]]; then host="[$host]"; fi

net="$host:$port"
read="$root/runtime,$root/ffi,$model$file_paths"
# A large GGUF model comes in parts, of which the first is named.
if [[ "$model" =~ ^(.+)-00001-of-([0-9]{5})\.gguf$ && -e "$model" ]]; then
  for part in "${BASH_REMATCH[1]}"-*-of-"${BASH_REMATCH[2]}".gguf; do read+=",$part"; done
fi
for path in "$config" "$cert" "$key" "$keys"; do
  if [[ -n "$path" ]]; then read+=",$path"; fi
done
env='KVRM_*'
more=()
if [[ "${OTEL_DENO:-}" == true || "${OTEL_DENO:-}" == 1 ]]; then
  env+=',OTEL_DENO'
  # Without a limit a collector that does not answer would keep the process from ending.
  export OTEL_EXPORTER_OTLP_TIMEOUT="${OTEL_EXPORTER_OTLP_TIMEOUT:-2000}"
  # Deno's own default samples what its caller does not.
  export OTEL_TRACES_SAMPLER="${OTEL_TRACES_SAMPLER:-parentbased_always_on}"
  export OTEL_SERVICE_NAME="${OTEL_SERVICE_NAME:-kvrm}"
fi
if [[ ! -e "$model" && "$model" =~ ^((hf|huggingface)\.co/)?[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+(@[^:]+)?(:.+)?$ ]]; then
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

command=(
  "$deno" run --no-prompt --frozen --config "$project"
  "--allow-net=$net" "--allow-read=$read" "--allow-env=$env" "--allow-ffi=$lib" "${more[@]}"
  "$root/server.ts" "${flags[@]}"
)
if [[ -n "${PRINT:-}" ]]; then
  printf '%s\n' "${command[*]@Q}"
else
  exec "${command[@]}"
fi
