"""``python -m infra.local``: the local stack's command line."""

from __future__ import annotations

import signal

if __name__ == "__main__":
    # During the imports, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from infra.local.console import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
