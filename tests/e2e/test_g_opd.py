"""G-OPD through the command line: base, teacher, student in one run; killed and resumed; two routed teachers."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=g_opd",
    "scale=tiny",
    "seed=3",
    "model.tiny.hidden_size=32",
    "data.size=512",
    "data.holdout=32",
    "stages.base.steps=20",
    # Two steps of RL from so weak a base earn nothing: a teacher of a few more SFT steps differs from it for certain.
    "stages.teacher={_target_: raylign.recipes.stages.sft.Sft, steps: 3, batch_size: 32, optim: {lr: 1e-3}}",
    "stages.distill.prompts_per_step=8",
    "stages.distill.steps=4",
    "stages.after.samples=1",
    "run.save_every=1",
    "telemetry.progress=none",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("g_opd") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("distill", "learn", 2)})
    return folder


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    rows = steps(undisturbed, "distill")
    assert len(rows) == 4
    wanted = {
        "distill/advantage",
        "distill/student_teacher_kl",
        "distill/implicit_reward",
        "distill/implicit_reward_p99",
        "max/distill/implicit_reward",
        "length/mean",
        "entropy",
        "reward/correct",
        "mismatch_weight",
        "max/mismatch_weight",
        "mismatch_cut",
        "distill/unscored",
        "time/score/teacher_logprob",
        "time/score/ref_logprob",
    }
    assert not wanted - set(rows[0])
    assert rows[0]["mismatch_weight"] == pytest.approx(1.0, abs=1e-3), "engine and learner agree"
    first = rows[0]
    # Step 1: the student is the reference still, so the two shares of A_t collapse to lambda (teacher - ref).
    assert first["distill/advantage"] == pytest.approx(1.25 * first["distill/implicit_reward"], abs=1e-4)
    assert first["distill/student_teacher_kl"] == pytest.approx(-first["distill/implicit_reward"], abs=1e-4)
    assert weights(undisturbed, "distill") != weights(undisturbed, "base")


def test_student_starts_at_the_base_and_not_at_the_teacher(undisturbed: Path) -> None:
    started = [event for event in lines(undisturbed / "events.jsonl") if event["kind"] == "stage_started"]
    assert [event["stage"] for event in started] == ["base", "teacher", "distill", "after"]
    assert abs(steps(undisturbed, "distill")[0]["distill/student_teacher_kl"]) > 0


def test_killed_and_resumed_is_bit_equal(undisturbed: Path) -> None:
    folder = undisturbed.with_name("killed")
    assert len(steps(folder, "distill")) == 2
    train(folder, SMALL)
    assert weights(folder, "distill") == weights(undisturbed, "distill")
    assert [row["step"] for row in steps(folder, "distill")] == [row["step"] for row in steps(undisturbed, "distill")]


def test_two_teachers_are_routed_and_lambda_one_asks_no_reference(undisturbed: Path, tmp_path: Path) -> None:
    """Distill the base towards the teacher where colours are asked and towards itself elsewhere."""
    base, tutor = (str(undisturbed / "stages" / name / "model") for name in ("base", "teacher"))
    common = [
        *SMALL,
        "~stages.base",
        "~stages.teacher",
        "~stages.after",
        "~frozen.teacher",
        "stages.distill.start=''",
    ]
    common += ["data.generator.domains=[colours,shapes]", f"model.path={base}", "advantage.reward_weight=1"]
    common += [f"frozen.a={{stream: teacher_logprob, domain: colours, path: {tutor}, gpus: 0}}"]
    common += [f"frozen.b={{stream: teacher_logprob, domain: shapes, path: {base}, gpus: 0}}"]
    train(tmp_path / "run", [*common, "stages.distill.steps=2", f"frozen.reference.path='{tutor}'"])
    rows = steps(tmp_path / "run", "distill")
    assert {"reward/correct/colours", "reward/correct/shapes"} <= set(rows[0]), "verifiable reward by domain"
    started = {name for name in ("a", "b", "reference") if list((tmp_path / "run/logs").glob(f"frozen-{name}*"))}
    assert started == {"a", "b"}, "nobody reads a reference at lambda 1"


def test_initial_student_with_the_solution_before_it_is_a_teacher(undisturbed: Path, tmp_path: Path) -> None:
    """Context distillation: no model but the student's own start, which differs from it by what it reads alone."""
    base = undisturbed / "stages" / "base" / "model"
    common = [
        *SMALL,
        "~stages.base",
        "~stages.teacher",
        "~stages.after",
        "stages.distill.start=''",
        f"model.path={base}",
    ]
    context = "{_target_: raylign.recipes.g_opd.context.SolutionContext, column: target}"
    common += ["advantage.reward_weight=1", "frozen.teacher.path=''", f"frozen.teacher.context={context}"]
    train(tmp_path / "run", [*common, "stages.distill.steps=2"])
    rows = steps(tmp_path / "run", "distill")
    assert len(rows) == 2 and all(row["distill/unscored"] == 0 for row in rows)
    assert abs(rows[0]["distill/student_teacher_kl"]) > 1e-3, "without the context it would be 0 up to rounding"
