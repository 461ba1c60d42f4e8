"""``python -m hierebm`` is the ``hierebm`` command."""

from __future__ import annotations

import sys

from hierebm.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
