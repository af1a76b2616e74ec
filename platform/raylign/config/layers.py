"""The merge of layers: mapping by mapping, later wins, and each key remembers the layer that set it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raylign.config.emptied import empty, leaves

COMMAND_LINE = "command line"  # the last layer


@dataclass(kw_only=True)
class Layers:
    """The merge so far, and which layer set each leaf."""

    tree: dict[str, object]
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Mapping[str, object], origin: str) -> None:
        """Merge the next layer, under the name that problems tell."""
        for key, value in leaves(layer):
            self.origins[key] = origin
            if isinstance(value, Mapping):  # an empty one
                self.tree = merge({}, self.tree)  # a copy of all mappings
                empty(self.tree, key)
        self.tree = merge(self.tree, layer)

    def origin(self, key: str) -> str:
        """The layer that set a key, or the one that set something below it."""
        if key in self.origins:
            return self.origins[key]
        return next((origin for leaf, origin in self.origins.items() if leaf.startswith(f"{key}.")), "")


def merge(base: Mapping[str, object], layer: Mapping[str, object], parts: bool = True) -> dict[str, object]:
    """`base` overlaid by `layer`, mapping by mapping. parts: a changed ``_target_`` replaces the part.

    Example: ``merge({"a": {"_target_": "x.A", "k": 1}}, {"a": {"_target_": "x.B"}})`` is ``{"a": {"_target_": "x.B"}}``
    """
    merged = dict(base)
    for key, value in layer.items():
        old = merged.get(key)
        replaced = parts and isinstance(value, Mapping) and "_target_" in value and _target(old) != value["_target_"]
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not replaced:
            merged[key] = merge(old, value, parts)
        else:
            merged[key] = merge({}, value) if isinstance(value, Mapping) else value
    return merged


def _target(node: object) -> object:
    return node.get("_target_") if isinstance(node, Mapping) else None
