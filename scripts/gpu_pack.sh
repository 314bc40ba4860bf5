#!/usr/bin/env bash
# Packs what a bare, offline machine with a GPU lacks into .carry/, for scripts/gpu_check.sh and gpu_bench.sh there.
# What is there already, and still right, is kept.
#
#   .carry/deno.xz      this machine's Deno; that one's processor must be of the same kind
#   .carry/npm.tar.xz   the npm packages of deno.lock, as Deno caches them
#   .carry/hwy.tar.xz   Google Highway's headers, for the CPU library that the GPU is compared with
#   .carry/models/      the small real model with its golden outputs, from ../shared
#   .carry/commit       what is tested
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly most_mib=60
export PATH="$PWD/.deno/bin:$PATH"
mkdir -p .carry

deno="$(deno eval 'console.log(Deno.execPath())')"
stamp="$(sha256sum "$deno" | cut -d ' ' -f 1)"
if [[ ! -s .carry/deno.xz || "$(cat .carry/deno.sha256 2>/dev/null)" != "$stamp" ]]; then
  echo "packing $deno: this takes a minute or two" >&2
  xz -9 --threads=0 --stdout "$deno" >.carry/deno.xz.part
  mv .carry/deno.xz.part .carry/deno.xz
  printf '%s\n' "$stamp" >.carry/deno.sha256
fi

if [[ ! -s .carry/npm.tar.xz || deno.lock -nt .carry/npm.tar.xz ]]; then
  cache="$(mktemp -d)"
  trap 'rm -rf "$cache"' EXIT
  DENO_DIR="$cache" deno install --frozen --quiet
  tar -C "$cache" -c npm | xz -9 --threads=0 >.carry/npm.tar.xz.part
  mv .carry/npm.tar.xz.part .carry/npm.tar.xz
fi

if [[ ! -s .carry/hwy.tar.xz ]]; then
  header="$(echo '#include <hwy/highway.h>' | "${CXX:-g++}" -M -x c++ - | tr ' ' '\n' | grep '/hwy/highway\.h$')"
  tar -C "${header%/hwy/highway.h}" -ch hwy | xz -9 >.carry/hwy.tar.xz.part
  mv .carry/hwy.tar.xz.part .carry/hwy.tar.xz
fi

rm -rf .carry/models
mkdir .carry/models
if [[ -d ../shared/models/stories260K ]]; then
  cp -R ../shared/models/stories260K .carry/models/
  chmod -R u+w .carry/models
else
  echo "../shared/models/stories260K is not here: its tests will be missed there" >&2
fi

{
  git rev-parse HEAD
  git diff --quiet HEAD || echo "and changes that are not committed"
} | paste -sd ' ' >.carry/commit

du -ah .carry | sort -k 2
size="$(du -sm .carry | cut -f 1)"
if ((size > most_mib)); then
  echo ".carry has $size MiB, wanted at most $most_mib" >&2
  exit 1
fi
