"""Open a run: its folder and records, the cluster, and the placement of its actors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from ray.exceptions import OutOfMemoryError

from raylign.capacity import UNKNOWN
from raylign.cluster import check_shared, connect, shutdown
from raylign.config.resolve import Run
from raylign.errors import OUT_OF_MEMORY, RunError
from raylign.placement import Placement
from raylign.plan import make_plan
from raylign.recipes.checks import check
from raylign.recipes.stages.context import RunContext
from raylign.run_folder import RunFolder
from raylign.telemetry.logs import driver_log
from raylign.telemetry.progress import LoggedProgress, make_progress
from raylign.telemetry.recorder import Recorder
from raylign.telemetry.summary import announce


@contextmanager
def open_run(run: Run, overrides: Sequence[str] = ()) -> Iterator[RunContext]:
    """Folder, records, cluster and placement of a run; everything is given back at the end, whatever happens."""
    cfg, plan, reading = run.config, make_plan(run), check(run)
    folder = RunFolder.open(cfg, run.tree)
    recorder = Recorder(folder.path, cfg.telemetry)
    progress = LoggedProgress(make_progress(cfg.telemetry.progress))
    recorder.say = progress.message
    ended = False
    try:
        with driver_log(folder.path / "logs"):
            recorder.settings(run.tree, overrides)
            progress.message(f"{'continuing' if folder.resumed else 'run folder'} {folder.path}")
            announce(run, plan, recorder, progress)
            with importing_ahead(), progress.starting("Ray"):
                placed = connect(cfg.cluster, plan)
            if placed.gpus and not placed.loads:
                progress.message(f"warning: {UNKNOWN}")
            check_shared(folder.path)
            with progress.starting("placement"):
                placement = Placement.create(placed, folder.path.name, cfg.cluster.ready_timeout_s)
            with progress.starting("tokenizer"):
                context = RunContext(run, folder, recorder, progress, placement, reading=reading)
            yield context
            ended = True
    except OutOfMemoryError as cause:
        raise RunError(OUT_OF_MEMORY) from cause
    finally:
        progress.stop()
        try:
            # What ended the run says more than that the last records do not fit on a full disk either.
            with nullcontext() if ended else suppress(OSError):
                recorder.close()
        finally:
            shutdown()
            folder.close()


@contextmanager
def importing_ahead() -> Iterator[None]:
    """Import what every run needs next (it takes about two seconds) while Ray starts in processes of its own."""
    ahead = threading.Thread(target=_import_tokenizers)
    ahead.start()
    try:
        yield
    finally:
        ahead.join()


def _import_tokenizers() -> None:
    from transformers import PreTrainedTokenizerFast  # noqa: F401
