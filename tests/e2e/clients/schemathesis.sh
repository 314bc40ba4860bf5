#!/usr/bin/env bash
# Asks a running server whatever its /openapi.json allows, and much that it does not:
#   tests/e2e/clients/schemathesis.sh http://127.0.0.1:8000 [CASES]
# CASES is the most per endpoint, default 100. Fails on a 5xx, on a status, type or body that is not described, on
# data that is taken although it does not fit, and so on. Not on data that fits and is refused: schemas cannot say
# that two fields contradict each other. How long an answer takes is no finding: some ask for hundreds of choices.
set -euo pipefail
url="${1:?the address of a server}"
cases="${2:-100}"
venv="$("$(dirname "${BASH_SOURCE[0]}")/venv.sh")"

cd "$venv" # It leaves a folder where it runs.
exec "$venv/bin/schemathesis" run "$url/openapi.json" --url "$url" \
  --max-examples "$cases" --seed "${SEED:-1}" --generation-database :memory: --no-color --request-timeout 60 --max-response-time 60 \
  --checks all --exclude-checks positive_data_acceptance
