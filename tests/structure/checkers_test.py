#!/usr/bin/env python3
"""The checkers of the structure, each on a made-up tree that breaks its rule and on one that does not."""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import duplicates
import layers
import text_rules
from source_tree import SourceTree

# More lines of code than may stand twice.
LOOP = """
int sum(const int* values, int count) {
  int total = 0;
  for (int i = 0; i < count; ++i) {
    if (values[i] < 0) {
      continue;
    }
    total += values[i];
  }
  if (total > 100) {
    total = 100;
  }
  while (total % 7 != 0) ++total;
  do { --total; } while (total > 50);
  const char* name = "sum";
  print(name, total);
  log(total, 1, name);
  return total;
}
"""


class Checkers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def tree_of(self, files):
        """A tree of {path: text} beside what is there already."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return SourceTree(self.root)

    def assert_found(self, findings, *parts):
        """Exactly one finding, which names all of `parts`."""
        self.assertEqual(len(findings), 1, findings)
        for part in parts:
            self.assertIn(part, findings[0])

    def test_an_include_against_the_direction_is_found_with_its_line(self):
        tree = self.tree_of({"kernels/a.cpp": '#include "kernels/a.h"\n\n#include "vision/b.h"\n',
                             "kernels/a.h": "", "vision/b.h": '#include "kernels/a.h"\n'})
        self.assert_found(layers.check_includes(tree), "kernels/a.cpp:3", "vision/b.h", "nothing of ours")

    def test_tasks_do_not_include_each_other(self):
        tree = self.tree_of({"classify/a.cpp": "#include <tracking/b.h>\n", "tracking/b.h": ""})
        self.assert_found(layers.check_includes(tree), "classify/a.cpp:1", "tracking/")

    def test_a_path_through_the_parent_folder_is_seen_through(self):
        tree = self.tree_of({"datasets/a.cpp": '#include "../vision/b.h"\n', "vision/b.h": ""})
        self.assert_found(layers.check_includes(tree), "datasets/a.cpp:1", "vision/")

    def test_the_base_serves_all_but_the_kernels(self):
        base = {"vision/base/error.h": ""}
        fine = {f"{folder}/a.cpp": '#include "vision/base/error.h"\n'
                for folder in ("vision", "datasets", "classify", "tracking", "tools", "tests")}
        self.assertEqual(layers.check_includes(self.tree_of(base | fine)), [])
        tree = self.tree_of({"kernels/a.cpp": '#include "vision/base/error.h"\n'})
        self.assert_found(layers.check_includes(tree), "kernels/a.cpp:1", "vision/base/")

    def test_a_link_against_the_direction_is_found(self):
        (self.root / "links.txt").write_text("comba_vision|vision|fmt::fmt;comba_classify\n"
                                             "comba_classify|classify|comba_vision\n")
        self.assert_found(layers.check_links(layers.read_links(self.root / "links.txt")),
                          "comba_vision links comba_classify", "vision/ must not use classify/")

    def test_torch_is_found_behind_the_libraries_of_a_torch_free_one(self):
        targets = {"comba_tracking_base": ("tracking", ("comba_datasets",)),
                   "comba_datasets": ("datasets", ("helper",)), "helper": ("elsewhere", ("Comba::torch",)),
                   "comba_tracking": ("tracking", ("Comba::torch",))}
        findings = layers.check_links(targets)
        self.assertEqual(len(findings), 2, findings)
        self.assertTrue(all("LibTorch" in finding for finding in findings))

    def test_libraries_that_link_each_other_do_not_hang(self):
        self.assertEqual(layers.check_links({"a": ("datasets", ("b",)), "b": ("datasets", ("a",))}), [])

    def test_torch_behind_a_header_of_device_code_is_found(self):
        tree = self.tree_of({"kernels/a.cu": '#include "kernels/b.h"\n',
                             "kernels/b.h": "#include <ATen/core/Tensor.h>\n",
                             "kernels/c.cpp": '#include "kernels/b.h"\n'})
        self.assert_found(text_rules.check_include_rules(tree), "kernels/b.h:1", "kernels/a.cu -> kernels/b.h")

    def test_headers_that_a_folder_does_without_are_found(self):
        for name, header in {"datasets/a.cpp": "torch/types.h", "vision/base/a.h": "opencv2/core.hpp",
                             "classify/a.cpp": "CLI/CLI.hpp", "tools/a.cpp": "torch/torch.h",
                             "tests/a.cpp": "opencv2/opencv.hpp"}.items():
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                self.root = Path(folder)
                tree = self.tree_of({name: f"#  include <{header}>\n"})
                self.assert_found(text_rules.check_include_rules(tree), f"{name}:1", header)

    def test_a_file_of_701_lines_is_too_long_and_one_of_700_is_not(self):
        tree = self.tree_of({"tools/long.sh": "true\n" * 701, "tools/fits.sh": "true\n" * 700,
                             "configs/long.toml": "a = 1\n" * 800})
        self.assert_found(text_rules.check_lengths(tree), "tools/long.sh", "701")

    def test_a_header_without_a_guard_and_a_config_of_another_kind_are_found(self):
        tree = self.tree_of({"vision/a.h": "#pragma once\n", "vision/b.h": "int b;\n",
                             "configs/a.toml": "", "configs/run.sh": ""})
        self.assert_found(text_rules.check_headers(tree), "vision/b.h")
        self.assert_found(text_rules.check_configs(tree), "configs/run.sh")

    def test_a_run_under_other_names_and_comments_is_a_duplicate(self):
        renamed = LOOP.replace("total", "whole").replace("100", "99").replace("\n  if", "\n\n  // Why.\n  if")
        tree = self.tree_of({"vision/a.cpp": "int before;\n" + LOOP, "classify/b.cpp": renamed})
        self.assert_found(duplicates.check_duplicates(tree, {}), "classify/b.cpp:2-", "vision/a.cpp:3-")

    def test_a_run_twice_in_one_file_is_a_duplicate(self):
        tree = self.tree_of({"vision/a.cpp": LOOP + "int between;\n" + LOOP})
        self.assert_found(duplicates.check_duplicates(tree, {}), "vision/a.cpp:2-", "vision/a.cpp:22-")

    def test_twelve_lines_and_tables_are_no_duplicates(self):
        twelve = "".join(f"  {'x' * 3}{' + y' * i};\n" for i in range(duplicates.MOST_SHARED))
        table = "".join(f'    {{"{i}", {i}}},\n' for i in range(40))
        tree = self.tree_of({"vision/a.cpp": twelve + "struct A {\n" + table,
                             "vision/b.cpp": twelve + "return 0;\n" + table})
        self.assertEqual(duplicates.check_duplicates(tree, {}), [])
        thirteen = twelve + "call(x);\n"
        self.assertEqual(len(duplicates.check_duplicates(
            self.tree_of({"vision/a.cpp": thirteen, "vision/b.cpp": thirteen}), {})), 1)

    def test_a_justified_duplicate_passes_and_one_that_is_gone_is_found(self):
        tree = self.tree_of({"vision/a.cpp": LOOP, "vision/b.cpp": LOOP, "vision/c.cpp": ""})
        (self.root / "justified.txt").write_text("# comment\n\nvision/a.cpp ~ vision/b.cpp: two oracles\n")
        justified = duplicates.read_justified(self.root / "justified.txt")
        self.assertEqual(duplicates.check_duplicates(tree, justified), [])
        justified["vision/a.cpp", "vision/c.cpp"] = "gone"
        self.assert_found(duplicates.check_duplicates(tree, justified), "vision/a.cpp ~ vision/c.cpp")

    def test_a_duplicate_is_not_justified_without_a_reason(self):
        (self.root / "justified.txt").write_text("a.cpp ~ b.cpp:\n")
        with self.assertRaisesRegex(ValueError, r"justified\.txt:1"):
            duplicates.read_justified(self.root / "justified.txt")

    def test_what_is_built_or_run_beside_the_folders_does_not_count(self):
        tree = self.tree_of({"build/a.sh": "", "runs/b.sh": "", "tools/c.sh": ""})
        self.assertEqual(tree.sources(), ["tools/c.sh"])

    def test_the_exit_code_tells_whether_a_rule_is_broken(self):
        self.tree_of({"tools/a.sh": "true\n" * 701})
        check = [sys.executable, str(Path(__file__).with_name("check.py"))]
        codes = [subprocess.run(check + arguments, capture_output=True).returncode
                 for arguments in (["lengths", str(self.root)], ["headers", str(self.root)], ["no_such_rule", "."])]
        self.assertEqual(codes, [1, 0, 1])


if __name__ == "__main__":
    unittest.main()
