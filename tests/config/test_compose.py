"""Composition: what a command line becomes, and what it is told when it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from raylign.config.compose import compose, compose_with_problems, layered, options, recipes
from raylign.config.emptied import leaves
from raylign.config.layers import merge
from raylign.config.nearest import nearest_keys
from raylign.config.schema import Resume, RewardConfig
from raylign.errors import ConfigError, Problem


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of a user's own groups."""
    (tmp_path / "recipe").mkdir()
    (tmp_path / "variant").mkdir()
    return tmp_path


def write(folder: Path, name: str, tree: dict[str, object]) -> None:
    (folder / f"{name}.yaml").write_text("# @package _global_\n" + yaml.safe_dump(tree))


def problems_of(overrides: list[str], folder: Path | str = "") -> dict[str, Problem]:
    with pytest.raises(ConfigError) as caught:
        layered(overrides, str(folder))
    return {problem.key: problem for problem in caught.value.problems}


def test_types_and_plain_form() -> None:
    run = layered(["recipe=grpo", "scale=tiny", "seed=7", "run.resume=must"])
    config, resolved = run.config, run.tree
    assert (config.recipe, config.scale, config.seed, config.run.resume) == ("grpo", "tiny", 7, Resume.must)
    assert all(isinstance(reward, RewardConfig) for reward in config.rewards.values())
    assert resolved["run"]["resume"] == "must" and "at" not in resolved
    assert yaml.safe_load(yaml.safe_dump(resolved)) == resolved, "resolved.yaml must be plain"


def test_resolved_composes_to_itself(mine: Path) -> None:
    first = layered(["recipe=grpo", "variant=dapo"])
    tree = {key: value for key, value in first.tree.items() if key not in ("recipe", "scale")}
    write(mine / "recipe", "again", tree)
    second = layered(["recipe=again"], str(mine))
    assert {**second.tree, "recipe": "grpo"} == first.tree


def test_every_recipe_variant_and_scale_composes() -> None:
    """What is shipped lacks at most what only a user has: data, a teacher, and above the tiny scale a model."""
    scales, roomy = options("scale"), "model.tiny.context=65536"  # as a real model would be
    asked = [[f"recipe={recipe}", f"scale={scale}"] for recipe in recipes() for scale in scales]
    asked += [
        ["recipe=grpo", f"variant={variant}", f"scale={scale}"] for variant in options("variant") for scale in scales
    ]
    lacking = dict[str, set[str]]()
    for overrides in asked:
        own = [] if "scale=tiny" in overrides else [roomy]
        _, problems = compose_with_problems([*overrides, *own])
        lacking[" ".join(overrides)] = {problem.key for problem in problems}
    logs = {f"stages.{name}.data" for name in ("predictor", "orm", "feedback")}  # what was shown, clicked, compared
    rows = {"data.path", "data.generator.path", "stages.general_before.data", "stages.general.data", *logs}
    models = {"frozen.teacher.path", "stages.student.start", "stages.sft.start"}  # the last two are the run's own
    assert all(keys <= rows | models for keys in lacking.values()), lacking
    assert lacking["recipe=grpo scale=gpu"] == {"data.path"} and lacking["recipe=composition_rl scale=node"] == set()
    tiny = {asked for asked, keys in lacking.items() if "scale=tiny" in asked and keys}
    assert tiny == {"recipe=sft scale=tiny"}, "the others run as they are"


def test_order_of_layers(mine: Path) -> None:
    at = {"tiny": {"data": {"size": 3}, "seed": 3}, "gpu": {"data": {"size": 4}}}
    write(mine / "recipe", "mine", {"data": {"size": 1, "holdout": 11}, "seed": 1, "at": at})
    write(mine / "variant", "mine", {"data": {"size": 2, "holdout": 12}})

    def data(*overrides: str) -> tuple[int, int, int]:
        config = layered(["recipe=mine", *overrides], str(mine)).config
        return config.data.size, config.data.holdout, config.seed

    assert data() == (3, 11, 3), "the block of the scale beats the recipe"
    assert data("variant=mine") == (3, 12, 3), "and the variant"
    assert data("scale=gpu", "variant=mine") == (4, 12, 1), "only the block of the chosen scale counts"
    assert data("data.size=9", "seed=8") == (9, 11, 8), "the command line beats everything"


def test_a_new_target_replaces_the_part(mine: Path) -> None:
    write(mine / "recipe", "mine", {"advantage": {"_target_": "raylign.a.A", "k": 1}})
    write(mine / "variant", "b", {"advantage": {"_target_": "raylign.a.B", "j": 2}})
    write(mine / "variant", "a", {"advantage": {"j": 2}})
    config = layered(["recipe=mine", "variant=b"], str(mine)).config
    assert config.advantage == {"_target_": "raylign.a.B", "j": 2}
    config = layered(["recipe=mine", "variant=a"], str(mine)).config
    assert config.advantage == {"_target_": "raylign.a.A", "k": 1, "j": 2}
    overrides = ["recipe=mine", "advantage.x=5", "advantage._target_=raylign.a.C"]
    assert layered(overrides, str(mine)).config.advantage == {"_target_": "raylign.a.C", "x": 5}


BAO = ["recipe=bao", "scale=tiny"]


@pytest.mark.parametrize("nothing", ["{}", "null"])
def test_a_part_that_is_set_to_nothing_is_gone(nothing: str) -> None:
    """Merged into what a recipe says it would stay, without a word."""
    assert "stages.teach.view" in compose(BAO).parts
    assert "stages.teach.view" not in compose([*BAO, f"stages.teach.view={nothing}"]).parts


def test_an_empty_mapping_empties_in_files_too(mine: Path) -> None:
    assert compose(["recipe=grpo", "scale=tiny"]).config.data.task_args
    assert compose(["recipe=grpo", "scale=tiny", "data.task_args={}"]).config.data.task_args == {}
    (mine / "recipe" / "bare.yaml").write_text(
        "# @package _global_\ndefaults: [bao]\nstages: {teach: {view: {}}}\nlearner: {}\n"
    )
    run = compose(["recipe=bare", "scale=tiny"], str(mine))
    assert "stages.teach.view" not in run.parts and run.config.learner.optim.lr, "sections are no parts: theirs stay"
    write(mine / "recipe", "quiet", {"defaults": ["grpo"], "alarms": {}})
    assert "set in recipe/quiet" in problems_of(["recipe=quiet", "scale=tiny"], mine)["alarms"].why


@pytest.mark.parametrize(("key", "fix"), [("alarms", "'~alarms.reward_hacking'"), ("learner.optim", "FIELD=VALUE")])
def test_what_would_come_back_is_not_taken_away_silently(key: str, fix: str) -> None:
    with pytest.raises(ConfigError, match="takes nothing away") as refused:
        compose(["recipe=grpo", "scale=tiny", f"{key}={{}}"])
    assert fix in str(refused.value)


def test_merge_leaves_its_arguments_alone() -> None:
    base, layer = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, layer) == {"a": {"b": 1, "c": 2}} and base == {"a": {"b": 1}} and layer == {"a": {"c": 2}}
    assert dict(leaves({"a": {"b": 1, "c": {}}})) == {"a.b": 1, "a.c": {}}


def test_stages_keep_their_order_and_null_ones_do_not_run(mine: Path) -> None:
    stages = {"first": None, "second": {"_target_": "raylign.x.Y"}, "third": {"_target_": "raylign.x.Z"}}
    write(
        mine / "recipe", "mine", {"stages": stages, "at": {"tiny": {"stages": {"first": {"_target_": "raylign.x.X"}}}}}
    )
    assert list(layered(["recipe=mine"], str(mine)).config.stages) == ["first", "second", "third"]
    assert list(layered(["recipe=mine", "scale=gpu"], str(mine)).config.stages) == ["second", "third"]
    overrides = ["recipe=mine", "~stages.second", "stages.third=null"]
    assert list(layered(overrides, str(mine)).config.stages) == ["first"]


def test_interpolation(mine: Path) -> None:
    write(mine / "recipe", "mine", {"data": {"size": "${rollout.sampling.max_tokens}"}})
    config = layered(["recipe=mine", "rollout.sampling.max_tokens=33"], str(mine)).config
    assert config.data.size == 33
    write(mine / "recipe", "bad", {"data": {"size": "${rollout.nothing}"}})
    assert "rollout.nothing" in str(problems_of(["recipe=bad"], mine))


def test_all_problems_at_once() -> None:
    problems = problems_of(
        [
            "recipe=grpo",
            "seed=x",
            "lr=3",
            "learner.zero_stage=1.5",
            "run.resume=perhaps",
            "rewards.correct.wieght=2",
            "critic=3",
            "learner.optim.betas=[a,b]",
            "what=[",
            "data.size=1,2",
            "~stages.evaluate",
        ]
    )
    assert problems["seed"].why == "has the wrong type str, expected a whole number" and problems["seed"].value == "x"
    assert problems["lr"].fix == "did you mean learner.optim.lr or critic.optim.lr?"
    assert problems["run.resume"].why.endswith("expected one of auto, never, must")
    assert problems["rewards.correct.wieght"].fix == "did you mean rewards.correct.weight?"
    assert "wrong type" in problems["critic"].why
    assert problems["command line"].value == "what=["
    assert "-m" in problems["data.size"].fix
    assert "removed" in problems["stages.evaluate"].why


def test_wrong_element_type_names_the_list() -> None:
    assert problems_of(["recipe=grpo", "learner.optim.betas=[a,b]"])["learner.optim.betas"].fix.endswith(
        "a list of a number"
    )


@pytest.mark.parametrize(
    ("overrides", "key", "fix"),
    [
        (["recipe=grop"], "recipe", "did you mean grpo?"),
        (["recip=grpo"], "recipe", "is recip= meant to be recipe=?"),
        (["recipe=grpo", "scale=tinny"], "scale", "did you mean tiny?"),
        (["recipe=GRPO", "scale=tiny"], "recipe", "did you mean grpo?"),
        (["recipe=g-opd", "scale=tiny"], "recipe", "did you mean g_opd?"),
        (["recipe=dapo", "scale=tiny"], "recipe", "it is a variant: recipe=grpo variant=dapo"),
        (["recipe=dpo", "scale=tiny"], "recipe", "recipe=hypo stages.preference.objective.reference_margin=dpo"),
        (["recipe=grpo", "variant=arlcp"], "variant", "it is a recipe: recipe=arlcp"),
        (["recipe=grpo", "variant=dapoo"], "variant", "did you mean dapo?"),
        (["recipe=grpo", "varaint=dapo"], "varaint", "did you mean variant"),
        ([], "recipe", "known: "),
    ],
)
def test_unknown_choices(overrides: list[str], key: str, fix: str) -> None:
    assert fix in problems_of(overrides)[key].fix


def test_a_wrong_choice_does_not_hide_a_wrong_key() -> None:
    assert set(problems_of(["recipe=grop", "sed=1", "scale=tinny"])) == {"recipe", "sed", "scale"}


def test_problems_of_a_file_name_the_file(mine: Path) -> None:
    write(mine / "recipe", "mine", {"data": {"sizze": 1}, "at": {"tinny": {"seed": 2}, "tiny": {"sed": 2}}})
    problems = problems_of(["recipe=mine"], mine)
    assert "recipe/mine" in problems["data.sizze"].why and "data.size" in problems["data.sizze"].fix
    assert "recipe/mine" in problems["at.tinny"].why and "tiny" in problems["at.tinny"].fix
    assert "at.tiny" in problems["sed"].why


def test_a_broken_file_is_a_problem_not_a_traceback(mine: Path) -> None:
    (mine / "recipe" / "mine.yaml").write_text("# @package _global_\na: [1\n")
    assert problems_of(["recipe=mine"], mine)
    assert problems_of(["recipe=grpo"], mine / "absent")["--config-dir"]


def test_a_variant_can_be_none() -> None:
    assert layered(["recipe=grpo", "variant=null"]).config == layered(["recipe=grpo"]).config


def test_problems_leave_the_rest_usable() -> None:
    run, problems = compose_with_problems(["recipe=grpo", "scale=tiny", "seed=5", "nothing=1"])
    assert run is not None and run.config.seed == 5 and len(problems) == 1


def test_nearest_keys() -> None:
    assert nearest_keys("rollout.worker", ["x"], ["rollout.workers", "rollout.cpus"]) == "did you mean rollout.workers?"
    assert nearest_keys("zzzzzz", ["alpha"]) == "known: alpha"


@pytest.mark.parametrize("group", ["recipe", "variant"])
def test_a_file_that_does_not_say_where_its_settings_belong_is_refused(tmp_path: Path, group: str) -> None:
    """Without a word they would go nowhere, and the run would be another method under this one's name."""
    path = tmp_path / group / "mine.yaml"
    path.parent.mkdir()
    settings = "advantage: {_target_: raylign.objectives.advantage.max_rl.MaxRL}\n"
    path.write_text(("defaults: [grpo]\n" if group == "recipe" else "") + settings)
    words = ["scale=tiny", f"{group}=mine", *([] if group == "recipe" else ["recipe=grpo"])]
    with pytest.raises(ConfigError) as caught:
        compose(words, str(tmp_path))
    (problem,) = caught.value.problems
    assert problem.key == f"{group}/mine.yaml" and problem.fix == "make `# @package _global_` its first line"
    path.write_text(f"# @package _global_\n{path.read_text()}")
    assert compose(words, str(tmp_path)).parts["advantage"].cls.__name__ == "MaxRL"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("advantge._target_", "did you mean advantage._target_?"),
        ("advantge.std", "did you mean advantage.std?"),
        ("steps", "did you mean stages.warmup.steps or stages.rl.steps?"),
        ("learnr.optim.lr", "did you mean learner.optim.lr?"),
    ],
)
def test_a_misspelt_section_is_the_one_that_was_meant(key: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(["recipe=grpo", "scale=tiny", f"{key}=1"])
    assert caught.value.problems[0].fix == hint


def test_values_that_are_still_to_be_given_are_told_by_their_keys() -> None:
    unset = ("data.size", "advantage.std", "stages.rl.start", "stages.rl.steps", "stages.rl.weights.correct")
    _, problems = compose_with_problems(["recipe=grpo", "scale=tiny", *(f"{key}=???" for key in unset)])
    assert {problem.key for problem in problems} == set(unset)
    assert all("still to be given" in problem.why for problem in problems)
