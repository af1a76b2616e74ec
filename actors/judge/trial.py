"""Whether a server does what is asked of it, tried before work starts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from raylign.actors.judge.endpoint import Endpoint
from raylign.config.schema import Verb
from raylign.errors import ConfigError, Problem
from raylign.models.tokenizer import load_tokenizer

TEXTS = ('The 3 cats\' "naps", 12.5 % of\n\tdef f(x): return x**2', "h\u00e9llo \u4f60\u597d")


async def try_endpoint(endpoint: Endpoint, verbs: Collection[Verb], policy_path: str, key: str) -> None:
    """Score and embed something, where that is asked. policy_path: the model whose ids are scored, "" for any.

    Raises JudgeUnavailable with what the server said, and ConfigError where it reads ids otherwise than the policy.
    """
    if Verb.score in verbs:
        ids = [await endpoint.tokens_of(text) for text in TEXTS]
        await endpoint.score(ids[0][:1], ids[0][1:])
        if policy_path:
            policy = await asyncio.to_thread(load_tokenizer, policy_path, False)
            for text, theirs in zip(TEXTS, ids, strict=True):
                if policy(text, add_special_tokens=False)["input_ids"] != theirs:
                    why = f"reads {text!r} as other ids than the policy, so that sampled ids mean other texts"
                    fix = "serve a model of the policy's tokenizer family"
                    raise ConfigError([Problem(key=key, value=endpoint.config.url, why=why, fix=fix)])
    if Verb.embed in verbs:
        await endpoint.embed(TEXTS)
