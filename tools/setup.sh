#!/usr/bin/env bash
# Installs all that building Comba needs on Debian 12 or Ubuntu 24.04. Run it as often as you like: what is
# there is left alone, and when nothing is missing it ends within seconds.
#
#   COMBA_DEPS_DIR     where the Python environment lives (default ~/.cache/comba), shared by all clones
#   COMBA_NVCC_WHEELS  1: install the CUDA compiler from wheels even where there is an nvcc 13
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGES=(g++ cmake ninja-build ccache git python3 python3-venv libfmt-dev libcli11-dev nlohmann-json3-dev
  libtomlplusplus-dev libopencv-dev libjpeg-dev libzip-dev libgtest-dev clang
  xvfb xdotool) # the last three for tests alone: fuzzing, a window
REQUIREMENTS=("torch==2.11.0" "numpy" "safetensors" "onnx" "onnxruntime") # the last two for tests and comba export --verify
# The pins keep the compiler and its PTX assembler of one release.
COMPILER=("cuda-toolkit[nvcc,cccl,cudart]==13.0.2" "nvidia-nvvm==13.0.*" "nvidia-cuda-crt==13.0.*")
NVJPEG=("nvidia-nvjpeg==13.0.*")

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      # libjpeg-dev is provided by libjpeg62-turbo-dev on Debian
      printf '%s\n' "$package"
    fi
  done
}

install_packages() {
  command -v dpkg-query >/dev/null ||
    die "this script knows Debian and Ubuntu; install by other means: ${PACKAGES[*]}"
  local missing
  mapfile -t missing < <(missing_packages)
  [ "${#missing[@]}" -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
      as_root=(sudo)
    else
      die "these packages are missing; run this, then start again:
    sudo apt-get install -y ${missing[*]}"
    fi
  fi
  say "Installing system packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -q >&2 || die "apt-get update failed; is there a network?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 ||
    die "installing ${missing[*]} failed (output above)"
}

has_nvcc_13() {
  local nvcc
  for nvcc in "$(command -v nvcc || true)" /usr/local/cuda/bin/nvcc; do
    if [ -x "$nvcc" ] && "$nvcc" --version | grep -q 'release 13\.'; then
      return 0
    fi
  done
  return 1
}

wheels() {
  printf '%s\n' "${REQUIREMENTS[@]}"
  if [ "${COMBA_NVCC_WHEELS:-0}" = 1 ] || ! has_nvcc_13; then
    printf '%s\n' "${COMPILER[@]}"
  fi
  if [ ! -e /usr/local/cuda/include/nvjpeg.h ]; then
    printf '%s\n' "${NVJPEG[@]}"
  fi
}

install_wheels() {
  local venv="$COMBA_DEPS_DIR/venv" stamp="$COMBA_DEPS_DIR/venv/comba-requirements.txt" wanted
  wanted="$(wheels)"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    return 0
  fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "python3 is older than 3.10; install a newer one"
  local free_mb
  free_mb="$(df -Pm "$COMBA_DEPS_DIR" | awk 'NR==2 {print $4}')"
  [ "$free_mb" -gt 9000 ] || [ -d "$venv/lib" ] ||
    die "$COMBA_DEPS_DIR has ${free_mb} MiB free; LibTorch and CUDA need about 9 GiB. Set COMBA_DEPS_DIR to another disk."
  say "Installing LibTorch and CUDA wheels into $venv (some minutes, about 7 GB)"
  rm -f "$stamp"
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  local list
  mapfile -t list <<<"$wanted"
  "$venv/bin/python" -m pip install --disable-pip-version-check --quiet "${list[@]}" >&2 ||
    die "pip could not install ${list[*]}; is there a network? Run the script again, it continues where it stopped"
  printf '%s\n' "$wanted" >"$stamp"
}

mkdir -p "$COMBA_DEPS_DIR"
exec 9>"$COMBA_DEPS_DIR/setup.lock"
flock 9  # one set-up at a time, however many clones start one
install_packages
install_wheels
say "Everything is installed (environment: $COMBA_DEPS_DIR/venv)"
