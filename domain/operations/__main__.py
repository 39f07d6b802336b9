"""``python -m domain.operations`` is ``qlp``."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point of the ``qlp`` command; Ctrl-C while it is imported leaves no traceback.

    It ends the process at once: raised in the middle of an import, KeyboardInterrupt may come out
    as another exception.
    """
    signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(130))
    from domain.operations.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
