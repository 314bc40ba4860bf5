#!/usr/bin/env bash
# kvrm from its sources: scripts/kvrm.sh run "Once upon a time"; scripts/kvrm.sh --help lists the commands.
#
# `serve` is scripts/serve.sh's, which gives the server just the permissions that it needs. The others are for
# the person at the terminal: they may read any file, load a native library, and write the cache of models.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
case "${1:-}" in
  serve) shift && exec "$root/scripts/serve.sh" "$@" ;;
  run | pull | bench | help | -h | --help | -V | --version) ;;
  *) exec "$root/scripts/serve.sh" "$@" ;;
esac

deno="$root/.deno/bin/deno"
[[ -x "$deno" ]] || deno=deno
home="${HF_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/huggingface}"
cache="${HF_HUB_CACHE:-${HUGGINGFACE_HUB_CACHE:-$home/hub}}"
# Deno makes the cache's symbolic links only with all of both.
write="--allow-write=$cache"
if [[ "${1:-}" == pull ]]; then write=--allow-write; fi
exec "$deno" run --no-prompt --frozen --config "$root/deno.json" --allow-net --allow-read "$write" --allow-env \
  --allow-ffi --allow-sys=homedir "$root/server.ts" "$@"
