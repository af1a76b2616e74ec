"""Composed overrides: whatever a folder is called, it arrives."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from raylign.config.compose import compose
from raylign.config.quoting import override

NAMES = (
    "/data/my proj (v2)/s",
    "/a,b",
    "/it's",
    '/"x"',
    "/a=b",
    "/$HOME",
    "/${seed}",
    "/ünï/çø",
    "/a\\b",
    "/a\\",
    "/a\\'b",
    "/[x]{y}",
    "/~a",
    "/#a",
    "/a:b",
    " /a ",
    "null",
    "true",
    "12",
    "/${oc.env:HOME}",
    "/a\\\\'",
    "/'",
    "''",
    "\\${a}",
)


@pytest.mark.parametrize("name", NAMES)
def test_any_text_survives_an_override(name: str) -> None:
    parsed = OverridesParser.create().parse_override(override("run.dir", name))
    tree = OmegaConf.create({"seed": 1, "run": {"dir": parsed.value()}})
    assert OmegaConf.to_container(tree, resolve=True)["run"]["dir"] == name  # type: ignore[index,call-overload]


def test_a_folder_of_a_sweep_is_composed_as_it_is_called() -> None:
    name = "/tmp/my proj (v2), it's $5/${seed}/000"
    assert compose(["recipe=grpo", "scale=tiny", override("run.dir", name)]).config.run.dir == name
