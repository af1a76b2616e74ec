"""The pages of the repository as tests read them: their blocks of code, links, headings, tables and commands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
AREAS = ("platform", "actors", "recipes", "conf", "docker", "benchmarks", "tests")
PAGES = sorted([*ROOT.glob("*.md"), *(page for area in AREAS for page in (ROOT / area).rglob("*.md"))])
CARDS = sorted([*(ROOT / "recipes").glob("*.py"), *(ROOT / "recipes").glob("*/*.py")])
EXAMPLES = ROOT / "tests" / "examples"
FENCE = re.compile(r"^```(\w*) ?([\w./-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\braylign (train|plan|submit|k8s render|view|recipes|export|doctor)\b *([^\n]*)")


class Block(NamedTuple):
    """A fenced block. name: of the file that it shows, where it shows one."""

    page: Path
    language: str
    name: str
    text: str


class Command(NamedTuple):
    """One printed command. place: its page and beginning, for the name of its test; refused: as its output says."""

    place: str
    verb: str
    rest: str
    refused: bool


def short(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    for match in FENCE.finditer(page.read_text()):
        yield Block(page, *match.groups())


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """Code within the prose."""
    return CODE.findall(prose(page))


def links(page: Path) -> list[tuple[bool, str, str]]:
    """(is a picture, text, target) of every link."""
    return [(match[1] == "!", match[2], match[3]) for match in LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """What may follow # in a link to the page, as GitHub makes it of the headings."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.+?) *$", prose(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[slug] = found.get(slug, -1) + 1
        if found[slug]:
            found[f"{slug}-{found[slug]}"] = 0
    return set(found)


def table(page: Path, first: str) -> list[list[str]]:
    """Rows of the table whose first heading is `first`, as cells. Raises AssertionError when the page has none."""
    lines = page.read_text().splitlines()
    heads = [n for n, line in enumerate(lines) if line.startswith("|---")]
    starts = [n - 1 for n in heads if cells(lines[n - 1])[0] == first]
    assert starts, f"{short(page)} has no table that begins with {first}"
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(cells(line))
    return rows


def cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def texts() -> Iterator[tuple[str, str]]:
    """(name, text) of everything that prints commands: pages, and the docstrings that are cards."""
    for page in PAGES:
        yield short(page), page.read_text()
    for path in CARDS:
        yield short(path), ast.get_docstring(ast.parse(path.read_text())) or ""


def commands() -> list[Command]:
    """In the order of the files; lines that end in a backslash go on in the next, code spans end at their backtick.

    A variable that a page sets (``$ NAME=...``) is put in where it is used.
    """
    result = []
    for name, text in texts():
        variables = dict(re.findall(r'\$ ([A-Z]+)="?(.*?)"?(?:  +#.*)?$', text, re.MULTILINE))
        text = re.sub(r"\\\n *", " ", text)
        for match in COMMAND.finditer(text):
            refused = bool(re.match(r"\nraylign \w+: \d+ problem", text[match.end() :]))
            rest = re.split(r"``?|  +#", match[2])[0]
            for variable, value in reversed(variables.items()):  # a later one may hold an earlier one
                rest = re.sub(rf"\${variable}\b", lambda hit, value=value: value, rest)
            result.append(Command(f"{name}: {match[0][:60]}", match[1], rest.strip(), refused))
    return result
