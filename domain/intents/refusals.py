"""Why a command cannot be carried out."""

from __future__ import annotations


class IntentRefused(Exception):
    """The command cannot be carried out in this state."""


class IntentNotFound(IntentRefused):
    """There is no such intent."""


class IntentAlreadyFinished(IntentRefused):
    """The intent has ended and can no longer be changed."""


class NothingRuns(IntentRefused):
    """There is no open run that could be killed."""


class SubmissionConflict(IntentRefused):
    """The same id or idempotency key was used before for different content."""
