# Shared by the scripts of this folder; sourced, not run.

# Root of the checkout, whatever the working directory.
COMBA_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
COMBA_DEPS_DIR="${COMBA_DEPS_DIR:-$HOME/.cache/comba}"
COMBA_BUILD="$COMBA_ROOT/build/release"
export COMBA_DEPS_DIR

say() { printf '\n==> %s\n' "$*" >&2; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# configure_and_build TARGET...: the release preset, reusing what is there.
configure_and_build() {
  say "Building ($*)"
  (cd "$COMBA_ROOT" && cmake --preset release -DCOMBA_DEPS_DIR="$COMBA_DEPS_DIR" >"$COMBA_ROOT/build/configure.log" 2>&1) || {
    cat "$COMBA_ROOT/build/configure.log" >&2
    die "configuring failed (log above)"
  }
  cmake --build "$COMBA_BUILD" --parallel "$(nproc)" --target "$@"
}
