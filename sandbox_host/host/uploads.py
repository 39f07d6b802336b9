"""Uploads artifacts that do not fit into a result to the application, before the result is sent.

This is the claim-check pattern: the result names an artifact by its SHA-256, and the application
already has the content. If an artifact cannot be uploaded, the result lists it as skipped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from urllib.parse import quote

import aiohttp

from domain.contracts.heartbeat import ARTIFACT_ROUTE
from domain.contracts.job import Artifact, SandboxJob, SandboxResult, SkippedArtifact
from sandbox_host.net.http_client import GaveUp, check_answer, open_session, until_deadline
from sandbox_host.run.artifacts import named_and_counted, skipped_artifact
from sandbox_host.runtimes.base import RunResult

log = logging.getLogger(__name__)

#: Seconds that all uploads of one run may take together, retries included; the job's lock is
#: renewed meanwhile.
GIVE_UP_SECONDS = 60.0

_REQUEST_SECONDS = 30.0


class Uploader:
    """Uploads to the application at ``app_url``; if that is None, nothing can be uploaded."""

    def __init__(self, app_url: str | None, give_up_seconds: float = GIVE_UP_SECONDS) -> None:
        self._app_url = app_url
        self._give_up_seconds = give_up_seconds

    async def deliver(self, job: SandboxJob, finished: RunResult) -> SandboxResult:
        """Upload the artifacts that do not fit into ``finished.result``; the result to send."""
        contents = finished.collected.contents
        if not contents:
            return finished.result
        missing = await self._upload_all(job, contents)
        for digest, why in missing.items():
            log.warning("artifact %s of run %s is not uploaded: %s", digest[:12], job.run_id, why)
        return without(finished.result, missing)

    async def _upload_all(self, job: SandboxJob, contents: dict[str, bytes]) -> dict[str, str]:
        """Upload ``contents``; the reason for each that could not be uploaded, by SHA-256."""
        if self._app_url is None:
            return dict.fromkeys(contents, "the sandbox host has no QLP_SANDBOX_APP_URL")
        if job.token is None:
            return dict.fromkeys(contents, "the job has no token")
        missing: dict[str, str] = {}
        deadline = asyncio.get_running_loop().time() + self._give_up_seconds
        async with open_session(_REQUEST_SECONDS) as session:
            for digest, content in contents.items():
                route = ARTIFACT_ROUTE.format(run_id=job.run_id, sha256=quote(digest))
                url = f"{self._app_url}/api/{route}"
                try:
                    put = partial(_put, session, url, job.token, content)
                    await until_deadline(put, deadline)
                except GaveUp as why:
                    missing[digest] = str(why)
        return missing


async def _put(session: aiohttp.ClientSession, url: str, token: str, content: bytes) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
    async with session.put(url, data=content, headers=headers, allow_redirects=False) as response:
        check_answer(response)


def without(result: SandboxResult, missing: dict[str, str]) -> SandboxResult:
    """``result`` with the artifacts in ``missing`` (SHA-256 to reason) listed as skipped."""
    if not missing:
        return result
    kept = [one for one in result.artifacts if one.content is not None or one.sha256 not in missing]
    gone = [one for one in result.artifacts if one.content is None and one.sha256 in missing]
    skipped, more = named_and_counted(
        result.skipped_artifacts, _skipped(gone, missing), more=result.more_skipped_artifacts
    )
    return result.model_copy(
        update={
            "artifacts": tuple(kept),
            "skipped_artifacts": skipped,
            "more_skipped_artifacts": more,
        }
    )


def _skipped(gone: Iterable[Artifact], missing: dict[str, str]) -> Iterable[SkippedArtifact]:
    for one in gone:
        yield skipped_artifact(one.name, f"could not be uploaded: {missing[one.sha256]}")
