"""Which packages a node may name is the run's setting, for the parts within its parts and for functions too."""

from __future__ import annotations

import pytest

from raylign.config.compose import compose
from raylign.errors import ConfigError
from raylign.objectives.selection import KeepAll

BASE = ["recipe=grpo", "scale=tiny"]
NESTED = "selector={_target_: raylign.objectives.selection.Chain, parts: [{_target_: %s}]}"
FUNCTION = "+rewards.mine.fn={_target_: raylign.actors.reward.python.PythonFunction, path: %s}"
MINE = f"{__name__}."


class Mine(KeepAll):
    """A user's part within a part."""


def score(prompt: str, response: str, answer: object) -> float:
    """A user's reward."""
    return 1.0


@pytest.mark.parametrize("setting", [NESTED % f"{MINE}Mine", FUNCTION % f"{MINE}score"])
def test_a_users_package_is_taken_where_the_run_names_it(setting: str) -> None:
    compose([*BASE, setting, f"run.allow_targets=[{MINE}]"])
    with pytest.raises(ConfigError, match="allow_targets"):
        compose([*BASE, setting])


@pytest.mark.parametrize("target", ["os.system", "subprocess.Popen", "builtins.eval"])
@pytest.mark.parametrize("setting", [NESTED, FUNCTION])
def test_the_list_of_a_run_opens_nothing_else(setting: str, target: str) -> None:
    with pytest.raises(ConfigError, match="allow_targets"):
        compose([*BASE, setting % target, f"run.allow_targets=[{MINE}]"])
