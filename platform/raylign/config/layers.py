"""The merge of layers: mapping by mapping, later wins, and each key remembers the layer that set it.

Three things differ from a plain merge of mappings: a changed ``_target_`` replaces the part, and what is set below an
interpolated node, ``${other}``, is kept beside it until the other is known (see `raylign.config.overlaid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from raylign.config.emptied import leaves, refilled

COMMAND_LINE = "command line"  # the last layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlaid:
    """A node that is another one, but for what later layers change in it, in their order."""

    other: str  # ${key}
    changes: tuple[Mapping[str, object], ...]


class Whole(dict[str, object]):
    """A mapping that takes the place of what is there."""


@dataclass(kw_only=True)
class Layers:
    """The merge so far, and which layer set each leaf."""

    tree: dict[str, object]
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, layer: Mapping[str, object], origin: str) -> None:
        """Merge the next layer, under the name that problems tell."""
        for key, value in leaves(layer):
            self.origins[key] = origin
            for change in value.changes if isinstance(value, Overlaid) else ():
                self.origins |= {leaf: origin for leaf, _ in leaves(change, f"{key}.")}
        self.tree = merge(self.tree, _emptying(layer))

    def origin(self, key: str) -> str:
        """The layer that set a key, or the one that set something below it."""
        if key in self.origins:
            return self.origins[key]
        return next((origin for leaf, origin in self.origins.items() if leaf.startswith(f"{key}.")), "")


def merge(base: Mapping[str, object], layer: Mapping[str, object], parts: bool = True) -> dict[str, object]:
    """`base` overlaid by `layer`, mapping by mapping. parts: a changed ``_target_`` replaces the part; False within
    one layer, whose keys have no order.

    Example: ``merge({"a": {"_target_": "x.A", "k": 1}}, {"a": {"_target_": "x.B"}})`` is ``{"a": {"_target_": "x.B"}}``
    """
    merged = dict(base)
    for key, value in layer.items():
        merged[key] = _laid_over(merged.get(key), value, parts)
    return merged


def laid_over(base: Mapping[str, object], change: Mapping[str, object]) -> Mapping[str, object]:
    """A node as the next layer changes it."""
    made = _laid_over(base, change, parts=True)
    assert isinstance(made, Mapping)
    return made


def is_interpolation(value: object) -> bool:
    """Whether a value is what stands at another key, and nothing beside it."""
    return isinstance(value, str) and value.startswith("${") and value.endswith("}")


def _laid_over(old: object, value: object, parts: bool) -> object:
    if not isinstance(value, Mapping):
        earlier = isinstance(old, Mapping) and old and "_target_" not in old and not parts and is_interpolation(value)
        return Overlaid(other=str(value), changes=(old,)) if earlier else value  # type: ignore[arg-type]
    if isinstance(value, Whole):
        return merge({}, value) if parts else Whole(value)
    if isinstance(old, Overlaid) or is_interpolation(old):
        node = old if isinstance(old, Overlaid) else Overlaid(other=str(old), changes=())
        return replace(node, changes=(*node.changes, value))
    replaced = parts and "_target_" in value and _target(old) != value["_target_"]
    if not isinstance(old, Mapping) or replaced:
        return merge({}, value, parts)
    merged = merge(old, value, parts)
    return Whole(merged) if isinstance(old, Whole) and not parts else merged


def _emptying(layer: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A layer whose empty mappings take away what they are laid over, unless its defaults would come back."""
    marked: dict[str, object] = {}
    for name, value in layer.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping) or isinstance(value, Whole):
            marked[name] = value
        else:
            marked[name] = _emptying(value, f"{key}.") if value or refilled(key) else Whole()
    return marked


def _target(node: object) -> object:
    return node.get("_target_") if isinstance(node, Mapping) else None
