"""Settings whose keys are the user's own, ``weights: {outcome: 1}``: a mapping that is written whole for one of them on
the command line is all that it then holds, while ``weights.outcome=1`` sets an entry beside the others.

They are found by the fields' types: mappings of plain values, neither of sections nor of parts. Which class holds a
field is said by the ``_target_`` above it, in what is composed so far.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field

from raylign.config.build import target_class
from raylign.config.layers import Whole, is_interpolation, merge
from raylign.config.overlaid import settle, value_at
from raylign.config.resolve import PERMITTED, may_name
from raylign.config.schema import CONTRACT, Config
from raylign.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """What a setting, or an entry of one, may hold."""

    type: object
    of_parts: bool = False  # a part, or parts by name
    default: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeKeys:
    """Knows them in a composition, whose tree is every layer before the command line with the parts that this names."""

    tree: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, tree: Mapping[str, object], command_line: Mapping[str, object]) -> FreeKeys:
        """Those under the parts of a tree, where the command line has not named others."""
        known = merge(merge({}, tree), _parts_of(command_line))
        settle(known)  # what is wrong is told when all is there
        return cls(tree=known)

    def setting(self, key: str, value: object) -> dict[str, object]:
        """What the command line sets at a key, as a layer: whole mappings marked, and beside a single entry those that
        its class has by default.
        """
        names = key.split(".")
        setting: dict[str, object] = {names[-1]: self._marked(key, self._place(names), value)}
        for number in range(len(names) - 1, 0, -1):
            place, above = self._place(names[:number]), ".".join(names[:number])
            if place and self._is_free(above, place) and value_at(self.tree, above) is None:
                setting = merge(place.default if isinstance(place.default, Mapping) else {}, setting)
            setting = {names[number - 1]: setting}
        return setting

    def _marked(self, key: str, place: _Place | None, value: object) -> object:
        if place is None or not isinstance(value, Mapping):
            return value
        if self._is_free(key, place) and not _holds_part(value):
            return Whole(value)
        return {name: self._marked(f"{key}.{name}", self._below(key, place, name), value[name]) for name in value}

    def _is_free(self, key: str, place: _Place) -> bool:
        entry = _entry(place.type)
        return bool(
            entry and not place.of_parts and not dataclasses.is_dataclass(entry[0]) and not _holds_part(self._node(key))
        )

    def _place(self, names: list[str]) -> _Place | None:
        """The place of a key; None where no type says what may stand there."""
        place: _Place | None = _Place(type=Config)
        for number, name in enumerate(names):
            place = self._below(".".join(names[:number]), place, name) if place else None
        return place

    def _below(self, key: str, place: _Place, name: str) -> _Place | None:
        """The place of a field of a section or a part, or of an entry of a mapping."""
        section = self._section(key, place)
        if section is not None:
            item = next((item for item in dataclasses.fields(section) if item.name == name), None)
            hint = typing.get_type_hints(section).get(name)
            return _Place(type=hint, of_parts=CONTRACT in item.metadata, default=_default(item)) if item else None
        if entry := _entry(place.type):
            default = place.default.get(name) if isinstance(place.default, Mapping) else None
            return _Place(type=entry[0], of_parts=place.of_parts, default=default)
        return None

    def _section(self, key: str, place: _Place) -> type | None:
        """The dataclass whose fields stand below a key: of a section, or of the part that is named there."""
        for hint in _members(place.type):
            if isinstance(hint, type) and dataclasses.is_dataclass(hint):
                return hint
        node = self._node(key) or place.default
        if not isinstance(node, Mapping) or not may_name(str(node.get("_target_")), self._node(PERMITTED)):
            return None
        try:
            section: type = target_class(node, key).Config
        except ConfigError:
            return None  # reported where the run is resolved
        return section

    def _node(self, key: str) -> object:
        return value_at(self.tree, key)


def _parts_of(layer: Mapping[str, object]) -> dict[str, object]:
    """The names of parts in a layer, and the keys of others that stand for some."""
    named: dict[str, object] = {}
    for name, value in layer.items():
        if isinstance(value, Mapping):
            if below := _parts_of(value):
                named[name] = below
        elif name in ("_target_", PERMITTED.rpartition(".")[2]) or is_interpolation(value):
            named[name] = value
    return named


def _entry(hint: object) -> tuple[object] | None:
    """The type of a mapping's entries; None for other types."""
    for member in _members(hint):
        if typing.get_origin(member) is dict:
            return (typing.get_args(member)[1],)
    return None


def _members(hint: object) -> tuple[object, ...]:
    """The types that a value may have."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _default(item: dataclasses.Field[object]) -> object:
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return None if item.default is dataclasses.MISSING else item.default


def _holds_part(value: object) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(_holds_part(entry) for entry in value.values())
    return isinstance(value, list) and any(_holds_part(entry) for entry in value)
