"""What the sections of the configuration are made of."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from raylign.contracts import Part
from raylign.errors import Problem

Node = dict[str, Any]
CONTRACT = "contract"  # metadata of a dataclass field that holds a part: the class that the part is derived from


class Section:
    """A dataclass of settings that knows what its own fields must obey."""

    def problems(self, key: str) -> list[Problem]:
        """What is wrong with the fields, as far as they know it by themselves. key: where the section stands."""
        return []


def node(contract: type[Part], target: str = "", **fields: Any) -> Any:
    """A dataclass field that holds a part; without a target it is empty by default."""
    default = {"_target_": target, **fields} if target else {}
    return field(default_factory=lambda: dict(default), metadata={CONTRACT: contract})


def named_nodes(contract: type[Part]) -> Any:
    """A dataclass field that holds parts by name, empty by default."""
    return field(default_factory=dict, metadata={CONTRACT: contract})


def nodes(contract: type[Part]) -> Any:
    """A dataclass field that holds a list of parts, empty by default."""
    return field(default_factory=list, metadata={CONTRACT: contract})
