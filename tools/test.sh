#!/usr/bin/env bash
# Sets up, builds and runs every test that needs no GPU; those that need one say that they are skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$COMBA_ROOT/tools/setup.sh"
mkdir -p "$COMBA_ROOT/build"
configure_and_build all
say "Testing"
ctest --test-dir "$COMBA_BUILD" --parallel "$(nproc)" --output-on-failure "$@"
