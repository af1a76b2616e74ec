"""P-GenRM through the command line: every kind of stage, the trained model as a labeller; killed and resumed with its
curriculum.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from short_runs import lines, steps, train, weights

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
SMALL = [
    "recipe=p_genrm",
    "scale=tiny",
    "seed=3",
    "data.size=512",
    "stages.sft.steps=200",
    "stages.sft.batch_size=32",
    "stages.cre.steps=2",
    "stages.cre.prompts_per_step=4",
    "stages.mine.steps=2",
    "stages.mine.prompts_per_step=32",
    "stages.mine.group_size=4",
    "stages.hard.steps=4",
    "stages.hard.prompts_per_step=4",
    "stages.library.prompts=96",
    "stages.prototypes.estimator.clusters=4",
    "stages.alone.prompts=16",
    "stages.users.prompts=16",
    "stages.users.strategy.own=3",
    "stages.users.strategy.neighbours=2",
    "stages.ood.prompts=4",
    "run.save_every=2",
    "telemetry.progress=none",
    "telemetry.rollouts_per_step=0",
]
STAGES = ("psi", "sft", "cre", "mine", "hard", "library", "prototypes", "alone", "users", "ood")
PERSONA = (
    "+rewards.persona={max_missing: 1, fn: {_target_: raylign.recipes.p_genrm.PersonaReward, form: "
    "'${rewards.format.fn.form}', judge: {tries: 4, temperature: 1, top_p: 1, max_tokens: 13, model: {_target_: "
    "raylign.actors.judge.served.Served, name: persona}}}}"
)
LABEL = (
    "+stages.label={_target_: raylign.recipes.stages.generate.Generate, prompts: 16, samples: 4, weights: {persona: 1},"
    " view: {_target_: raylign.recipes.p_genrm.Asked, form: '${rewards.format.fn.form}'}, teacher: {_target_: "
    "raylign.actors.judge.scripted.Scripted, function: raylign.recipes.p_genrm.toy.answers}, "
    "keep: {_target_: raylign.recipes.stages.keep.BestAndWorst}}"
)
CHAIN = re.compile(r"([a-f]+);((?:[a-f]\d)+);(\d)(\d)")
Row = dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("p_genrm") / "whole"
    train(folder, SMALL, keep={folder.with_name("killed"): ("hard", "score", 3)})
    return folder


@pytest.fixture(scope="module")
def sampled(undisturbed: Path) -> dict[str, list[Row]]:
    """The recorded samples by stage."""
    found: dict[str, list[Row]] = {}
    for path in sorted((undisturbed / "rollouts").glob("*.jsonl")):
        for row in lines(path):
            found.setdefault(row["stage"], []).append(row)
    return found


def read(text: str) -> tuple[dict[str, int], tuple[int, int]] | None:
    said = CHAIN.fullmatch(text.strip())
    return None if said is None else (dict(re.findall(r"([a-f])(\d)", said[2])), (int(said[3]), int(said[4])))


def test_the_teachers_rows_agree_with_their_users(undisturbed: Path) -> None:
    rows = lines(undisturbed / "stages" / "psi" / "rows.jsonl")
    assert len(rows) > 400
    for row in rows:
        item, chain = row["meta"]["item"], read(row["target"])
        assert item["part"] == "train" and "!" not in row["messages"][0]["content"] and chain is not None
        assert (chain[1][0] > chain[1][1]) == (item["gold"][0] > item["gold"][1])
        assert sum(map(int, chain[0].values())) == 10


def test_rewards_of_both_stages_can_be_recomputed_from_the_run_folder(sampled: dict[str, list[Row]]) -> None:
    """-0.1, or .5 PR + OR; in the last stage OR alone, and nobody asks the judge."""
    outcomes = 0
    for name, rewards in (("cre", {"format", "outcome", "process"}), ("hard", {"format", "outcome"})):
        for row in sampled[name]:
            assert set(row["rewards"]) == rewards
            chain = read(row["text"])
            if chain is None:
                assert row["score"] == pytest.approx(-0.1)
                continue
            best = int(row["answer"]) - 1
            outcome = float(chain[1][best] > chain[1][1 - best])
            outcomes += int(outcome)
            coverage = row["rewards"]["process"]["score"] if name == "cre" else 0.0
            assert row["score"] == pytest.approx(0.5 * coverage + outcome, abs=1e-6)
    assert outcomes > 10


def test_no_held_out_user_trains_or_makes_prototypes(undisturbed: Path, sampled: dict[str, list[Row]]) -> None:
    library = {row["meta"]["item"]["user"] for row in lines(undisturbed / "stages" / "library" / "rows.jsonl")}
    judged = {row["user"] for row in lines(undisturbed / "stages" / "users" / "measures" / "judged.jsonl")}
    assert library and judged and not library & judged
    shown = {name: {row["messages"][-1]["content"] for row in sampled[name]} for name in ("cre", "hard", "alone")}
    assert not (shown["cre"] | shown["hard"]) & shown["alone"]


def test_scores_of_several_chains_are_those_of_eq_9(sampled: dict[str, list[Row]]) -> None:
    fallbacks = 0
    for row in sampled["users"]:
        roles = [turn["role"] for turn in row["turns"]]
        assert roles[:3] == ["own"] * 3 and set(roles[3:]) <= {"neighbour"}
        texts = [turn.get("text", row["text"]) for turn in row["turns"]]
        chains = [chain and chain[1] for chain in map(read, texts)]
        means = [np.mean([c for c in some if c], axis=0) for some in (chains[:3], chains[3:]) if any(some)]
        details = row["rewards"]["outcome"]["details"]
        fallbacks += len(means) < 2
        if means:
            np.testing.assert_allclose(details["scores"], np.mean(means, axis=0), atol=1e-9)
        else:
            assert not details["parsed"] and row["rewards"]["outcome"]["score"] == 0
    assert fallbacks < len(sampled["users"])


def test_every_figure_of_the_digest_is_logged(undisturbed: Path) -> None:
    cre, hard = (set().union(*steps(undisturbed, name)) for name in ("cre", "hard"))
    wanted = {"reward/format", "reward/outcome", "reward/process", "missing/process", "length/mean", "ref_kl"}
    wanted |= {f"chains/{name}" for name in ("parsed", "format_error", "tie")}
    assert not wanted - cre, wanted - cre
    wanted = {f"source/{name}" for name in ("hard_share", "scheduled", "phase", "hard", "easy", "accuracy_hard")}
    assert not wanted - hard, wanted - hard
    (fit,) = steps(undisturbed, "prototypes")
    assert {"fit/drift", "fit/drift_max", "fit/moved", "fit/agreement", "fit/users", "fit/unread"} <= set(fit)
    (users,) = steps(undisturbed, "users")
    wanted = {f"eval/judged/{name}" for name in ("accuracy", "parsed", "tie", "hard", "easy", "macro", "prototypes")}
    wanted |= {f"eval/scaling/{name}" for name in ("neighbours", "own_best", "own_other", "own_parsed")}
    assert not wanted - set(users), wanted - set(users)
    (ood,) = steps(undisturbed, "ood")
    assert ood["eval/prompts"] == 4


def test_the_trained_model_labels_pairs_in_a_run_of_its_own(undisturbed: Path) -> None:
    """A served judge compares answers of a script; the best and the worst are a pair for `Preference`."""
    folder, model = undisturbed.with_name("labelled"), undisturbed / "stages" / "hard" / "model"
    plain = [override for override in SMALL if not override.startswith("stages.")]
    judged = [f"+judges.persona={{path: {model}, max_context: 64}}", f"model.path={model}", PERSONA, LABEL]
    without = [*(f"~stages.{name}" for name in STAGES), "telemetry.headline="]
    train(folder, [*plain, *without, *judged])
    rows = lines(folder / "stages" / "label" / "rows.jsonl")
    assert rows
    for row in rows:
        meta = row["meta"]
        assert re.fullmatch("[a-f]{2}", meta["chosen"]) and re.fullmatch("[a-f]{2}", meta["rejected"])
        assert meta["chosen"] != meta["rejected"] and meta["chosen_score"] > meta["rejected_score"]


def test_killed_and_resumed_is_bit_equal_with_its_curriculum(undisturbed: Path) -> None:
    killed = undisturbed.with_name("killed")
    assert len(steps(killed, "hard")) == 3
    train(killed, SMALL)
    assert weights(killed, "hard") == weights(undisturbed, "hard")
    ours, others = (
        [{k: v for k, v in row.items() if k.startswith(("source/", "reward/"))} for row in steps(folder, "hard")]
        for folder in (killed, undisturbed)
    )
    assert ours == others and [row["source/scheduled"] for row in ours] == [0.25, 0.5, 0.75, 1.0]
