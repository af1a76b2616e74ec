"""What a person sees."""

from __future__ import annotations

import io

import pytest

from raylign.telemetry.progress import (
    PlainProgress,
    RichProgress,
    SilentProgress,
    duration,
    make_progress,
    shown_values,
    sparkline,
)
from raylign.telemetry.table import table


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


METRICS = {"reward/mean": 0.5, "loss/policy": 0.1234, "tokens/per_second": 12345.6, "eval/score": 0.75}


def test_the_mode_follows_the_stream() -> None:
    assert isinstance(make_progress("auto", io.StringIO()), PlainProgress)
    assert isinstance(make_progress("auto", Terminal()), RichProgress)
    assert isinstance(make_progress("plain", Terminal()), PlainProgress)
    assert isinstance(make_progress("none", Terminal()), SilentProgress)


def test_one_plain_line_a_step() -> None:
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("rl", 10, done=4)
    progress.step(5, METRICS)
    progress.step(6, {"approx_kl_k3": 1e-5})
    progress.message("stopping")
    progress.stop()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()
    assert lines[0].startswith("stage rl: 10 steps, 4 done")
    assert lines[1].startswith("rl 5/10  reward 0.500  score 0.750  loss 0.1234  tokens/s 12,346")
    assert "eta" in lines[2] and "step KL 1.0e-05" in lines[2]


def test_each_number_is_the_one_that_its_label_names() -> None:
    metrics = {"publish/gap_mean": 1e-9, "sampler_gap": 0.061, "ref_kl": 0.5, "approx_kl_k3": 0.0, "eval/score": 0.7}
    shown = dict(shown_values(metrics))
    assert shown == {"score": "0.700", "ref KL": "5.0e-01", "step KL": "0.0e+00", "gap": "6.1e-02"}
    assert "gap" not in dict(shown_values({"publish/gap_mean": 1e-9})), "the probe's gap is not that of the samples"


def test_the_panel_shows_the_stage_and_the_reward() -> None:
    stream = Terminal()
    progress = make_progress("rich", stream)
    progress.start("rl", 3)
    for step in range(1, 4):
        progress.step(step, {**METRICS, "reward/mean": step / 3})
    progress.message("half [of] it")
    progress.stop()
    progress.stop()
    text = stream.getvalue()
    assert "rl" in text and "step 3/3" in text and "▁▄█" in text and "0.1234" in text and "half [of] it" in text


def test_sparkline() -> None:
    assert sparkline([0, 1]) == "▁█" and sparkline([]) == "" and sparkline([2, 2, 2]) == "▁▁▁"
    assert sparkline([float("nan"), 1, 2]) == "▁█" and len(sparkline(list(range(100)), 30)) == 30


@pytest.mark.parametrize(("seconds", "text"), [(7, "7 s"), (65, "1:05"), (3723, "1:02:03"), (59.7, "1:00")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_table_aligns() -> None:
    text = table(["role", "GPUs"], [["learner", 4], ["rollout", 16]], indent="")
    assert text == "role     GPUs\n-------  ----\nlearner     4\nrollout    16"
    assert table(["a"], []).split() == ["a", "-"]
