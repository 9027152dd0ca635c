"""Runs of more than MOST_SHARED lines that stand in two places, whatever their names, numbers and strings are."""
import re
from collections import defaultdict

MOST_SHARED = 12
FEWEST_SHAPES = 4  # lines of fewer shapes are a table or a list, not logic
WORD = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|\d[\w.\']*|\S')
# Words that make the shape of a line; all others are names.
KEYWORDS = frozenset(
    "and async await break case catch class const constexpr continue def default delete do elif else enum except "
    "false False final finally for from if import in inline is lambda namespace new None not nullptr operator or "
    "override private protected public raise return sizeof static struct switch template this throw true True try "
    "typename using virtual void while with yield function foreach endif endfunction endforeach set then fi done "
    "esac".split())


def shape(line):
    """The line with every name as n, number as 0, string as s; empty if it has nothing but punctuation."""
    words = []
    for word in WORD.findall(line):
        if word[0] in "\"'":
            words.append("s")
        elif word[0].isdigit():
            words.append("0")
        elif word[0].isalpha() or word[0] == "_":
            words.append(word if word in KEYWORDS else "n")
        else:
            words.append(word)
    return " ".join(words) if any(word.isalnum() for word in words) else ""


def code_lines(tree, name):
    """(line number, shape) of each line that is code: no blanks, comments, includes, lone punctuation."""
    comment = ("//", "#include", "#pragma") if name.endswith((".cpp", ".h", ".cu", ".cuh", ".inc")) else ("#",)
    shapes = ((number, shape(line)) for number, line in enumerate(tree.lines(name), 1)
              if not line.lstrip().startswith(comment))
    return [(number, text) for number, text in shapes if text]


def repeated_runs(tree, most_shared=MOST_SHARED):
    """((file, first, last), (file, first, last)) of each longest run of lines that stands in both places."""
    window = most_shared + 1
    code = {name: code_lines(tree, name) for name in tree.sources()}
    places = defaultdict(list)
    for name, lines in code.items():
        for start in range(len(lines) - window + 1):
            shapes = tuple(text for _, text in lines[start:start + window])
            if len(set(shapes)) >= FEWEST_SHAPES:
                places[shapes].append((name, start))
    pairs = {(a, b) for group in places.values() for i, a in enumerate(group) for b in group[i + 1:]
             if a[0] != b[0] or b[1] - a[1] >= window}
    runs = []
    for (a, i), (b, j) in sorted(pairs):
        if ((a, i - 1), (b, j - 1)) in pairs:
            continue  # part of the run that begins a line earlier
        length = window
        while ((a, i + length - window + 1), (b, j + length - window + 1)) in pairs:
            length += 1
        runs.append(((a, code[a][i][0], code[a][i + length - 1][0]),
                     (b, code[b][j][0], code[b][j + length - 1][0])))
    return runs


def read_justified(path):
    """{(file, file): reason} from lines `file ~ file: reason`."""
    justified = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"(\S+) ~ (\S+): (\S.*)", line)
        if not match:
            raise ValueError(f"{path}:{number}: expected `file ~ file: reason`, got: {line}")
        justified[match[1], match[2]] = match[3]
    return justified


def check_duplicates(tree, justified):
    findings, used = [], set()
    for (a, first_a, last_a), (b, first_b, last_b) in repeated_runs(tree):
        if (a, b) in justified:
            used.add((a, b))
        else:
            findings.append(f"{a}:{first_a}-{last_a} stands again at {b}:{first_b}-{last_b}; write it once, or say in "
                            f"tests/structure/justified.txt why not: `{a} ~ {b}: reason`")
    return findings + [f"justified.txt: {a} ~ {b} share no {MOST_SHARED + 1} lines any more; remove the line"
                       for a, b in justified if (a, b) not in used]
