"""What a process says of itself stands in its file of the run folder: the driver's messages, an actor's warnings."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from raylign.errors import RewardError
from raylign.telemetry.logs import driver_log
from raylign.telemetry.progress import LoggedProgress, make_progress


def test_the_drivers_file_holds_what_is_shown_and_what_ended_the_run(tmp_path: Path) -> None:
    screen = io.StringIO()
    progress = LoggedProgress(make_progress("plain", screen))

    def fails() -> None:
        raise RewardError("every sample failed")

    with pytest.raises(RewardError), driver_log(tmp_path / "logs"):
        progress.start("rl", 2, 0)
        progress.step(1, {"loss": 0.5})
        progress.message("alarm kl: 100% of it")
        logging.getLogger("raylign.data").warning("a doubt")
        fails()
    logging.getLogger("raylign").warning("after the run")
    text = (tmp_path / "logs" / "driver.log").read_text()
    for expected in (
        " INFO raylign.progress: stage rl: 2 steps",
        " INFO raylign.progress: rl 1  loss 0.5000",
        " INFO raylign.progress: alarm kl: 100% of it",
        " WARNING raylign.data: a doubt",
        " ERROR raylign: the run ended by an error",
        "in fails",
        "RewardError: every sample failed",
    ):
        assert expected in text
    assert "after the run" not in text and "doubt" not in screen.getvalue()
    assert "rl 1/2  loss 0.5000" in screen.getvalue()


def test_the_end_of_a_block_without_an_error_says_none(tmp_path: Path) -> None:
    with driver_log(tmp_path):
        pass
    with driver_log(tmp_path):  # a run that is continued
        LoggedProgress(make_progress("none")).message("continuing")
    assert (tmp_path / "driver.log").read_text().count("\n") == 1


def test_an_actors_file_holds_its_log_with_level_and_place(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from raylign.telemetry.logs import redirect_output; redirect_output(sys.argv[1]);"
        "logging.getLogger('raylign.actors.frozen_model').warning('slow'); logging.getLogger('other').info('not ours')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.log")], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout + done.stderr
    assert " WARNING raylign.actors.frozen_model: slow\n" in (tmp_path / "a.log").read_text()
    assert "not ours" not in (tmp_path / "a.log").read_text()
