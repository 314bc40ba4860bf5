#!/usr/bin/env bash
# Makes build/clients-venv with the pinned Python clients, and prints its path. Fails with one line where it cannot.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="$here/../../../build/clients-venv"

if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  command -v python3 >/dev/null || { echo "python3 is not installed" >&2; exit 1; }
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  python3 -m venv "$venv" >/dev/null 2>&1 || { echo "python3 has no venv module" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >/dev/null 2>&1 ||
    { echo "the packages of requirements.txt could not be fetched" >&2; exit 1; }
  cp "$here/requirements.txt" "$venv/installed.txt"
fi
(cd "$venv" && pwd)
