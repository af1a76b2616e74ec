"""Settings that cannot work: each is one line with key, value and fix, from composing alone, before Ray starts."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path

import pytest

from raylign.config.compose import compose
from raylign.config.machine import folder_fault
from raylign.errors import ConfigError, Problem

CHAIN = "selector={_target_: raylign.objectives.selection.Chain, parts: [{_target_: %s}]}"
STRATEGY = "rollout.strategy._target_=%s"
GRPO, HYPO = ("recipe=grpo", "scale=tiny"), ("recipe=hypo", "scale=tiny")
SFT = ("recipe=sft", "scale=tiny", "data.task=basic_arithmetic")
GENRM = ("recipe=p_genrm", "scale=tiny")
EXTRA = "+rewards.extra={weight: 2, fn: {_target_: raylign.actors.reward.boxed.BoxedMath}}"
WRONG = [  # recipe, overrides, key, a word of the reason or the fix
    (SFT, ("learner.optim.lr=1e-3",), "learner.optim.lr", "set stages.sft.optim.lr"),
    (HYPO, ("learner.optim.betas=[0.9,0.9]",), "learner.optim.betas", "or stages.preference.optim.betas"),
    (SFT, ("rollout.workers=3",), "rollout.workers", "none of them samples"),
    (SFT, ("objective.clip_low=0.1",), "objective.clip_low", "read by no stage"),
    (SFT, ("advantage.std=population",), "advantage.std", "read by no stage"),
    (GENRM, ("rewards.process.weight=7",), "rewards.process.weight", "set stages.cre.weights.process=7"),
    (GENRM, (EXTRA,), "rewards.extra.weight", "stages.cre.weights.extra=2 or stages.hard.weights.extra=2"),
    (GENRM, ("data.answer_key=gold",), "data.answer_key", "data.generator makes the rows"),
    (GRPO, ("data.domain_key=topic",), "data.domain_key", "data.task makes the rows"),
    (GRPO, ("learner.optim.lr=inf",), "learner.optim.lr", "finite"),
    (GRPO, ("learner.optim.lr=nan",), "learner.optim.lr", "finite"),
    (GRPO, ("learner.optim.weight_decay=inf",), "learner.optim.weight_decay", "finite"),
    (GRPO, ("run.deadline_s=inf",), "run.deadline_s", "finite"),
    (GRPO, ("run.stall_s=nan",), "run.stall_s", "finite"),
    (GRPO, ("advantage.kl_coef=nan",), "advantage.kl_coef", "no number"),
    (GRPO, ("objective.clip_low=nan",), "objective.clip_low", "no number"),
    (GRPO, ("stages.rl.eval_every=-1",), "stages.rl.eval_every", "negative"),
    (GRPO, ("=3",), "command line", "key=value"),
    (GRPO, ("data.task=basic_arithmetics",), "data.task", "did you mean basic_arithmetic?"),
    (GRPO, ("data.verifier=math",), "data.verifier", "boxed_math"),
    (GRPO, ("data.format=parquet",), "data.format", "mbpp_plus"),
    (GRPO, ("data.holdout=0",), "data.holdout", "held-out"),
    (GRPO, ("rollout.kv_cache_gb=100000",), "rollout.kv_cache_gb", "memory"),
    (GRPO, ("rollout.workers=100000",), "rollout.kv_cache_gb", "memory"),
    (GRPO, ("+judges.j.workers=1", "judges.j.kv_cache_gb=1e6"), "judges.j.kv_cache_gb", "memory"),
    (GRPO, ("rollout.max_missing=2",), "rollout.max_missing", "between 0 and 1"),
    (GRPO, ("rollout.max_publish_gap=0",), "rollout.max_publish_gap", "positive"),
    (GRPO, ("stages.rl.prompts_per_step=1000000000",), "stages.rl.prompts_per_step", "125000"),
    (GRPO, ("stages.rl.prompts_per_step=999999937", "stages.rl.minibatches=2"), "stages.rl.minibatches", "divide"),
    (GRPO, ("model.tiny.layers=0",), "model.tiny.layers", "above 0"),
    (GRPO, ("model.tiny.heads=3", "model.tiny.kv_heads=2"), "model.tiny.kv_heads", "heads=3"),
    (GRPO, ("model.tiny.head_dim=7",), "model.tiny.head_dim", "odd"),
    (GRPO, ("model.tiny.hidden_size=-8",), "model.tiny.hidden_size", "negative"),
    (GRPO, ("model.tiny.init_std=nan",), "model.tiny.init_std", "finite"),
    (GRPO, ("stages.rl.start=@warmup", "~stages.warmup"), "stages.rl.start", "no stage of the run"),
    (GRPO, ("stages.rl.start=@after",), "stages.rl.start", "none of what the stage leaves"),
    (GRPO, ("stages.rl.start=/nowhere",), "stages.rl.start", "does not exist"),
    (HYPO, ("~stages.sft",), "stages.preference.start", "no stage of the run"),
    (HYPO, ("~stages.reference",), "frozen.reference.path", "no stage"),
    (
        GRPO,
        ("advantage._target_=raylign.objectives.loss.policy.ClippedLoss",),
        "advantage._target_",
        "is not an advantage",
    ),
    (
        GRPO,
        ("objective={_target_: raylign.objectives.advantage.group.GRPO}",),
        "objective._target_",
        "is not an objective",
    ),
    (GRPO, ("shaper={_target_: raylign.objectives.selection.KeepAll}",), "shaper._target_", "reward shaper"),
    (GRPO, ("stages.rl={_target_: raylign.objectives.advantage.group.GRPO}",), "stages.rl._target_", "is not a stage"),
    (GRPO, (STRATEGY % "raylign.recipes.stages.sft.Sft",), "rollout.strategy._target_", "is not a rollout strategy"),
    (GRPO, (STRATEGY % "os.system",), "rollout.strategy._target_", "run.allow_targets"),
    (GRPO, (CHAIN % "os.x",), "selector.parts.0._target_", "allow_targets"),
    (GRPO, (CHAIN % "raylign.objectives.selection.TopK, kk: 1",), "selector.parts.0.kk", "known: keep"),
    (GRPO, ("+rewards.rollout.fn._target_=raylign.actors.reward.exact.ExactMatch",), "rewards.rollout", "another name"),
    (GRPO, ("run.dir=/proc/x",), "run.dir", "kernel"),
    (GRPO, ("run.dir=/dev/null/x",), "run.dir", "kernel"),
    (GRPO, (f"run.dir=/tmp/{'x' * 300}",), "run.dir", "too long"),
    (GRPO, (f"run.dir=/tmp/{'x/' * 2500}",), "run.dir", "too long"),
    (GRPO, ("run.dir=FILE",), "run.dir", "is a file"),
    (GRPO, ("run.dir=FILE/below",), "run.dir", "is a file"),
    (GRPO, ("run.dir=LOOP/x",), "run.dir", "loop"),
    (GRPO, ("run.cache_dir=FILE",), "run.cache_dir", "is a file"),
    (GRPO, ("run.cache_dir=/proc/1/x",), "run.cache_dir", "kernel"),
    (HYPO, ("stages.preference.cache=/proc/x",), "stages.preference.cache", "kernel"),
    (HYPO, ("stages.preference.cache=FILE/x",), "stages.preference.cache", "is a file"),
    (GRPO, ("seed=-1",), "seed", "negative"),
    (GRPO, ("cluster.ready_timeout_s=inf",), "cluster.ready_timeout_s", "finite"),
]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("x")
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return {"FILE": folder / "file", "LOOP": folder / "a"}


def problems_of(overrides: list[str]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    return list(caught.value.problems)


@pytest.mark.parametrize(("base", "overrides", "key", "word"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_setting_is_one_line(
    base: tuple[str, ...], overrides: tuple[str, ...], key: str, word: str, places: dict[str, Path]
) -> None:
    filled = list(overrides)
    for name, path in places.items():
        filled = [text.replace(name, str(path)) for text in filled]
    problems = problems_of([*base, *filled])
    problem = next(problem for problem in problems if problem.key == key)
    assert word in f"{problem.why} {problem.fix}" and problem.value and problem.fix
    assert "\n" not in problem.why + problem.fix + problem.value and len(problems) <= 2


def test_a_folder_is_only_looked_at(tmp_path: Path) -> None:
    assert not folder_fault(tmp_path / "new" / "deep") and not (tmp_path / "new").exists()
    assert "is a file" in folder_fault(Path(__file__))
    assert folder_fault(Path("/tmp/a\0b"))


def test_a_machine_that_ray_cannot_start_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/münchen")
    assert [problem.key for problem in problems_of([*GRPO])] == ["TMPDIR"]
    monkeypatch.setenv("RAY_TMPDIR", f"/tmp/{'x' * 60}")
    assert "too long" in problems_of([*GRPO])[0].why
    compose([*GRPO, "cluster.address=auto"])
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setattr(resource, "getrlimit", lambda what: (64, 64))
    assert "ulimit" in problems_of([*GRPO])[0].fix


@pytest.mark.skipif(os.getuid() != 0, reason="root passes over permissions; the others are refused")
def test_root_may_write_anywhere(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not folder_fault(tmp_path / "x")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_an_ordinary_user_is_told_what_is_not_theirs() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # pytest's own folder lets nobody else in
        place = Path(name)
        place.chmod(0o755)
        for mode, folder in ((0o755, "read"), (0o700, "closed"), (0o777, "open")):
            (place / folder).mkdir()
            (place / folder).chmod(mode)
        read, closed, opened = (as_user(place / folder / "run") for folder in ("read", "closed", "open"))
        assert read.startswith("cannot be written: no permission in") and "ermission" in closed and opened == ""
        assert as_user(place / "read").startswith("cannot be written") and not as_user(place / "open")


def as_user(path: Path) -> str:
    """`folder_fault` in a child that has given up root."""
    end, start = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(60000, 60000, 60000)
        os.setresuid(60000, 60000, 60000)
        os.write(start, folder_fault(path).encode())
        os._exit(0)
    os.close(start)
    os.waitpid(child, 0)
    with os.fdopen(end) as said:
        return said.read()


@pytest.mark.parametrize(
    "overrides",
    [
        (*SFT, "rollout.past=fresh"),
        (*SFT, "rollout.sampling.max_tokens=16"),
        (*SFT, "rollout.workers=1", "stages.sft.eval_every=5"),
        (*GRPO, "learner.optim.lr=1e-3", "rollout.workers=1", "advantage.std=population"),
    ],
)
def test_what_some_stage_reads_is_let_through(overrides: tuple[str, ...]) -> None:
    compose(list(overrides))
