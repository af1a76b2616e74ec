"""``raylign export``: take the newest finished model out of a run folder, proven to load."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from raylign.cli.options import new_command, say
from raylign.errors import CheckpointError, RunError
from raylign.models.scoring import is_scoring

EPILOG = """\
example:
  raylign export outputs/grpo-tiny-seed1 --to my_model
"""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = new_command(commands, "export", "copy a run's newest model out of its folder, checked", EPILOG)
    parser.add_argument("folder", metavar="RUN", help="a run folder")
    parser.add_argument("--to", default="", metavar="DIR", help="where to (default: ./<run name>-model)")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> int:
    """Copy and check; prints the new folder."""
    folder = Path(parsed.folder).expanduser()
    source = newest_model(folder)
    target = Path(parsed.to).expanduser() if parsed.to else Path(f"{folder.resolve().name}-model")
    if target.exists():
        raise RunError(f"{target} exists; name another folder by --to")
    staging = target.with_name(f".{target.name}.exporting")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        shutil.copytree(source, staging)
        parameters = check_loads(staging)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    say(f"{source} -> {target} ({parameters:,} parameters, loads with {auto_class(target)})")
    return 0


def newest_model(folder: Path) -> Path:
    """The Hugging Face folder that a stage of the run finished last. Raises CheckpointError when there is none."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; name a run folder, e.g. one below outputs/")
    models = [
        path.parent
        for path in folder.rglob("config.json")
        if "checkpoints" not in path.parts and any(path.parent.glob("*.safetensors"))
    ]
    if not models:
        raise CheckpointError(f"{folder} holds no finished model: no stage has exported one yet")
    return max(models, key=lambda path: (path / "config.json").stat().st_mtime_ns)


def auto_class(folder: Path) -> str:
    """The class of transformers that loads a folder: of a reward model another than of a policy."""
    scoring = is_scoring(json.loads((folder / "config.json").read_text()))
    return "AutoModelForSequenceClassification" if scoring else "AutoModelForCausalLM"


def check_loads(folder: Path) -> int:
    """Load model and tokenizer, run one forward pass; returns the number of parameters. Raises CheckpointError."""
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = getattr(transformers, auto_class(folder)).from_pretrained(folder)
        ids = torch.tensor([tokenizer.encode("a b c") or [0]])
        with torch.inference_mode():
            finite = bool(torch.isfinite(model(ids).logits).all())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as cause:
        raise CheckpointError(f"{folder} does not load: {cause}") from cause
    if not finite:
        raise CheckpointError(f"{folder}: the model's logits are not finite")
    return sum(parameter.numel() for parameter in model.parameters())
