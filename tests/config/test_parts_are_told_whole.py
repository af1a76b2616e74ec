"""Everything wrong with a part is told at once; a class that cannot be imported is told with what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raylign.cli import find_modules_here
from raylign.config.compose import compose, compose_with_problems
from raylign.errors import Problem

TINY = ["recipe=grpo", "scale=tiny"]
MINE = "from raylign.objectives.advantage.group import GRPO\n\n\nclass Mine(GRPO):\n    pass\n"


def problems_of(*overrides: str) -> dict[str, Problem]:
    return {problem.key: problem for problem in compose_with_problems([*TINY, *overrides])[1]}


def test_every_ill_typed_and_unknown_field_of_a_part_is_told() -> None:
    problems = problems_of(
        "stages.rl.group_size=a",
        "stages.rl.steps=b",
        "stages.rl.evry=3",
        "stages.rl.eval_sampling={top_p: x, top_k: y, tempreature: 1}",
        "objective.clip_low=a",
        "objective.mismatch.mode=zz",
        "objective.mismatch.low=q",
        "objective.kl_coef=-1e400",
    )
    assert set(problems) == {
        "stages.rl.group_size",
        "stages.rl.steps",
        "stages.rl.evry",
        "stages.rl.eval_sampling.top_p",
        "stages.rl.eval_sampling.top_k",
        "stages.rl.eval_sampling.tempreature",
        "objective.clip_low",
        "objective.mismatch.mode",
        "objective.mismatch.low",
        "objective.kl_coef",
    }
    assert problems["stages.rl.steps"].why == "has the wrong type str, expected a whole number"
    assert problems["stages.rl.eval_sampling.tempreature"].fix == "did you mean temperature?"
    assert (
        problems["objective.mismatch.mode"].fix.endswith("sequence_mask")
        and "infinite" in problems["objective.kl_coef"].why
    )


def test_a_section_that_may_be_null_is_still_null_or_a_section() -> None:
    assert compose([*TINY, "stages.rl.eval_sampling=null"]).config.stages["rl"]["eval_sampling"] is None
    given = (
        compose([*TINY, "stages.rl.eval_sampling={top_k: 5, max_tokens: 8}"]).parts["stages.rl"].config.eval_sampling
    )
    assert given.top_k == 5 and given.top_p == 1.0
    assert "wrong type" in problems_of("stages.rl.eval_sampling=3")["stages.rl.eval_sampling"].why


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    return tmp_path


def test_a_module_of_the_current_folder_is_found(here: Path) -> None:
    (here / "nc_mine.py").write_text(MINE)
    named = ("advantage={_target_: nc_mine.Mine}", "run.allow_targets=[nc_mine.]")
    assert "No module named" in problems_of(*named)["advantage._target_"].why
    assert f"put nc_mine.py, or a folder nc_mine, into {here}" in problems_of(*named)["advantage._target_"].fix
    find_modules_here()
    assert sys.path[-1] == str(here) and compose([*TINY, *named]).parts["advantage"].cls.__name__ == "Mine"
    wrong = problems_of("advantage={_target_: nc_mine.Main}", named[1])["advantage._target_"]
    assert "module nc_mine has no Main" in wrong.why and wrong.fix == "did you mean Mine?"


@pytest.mark.parametrize(
    ("text", "words", "fix"),
    [
        ("import nc_not_there\n", "No module named 'nc_not_there'", "install nc_not_there, which nc_broken imports"),
        ("x = 1\nx.y\n", "AttributeError: 'int' object has no attribute 'y' at ", "correct nc_broken"),
        ("def f(:\n", "SyntaxError", "correct nc_broken"),
    ],
)
@pytest.mark.parametrize("what", ["advantage={_target_: nc_broken.X}", "reward"])
def test_a_module_that_cannot_be_imported_says_where(here: Path, what: str, text: str, words: str, fix: str) -> None:
    (here / "nc_broken.py").write_text(text)
    find_modules_here()
    sys.modules.pop("nc_broken", None)
    reward = "+rewards.x.fn={_target_: raylign.actors.reward.python.PythonFunction, path: nc_broken.f}"
    problems = problems_of(reward if what == "reward" else what, "run.allow_targets=[nc_broken.]")
    (problem,) = problems.values()
    assert words in problem.why and problem.fix == fix and "\n" not in problem.why


def test_the_current_folder_stands_in_for_nothing(here: Path) -> None:
    """A user's `code.py` or `yaml.py` is not imported in the place of a library."""
    for name in ("yaml", "code", "numpy"):
        (here / f"{name}.py").write_text("raise SystemExit('imported')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from raylign.cli import main; import sys; sys.exit(main(['recipes', 'grpo']))"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_options_of_others_are_translated(capsys: pytest.CaptureFixture[str]) -> None:
    from raylign.cli import main

    with pytest.raises(SystemExit):
        main(["train", "recipe=grpo", "--actor_learning_rate", "1e-6", "--zero_stage"])
    err = capsys.readouterr().err
    assert "KEY=VALUE" in err and "--actor_learning_rate: did you mean learner.optim.lr?" in err
