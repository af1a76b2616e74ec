"""What a person sees: which steps have a line, what is being started, and that nothing is left behind."""

from __future__ import annotations

import io
import re
import time

import pytest

from raylign.telemetry import lines, pace
from raylign.telemetry.lines import PlainProgress
from raylign.telemetry.live import RichProgress
from raylign.telemetry.progress import Progress, SilentProgress, make_progress
from raylign.telemetry.shown import duration, evaluated, printable, shown_values, sparkline
from raylign.telemetry.table import table

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


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


def test_plain_lines_of_few_steps() -> None:
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("rl", 10, done=4)
    progress.step(5, METRICS)
    progress.step(6, {"approx_kl_k3": 1e-5})
    progress.message("stopping")
    progress.stop()
    printed = stream.getvalue().splitlines()
    assert len(printed) == 4 and not CONTROL.search(stream.getvalue())
    assert printed[0].startswith("stage rl: 10 steps, 4 done")
    assert printed[1].startswith("rl 5/10  reward 0.500  score 0.750  loss 0.1234  tokens/s 12,346")
    assert "eta" in printed[2] and "step KL 1.0e-05" in printed[2]


def steps_of(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"^\w+ (\d+)(?:/\d+)?  ", text, re.MULTILINE)]


@pytest.mark.parametrize("mode", ["plain", "rich"])
@pytest.mark.parametrize("total", [600, 26, 0])
def test_many_steps_have_few_lines(mode: str, total: int) -> None:
    """The first, the last and every evaluation are shown, and of the others about 25."""
    stream, count = Terminal(), total or 600
    progress = make_progress(mode, stream)
    progress.start("warmup", total)
    every = {"loss": 1.0, "time/score": 0.002, "reward/score": 0.5, "advantage/score": 0.5}
    for step in range(1, count + 1):
        progress.step(step, every | ({"eval/score": 0.1} if step in (7, 111) else {}))
    progress.stop()
    shown = steps_of(printable(stream.getvalue()))
    assert shown[0] == 1 and shown[-1] == count and shown == sorted(set(shown))
    assert {step for step in (7, 111) if step <= count} <= set(shown)
    assert 12 <= len(shown) <= pace.LINES + 5, shown


def test_a_short_stage_shows_every_step_and_a_resumed_one_its_first() -> None:
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("rl", 20)
    for step in range(1, 21):
        progress.step(step, {"loss": 1.0})
    progress.start("rl", 1000, done=990)
    for step in range(991, 1001):
        progress.step(step, {"loss": 1.0})
    assert steps_of(stream.getvalue()) == [*range(1, 21), *range(991, 1001)]


@pytest.mark.parametrize("end", ["stop", "start", "message"])
def test_the_step_before_something_else_is_shown(end: str) -> None:
    """A stage that ends early, a run that is stopped, an alarm: its step stands above it, once."""
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("sft", 1000)
    for step in range(1, 6):
        progress.step(step, {"loss": 1.0})
    {
        "stop": progress.stop,
        "start": lambda: progress.start("rl", 2),
        "message": lambda: progress.message("alarm kl: x"),
    }[end]()
    progress.stop()
    assert steps_of(stream.getvalue()) == [1, 5]
    assert "alarm" not in stream.getvalue() or stream.getvalue().rstrip().endswith("alarm kl: x")


def test_alarms_are_never_thinned() -> None:
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("rl", 5000)
    for step in range(1, 301):
        progress.step(step, {"loss": 1.0})
        progress.message(f"alarm kl: at {step}")
    assert stream.getvalue().count("alarm kl") == 300


def test_a_slow_stage_is_not_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    progress.start("rl", 1000)
    for step in range(1, 31):
        now[0] += 250
        progress.step(step, {"loss": 1.0})
    assert steps_of(stream.getvalue()) == [1, *range(4, 31, 3)]


def test_each_number_is_the_one_that_its_label_names() -> None:
    metrics = {"publish/gap_mean": 1e-9, "sampler_gap": 0.061, "ref_kl": 0.5, "approx_kl_k3": 0.0, "eval/score": 0.7}
    shown = dict(shown_values(metrics))
    assert shown == {"score": "0.700", "ref KL": "5.0e-01", "step KL": "0.0e+00", "gap": "6.1e-02"}
    assert "gap" not in dict(shown_values({"publish/gap_mean": 1e-9})), "the probe's gap is not that of the samples"


def test_a_preference_step_shows_what_it_is_judged_by() -> None:
    step = {"loss": 0.7, "agreement": 0.6, "rewards/accuracy": 0.5, "rewards/margin": 0.01, "margin": 2.0}
    assert dict(shown_values(step)) == {"loss": "0.7000", "accuracy": "0.500", "margin": "0.010"}
    held_out = {"eval/loss": 0.6, "eval/rewards/accuracy": 0.8, "eval/rewards/margin": 0.3}
    shown = dict(shown_values(step | held_out))
    assert (shown["held-out loss"], shown["held-out accuracy"], shown["held-out margin"]) == (
        "0.6000",
        "0.800",
        "0.300",
    )
    assert shown["accuracy"] == "0.500", "that of the step stays its own"
    assert dict(shown_values({"loss": 1.0, "agreement": 0.6, "margin": 2.0}))["accuracy"] == "0.600"


def test_scores_of_prompt_sets_are_shown() -> None:
    assert shown_values({"depth_2/score": 0.25, "depth_2/links": 1.0}) == [("depth_2 score", "0.250")]
    assert shown_values({"reward/score": 0.25, "advantage/score": 1.0, "time/score": 0.002}) == []
    assert shown_values({"loss": 1.0, "mine/score": 0.2}) == [("loss", "1.0000")], "a step that trains scores no set"
    assert evaluated({"depth_2/score": 0.25}) and not evaluated({"loss": 1.0, "mine/score": 0.2})


@pytest.mark.parametrize("mode", ["plain", "rich"])
def test_what_is_started_is_told_with_its_seconds(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "TRIFLE_S", 0.0)
    stream = Terminal()
    progress = make_progress(mode, stream)
    with progress.starting("Ray"):
        pass
    with progress.starting("rollout engine", lambda: 2, 2), progress.starting("learner"):
        pass
    progress.start("rl", 2)
    progress.step(1, {"loss": 1.0})
    progress.stop()
    text = printable(stream.getvalue())
    assert re.search(r"Ray \d\.\d s", text) and re.search(r"rollout engine \(2\) \d\.\d s", text)
    lines_of_starts = [line for line in text.splitlines() if line.startswith("started ")]
    assert len(lines_of_starts) == (3 if mode == "plain" else 1), text


def test_what_failed_to_start_is_not_told_as_started() -> None:
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    with pytest.raises(ValueError, match="no"), progress.starting("learner"):
        raise ValueError("no")
    progress.stop()
    assert stream.getvalue() == ""


def test_a_log_says_what_takes_long_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "STILL_S", 0.02)
    stream = io.StringIO()
    progress = make_progress("plain", stream)
    with progress.starting("rollout engine", lambda: 1, 4), progress.starting("rewards"):
        deadline = time.monotonic() + 5
        while stream.getvalue().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
    told = stream.getvalue().splitlines()
    assert told[0] == "starting rollout engine 1/4 (0 s), rewards (0 s)"
    count = len(stream.getvalue())
    time.sleep(0.1)
    assert len(stream.getvalue()) == count and not CONTROL.search(stream.getvalue()), "silent once all is started"


def test_a_terminal_shows_live_what_is_being_started_and_the_present_step() -> None:
    stream = Terminal()
    progress = RichProgress(stream)
    with progress.starting("rollout engine", lambda: 1, 2):
        progress._live and progress._live.refresh()
        assert "starting rollout engine 1/2" in stream.getvalue()
    progress.start("rl", 300)
    for step in range(1, 4):
        progress.step(step, {**METRICS, "reward/mean": step / 3})
    assert progress._live is not None
    progress._live.refresh()
    text = stream.getvalue()
    assert "step 3/300" in text and "▁▄█" in text
    progress.stop()


def left_on(stream: io.StringIO) -> str:
    """The screen after the live lines were redrawn and erased, as a terminal of rows and columns has it."""
    rows, row, column = [""], 0, 0
    for match in re.finditer(r"\x1b\[(\d*)([A-Za-z])|\x1b\[\?[0-9]+[a-z]|(\r)|(\n)|([^\x1b\r\n]+)", stream.getvalue()):
        count, action, home, feed, text = match.groups()
        if action == "A":
            row = max(0, row - int(count or 1))
        elif action == "K":
            rows[row] = ""
        elif home:
            column = 0
        elif feed:
            row, column = row + 1, 0
            rows += [""] * (row + 1 - len(rows))
        elif text:
            rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + len(text) :]
            column += len(text)
    return "\n".join(line.rstrip() for line in rows).strip("\n")


def begun(progress: Progress) -> None:
    with progress.starting("Ray"):
        pass
    progress.start("rl", 100)
    for step in range(1, 8):
        progress.step(step, METRICS | {"eval/score": 0.5} if step == 3 else {"reward/mean": step / 10})


def test_nothing_stray_is_left_on_a_terminal() -> None:
    """After Ctrl-C: the lines that a log has, and neither border nor bar."""
    stream = Terminal()
    progress = RichProgress(stream)
    begun(progress)
    progress.message("stopping [after] this step")
    progress.stop()
    progress.stop()
    screen = left_on(stream)
    assert not re.search("[─-╿▁-█━]", screen), screen
    assert screen.splitlines()[-1] == "stopping [after] this step" and steps_of(screen) == [1, 3, 7]
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is back"


def test_messages_lose_their_control_characters() -> None:
    assert printable("\x1b[31mred\x1b[0m\r\nnext\x07\tline\x1b[2K") == "red\nnext\tline"
    stream = io.StringIO()
    make_progress("plain", stream).message("\x1b[36m(worker pid=3)\x1b[0m died")
    assert stream.getvalue() == "(worker pid=3) died\n"


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
