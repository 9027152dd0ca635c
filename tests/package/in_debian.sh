#!/usr/bin/env bash
# in_debian.sh BUNDLE [SUITE]: runs a bundle (tools/bundle.sh) in a bare Debian of another release (default trixie), which
# mmdebstrap makes in a temporary folder. For root, with a network; not part of any test.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: in_debian.sh BUNDLE [SUITE]" >&2; exit 2; }
bundle="$(cd "$1" && pwd)" suite="${2:-trixie}"
packages="$(ls -d "${COMBA_DEPS_DIR:-$HOME/.cache/comba}"/venv/lib/python3*/site-packages | head -1)"
[ -d "$packages/torch" ] || { echo "error: no LibTorch in $packages; run tools/setup.sh" >&2; exit 1; }
folder="$(mktemp -d)"
trap 'rm -rf --one-file-system "$folder"' EXIT
mmdebstrap --quiet --variant=minbase --include=libgomp1,libstdc++6 "$suite" "$folder/root"

cat >"$folder/root/try.sh" <<'TRY'
set -euo pipefail
grep PRETTY_NAME /etc/os-release
/bundle/comba --version
/bundle/comba check | tail -n 1
/bundle/comba train /bundle/configs/mnist5k.toml --run /tmp/run --device cpu --set data.train=/bundle/datasets/samples/mnist5k \
  --set data.eval=/bundle/datasets/samples/mnist5k --set train.epochs=1 2>/dev/null | tail -3
/bundle/comba predict /tmp/run /bundle/datasets/samples/mnist5k/digits --topk 1 | tail -2
mkdir /tmp/frames
for frame in 1 2 3; do cp /bundle/tracking/weights/followed.jpg "/tmp/frames/0000000$frame.jpg"; done
/bundle/comba track /tmp/frames --box 40,40,60,60 --device cpu
TRY
mkdir "$folder"/root/{bundle,packages}
# The mounts are of this process alone and end with it.
unshare --mount bash -euc '
  mount --bind "$2" "$1/bundle"
  mount --bind "$3" "$1/packages"
  mount -t proc proc "$1/proc"
  mount --rbind /dev "$1/dev"
  chroot "$1" env -i PATH=/usr/bin:/bin LC_ALL=C.UTF-8 COMBA_TORCH=/packages/torch bash /try.sh
' _ "$folder/root" "$bundle" "$packages"
