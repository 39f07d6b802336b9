"""All limits of the broker."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """Limits on sizes (bytes), counts and times (seconds).

    ``max_message_bytes`` is the limit of Service Bus Standard. ``idle_timeout`` is the value that
    Service Bus announces (240 s); the SDK sends an empty frame after half of the announced time.
    """

    max_message_bytes: int = 256 * 1024
    max_entity_bytes: int = 256 * MIB
    max_frame_bytes: int = 64 * 1024
    max_outgoing_frame_bytes: int = MIB
    max_connections: int = 10_000
    max_sessions: int = 64
    max_handles: int = 255
    max_assembling_bytes: int = 4 * MIB
    max_unsettled: int = 65_536
    max_pending_replies: int = 256
    write_high_water_bytes: int = MIB
    link_credit: int = 1000
    session_window: int = 5000
    handshake_timeout: float = 15.0
    authentication_timeout: float = 60.0
    idle_timeout: float = 240.0
    write_stall_timeout: float = 120.0
    close_timeout: float = 5.0
