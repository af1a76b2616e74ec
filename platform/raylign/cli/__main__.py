"""``python -m raylign.cli``: the same as the console script, for a known interpreter."""

from __future__ import annotations

import sys

from raylign.cli import main

if __name__ == "__main__":
    sys.exit(main())
