"""Which runs may start their engines early, and the tokenizer that is loaded without the detour."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from raylign.config.compose import compose
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.stage_order import engines_may_start

NO_EVAL = ["stages.warmup.eval_every=0", "stages.warmup.stop_at=null"]


@pytest.mark.parametrize(
    ("overrides", "finished", "allowed"),
    [
        ([], 0, True),  # the warm-up samples by itself
        ([*NO_EVAL, "~stages.before"], 0, True),  # RL publishes before it samples
        (NO_EVAL, 0, False),  # an evaluation of what the warm-up makes comes first
        (NO_EVAL, 1, True),  # and is next, once the warm-up is done
        (["~stages.before", "~stages.rl", "~stages.after", *NO_EVAL], 0, False),  # nobody samples
        ([*NO_EVAL, "~stages.before", "judges.judge={path: '@warmup', gpus: 0}"], 0, False),  # no such judge yet
    ],
)
def test_when_engines_may_start(overrides: list[str], finished: int, allowed: bool) -> None:
    run = compose(["recipe=grpo", "scale=tiny", *overrides])
    assert engines_may_start(run.config, run.stages[finished:]) is allowed


def test_the_tokenizer_is_the_one_that_auto_would_choose(tiny_model: Path) -> None:
    tokenizer, auto = load_tokenizer(str(tiny_model), False), AutoTokenizer.from_pretrained(tiny_model)
    words = [{"role": "user", "content": "12 + 3 = ?"}]
    assert type(tokenizer) is type(auto) and tokenizer.get_vocab() == auto.get_vocab()
    assert tokenizer.apply_chat_template(words, tokenize=False) == auto.apply_chat_template(words, tokenize=False)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (auto.eos_token_id, auto.pad_token_id)
