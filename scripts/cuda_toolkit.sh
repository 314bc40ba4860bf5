#!/usr/bin/env bash
# The CUDA 13 compiler: one that is installed, else NVIDIA's wheels of CUDA 13.0 in .cuda/.
#
#   scripts/cuda_toolkit.sh         gets it where it is missing; instant, and silent, when it is there
#   scripts/cuda_toolkit.sh path    prints the path of nvcc; nothing when there is none
#
# It looks in CUDA_HOME, /usr/local/cuda, the PATH and .cuda/, in this order.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly wanted=13 requirements=scripts/cuda_requirements.txt

say() { printf '%s\n' "kvrm: $*" >&2; }
die() {
  say "$@"
  exit 1
}

# The first nvcc of the wanted major version, in $nvcc. A toolkit of another version is passed over.
find_nvcc() {
  local candidate
  for candidate in "${CUDA_HOME:+$CUDA_HOME/bin/nvcc}" /usr/local/cuda/bin/nvcc "$(command -v nvcc || true)"; do
    [[ -n "$candidate" && -x "$candidate" ]] || continue
    if "$candidate" --version 2>/dev/null | grep -q "release $wanted\."; then
      nvcc=$candidate
      return
    fi
  done
  # The stamp holds the versions and hashes: other ones are fetched anew.
  if cmp -s "$requirements" .cuda/requirements.txt; then
    nvcc=$PWD/.cuda/bin/nvcc
    return
  fi
  return 1
}

# The ordinary client that is there, in $pip.
find_pip() {
  local candidate
  for candidate in pip3 pip "python3 -m pip"; do
    read -ra pip <<<"$candidate"
    if "${pip[@]}" --version >/dev/null 2>&1; then return; fi
  done
  return 1
}

get_wheels() {
  find_pip || {
    scripts/bootstrap.sh pip && find_pip
  } || die "no CUDA $wanted toolkit, and no pip to fetch one with: install either one"
  say "getting NVIDIA's compiler (CUDA 13.0, about 500 MB to fetch, 210 MB kept) into .cuda/"
  rm -rf .cuda
  mkdir -p .cuda/partial
  # Without a cache: the wheels would lie in the home folder for nobody. Without compiling: they have no Python.
  PIP_ROOT_USER_ACTION=ignore "${pip[@]}" install --quiet --no-deps --require-hashes --only-binary :all: --no-compile \
    --no-cache-dir --disable-pip-version-check --target .cuda/partial -r "$requirements" >&2 </dev/null || {
    rm -rf .cuda
    die "the wheels of $requirements could not be fetched: is there a network? An installed CUDA $wanted does too," \
      "in CUDA_HOME, /usr/local/cuda or on the PATH"
  }
  local tree=.cuda/partial/nvidia/cu13
  [[ -x "$tree/bin/nvcc" ]] || die "the wheels have no nvidia/cu13/bin/nvcc"
  # Linked are the static runtime and nothing else: cuBLASLt is opened at run time, wherever the machine has it.
  # So its half gigabyte goes, and its headers stay.
  find "$tree/lib" -name '*.so*' -delete
  mv "$tree"/* .cuda/
  ln -s lib .cuda/lib64
  rm -rf .cuda/partial
  .cuda/bin/nvcc --version >/dev/null || die ".cuda/bin/nvcc does not run on this machine"
  cp "$requirements" .cuda/requirements.txt
}

nvcc=
case "${1:-get}" in
  get) find_nvcc || get_wheels ;;
  path) if find_nvcc; then printf '%s\n' "$nvcc"; fi ;;
  *) die "unknown part '$1', wanted path or nothing" ;;
esac
