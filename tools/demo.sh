#!/usr/bin/env bash
# From nothing to a trained classifier: sets up, builds, trains on 4,000 handwritten digits, evaluates on 1,000
# others and predicts three pictures.
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
say "Done"
printf 'report   %s\nweights  %s\n' "$run/report.html" "$run/checkpoints/best/model.safetensors"
