#!/usr/bin/env python3
"""check.py RULE ROOT [LINKS]: holds the source tree at ROOT against one rule of the house. Prints what breaks it.

RULE: includes, links (with the file of link libraries that CMakeLists.txt writes), included_libraries, lengths,
headers, configs, duplicates. Exit code 1 if anything breaks the rule.
"""
import sys
from pathlib import Path

import duplicates
import layers
import text_rules
from source_tree import SourceTree

RULES = {
    "includes": lambda tree, _: layers.check_includes(tree),
    "links": lambda _, links: layers.check_links(layers.read_links(links)),
    "included_libraries": lambda tree, _: text_rules.check_include_rules(tree),
    "lengths": lambda tree, _: text_rules.check_lengths(tree),
    "headers": lambda tree, _: text_rules.check_headers(tree),
    "configs": lambda tree, _: text_rules.check_configs(tree),
    "duplicates": lambda tree, _: duplicates.check_duplicates(
        tree, duplicates.read_justified(Path(__file__).parent / "justified.txt")),
}


def main(arguments):
    if len(arguments) not in (2, 3) or arguments[0] not in RULES:
        sys.exit(f"usage: check.py {{{','.join(RULES)}}} ROOT [LINKS]")
    tree = SourceTree(arguments[1])
    findings = RULES[arguments[0]](tree, arguments[2] if len(arguments) == 3 else None)
    print("\n".join(findings) if findings else f"{arguments[0]}: {len(tree.sources())} files, nothing found")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
