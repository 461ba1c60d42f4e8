"""``hierebm sweep``: run a study, or what is left of it."""

from __future__ import annotations

import argparse


def sweep(args: argparse.Namespace) -> None:
    """Run a study; the package's own ``sweep`` says and writes what came of it."""
    import hierebm

    hierebm.sweep(
        args.study, args.out, jobs=args.jobs, address=args.address, may_import=args.modules
    )
