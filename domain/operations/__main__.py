"""``python -m domain.operations`` is ``qlp``."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point of the ``qlp`` command; an interruption of its import leaves no traceback.

    It ends at once: an exception in the middle of a class becomes another one on its way.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))
    from domain.operations.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
