"""``python -m domain.operations`` is ``qlp``."""

from __future__ import annotations

import signal


def main() -> None:
    """Entry point of the ``qlp`` command; an interruption of its import leaves no traceback.

    It ends by the signal: an exception that comes up in the middle of a class is another one to
    whoever imports it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from domain.operations.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
