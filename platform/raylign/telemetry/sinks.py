"""Optional trackers behind one protocol. The run folder is complete without them."""

from __future__ import annotations

import math
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


class RayMetricsSink:
    """Gauges on the metrics port of the driver's Ray node, for Prometheus: ``ray_raylign_metric{run=, metric=}`` and
    ``ray_raylign_step{run=}``. One series a number of a run; they end with the run, Prometheus keeps them.
    """

    name = "ray_metrics"
    METRIC, STEP = "raylign_metric", "raylign_step"  # Ray puts ``ray_`` before both

    def __init__(self, run_id: str) -> None:
        import ray
        from ray.util.metrics import Gauge

        if not ray.is_initialized():
            raise RuntimeError("no Ray cluster to publish metrics on")
        self._run = {"run": run_id}
        self._metric = Gauge(
            self.METRIC, description="A number of the newest step of a run", tag_keys=("run", "metric")
        )
        self._step = Gauge(self.STEP, description="The newest step of a run, over all stages", tag_keys=("run",))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers of one step."""
        self._step.set(step, tags=self._run)
        for name, value in values.items():
            if name not in ("step", "time") and math.isfinite(value):
                self._metric.set(value, tags=self._run | {"metric": name})

    def close(self) -> None:
        """Nothing: the series end with the driver."""


def open_sinks(
    config: TelemetryConfig, folder: Path, run_id: str, failed: Callable[[str, Exception], None]
) -> list[Sink]:
    """Open the sinks that are switched on; `failed(name, error)` is called for each that cannot be opened."""
    wanted: dict[str, Callable[[], Sink]] = {}
    if config.wandb:
        wanted["wandb"] = lambda: WandbSink(config, folder, run_id)
    if config.tensorboard:
        wanted["tensorboard"] = lambda: TensorBoardSink(folder)
    if config.ray_metrics:
        wanted["ray_metrics"] = lambda: RayMetricsSink(run_id)
    opened: list[Sink] = []
    for name, make in wanted.items():
        try:
            opened.append(make())
        except Exception as cause:  # noqa: BLE001  a tracker may raise anything, and no run may end because of it
            failed(name, cause)
    return opened
