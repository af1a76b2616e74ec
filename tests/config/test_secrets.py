"""No secret is stored with a run: settings that hold one are refused unseen, files and variables are not copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from raylign.actors.judge.endpoint import Endpoint
from raylign.config.compose import compose
from raylign.config.schema import TelemetryConfig
from raylign.config.secret_rules import secret_problems
from raylign.contracts import Sampling
from raylign.errors import ConfigError, JudgeUnavailable
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.report import write_report

GRPO, SECRET = ["recipe=grpo", "scale=tiny"], "sk-7f3a9c"
FUNCTION = (
    "+rewards.mine.fn={_target_: raylign.actors.reward.python.PythonFunction, path: raylign.records.content_id, "
    "kwargs: {%s: %s}}"
)
JUDGE = ["+judges.j.path=m", "judges.j.gpus=0"]
HIDDEN = [
    ([FUNCTION % (name, SECRET)], f"rewards.mine.fn.kwargs.{name}")
    for name in ("api_key", "apikey", "password", "hf_token", "client_secret", "Authorization", "private_key")
] + [
    ([*JUDGE, f"judges.j.endpoint='{address}'"], "judges.j.endpoint")
    for address in (
        f"https://me:{SECRET}@judge.example/v1",
        f"https://{SECRET}@judge.example/v1",
        f"http://judge.example/v1?api_key={SECRET}",
        f"http://judge.example/v1?a=b&access_token={SECRET}",
    )
]


@pytest.mark.parametrize(("overrides", "key"), HIDDEN, ids=lambda value: str(value)[-40:])
def test_a_setting_that_holds_a_secret_is_refused_unseen(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([*GRPO, *overrides])
    assert key in {problem.key for problem in caught.value.problems} and SECRET not in str(caught.value)


def test_other_words_are_no_secrets() -> None:
    compose([*GRPO, *JUDGE, "judges.j.endpoint='http://judge:8000/v1?user=me@here'", "judges.j.key_file=/keys/judge"])
    words = {"prompt_key": "question", "stop_token": "<|end|>", "tokenizer": "x", "key_file": "k", "secret": "", "n": 3}
    assert secret_problems({"data": words, "list": ["http://a/b@c", "me@here"]}) == []


async def test_a_token_of_a_file_is_told_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    settings = Endpoint.Config(url="http://127.0.0.1:9/v1", model="m", key_file=str(tmp_path / "key"), retries=0)
    judge = Endpoint(settings)
    with pytest.raises(JudgeUnavailable) as caught:
        await judge.complete(({"role": "user", "content": "?"},), Sampling(max_tokens=1), 0)
    await judge.close()
    assert SECRET not in f"{caught.value!r} {judge.name} {settings}"


def test_no_variable_of_the_process_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "RAYLIGN_ANYTHING"):
        monkeypatch.setenv(name, SECRET)
    run = compose([*GRPO, *JUDGE, "judges.j.endpoint=http://judge:8000/v1", "judges.j.key_file=/keys/judge"])
    recorder = Recorder(tmp_path / "run", TelemetryConfig(tensorboard=True))
    recorder.settings(run.tree, GRPO)
    recorder.metrics(1, {"loss": 1.0}, "rl")
    recorder.event("failed", error="x")
    recorder.close()
    write_report(tmp_path / "run")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 5 and not [path for path in written if SECRET.encode() in path.read_bytes()]
