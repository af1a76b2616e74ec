"""A reward model as a reward: its own words, the state that was trained, a reason for whatever it cannot read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from raylign.actors.reward.reward_model import RewardModel
from raylign.chat.template import ChatTemplate
from raylign.errors import ConfigError, DataError, RequestError
from raylign.models.scoring import Manner, Reads, tell
from raylign.plan import make_plan
from raylign.records import Prompt, Trajectory
from raylign.testing import call, prompt, tiny_run, trajectory

NEWLINE = (  # as ChatML: something stands behind the end of every turn
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def scoring_folder(source: Path, folder: Path, seed: int = 0) -> Path:
    """A reward model as other software leaves it, below the backbone of a language model."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scoring_folder(tiny_model, tmp_path_factory.mktemp("rm") / "model")


@pytest.fixture(scope="module")
def reward(folder: Path) -> RewardModel:
    return RewardModel(RewardModel.Config(model=str(folder)))


def with_template(folder: Path, target: Path, template: str) -> Path:
    """A copy whose template, and whose ids of letters, are others."""
    copied = Path(shutil.copytree(folder, target))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(copied)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(copied)
    return copied


def plain(folder: Path, ids: list[int]) -> float:
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    model.config.pad_token_id = None
    with torch.no_grad():
        return float(model(torch.tensor([ids])).logits[0, 0])


def score(reward: RewardModel, asked: Prompt, said: Trajectory) -> float:
    (value,) = reward.score(asked, [said])
    assert value is not None
    return value.score


# ------------------------------------------------------------------------------------------------- which state it is


def test_a_score_is_that_of_hugging_face_over_the_whole_conversation(folder: Path, reward: RewardModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = prompt(0, "2+2?")
    ids = tokenizer.apply_chat_template(
        [*map(dict, asked.messages), {"role": "assistant", "content": "4"}], return_dict=True
    )["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id  # the end of the turn is read
    assert score(reward, asked, trajectory("4")) == pytest.approx(plain(folder, ids), abs=1e-5)
    assert score(reward, asked, trajectory("4")) != pytest.approx(plain(folder, ids[:-1]), abs=1e-3)


def test_where_the_template_goes_on_behind_the_turn_the_state_must_be_known(folder: Path, tmp_path: Path) -> None:
    told = with_template(folder, tmp_path / "newline", NEWLINE)
    with pytest.raises(
        DataError, match=r"does not say which state.* ends a conversation with '<\|end\|>\\n'; fix: set"
    ):
        RewardModel(RewardModel.Config(model=str(told)))
    template = ChatTemplate(AutoTokenizer.from_pretrained(told))
    asked = prompt(0, "2+2?")
    whole = template.tokenizer.apply_chat_template(
        [*map(dict, asked.messages), {"role": "assistant", "content": "4"}], return_dict=True
    )["input_ids"]
    scores = {
        reads: score(RewardModel(RewardModel.Config(model=str(told), reads=reads)), asked, trajectory("4"))
        for reads in Reads
    }
    assert scores[Reads.rendered] == pytest.approx(plain(told, whole), abs=1e-5)
    assert scores[Reads.end_of_turn] == pytest.approx(plain(told, whole[:-1]), abs=1e-5)
    tell(told, Manner(reads=Reads.end_of_turn), [])
    assert score(RewardModel(RewardModel.Config(model=str(told))), asked, trajectory("4")) == scores[Reads.end_of_turn]


def test_the_folder_s_arguments_reach_its_template(folder: Path, tmp_path: Path) -> None:
    told = with_template(folder, tmp_path / "args", "{{ tone }}" + NEWLINE.replace("\n", ""))
    tell(told, Manner(reads=Reads.end_of_turn, template_args={"tone": "kind"}), [])
    kind, rude, stored = (
        score(RewardModel(RewardModel.Config(model=str(told), template_args=args)), prompt(), trajectory("4"))
        for args in ({"tone": "kind"}, {"tone": "rude"}, {})
    )
    assert stored == kind != rude


def test_it_reads_the_text_and_not_the_policy_s_ids(reward: RewardModel) -> None:
    asked = prompt(0, "2+2?")
    other = Prompt(id="x", messages=asked.messages, token_ids=np.array([9, 9], np.int32))
    assert score(reward, asked, trajectory(call("4", [1]))) == score(reward, other, trajectory(call("4", [77, 78])))


def test_an_episode_is_one_conversation(folder: Path, reward: RewardModel) -> None:
    tool = {"role": "user", "content": "and 3?"}
    asked = prompt(0, "2+2?")
    episode = trajectory(call("4", observed=(tool,)), call("7", observed=({"role": "user", "content": "bye"},)))
    messages = [*asked.messages, {"role": "assistant", "content": "4"}, tool]
    same = Prompt(id="x", messages=tuple(messages), token_ids=asked.token_ids)
    assert score(reward, asked, episode) == pytest.approx(score(reward, same, trajectory("7")), abs=1e-6)


# ------------------------------------------------------------------------------------------------------- in batches


def test_a_batch_gives_what_each_item_gives_alone(reward: RewardModel) -> None:
    items = [(prompt(n, "q" * (n + 1)), [trajectory("a" * (n + 1)), trajectory("b")]) for n in range(5)]
    items.append((prompt(0, "q"), [trajectory("c")]))  # the same beginning as the first
    together = reward.score_batch(items)
    for (asked, said), values in zip(items, together, strict=True):
        assert not isinstance(values, Exception)
        alone = [score(reward, asked, each) for each in said]
        assert [value.score for value in values if value] == pytest.approx(alone, abs=1e-5)


def test_what_cannot_be_read_is_missing_with_a_reason_and_costs_nobody_else(folder: Path) -> None:
    short = RewardModel(RewardModel.Config(model=str(folder), max_tokens=30))
    tools = ({"type": "function", "function": {"name": "add"}},)
    items = [
        (prompt(0, "q"), [trajectory("a")]),
        (prompt(1, "q"), [trajectory("a" * 40)]),
        (prompt(2, "q", tools=tools), [trajectory("a")]),
        (prompt(3, "q"), [trajectory("a", "b")]),
        (prompt(4, "q"), [trajectory()]),
        (prompt(0, "q"), [trajectory("a")]),
    ]
    first, long, tooled, apart, empty, last = short.score_batch(items)
    assert not isinstance(first, Exception) and not isinstance(last, Exception)
    assert [value.score for value in first if value] == pytest.approx([value.score for value in last if value])
    assert isinstance(long, DataError) and "tokens, and the reward model" in str(long) and "reads 30" in str(long)
    assert isinstance(tooled, RequestError) and "the chat template refuses" in str(tooled)
    assert isinstance(apart, DataError) and "are no one conversation" in str(apart)
    assert isinstance(empty, DataError) and "without a call" in str(empty)
    with pytest.raises(DataError, match="reads 30"):
        short.score(*items[1])
    assert short.score_batch(items[1:5]) != []


def test_exactly_as_long_as_it_reads_is_read(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = prompt(0, "q")
    messages = [*map(dict, asked.messages), {"role": "assistant", "content": "abc"}]
    size = len(tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"])
    for limit, fits in ((size, True), (size - 1, False)):
        (result,) = RewardModel(RewardModel.Config(model=str(folder), max_tokens=limit)).score_batch(
            [(asked, [trajectory("abc")])]
        )
        assert isinstance(result, Exception) is not fits
    assert RewardModel(RewardModel.Config(model=str(folder), max_tokens=9999))._limit == 256  # its positions


# --------------------------------------------------------------------------------------- before a run, by overrides

ALONE = [f"~stages.{name}" for name in ("warmup", "before", "rl", "after")]
RM = "+stages.rm={_target_: raylign.recipes.stages.reward_model.TrainRewardModel, data: PAIRS, max_tokens: 128}"
LAST = "+stages.last={_target_: raylign.recipes.stages.rl.Rl, steps: 2, prompts_per_step: 4, group_size: 2}"


def taste(model: str, fields: str = "", gpus: float = 0) -> str:
    target = "raylign.actors.reward.reward_model.RewardModel"
    return f"+rewards.taste={{fn: {{_target_: {target}, model: '{model}'{fields}}}, gpus: {gpus}}}"


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    rows = [{"prompt": f"p{n}", "chosen": "c", "rejected": "r", "tie": n % 2} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return RM.replace("PAIRS", str(tmp_path / "pairs.jsonl"))


def test_it_stands_under_grpo_by_overrides_alone(pairs: str) -> None:
    run = tiny_run(*ALONE, pairs, LAST, taste("@rm"))
    assert [stage.name for stage in run.stages] == ["rm", "last"]
    plan = make_plan(run)
    assert plan.role("reward/taste").memory_gb > 0 and plan.role("reward/correct").memory_gb == 0
    assert plan.role("learner").actors == 1


def test_a_folder_of_another_run_will_do_and_its_size_is_planned(folder: Path) -> None:
    run = tiny_run(taste(str(folder)))
    assert 0 < make_plan(run).role("reward/taste").memory_gb < 0.2


def policy_folder(folder: Path, tiny_model: Path, target: Path) -> Path:
    return tiny_model


def headless(folder: Path, tiny_model: Path, target: Path) -> Path:
    from safetensors.torch import load_file, save_file

    copied = Path(shutil.copytree(folder, target))
    tensors = load_file(copied / "model.safetensors")
    del tensors["score.weight"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


def labelled(folder: Path, tiny_model: Path, target: Path) -> Path:
    copied = Path(shutil.copytree(folder, target))
    fields = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(fields | {"id2label": {"0": "a", "1": "b", "2": "c"}}))
    return copied


def silent(folder: Path, tiny_model: Path, target: Path) -> Path:
    copied = Path(shutil.copytree(folder, target))
    (copied / "chat_template.jinja").unlink()
    return copied


def ambiguous(folder: Path, tiny_model: Path, target: Path) -> Path:
    return with_template(folder, target, NEWLINE)


def untokenized(folder: Path, tiny_model: Path, target: Path) -> Path:
    copied = Path(shutil.copytree(folder, target))
    for file in copied.glob("tokenizer*"):
        file.unlink()
    return copied


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (policy_folder, r"is no reward model \(architectures: Qwen3ForCausalLM\)"),
        (headless, "holds no score.weight, the scalar head"),
        (labelled, "gives 3 numbers to a text, and a reward model one"),
        (silent, "the tokenizer has no chat template"),
        (ambiguous, "does not say which state its head reads"),
        (untokenized, "holds no tokenizer"),
        (lambda *paths: Path("nowhere"), "does not exist"),
    ],
)
def test_a_folder_that_is_no_reward_model_is_refused_before_a_run(
    folder: Path, tiny_model: Path, tmp_path: Path, make: Callable[..., Path], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        tiny_run(taste(str(make(folder, tiny_model, tmp_path / "made"))))
    (problem,) = refused.value.problems
    assert problem.key == "rewards.taste.fn.model" and problem.fix and "\n" not in problem.why


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([taste("")], "there is nothing to load"),
        ([taste("@rm")], "names no stage of the run"),
        ([taste("x", ", dtype: float16")], "dtype=float16 must be"),
        ([taste("x", ", trust_remote_code: true")], "is not allowed by this run"),
        ([taste("x", gpus=1)], r"rewards.taste.gpus.*scale=tiny runs on the CPU only"),
        ([taste("x", gpus=1.5), "scale=gpu"], "more than one GPU can only be given whole"),
    ],
)
def test_settings_that_cannot_work_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny_run(*overrides)


def test_the_stage_is_no_policy_of_later_ones(pairs: str, folder: Path) -> None:
    for where in (LAST.replace("steps: 2", "start: '@rm/reward_model', steps: 2"),):
        with pytest.raises(ConfigError, match="is a reward model, which gives numbers and no text"):
            tiny_run(*ALONE, pairs, where)
    with pytest.raises(ConfigError, match="is none of what the stage leaves: @rm/reward_model"):
        tiny_run(*ALONE, pairs, LAST.replace("steps: 2", "start: '@rm', steps: 2"))
    tiny_run(*ALONE, pairs.replace("max_tokens", f"start: {folder}, max_tokens"), LAST)  # it goes on with one
    with pytest.raises(ConfigError, match="is no causal language model"):
        tiny_run(*ALONE, LAST.replace("steps: 2", f"start: {folder}, steps: 2"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("truncation: left", "would cut ends of answers"),
        ("objective: {_target_: raylign.objectives.loss.preference.PreferenceLoss}", "is no loss of scores"),
        ("max_tokens: 999999", "is more than model.max_context"),
        ("objective: {tie_sign: wrong}", "tie_sign"),
    ],
)
def test_a_stage_that_cannot_train_one_is_refused(pairs: str, field: str, message: str) -> None:
    name = field.partition(":")[0]
    given = pairs.replace("max_tokens: 128", field) if name == "max_tokens" else pairs.replace("}", f", {field}}}", 1)
    with pytest.raises(ConfigError, match=message):
        tiny_run(*ALONE, given, LAST)


def test_settings_of_the_run_s_prompts_say_nothing_about_a_stage_s_own_pairs(pairs: str) -> None:
    tiny_run(*ALONE, pairs, LAST, "data.verifier=exact")
    with pytest.raises(ConfigError, match="means nothing for pairs"):
        tiny_run(*ALONE, RM.replace("data: PAIRS, ", ""), LAST, "data.verifier=exact")
    with pytest.raises(ConfigError, match="is of a file of the stage's own"):
        tiny_run(*ALONE, RM.replace("data: PAIRS", "holdout: 3"), LAST)
