"""One self-contained page per run, and what `raylign view` serves: see `page.write_report`."""

from raylign.telemetry.report.page import write_report

__all__ = ["write_report"]
