"""What the commands share."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def new_command(commands: Any, name: str, help_text: str, epilog: str = "") -> argparse.ArgumentParser:
    """A sub-command with ``--trace``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--trace", action="store_true", help="show the traceback of an error")
    return parser


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """The arguments that make a configuration."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, e.g. recipe=grpo seed=2")
    parser.add_argument(
        "--config-dir", default="", metavar="DIR", help="a folder with further recipe/, scale/, variant/ files"
    )


def say(text: str = "") -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def warn(text: str) -> None:
    """A line on standard error, beside output that a file or a pipe takes."""
    sys.stderr.write(f"warning: {text}\n")
    sys.stderr.flush()
