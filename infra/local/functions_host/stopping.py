"""How long the functions host takes to stop, beyond the grace period of running functions."""

from __future__ import annotations

#: For settling messages, for sending the last bytes of responses, and for closing links to the bus.
SETTLE_SECONDS, LAST_BYTES_SECONDS = 3.0, 0.5
_LINKS_SECONDS = 5.0

STOP_SECONDS = SETTLE_SECONDS + LAST_BYTES_SECONDS + _LINKS_SECONDS
