#!/usr/bin/env bash
# track_window_test.sh COMBA: comba track in a real window, with a mouse and keys that xdotool moves. Exits with 77 (skipped)
# where there is no Xvfb or xdotool.
set -euo pipefail
comba="$1"
for program in Xvfb xdotool; do
  command -v "$program" >/dev/null || { echo "skipped: $program is not installed"; exit 77; }
done
folder="$(mktemp -d)"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

"$comba" data synth got10k val --sequences 1 --frames 24 --size 320x240 --split val >/dev/null
cat >tiny.toml <<TOML
task = "track"
[model]
image_size = 64
template_size = 32
width = 64
depth = 1
head_width = 16
[data]
train = ["got10k:val"]
eval = ["got10k:val"]
samples = 8
eval_samples = 8
[train]
epochs = 1
batch_size = 8
warmup_epochs = 0
TOML
"$comba" train tiny.toml --run run --device cpu >/dev/null 2>&1

exec 3< <(Xvfb -displayfd 1 -screen 0 1200x900x24 2>/dev/null)
read -r display <&3
export DISPLAY=":$display" XDG_RUNTIME_DIR="$folder"
"$comba" track val/GOT-10k_Val_000001 --weights run --device cpu --show --json boxes.jsonl --lost-below 0 >out.txt 2>err.txt &
session=$!
for _ in $(seq 100); do
  window="$(xdotool search --name "comba: GOT" 2>/dev/null | tail -1 || true)"
  [ -z "$window" ] || break
  sleep 0.2
done
[ -n "$window" ] || { echo "no window"; cat err.txt; exit 1; }
sleep 1

# The video waits on its first frame. The window shows 320 x 240 pixels three times as large, if nothing is around them.
drag() {
  xdotool mousemove "$1" "$2" sleep 0.2 mousedown 1 sleep 0.2 mousemove "$(($1 + 30))" "$(($2 + 30))" sleep 0.2 \
    mousemove "$3" "$4" sleep 0.2 mouseup 1 sleep 0.5
}
drag 150 150 300 270
drag 600 450 750 540
xdotool key --window "$window" s sleep 0.3 key --window "$window" n sleep 0.5 key --window "$window" n sleep 0.5
xdotool key --window "$window" r sleep 0.3 key --window "$window" n sleep 0.5 key --window "$window" q
wait "$session" || { echo "exit code $?"; cat err.txt; exit 1; }

expect() { # what, found, wanted
  [ "$2" = "$3" ] || { echo "$1: found $2, expected $3"; cat out.txt err.txt boxes.jsonl; exit 1; }
}
count() { sed -n "$1p" boxes.jsonl | grep -o '"id"' | wc -l; }
expect "objects in frame 1" "$(count 1)" 2
expect "objects in frame 2" "$(count 2)" 2
expect "objects after r" "$(count 4)" 0
expect "frames" "$(wc -l <boxes.jsonl)" 4
expect "pictures" "$(ls comba-*.png | wc -l)" 1
# The first box lies where it was drawn, give or take the window's frame.
sed -n 1p boxes.jsonl | grep -o '"box":\[[^]]*' | head -1 | tr -d '"box:[' | {
  IFS=, read -r x y w h
  awk -v x="$x" -v y="$y" -v w="$w" -v h="$h" 'BEGIN { exit !(x > 35 && x < 65 && y > 30 && y < 65 && w > 40 && w < 65 && h > 30 && h < 55) }' ||
    { echo "the box drawn is $x,$y,$w,$h"; exit 1; }
}
echo "the window follows mouse and keys"
