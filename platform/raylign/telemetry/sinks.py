"""Optional trackers behind one protocol. The run folder is complete without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from raylign.config.schema import TelemetryConfig


class Sink(Protocol):
    """Something that metrics are sent to. May raise anything; the recorder then drops it."""

    name: str

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""

    def close(self) -> None:
        """Flush."""


class WandbSink:
    """Weights & Biases, offline by default; a resumed run continues under the same id."""

    name = "wandb"

    def __init__(self, config: TelemetryConfig, folder: Path, run_id: str) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=config.wandb_project,
            mode="online" if config.wandb_mode == "online" else "offline",
            dir=str(folder),
            id=run_id,
            name=run_id,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        """Finish the W&B run."""
        self._run.finish()


class TensorBoardSink:
    """Event files in ``<run>/tensorboard``."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""
        for name, value in values.items():
            if name not in ("step", "time"):
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush the event file."""
        self._writer.close()


def open_sinks(
    config: TelemetryConfig, folder: Path, run_id: str, failed: Callable[[str, Exception], None]
) -> list[Sink]:
    """The sinks that are switched on and could be opened; `failed(name, error)` hears of the others."""
    wanted: dict[str, Callable[[], Sink]] = {}
    if config.wandb:
        wanted["wandb"] = lambda: WandbSink(config, folder, run_id)
    if config.tensorboard:
        wanted["tensorboard"] = lambda: TensorBoardSink(folder)
    opened: list[Sink] = []
    for name, make in wanted.items():
        try:
            opened.append(make())
        except Exception as cause:  # noqa: BLE001  a tracker may raise anything, and no run may end because of it
            failed(name, cause)
    return opened
