#!/usr/bin/env bash
# bundle.sh DIR [--with-tests]: a relocatable folder with the built programs and all they need but LibTorch, CUDA and
# the C library. On the other machine (Python with torch 2.11, or COMBA_TORCH=folder of the torch package):
#   DIR/comba train ...          the program
#   DIR/run bin/kernels_test     any other program of the bundle
#   pip install DIR/python       the operators for its Python
#   DIR/share                    completion of commands; in $XDG_DATA_DIRS bash and fish find it
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -ge 1 ] || die "usage: bundle.sh DIR [--with-tests]"
target="$1"
build="${COMBA_BUNDLE_BUILD:-$COMBA_BUILD}"
[ -x "$build/bin/comba" ] || die "$build/bin/comba is not built; run tools/demo.sh or cmake --build --preset release"

rm -rf "$target"
mkdir -p "$target/bin" "$target/lib" "$target/tests" "$target/kernels"
programs=(comba)
if [ "${2:-}" = --with-tests ]; then
  for test in "$build"/bin/*_test "$build/bin/classify_tests"; do programs+=("$(basename "$test")"); done
  cp -r "$COMBA_ROOT"/tests/python "$target/tests/"
  cp -r "$COMBA_ROOT"/kernels/python "$target/kernels/"
fi
for program in "${programs[@]}"; do
  strip --strip-unneeded -o "$target/bin/$program" "$build/bin/$program"
done
for library in libcomba_ops.so libcomba_imgcodecs.so; do
  strip --strip-unneeded -o "$target/lib/$library" "$build/lib/$library"
done
cmake --install "$build" --component python --prefix "$target/python" >/dev/null
cmake --install "$build" --component completion --prefix "$target" >/dev/null
ln -sf ../../lib/libcomba_ops.so "$target/python/comba_ops/libcomba_ops.so"

# OpenCV's imgcodecs links GDAL and GDCM (geo rasters, DICOM), 130 MB with all they need. datasets/decode.cpp lets no such
# file through, so here libraries of the same names stand in for them, whose functions return zero.
stand_in() {
  local name="$1" original="$2"
  comm -12 <(nm -D --undefined-only "$imgcodecs" | awk '{print $2}' | sed 's/@.*//' | sort -u) \
    <(nm -D --defined-only "$original" | awk '{print $3}' | sed 's/@.*//' | sort -u) |
    sed 's/.*/long &(void) { return 0; }/' |
    cc -shared -fPIC -Wl,-soname,"$name" -x c - -o "$target/lib/$name"
}

# Copies what FILE needs, and what that needs in turn, except what every machine or torch itself brings.
copy_needed() {
  local name
  for name in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case "$name" in
      libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | ld-linux* | libstdc++.so* | libgcc_s.so* | libgomp.so*) ;;
      libtorch* | libc10* | libcu* | libnv* | libnccl* | libcaffe2* | libshm*) ;;
      *)
        [ ! -e "$target/lib/$name" ] || continue
        [ -n "${path_of[$name]:-}" ] || die "$1 needs $name, which is not on this machine"
        case "$name" in
          libgdal* | libgdcm*) stand_in "$name" "${path_of[$name]}" ;;
          *)
            cp -L "${path_of[$name]}" "$target/lib/$name"
            copy_needed "$target/lib/$name"
            ;;
        esac
        ;;
    esac
  done
}

torch_libs="$(ls -d "$COMBA_DEPS_DIR"/venv/lib/python3*/site-packages/torch/lib | head -1)"
declare -A path_of
while read -r name path; do path_of[$name]="$path"; done < <(
  LD_LIBRARY_PATH="$torch_libs" ldd "$target"/bin/* "$target"/lib/*.so 2>/dev/null |
    awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u)
imgcodecs="$(printf '%s\n' "${path_of[@]}" | grep -m1 libopencv_imgcodecs)"
for file in "$target"/bin/* "$target"/lib/*.so; do copy_needed "$file"; done

cp -r "$COMBA_ROOT/configs" "$target/configs"
mkdir -p "$target/datasets" "$target/tracking"
cp -r "$COMBA_ROOT/tracking/weights" "$target/tracking/weights"
cp -r "$COMBA_ROOT/datasets/samples" "$target/datasets/samples"

cat >"$target/run" <<'LAUNCHER'
#!/usr/bin/env bash
# Runs a program of this bundle with the LibTorch of python3, or of COMBA_TORCH.
set -euo pipefail
here="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)"
torch="${COMBA_TORCH:-$(python3 -c 'import torch, os; print(os.path.dirname(torch.__file__))' 2>/dev/null || true)}"
[ -d "$torch/lib" ] || {
  echo "error: no LibTorch found: python3 has no torch; install torch 2.11 or set COMBA_TORCH to the torch package's folder" >&2
  exit 1
}
libraries="$here/lib:$torch/lib"
for folder in "$(dirname "$torch")"/nvidia/*/lib; do
  [ -d "$folder" ] && libraries="$libraries:$folder"
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
program="$1"
shift
[ -x "$program" ] || program="$here/$program"
exec "$program" "$@"
LAUNCHER
cat >"$target/comba" <<'LAUNCHER'
#!/usr/bin/env bash
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/run" bin/comba "$@"
LAUNCHER
chmod +x "$target/run" "$target/comba"

# The newest symbol versions of the C and C++ libraries that anything in the bundle asks for.
newest() {
  readelf -V --wide "$target"/bin/* "$target"/lib/* | grep -oE "Name: $1_[0-9.]+" | sort -Vu | sed -n "\$s/Name: //p"
}
printf '%s: %s MiB, needs %s %s %s or newer\n' "$target" "$(du -sm "$target" | cut -f1)" \
  "$(newest GLIBC)" "$(newest GLIBCXX)" "$(newest CXXABI)"
