"""The format in which events are exported from a log and imported into another: JSON Lines.

Each line is a CloudEvent (1.0.2, JSON format); the last line is a trailer with the number and the
hash of the lines before it. Fields for which CloudEvents has no attribute are extension attributes.
``data`` is the event's data. If serialising it again would not give the stored bytes, these are
added as text in ``storeddata``, so that an import restores every event byte for byte. JSON that
PostgreSQL accepts but other parsers do not (half of a surrogate pair, a number beyond the range of
floats, very deep nesting) is in ``storeddata`` alone, without ``data``.

Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, BinaryIO, Literal
from uuid import UUID

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from domain.contracts.envelope import TenantId
from domain.contracts.strict_json import Time
from domain.contracts.validation import detail, location, matching
from domain.eventlog.codec import MAX_EVENT_BYTES, MAX_STREAM_ID, MAX_TYPE
from domain.eventlog.digests import StoredEvent, event_digest
from domain.eventlog.heads import Heads

SOURCE = "/qlp/log"
_TYPE_PREFIX = "qlp."

#: A line contains data twice and metadata once; escaping makes them six times as long at worst.
MAX_LINE_BYTES = 16 * MAX_EVENT_BYTES


class InvalidExport(ValueError):
    """The file is not a complete, unchanged export; names the line, the field and the error."""


def _no_nul(value: object) -> object:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("must not contain NUL characters")
    return value


_Text = Annotated[str, BeforeValidator(_no_nul)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid")

    specversion: Literal["1.0"]
    id: UUID
    source: str
    type: Annotated[_Text, StringConstraints(min_length=1, max_length=MAX_TYPE + 4)]
    subject: Annotated[_Text, StringConstraints(min_length=1, max_length=MAX_STREAM_ID)]
    time: Time
    datacontenttype: Literal["application/json"]
    tenantid: TenantId
    streamversion: int = Field(strict=True, ge=1, lt=2**31)
    schemaversion: int = Field(strict=True, ge=1, lt=2**15)
    commandid: UUID
    metadata: Annotated[_Text, StringConstraints(max_length=MAX_EVENT_BYTES)]
    digest: Annotated[str, matching(r"[0-9a-f]{64}", "must be 64 hexadecimal digits")]
    storeddata: Annotated[_Text, StringConstraints(max_length=MAX_EVENT_BYTES)] | None = None
    data: Any = None


class _Trailer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    events: int = Field(strict=True)
    sha256: str
    next: str


class _LastLine(BaseModel):
    model_config = ConfigDict(extra="forbid")

    trailer: _Trailer


def encode_line(event: StoredEvent) -> bytes:
    """The line of one event, with its newline."""
    canonical = _canonical(event.data)
    line: dict[str, Any] = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": SOURCE,
        "type": _TYPE_PREFIX + event.type,
        "subject": event.stream_id,
        "time": event.recorded_at.isoformat(timespec="microseconds"),
        "datacontenttype": "application/json",
        "tenantid": event.tenant_id,
        "streamversion": event.version,
        "schemaversion": event.schema_version,
        "commandid": event.command_id,
        "metadata": event.metadata,
        "digest": event.digest.hex(),
    }
    if canonical is None or canonical.decode() != event.data:
        line["storeddata"] = event.data
    if canonical is not None:
        line["data"] = orjson.Fragment(canonical)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _canonical(text: str) -> bytes | None:
    """JSON as `encode_line` would write it; None if only PostgreSQL can parse it."""
    try:
        return orjson.dumps(orjson.loads(text))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None


def has_unreadable_data(event: StoredEvent) -> bool:
    """Whether only PostgreSQL can parse an event's data, so that its export has no ``data``."""
    return _canonical(event.data) is None


class ExportWriter:
    """Counts and hashes lines for the trailer."""

    def __init__(self) -> None:
        self.events = 0
        self._sha256 = hashlib.sha256()

    def line(self, event: StoredEvent) -> bytes:
        """The line of ``event``."""
        line = encode_line(event)
        self._sha256.update(line)
        self.events += 1
        return line

    def trailer(self, read_up_to: Heads) -> bytes:
        """The last line; an export of what follows continues after ``read_up_to``."""
        trailer = {
            "events": self.events,
            "sha256": self._sha256.hexdigest(),
            "next": str(read_up_to),
        }
        return orjson.dumps({"trailer": trailer}, option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True)
class ImportedEvent:
    """An event of an export; its position in the log is not known yet.

    Attributes:
        line: its number in the file, from 1.
        size: length of its line, bytes.
    """

    line: int
    size: int
    event: StoredEvent


def read_export(file: BinaryIO) -> Iterator[ImportedEvent]:
    """The events of an export, verified one by one, and as a whole at the end.

    The file is complete and unchanged only if the iteration ends without an error.

    Raises:
        InvalidExport: names the line, the field and the error.
    """
    hasher = hashlib.sha256()
    count = 0
    for number, line in enumerate(_lines(file), 1):
        if line.startswith(_TRAILER):
            _verify_trailer(number, line, count, hasher.hexdigest())
            if file.read(1):
                raise InvalidExport(f"line {number + 1}: nothing may follow the trailer")
            return
        hasher.update(line)
        count += 1
        yield ImportedEvent(number, len(line), _event(number, line))
    raise InvalidExport(
        f"line {count + 1}: the trailer is missing: the file was cut off; export it again"
    )


#: An export's last line is shorter.
MAX_TRAILER_BYTES = 8192


def next_of(end: bytes) -> str:
    """What the trailer of an export says of where the next one begins.

    Args:
        end: the last `MAX_TRAILER_BYTES` of the file, or all of it.

    Raises:
        InvalidExport: it does not end with a trailer.
    """
    line = end.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return _LastLine.model_validate(orjson.loads(line)).trailer.next
    except (orjson.JSONDecodeError, ValidationError):
        raise InvalidExport("the last line is no trailer: the file is no complete export") from None


def _lines(file: BinaryIO) -> Iterable[bytes]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1 and (found := _other_form(line)) is not None:
            raise InvalidExport(f"line 1: {found}")
        if len(line) > MAX_LINE_BYTES:
            raise InvalidExport(f"line {number}: longer than {MAX_LINE_BYTES} bytes")
        if b"\r" in line:
            raise InvalidExport(
                f"line {number}: ends with CR: the file was converted for Windows; put it back "
                "with: sed 's/\\r$//' FILE | qlp events import -"
            )
        if not line.endswith(b"\n") and not line.endswith(b"}}"):
            raise InvalidExport(
                f"line {number}: ends in the middle: the file was cut off; export it again"
            )
        yield line
    if not number:
        raise InvalidExport("line 1: the file is empty; an export has at least a trailer")


_TRAILER = b'{"trailer"'

#: First bytes of files in another form, and how to make an export of them.
_OTHER_FORMS = {
    b"\x1f\x8b": "compressed with gzip: gunzip -c FILE | qlp events import -",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: zstd -dc FILE | qlp events import -",
    b"\xfd7zXZ": "compressed with xz: xz -dc FILE | qlp events import -",
    b"BZh": "compressed with bzip2: bzip2 -dc FILE | qlp events import -",
    b"PK\x03\x04": "a zip archive: unzip -p FILE | qlp events import -",
    b"\xef\xbb\xbf": "begins with a byte order mark: tail -c +4 FILE | qlp events import -",
    b"\xff\xfe\x00\x00": "UTF-32, not UTF-8: iconv -f UTF-32 -t UTF-8 FILE | qlp events import -",
    b"\x00\x00\xfe\xff": "UTF-32, not UTF-8: iconv -f UTF-32 -t UTF-8 FILE | qlp events import -",
    b"{\x00\x00": "UTF-32, not UTF-8: iconv -f UTF-32LE -t UTF-8 FILE | qlp events import -",
    b"\x00\x00\x00{": "UTF-32, not UTF-8: iconv -f UTF-32BE -t UTF-8 FILE | qlp events import -",
    b"\xff\xfe": "UTF-16, not UTF-8: iconv -f UTF-16 -t UTF-8 FILE | qlp events import -",
    b"\xfe\xff": "UTF-16, not UTF-8: iconv -f UTF-16 -t UTF-8 FILE | qlp events import -",
    b"{\x00": "UTF-16, not UTF-8: iconv -f UTF-16LE -t UTF-8 FILE | qlp events import -",
    b"\x00{": "UTF-16, not UTF-8: iconv -f UTF-16BE -t UTF-8 FILE | qlp events import -",
    b"[": "a JSON array: an export is one JSON object a line, as `qlp events export` writes it",
}


def _other_form(line: bytes) -> str | None:
    """What kind of file begins with ``line``; None for an export."""
    return next((form for start, form in _OTHER_FORMS.items() if line.startswith(start)), None)


def _event(number: int, line: bytes) -> StoredEvent:
    try:
        parsed = _Line.model_validate(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise InvalidExport(f"line {number}: not JSON: {error}") from None
    except ValidationError as error:
        raise InvalidExport(_describe(number, error)) from None
    if not parsed.type.startswith(_TYPE_PREFIX):
        raise InvalidExport(f"line {number}: type: must begin with {_TYPE_PREFIX!r}")
    event = StoredEvent(
        parsed.id,
        parsed.subject,
        parsed.streamversion,
        parsed.type.removeprefix(_TYPE_PREFIX),
        parsed.schemaversion,
        parsed.tenantid,
        parsed.commandid,
        _in_utc(number, parsed.time),
        parsed.metadata,
        _stored_data(number, parsed),
        bytes.fromhex(parsed.digest),
    )
    if event_digest(event) != event.digest:
        raise InvalidExport(
            f"line {number}: digest: does not match the event {event.event_id}: it was changed"
        )
    return event


def _in_utc(number: int, moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidExport(f"line {number}: time: must be within the years 1 to 9999") from None


def _stored_data(number: int, parsed: _Line) -> str:
    """The data as stored; if there is only ``storeddata``, the database checks that it is JSON."""
    data = orjson.dumps(parsed.data) if "data" in parsed.model_fields_set else None
    if parsed.storeddata is None:
        if data is None:
            raise InvalidExport(f"line {number}: data: Field required")
        return data.decode()
    if _canonical(parsed.storeddata) != data:
        raise InvalidExport(f"line {number}: storeddata: differs from data")
    return parsed.storeddata


def _verify_trailer(number: int, line: bytes, count: int, sha256: str) -> None:
    try:
        trailer = _LastLine.model_validate(orjson.loads(line)).trailer
    except orjson.JSONDecodeError as error:
        raise InvalidExport(f"line {number}: not JSON: {error}") from None
    except ValidationError as error:
        raise InvalidExport(_describe(number, error)) from None
    if trailer.events != count:
        raise InvalidExport(
            f"line {number}: trailer.events: says {trailer.events}, the file has {count} events"
        )
    if trailer.sha256 != sha256:
        raise InvalidExport(f"line {number}: trailer.sha256: the lines before it were changed")


def _describe(number: int, error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False)[0]
    field = ".".join(location(first["loc"])) or "line"
    return f"line {number}: {field}: {detail(first)}"
