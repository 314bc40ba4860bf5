#!/usr/bin/env bash
# Gets what the project needs and the machine lacks. Instant, and silent, when nothing is missing.
#
#   scripts/bootstrap.sh deno       .deno/bin/deno: the PATH's Deno if it is new enough, else one from npm
#   scripts/bootstrap.sh packages   a C++20 compiler, Google Highway and, for the CUDA emulator, Boost.Context, as
#                                   Debian packages
#   scripts/bootstrap.sh deps       the npm packages of deno.lock, in Deno's own cache
#   scripts/bootstrap.sh service    of these, just what the service imports
#   scripts/bootstrap.sh tools      what only the gate uses: clang-format, shellcheck, curl, promtool (never fails)
#   scripts/bootstrap.sh pip        Python's pip, which fetches the CUDA compiler (scripts/cuda_toolkit.sh)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly deno_wanted=2.9 deno_pinned=2.9.6

say() { printf '%s\n' "kvrm: $*" >&2; }
die() {
  say "$@"
  exit 1
}

# $1 >= $2, as versions.
at_least() { [[ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" == "$2" ]]; }

get_deno() {
  # The stamp names the pin, so that a newer pin is looked at again; -x is false for a dangling link.
  [[ -x .deno/bin/deno && -e ".deno/chosen-for-$deno_pinned" ]] && return
  mkdir -p .deno/bin
  rm -f .deno/bin/deno .deno/chosen-for-*

  local found version binary=
  if found="$(command -v deno)" && version="$("$found" eval 'console.log(Deno.version.deno)' 2>/dev/null)"; then
    if at_least "$version" "$deno_wanted"; then
      binary="$("$found" eval 'console.log(Deno.execPath())')"
    else
      say "the Deno on the PATH is $version, wanted $deno_wanted or newer"
    fi
  fi
  if [[ -z "$binary" ]]; then
    command -v npm >/dev/null ||
      die "no Deno $deno_wanted or newer on the PATH, and no npm to get it with: install either one"
    say "getting Deno $deno_pinned from npm into .deno/"
    # The package's install script only copies the platform package's binary, so it need not run.
    npm install --prefix .deno --ignore-scripts --no-save --no-package-lock --no-audit --no-fund \
      --loglevel=error "deno@$deno_pinned" >&2 </dev/null || die "npm could not install deno@$deno_pinned"
    for binary in "$PWD"/.deno/node_modules/@deno/*/deno; do [[ -x "$binary" ]] && break; done
    [[ -x "$binary" ]] || die "the npm package deno@$deno_pinned has no binary for $(uname -sm)"
  fi
  ln -s "$binary" .deno/bin/deno
  .deno/bin/deno --version >/dev/null || die "$binary does not run on this machine"
  touch ".deno/chosen-for-$deno_pinned"
}

# As make does, take $CXX apart: it may be "ccache g++".
read -ra compiler <<<"${CXX:-g++}"

has_header() {
  "${compiler[@]}" -E -x c++ - >/dev/null 2>&1 <<<"#if !__has_include(<$1>)
#error
#endif"
}

apt_install() {
  local command="apt-get install -y --no-install-recommends $*" sudo=()
  ((EUID == 0)) || sudo=(sudo)
  if ! command -v apt-get >/dev/null || { ((EUID != 0)) && ! command -v sudo >/dev/null; }; then
    say "missing here: $*. On Debian, as root: $command"
    return 1
  fi
  # Without a terminal nobody can type a password: fail at once instead of hanging.
  if ((EUID != 0)) && [[ ! -t 0 ]]; then sudo+=(-n); fi
  say "installing Debian packages: $*"
  # Stale or unreachable lists may still do; the install itself decides.
  "${sudo[@]}" apt-get update -qq >/dev/null </dev/null || true
  # shellcheck disable=SC2086 # the words of $command
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive $command -qq -o DPkg::Lock::Timeout=120 >/dev/null </dev/null || {
    say "could not install: $*. As root: apt-get update && $command"
    return 1
  }
}

get_packages() {
  local missing=()
  command -v "${compiler[0]}" >/dev/null || missing+=(g++)
  # Without a compiler the header cannot be looked for; asking for an installed package does no harm.
  if ((${#missing[@]})) || ! has_header hwy/highway.h; then missing+=(libhwy-dev); fi
  if ((${#missing[@]})) || ! has_header boost/context/fiber.hpp; then missing+=(libboost-context-dev); fi
  if ((${#missing[@]})) || ! has_header simde/x86/avx512.h; then missing+=(libsimde-dev); fi
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}" || exit 1
}

get_deps() {
  [[ .deno/deps -nt deno.json && .deno/deps -nt deno.lock ]] && return
  .deno/bin/deno install --frozen --quiet >&2
  touch .deno/deps
}

# The configuration and the lock that scripts/serve.sh takes where they are newer than those of the repository.
get_service() {
  local folder=.deno/service
  [[ $folder/ready -nt deno.json && $folder/ready -nt deno.lock && $folder/ready -nt scripts/service_config.sh ]] && return
  rm -rf $folder
  mkdir -p $folder
  scripts/service_config.sh >$folder/deno.json
  cp deno.lock $folder/
  # Not frozen: what is left out leaves the lock's copy too. Versions and hashes stay those of the lock.
  .deno/bin/deno install --quiet --config $folder/deno.json --entrypoint server.ts runtime/worker.ts \
    runtime/grammar/worker.ts runtime/grammar/check_worker.ts >&2
  touch $folder/ready
}

# Of Debian's prometheus just the one program: the package would start a server on this machine.
get_promtool() {
  command -v promtool >/dev/null || [[ -x .deno/bin/promtool ]] && return
  local folder
  folder="$(mktemp -d)"
  if (cd "$folder" && apt-get download -qq prometheus >/dev/null 2>&1 &&
    dpkg-deb --fsys-tarfile prometheus_*.deb | tar x ./usr/bin/promtool); then
    mv "$folder/usr/bin/promtool" .deno/bin/
  else
    say "promtool could not be had: its tests are skipped"
  fi
  rm -rf "$folder"
}

get_tools() {
  local tool missing=()
  for tool in clang-format shellcheck curl; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  ((${#missing[@]} == 0)) || apt_install "${missing[@]}" || true
  get_promtool
}

get_pip() {
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip || exit 1
}

(($# > 0)) || die "which part? deno, packages, deps, service, tools or pip"
for part in "$@"; do
  case "$part" in
    deno | packages | deps | service | tools | pip) "get_$part" ;;
    *) die "unknown part '$part', wanted deno, packages, deps, service, tools or pip" ;;
  esac
done
