"""Keys that are set to ``{}``: merged into what is there that would change nothing, and it means that it shall go."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from raylign.config.schema import Config
from raylign.errors import Problem


def kept(layer: Mapping[str, object], origin: str) -> list[Problem]:
    """Mappings of entries that a file sets to ``{}`` and that would stay; of sections nothing is expected to go."""
    return [
        Problem(key=key, value="{}", why=f"takes nothing away (set in {origin})", fix=fix)
        for key, value in leaves(layer)
        if isinstance(value, Mapping) and (fix := refilled(key)).startswith("take")
    ]


def leaves(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of every leaf; an empty mapping is a leaf."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def refilled(key: str) -> str:
    """What to write in place of ``{}`` at a key whose defaults come back; empty where they do not."""
    section: Any = Config
    default: object = Config()
    for name in key.split("."):
        if not dataclasses.is_dataclass(section) or name not in (hints := typing.get_type_hints(section)):
            return ""
        section, default = hints[name], getattr(default, name)
    if dataclasses.is_dataclass(section):
        return f"name one of its fields, {key}.FIELD=VALUE, or leave it out"
    if isinstance(default, dict) and default and "_target_" not in default:
        return f"take entries away by their names, e.g. '~{key}.{next(iter(default))}'"
    return ""
