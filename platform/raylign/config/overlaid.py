"""Nodes that are another one but for some keys: ``embedder: ${stages.fit.embedder}``, with embedder.dimensions set.

The interpolation of a node stands for all that the other node is in the end, so it is copied when every layer is there,
and what was set below it is laid over the copy, layer by layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from raylign.config.layers import Overlaid, is_interpolation, laid_over, merge
from raylign.errors import Problem

KEY = re.compile(r"\$\{([\w@-]+(?:\.[\w@-]+)*)\}")
RELATIVE = re.compile(r"\$\{(?:[\w.]+:)?\s*\.")  # means another key where it is copied to


def settle(tree: dict[str, object]) -> list[Problem]:
    """Put the node that is meant in the place of each that is overlaid, and return those that cannot be made."""
    nodes = _Nodes(tree)
    nodes.settle(tree, "")
    return nodes.problems


def value_at(tree: dict[str, object], key: str) -> object:
    """What stands at a key of a settled tree, through interpolated nodes; None where there is nothing."""
    try:
        return _Nodes(tree).at(key)
    except _Unknown:
        return None


class _Unknown(Exception):
    """A key under which there is nothing yet, or that cannot be looked up before all interpolations are resolved."""


class _Nodes:
    def __init__(self, tree: dict[str, object]) -> None:
        self.tree = tree
        self.problems: list[Problem] = []
        self.under_way: set[int | str] = set()  # overlaid nodes by identity, interpolated keys

    def settle(self, node: dict[str, object], prefix: str) -> None:
        """All overlaid nodes in a mapping, in place."""
        for name in list(node):
            key = f"{prefix}{name}"
            value = self.value(node, name, key)
            if isinstance(value, dict):
                self.settle(value, f"{key}.")

    def value(self, node: dict[str, object], name: str, key: str) -> object:
        """An entry of a mapping, made first if it is overlaid."""
        value = node[name]
        if isinstance(value, Overlaid):
            if id(value) in self.under_way:
                raise _Unknown
            self.under_way.add(id(value))
            node[name] = self.made(value, key)
            self.under_way.remove(id(value))
        return node[name]

    def made(self, overlaid: Overlaid, key: str) -> Mapping[str, object]:
        """A copy of the other node with the changes laid over it; what is set whole needs no other."""
        changes = overlaid.changes
        try:
            made = self.copied(overlaid.other)
        except _Unknown:
            whole = [number for number, change in enumerate(changes) if "_target_" in change]
            if not whole:
                why = "cannot be copied here, and what is set below it would stand alone"
                fix = f"set it where {overlaid.other} stands, or give {key} whole, with its _target_"
                self.problems.append(Problem(key=key, value=overlaid.other, why=why, fix=fix))
                return {}
            made, changes = {}, changes[whole[-1] :]
        for change in changes:
            made = laid_over(made, change)
        return made

    def copied(self, other: str) -> Mapping[str, object]:
        """The node that an interpolation means, empty where that is null or a single value. Raises _Unknown."""
        node = self.meant(other)
        if not isinstance(node, dict):
            return {}
        self.settle(node, f"{other[2:-1]}.")
        if any(RELATIVE.search(text) for text in _texts(node)):
            raise _Unknown
        return merge({}, node)

    def meant(self, interpolation: str) -> object:
        """What an interpolation stands for. Raises _Unknown."""
        named = KEY.fullmatch(interpolation)
        if not named or interpolation in self.under_way:
            raise _Unknown
        self.under_way.add(interpolation)
        try:
            return self.at(named[1])
        finally:
            self.under_way.remove(interpolation)

    def at(self, path: str) -> object:
        """What stands at a dotted key, through interpolated nodes. Raises _Unknown."""
        node: object = self.tree
        done = ""
        for name in path.split("."):
            if isinstance(node, list) and name.isdigit() and int(name) < len(node):
                node = node[int(name)]
            elif isinstance(node, dict) and name in node:
                node = self.value(node, name, f"{done}{name}")
            else:
                raise _Unknown
            if is_interpolation(node):
                node = self.meant(str(node))
            done += f"{name}."
        return node


def _texts(node: object) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for entry in node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ():
        yield from _texts(entry)
