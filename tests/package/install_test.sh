#!/usr/bin/env bash
# install_test.sh BUILD [-D...]: installs BUILD, moves what was installed, and uses it from there: the program, and a CMake
# project (tests/consumer), configured with the given definitions.
set -euo pipefail
build="$1"
shift
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

cmake --install "$build" --prefix "$folder/first" >"$folder/install.log" 2>&1 || fail "installing: $(cat "$folder/install.log")"
prefix="$folder/moved to here"
mv "$folder/first" "$prefix"

# Headers reach only headers that are installed with them.
while IFS=: read -r file included; do
  [ -e "$prefix/include/comba/$included" ] || fail "$file includes $included, which is not installed"
done < <(cd "$prefix/include/comba" && grep -rE '^#include "' | sed -E 's/:#include "([^"]*)".*/:\1/')

# The program runs from there, with all operators, and takes the weights that came with it.
"$prefix/bin/comba" check --operators >/dev/null || fail "the installed comba does not run"
weights="$prefix/share/comba/tracking/weights/comba_t_synthetic.safetensors"
cmp "$weights" "$root/tracking/weights/comba_t_synthetic.safetensors"
: >"$weights"
mkdir "$folder/frames"
cp "$prefix/share/comba/tracking/weights/followed.jpg" "$folder/frames/00000001.jpg"
if "$prefix/bin/comba" track "$folder/frames" --box 1,1,20,20 --device cpu >"$folder/track.log" 2>&1; then
  fail "comba track ran with an empty file of weights: it takes others than those installed with it"
fi
grep -qF "$weights" "$folder/track.log" || fail "comba track took other weights than $weights: $(cat "$folder/track.log")"

# Shells find what the program itself says.
for script in bash:bash-completion/completions/comba zsh:zsh/site-functions/_comba fish:fish/vendor_completions.d/comba.fish; do
  "$prefix/bin/comba" completion "${script%%:*}" | cmp - "$prefix/share/${script#*:}" || fail "completion of ${script%%:*}"
done
offered="$(env -i PATH="$PATH" bash -c 'source "$1"; COMP_WORDS=(comba expo); COMP_CWORD=1; _comba; echo "${COMPREPLY[@]}"' - \
  "$prefix/share/bash-completion/completions/comba")"
[ "$offered" = export ] || fail "bash completes comba expo as \"$offered\""

# A LibTorch of another release is refused in so many words.
mkdir -p "$folder/other/Torch"
echo 'set(Torch_FOUND TRUE)' >"$folder/other/Torch/TorchConfig.cmake"
printf 'set(PACKAGE_VERSION 2.9.1)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n' >"$folder/other/Torch/TorchConfigVersion.cmake"
configure() { cmake -S "$root/tests/consumer" -B "$1" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_PREFIX_PATH=$prefix" "${@:2}" >"$1.log" 2>&1; }
if configure "$folder/refused" "$@" "-DTorch_DIR=$folder/other/Torch"; then fail "LibTorch 2.9.1 was taken"; fi
tr -s ' \n' ' ' <"$folder/refused.log" | grep -q 'was built with LibTorch 2\.[0-9.]*, but find_package(Torch) found 2\.9\.1 in' ||
  fail "what is said of LibTorch 2.9.1: $(cat "$folder/refused.log")"

configure "$folder/consumer" "$@" || fail "configuring the consumer: $(cat "$folder/consumer.log")"
cmake --build "$folder/consumer" -j1 >"$folder/build.log" 2>&1 || fail "building the consumer: $(cat "$folder/build.log")"
"$folder/consumer/consumer"
