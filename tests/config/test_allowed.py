"""Which packages a node may name is the run's setting, for the parts within its parts too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from raylign.config.build import build
from raylign.errors import ConfigError

MINE = f"{__name__}."


class Inner:
    """A part within a part."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        self.config = config


class Outer:
    """A part that makes another one, at once and later."""

    @dataclass
    class Config:
        """The other."""

        inner: dict[str, Any] = field(default_factory=dict)

    def __init__(self, config: Config) -> None:
        self.config, self.inner = config, build(config.inner, "outer.inner")

    def again(self) -> Inner:
        made: Inner = build(self.config.inner, "outer.inner")
        return made


def node(inner: str) -> Mapping[str, Any]:
    return {"_target_": f"{MINE}Outer", "inner": {"_target_": inner}}


def test_a_part_of_a_part_obeys_the_runs_list() -> None:
    outer: Outer = build(node(f"{MINE}Inner"), "outer", (MINE,))
    assert isinstance(outer.inner, Inner) and isinstance(outer.again(), Inner)
    for target in ("os.system", "subprocess.Popen", "builtins.eval"):
        with pytest.raises(ConfigError, match="outside the packages"):
            build(node(target), "outer", (MINE,))


def test_the_list_that_was_given_last_holds() -> None:
    outer: Outer = build(node(f"{MINE}Inner"), "outer", (MINE,))
    with pytest.raises(ConfigError, match="outside the packages"):
        build(node(f"{MINE}Inner"), "outer", ())
    with pytest.raises(ConfigError, match="outside the packages"):
        outer.again()
