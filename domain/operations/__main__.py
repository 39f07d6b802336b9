"""``python -m domain.operations`` is ``qlp``."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``qlp`` command; an interruption of its import leaves no traceback."""
    try:
        from domain.operations.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
