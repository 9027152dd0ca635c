#!/usr/bin/env bash
# fuzz.sh TARGET SECONDS: builds tests/fuzz/TARGET_fuzz.cpp with clang's libFuzzer, AddressSanitizer and UBSan and runs it.
# Exits with 77 (skipped) where there is no such clang.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
target="$1" seconds="$2"
folder="$(mktemp -d)"
export COMBA_FUZZ_FOLDER="$(mktemp -d -p /dev/shm)" # files that the target writes, in memory
trap 'rm -rf "$folder" "$COMBA_FUZZ_FOLDER"' EXIT
printf 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n' >"$folder/none.cpp"
clang++ -fsanitize=fuzzer,address,undefined "$folder/none.cpp" -o "$folder/none" 2>/dev/null ||
  { echo "skipped: there is no clang++ with libFuzzer"; exit 77; }

sources=("$root/tests/fuzz/${target}_fuzz.cpp" "$root"/vision/base/{error,files,log}.cpp)
libraries=(-lfmt -lpthread)
case "$target" in
  boxes | coco | sequence)
    sources+=("$root"/tracking/{box_file,benchmark,coco_objects,got10k_score,lasot_score,score}.cpp) ;;
  pack) sources+=("$root"/datasets/pack.cpp) ;;
  pickle) sources+=("$root"/vision/io/pickle.cpp) ;;
  tar) sources+=("$root"/datasets/{folder,label_list,tar,tar_source}.cpp) ;;
  zip) sources+=("$root"/vision/io/zip_archive.cpp) ;;
  jpeg) sources+=("$root"/datasets/{inspect,jpeg}.cpp) libraries+=(-ljpeg) ;;
  labels) sources+=("$root"/datasets/label_list.cpp) ;;
esac
clang++ -std=c++20 -O1 -g -I"$root" -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
  "${sources[@]}" -o "$folder/fuzz" "${libraries[@]}"
export COMBA_FUZZ_CORPUS="$folder/corpus" # where targets put inputs to begin with
mkdir "$folder/corpus"
printf '1,2,3,4\n5\t6\t7\t8\n9 10 11 12\n' >"$folder/corpus/boxes"
printf '0,0,1\n' >"$folder/corpus/flags"
printf '10,20,30,40\n10,20,30,40\n\0008\n8\n\000[METAINFO]\nresolution: (64, 48)\n\00010,20,30,40\n10,21,30,40\n' \
  >"$folder/corpus/got10k"
printf '10,20,30,40\n10,20,30,40\n\0000,1\n\0000,0\n\00010,20,30,40\n10,21,nan,40\n' >"$folder/corpus/lasot"
printf '{"images":[{"id":9,"file_name":"a.jpg"}],"annotations":[{"id":1,"image_id":9,"iscrowd":0,"bbox":[1,2,3,4]}]}' \
  >"$folder/corpus/coco"
"$folder/fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$folder/" "$folder/corpus" 2>"$folder/log" || { tail -40 "$folder/log"; exit 1; }
grep -E "stat::number_of_executed_units|stat::new_units_added" "$folder/log"
