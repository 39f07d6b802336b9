"""What tests of projections share."""

from __future__ import annotations

import pytest

from domain.projections.following import runner


@pytest.fixture(autouse=True)
def runners_with_long_lock_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that gets no lock in time reads nothing: under load, a second may be too short."""
    monkeypatch.setattr(runner, "LOCK_TIMEOUT_SECONDS", 60.0)
