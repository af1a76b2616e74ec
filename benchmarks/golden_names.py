"""Do the golden tests still assert what they asserted at REVISION? Numbers, tolerances, comparisons and asserts.

    python -m benchmarks.golden_names [REVISION]

Both versions of every file of tests/golden are parsed; names, attributes and texts are left out, and of each test and
helper are compared: the numbers, the keyword numbers of tolerances, the comparison operators and how many assertions of
each kind there are. Files that git takes for renamed, and functions with similar names, are compared with each other.
Numbers may move between the functions of a file: what is missing in the whole file counts. Cases of a parametrisation
that are gone are listed apart, with their source. Exit status 1: an assertion, a tolerance, a comparison or a number is
gone or other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "tests/golden"
BEFORE_THE_CLASSES = "26d333f"  # the last commit whose advantages were one class with options
TOLERANCES = {"rtol", "atol", "rel", "abs", "places", "delta"}
ASSERTING = ("assert_", "raises", "approx")
KINDS = ("assertions", "comparisons", "tolerances", "numbers")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class Facts:
    """What may not change, of one function or of what stands outside of the functions."""

    assertions: Counter[str] = field(default_factory=Counter)
    comparisons: Counter[str] = field(default_factory=Counter)
    tolerances: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)
    order: list[str] = field(default_factory=list)  # the numbers as they follow each other
    cases: Counter[str] = field(default_factory=Counter)  # source of each case of a parametrisation


def number_of(node: ast.AST) -> str | None:
    """The number that is written here, with its sign; None for everything else, also for True and False."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = number_of(node.operand)
        return None if inner is None else f"-{inner}"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return repr(node.value)
    return None


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all below it; a signed number is one node."""
    yield node
    if number_of(node) is None:
        for child in ast.iter_child_nodes(node):
            yield from walk(child)


def called(node: ast.Call) -> str:
    """Last name of the function that is called; empty where it has none."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def facts_of(nodes: Sequence[ast.AST]) -> Facts:
    """Facts of these statements and decorators."""
    facts = Facts()
    for node in nodes:
        facts.cases.update(_cases(node))
        for part in walk(node):
            if isinstance(part, ast.Assert):
                facts.assertions["assert"] += 1
            elif isinstance(part, ast.Compare):
                facts.comparisons.update(type(operator).__name__ for operator in part.ops)
            elif isinstance(part, ast.Call) and called(part).startswith(ASSERTING):
                facts.assertions[called(part)] += 1
            elif isinstance(part, ast.keyword) and part.arg in TOLERANCES:
                facts.tolerances[f"{part.arg}={ast.unparse(part.value)}"] += 1
            number = number_of(part)
            if number is not None:
                facts.numbers[number] += 1
                facts.order.append(number)
    return facts


def _cases(node: ast.AST) -> list[str]:
    """Source of every case of ``pytest.mark.parametrize``; none of other nodes and of lists not spelt out."""
    if not (isinstance(node, ast.Call) and called(node) == "parametrize" and len(node.args) > 1):
        return []
    values = node.args[1]
    return [ast.unparse(value) for value in values.elts] if isinstance(values, ast.List | ast.Tuple) else []


def functions_of(source: str) -> dict[str, Facts]:
    """Facts by function, methods as ``Class.method``; those of everything else under the empty name."""
    tree, parts, rest = ast.parse(source), dict[str, Facts](), list[ast.AST]()
    for node in tree.body:
        if isinstance(node, Function):
            parts[node.name] = facts_of([*node.decorator_list, node.args, *node.body])
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            rest.append(node)
    return parts | {"": facts_of(rest)}


def pairs(before: dict[str, Facts], after: dict[str, Facts]) -> list[tuple[str, str]]:
    """(old name, new name) of each function; equal names first, then the most similar; "-" without a partner."""
    same = [(name, name) for name in before if name in after]
    old, new = ([name for name in side if (name, name) not in same] for side in (before, after))
    likeness = sorted(((SequenceMatcher(None, a, b).ratio(), a, b) for a in old for b in new), reverse=True)
    for ratio, a, b in likeness:
        if ratio > 0.6 and a in old and b in new:
            same.append((a, b))
            old.remove(a)
            new.remove(b)
    return same + [(a, "-") for a in old] + [("-", b) for b in new]


def differences(before: dict[str, Facts], after: dict[str, Facts]) -> list[str]:
    """One line for every kind of fact that a function has more or fewer of."""
    lines = []
    for old, new in pairs(before, after):
        then, now = before.get(old, Facts()), after.get(new, Facts())
        name = (old if old == new else f"{old} -> {new}") or "(module)"
        for kind in KINDS:
            gone, added = getattr(then, kind) - getattr(now, kind), getattr(now, kind) - getattr(then, kind)
            if gone or added:
                lines.append(f"    {name}: {kind}:{_text('-', gone)}{_text('+', added)}")
        if then.numbers == now.numbers and then.order != now.order:
            lines.append(f"    {name}: the same numbers in another order")
        if then.cases.total() != now.cases.total():
            gone, added = then.cases - now.cases, now.cases - then.cases
            lines.append(f"    {name}: cases {then.cases.total()} -> {now.cases.total()}")
            lines += [f"        {sign} {case}" for sign, cases in (("-", gone), ("+", added)) for case in cases]
    return lines


def _text(sign: str, counts: Counter[str]) -> str:
    return "".join(f" {sign}{count} x {what}" for what, count in sorted(counts.items()))


def total(parts: dict[str, Facts], kind: str) -> Counter[str]:
    """One kind of fact, over the whole file."""
    return sum((getattr(facts, kind) for facts in parts.values()), Counter[str]())


def git(*arguments: str) -> str:
    """What git prints. Raises CalledProcessError where it fails."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def files(revision: str) -> list[tuple[str, str]]:
    """(path at the revision, path now) of every file of the folder; "" where there is none."""
    partner = {}
    for line in git("diff", "--name-status", "-M", revision, "--", FOLDER).splitlines():
        status, *names = line.split("\t")
        if status[0] == "R":
            partner[names[0]] = names[1]
    old = [path for path in git("ls-tree", "-r", "--name-only", revision, FOLDER).splitlines() if path.endswith(".py")]
    now = {str(path.relative_to(ROOT)) for path in (ROOT / FOLDER).rglob("*.py")}
    matched = [(path, partner.get(path, path if path in now else "")) for path in old]
    return matched + [("", path) for path in sorted(now - {new for _, new in matched})]


def main(arguments: Sequence[str]) -> int:
    """Compare and print; see the module."""
    revision = arguments[0] if arguments else BEFORE_THE_CLASSES
    wrong = 0
    for old, new in files(revision):
        before = functions_of(git("show", f"{revision}:{old}")) if old else {}
        after = functions_of((ROOT / new).read_text()) if new else {}
        counts = [f"{total(before, kind).total()} -> {total(after, kind).total()} {kind}" for kind in KINDS]
        print(f"{old or 'new'}{f' -> {new}' if new != old else ''}: {', '.join(counts)}")
        for line in differences(before, after):
            print(line)
        wrong += sum(bool(total(before, kind) - total(after, kind)) for kind in KINDS)
    print(f"{wrong} kinds of facts of a file are gone or other since {revision}" if wrong else "names only")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
