"""The page of a result. Its content is not trusted, and is shown as text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from domain.projections.intents import IntentRow

_STYLE = """\
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; white-space: pre-wrap; overflow-wrap: anywhere }
h2 { font-size: 1rem; margin-top: 2rem }
pre { padding: 1rem; border: 1px solid #8886; border-radius: .4rem; overflow: auto }
figure { margin: 1rem 0 }
img { max-width: 100%; height: auto; background: #fff }
table { border-collapse: collapse }
td, th { padding: .2rem 1rem .2rem 0; text-align: left; overflow-wrap: anywhere }
.failed { color: #c33 }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: Keeps the page from running or loading anything; is in the page too, for when it is saved.
_LOADS = f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'"
POLICY = f"{_LOADS}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"


@dataclass(frozen=True, slots=True)
class Picture:
    """An artifact that is shown; its content was found to be of the media type."""

    name: str
    media_type: str
    content: bytes


def result_page(
    row: IntentRow, artifacts: Sequence[Mapping[str, Any]], pictures: Sequence[Picture]
) -> str:
    """An HTML document with the intent's result so far.

    Args:
        row: the intent.
        artifacts: all its artifacts, as clients see them.
        pictures: those that are shown as pictures.
    """
    title = row.user_input or f"Intent {row.id}"
    body = "".join([_head(row), *_output(row.outcome or {}), *map(_figure, pictures)])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_LOADS)}">'
        f'<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title[:80])}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{body}{_files(artifacts)}</body></html>"
    )


def _head(row: IntentRow) -> str:
    error = (row.outcome or {}).get("error")
    kind = ' class="failed"' if row.status == "failed" else ""
    parts = [f"<p{kind}>{escape(row.status)}"]
    if isinstance(error, Mapping):  # a string is a sandbox host's own error, which is not shown
        parts.append(f": {escape(str(error.get('message', '')))}")
    return "".join(
        [*parts, f"</p><p>{escape(str(row.id))}, {row.updated_at:%Y-%m-%d %H:%M} UTC</p>"]
    )


def _output(outcome: Mapping[str, Any]) -> Iterable[str]:
    for stream, title in (("stdout", "Output"), ("stderr", "Errors")):
        if text := str(outcome.get(stream) or ""):
            cut = " (cut at its limit)" if outcome.get(f"{stream}_truncated") else ""
            # HTML ignores a line end right after the tag, which the text may begin with.
            yield f"<h2>{title}{cut}</h2><pre>\n{escape(text)}</pre>"


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.content).decode()
    name = escape(picture.name)
    return (
        f'<figure><img alt="{name}" src="data:{picture.media_type};base64,{data}">'
        f"<figcaption>{name}</figcaption></figure>"
    )


def _files(artifacts: Sequence[Mapping[str, Any]]) -> str:
    if not artifacts:
        return ""
    rows = "".join(
        f"<tr><td>{escape(str(each['name']))}</td><td>{each['size']:,} bytes</td>"
        f"<td><code>{escape(str(each['href']))}</code></td></tr>"
        for each in artifacts
    )
    return f"<h2>Files</h2><table>{rows}</table>"
