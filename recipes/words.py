"""Words whose probabilities rewards read are single tokens, which is known before work starts."""

from __future__ import annotations

from raylign.config.resolve import Run
from raylign.contracts import RewardFunction
from raylign.errors import ConfigError, Problem
from raylign.recipes.stages.reading import Reading


def single_tokens(run: Run, reading: Reading) -> None:
    """Raises ConfigError where a word is several tokens of the policy's vocabulary, which its models share."""
    problems = []
    for part in run.parts.values():
        words = part.cls.single_tokens(part.config) if issubclass(part.cls, RewardFunction) else {}
        for setting, word in words.items():
            ids = reading.template.tokenizer(word, add_special_tokens=False)["input_ids"]
            if len(ids) != 1:
                why = f"is {len(ids)} tokens of the tokenizer of {reading.start}, and the probability of one is read"
                fix = f"name a word of one token, or leave the check out ({part.key}=null)"
                problems.append(Problem(key=f"{part.key}.{setting}", value=word, why=why, fix=fix))
    if problems:
        raise ConfigError(problems)
