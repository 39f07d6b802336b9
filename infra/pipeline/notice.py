"""The message that the pipeline posts in the team's channel."""

from __future__ import annotations

from typing import Any

_MARKS = {"success": "✅", "failure": "❌", "cancelled": "⚪", "skipped": "⚪"}
_MAX_TEXT = 2900  # a section block takes 3000 characters, api.slack.com/reference/block-kit


def notice(title: str, jobs: dict[str, Any], link: str) -> dict[str, Any]:
    """Payload of a Slack message (Block Kit) about the jobs of a workflow run.

    Args:
        title: what ran, for example ``release 1a2b3c4``.
        jobs: the workflow's ``needs`` context: name to an object with ``result``.
        link: the run's page.
    """
    results = {name: str(job.get("result", "?")) for name, job in jobs.items()}
    failed = [name for name, result in results.items() if result == "failure"]
    headline = f"{title}: failed in {', '.join(failed)}" if failed else f"{title}: done"
    if not failed and "cancelled" in results.values():
        headline = f"{title}: cancelled"
    lines = [f"{_MARKS.get(result, '❔')} {_escape(name)}" for name, result in results.items()]
    text = "\n".join([f"*<{link}|{_escape(headline)}>*", *lines])[:_MAX_TEXT]
    return {
        "text": headline,
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": text}}],
    }


def _escape(text: str) -> str:
    """``text`` with the three characters escaped that Slack reads as markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
