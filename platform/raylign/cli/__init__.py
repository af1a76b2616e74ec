"""The command line: ``raylign train | submit | k8s | plan | view | recipes | export | doctor``."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from pathlib import Path

from raylign import __version__
from raylign.cli import doctor, export, k8s, plan, recipes, submit, train, view
from raylign.config.other_names import hint
from raylign.errors import ConfigError, DataError, PlanError, RaylignError, said_of

COMMANDS = (train, submit, k8s, plan, view, recipes, export, doctor)
USAGE_ERROR, RUN_ERROR, PIPE_CLOSED = 2, 1, 141
EPILOG = """\
examples:
  raylign train recipe=grpo scale=tiny                       the tiny model on a laptop, minutes
  raylign train recipe=grpo variant=dapo scale=gpu model.path=Qwen/Qwen3-0.6B data.path=train.jsonl
  raylign train -m recipe=grpo seed=1,2,3                    a sweep, one process a point
  raylign submit recipe=grpo scale=cluster run.dir=/shared/a  the same as a job of a Ray cluster
  raylign plan recipe=grpo scale=node                        what would run where, before anything starts
  raylign view outputs/grpo-tiny-seed1                       the page of a run; of several, laid over each other
  raylign recipes grpo                                       what a recipe does, and its settings

Settings are Hydra overrides: key=value, +key=value to add, ~key to remove. The same train command continues a run that
was killed. Exit status: 0 done, 1 the run failed, 2 the configuration or the plan is impossible, 3 stopped and saved.
"""


def _reader_is_gone() -> bool:
    screen = select.poll()
    screen.register(1, 0)
    return any(event & select.POLLERR for _, event in screen.poll(0))


def _as_settings(words: Sequence[str]) -> str:
    """What options in the way of TRL and OpenRLHF are called here; empty where nothing is known by their names."""
    hints = [f"{word}: {found}" for word in words if (found := hint(word.strip("-").partition("=")[0], ()))]
    return f" (settings are written KEY=VALUE; {'; '.join(hints)})" if hints else ""


def find_modules_here() -> None:
    """Let `_target_` name a module of the current folder, as in the actors, where Ray sees to it.

    The folder comes last: no file there stands in for a module of the installation.
    """
    here = os.path.abspath(os.curdir)
    if here not in sys.path:
        sys.path.append(here)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. arguments: by default those of the process."""
    parser = argparse.ArgumentParser(
        prog="raylign",
        description="Reinforcement-learning post-training on Ray, vLLM and DeepSpeed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"raylign {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    parsed, rest = parser.parse_known_args(arguments)
    if rest and "overrides" in parsed and not any(text.startswith("-") for text in rest):
        parsed.overrides = [*parsed.overrides, *rest]  # argparse takes no settings after an option
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}{_as_settings(rest)}")
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns on the screen that it found no GPU
    find_modules_here()
    try:
        return int(parsed.run(parsed))
    except RaylignError as error:
        if parsed.trace:
            raise
        sys.stderr.write(f"raylign {parsed.command}: {error}\n")
        return USAGE_ERROR if isinstance(error, (ConfigError, PlanError, DataError)) else RUN_ERROR
    except BrokenPipeError:  # whoever read the screen (`| head`) has seen enough; another pipe is another matter
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        told = said_of(error)
        if not told or parsed.trace:
            raise
        sys.stderr.write(f"raylign {parsed.command}: {told}\n")
        return RUN_ERROR
    except KeyboardInterrupt:
        again = "; the same command continues from its last checkpoint" if parsed.command == "train" else ""
        sys.stderr.write(f"raylign {parsed.command}: stopped at once{again}\n")
        return 130
