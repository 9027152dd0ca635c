#!/usr/bin/env bash
# bundle_test.sh BUILD: makes a bundle of BUILD and looks at it as the loader of another machine would. Exits with 77 (skipped)
# on systems for which it is not written down what a bundle may need.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}
COMBA_BUNDLE_BUILD="$1" "$root/tools/bundle.sh" "$folder/first" >"$folder/said"
cat "$folder/said"
bundle="$folder/moved to here"
mv "$folder/first" "$bundle"
torch="$(ls -d "${COMBA_DEPS_DIR:-$HOME/.cache/comba}"/venv/lib/python3*/site-packages/torch | head -1)"
export COMBA_TORCH="$torch"

# Every library comes from the bundle, from LibTorch and its CUDA wheels, or is one that every machine has.
for file in "$bundle"/bin/* "$bundle"/lib/*; do
  "$bundle/run" "$(command -v ldd)" "$file"
done >"$folder/ldd"
grep -qF "=> $bundle/lib/libopencv_core.so" "$folder/ldd" || fail "ldd shows nothing: $(cat "$folder/ldd")"
while read -r name arrow path _; do
  [ "$arrow" = "=>" ] || continue
  case "$path" in
    BUNDLE/* | "${torch%/torch}"/*) ;;
    not) fail "$name is found nowhere" ;;
    *) [[ "$name" =~ ^(libc|libm|libdl|libutil|libpthread|librt|libstdc\+\+|libgcc_s|libgomp|libcu[a-z]*|libnv[a-zA-Z]*)\.so ]] ||
      fail "$name comes from $path: the bundle lacks it" ;;
  esac
done < <(sed "s|$bundle|BUNDLE|" "$folder/ldd" | sort -u)

# It runs from there, reads pictures and finds its weights; through a link too.
ln -s "$bundle/comba" "$folder/comba"
"$folder/comba" check --operators | grep -q 'comba::bidirectional_scan .*CPU' || fail "comba check --operators"
"$folder/comba" completion bash | cmp - "$bundle/share/bash-completion/completions/comba" || fail "completion in bash"
for script in zsh/site-functions/_comba fish/vendor_completions.d/comba.fish; do
  [ -s "$bundle/share/$script" ] || fail "share/$script is not there"
done
mkdir "$folder/frames"
for frame in 00000001 00000002; do cp "$bundle/tracking/weights/followed.jpg" "$folder/frames/$frame.jpg"; done
"$folder/comba" track "$folder/frames" --box 40,40,60,60 --device cpu --json "$folder/boxes.jsonl" >/dev/null
[ "$(wc -l <"$folder/boxes.jsonl")" = 2 ] || fail "comba track did not write two boxes"

# Without LibTorch it says so.
if COMBA_TORCH="$folder" "$folder/comba" --help 2>"$folder/error"; then fail "it ran without LibTorch"; fi
grep -q 'no LibTorch found.*set COMBA_TORCH' "$folder/error" || fail "without LibTorch it says: $(cat "$folder/error")"

# It asks for no newer C and C++ libraries than the README promises: built on Debian 12, those of Ubuntu 22.04 (GCC 12's and
# glibc 2.35), on Ubuntu 24.04 its own.
. /etc/os-release
case "$ID-$VERSION_ID" in
  debian-12) most=(2.35 3.4.30 1.3.13) ;;
  ubuntu-24.04) most=(2.39 3.4.33 1.3.14) ;;
  *) echo "skipped: no symbol versions are written down for $ID $VERSION_ID"; exit 77 ;;
esac
read -r glibc glibcxx cxxabi < <(sed -E 's/.*GLIBC_([0-9.]+) GLIBCXX_([0-9.]+) CXXABI_([0-9.]+).*/\1 \2 \3/' "$folder/said")
for pair in "$glibc ${most[0]}" "$glibcxx ${most[1]}" "$cxxabi ${most[2]}"; do
  sort -V -C <<<"${pair/ /$'\n'}" || fail "it needs version ${pair% *}, more than ${pair#* } of $PRETTY_NAME"
done
