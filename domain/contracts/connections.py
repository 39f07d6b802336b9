"""Checks connection settings: URLs, connection strings and keys. Their values are never repeated.

Each check takes what a person would paste and returns it in the form that clients accept. If it is
wrong, a `ValueError` says what and how to repair it, and contains nothing of the value: a password
may be part of it, and in a malformed value nobody can tell where it begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from domain.contracts.redaction import remember

_DATABASE_FORM: Final = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"  # pragma: allowlist secret
_BUS_FORM: Final = (
    "Endpoint=sb://NAME.servicebus.windows.net/;SharedAccessKeyName=…;SharedAccessKey=…"
)

#: Prefixes with which other programs name a driver.
_DATABASE_SCHEME = re.compile(r"(?:jdbc:)?(?:postgresql|postgres)(?:\+[a-z0-9_]+)?://", re.I)
_CONNINFO = re.compile(r"\s*[a-z_]+\s*=", re.I)
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?|\[[0-9A-Fa-f:.%]+\]|")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9][A-Za-z0-9-]*)+(?::\d{1,5})?")
_VAULT_KEY = re.compile(r"/keys/[0-9A-Za-z-]{1,127}(?:/[0-9a-f]{32})?/?")
_CONTAINER = re.compile(r"(?:/[a-z0-9]{3,24})?/[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]/?")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def database_url(value: str) -> str:
    """A PostgreSQL URL, or libpq's ``key=value`` pairs, in the form that libpq accepts.

    Prefixes of other programs (``jdbc:``, ``postgresql+psycopg://``) and surrounding quotes and
    blanks are removed.

    Raises:
        ValueError: neither of the two, a part is missing, or a character is not percent-encoded.
    """
    text = _unwrapped(value)
    if match := _DATABASE_SCHEME.match(text):
        text = "postgresql://" + text[match.end() :]
        _check_database_url(text.removeprefix("postgresql://"))
    elif "://" in text or not _CONNINFO.match(text):
        raise ValueError(f"must be a PostgreSQL URL: {_DATABASE_FORM}")
    _check_with_libpq(text)
    return text


def _check_database_url(rest: str) -> None:
    before_query = rest.partition("?")[0]
    authority, slash, path = before_query.partition("/")
    if _BLANK.search(rest):
        raise ValueError("has a blank or a line break inside; in a password, a blank is %20")
    if _ESCAPE.search(rest):
        raise ValueError("has a % that does not begin an escape; in a password, a % is %25")
    if authority.count("@") > 1:
        raise ValueError("has more than one @; in a user name or password, an @ is %40")
    if "@" in path:
        raise ValueError("has an @ after a /; in a user name or password, a / is %2F and an @ %40")
    if "@" in rest[len(before_query) :] and "@" not in authority:
        raise ValueError("has an @ after a ?; in a user name or password, a ? is %3F and an @ %40")
    servers = authority.rpartition("@")[2]
    for server in servers.split(","):
        _check_server(server)
    if not servers and not slash and "?" not in rest:
        raise ValueError(f"names neither a server nor a database: {_DATABASE_FORM}")


def _check_server(server: str) -> None:
    host, colon, port = server.rpartition(":") if not server.endswith("]") else (server, "", "")
    if not colon:
        host, port = server, ""
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(
            "has a port that is not a number from 1 to 65535; "
            "if that is part of a password, a : is %3A, a / %2F and an @ %40"
        )
    if not _HOST.fullmatch(unquote(host) if "%2F" not in host.upper() else ""):
        raise ValueError(
            "has an invalid host name; "
            "if that is part of a password, encode its special characters: @ is %40, # %23, / %2F"
        )


def _check_with_libpq(text: str) -> None:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        given = conninfo_to_dict(text)
    except psycopg.Error:  # its message quotes the value
        raise ValueError(
            f"cannot be read by PostgreSQL's client: {_DATABASE_FORM}, special characters in user "
            "name and password encoded (@ is %40, / %2F, % %25), options after a ?"
        ) from None
    if given.get("password") != given.get("user"):  # as libpq parsed it
        remember(str(given.get("password") or ""))
    if not (given.get("dbname") or given.get("service")):
        raise ValueError(f"names no database: {_DATABASE_FORM}")


def service_bus_connection(value: str) -> str:
    """A connection string of a Service Bus namespace.

    Raises:
        ValueError: not a connection string, lacks a part, or is for a single queue or topic.
    """
    text = _unwrapped(value)
    parts: dict[str, str] = {}
    for part in filter(None, text.split(";")):
        name, equals, given = part.partition("=")
        if not equals:
            raise ValueError(f"is not a connection string; one looks like {_BUS_FORM}")
        parts[name.strip().lower()] = given.strip()
    url = _split(parts.get("endpoint", ""))
    if url is None or url.scheme != "sb" or not url.hostname:
        raise ValueError(f"names no Endpoint=sb://…; a connection string looks like {_BUS_FORM}")
    key = parts.get("sharedaccesskeyname") and parts.get("sharedaccesskey")
    if not key and not parts.get("sharedaccesssignature"):
        raise ValueError(
            "has no SharedAccessKeyName and SharedAccessKey; a connection string looks like "
            f"{_BUS_FORM}"
        )
    if parts.get("entitypath"):
        raise ValueError("is for a single entity (EntityPath): use the namespace's")
    if _BLANK.search(text):
        raise ValueError("has a blank or a line break inside: copy it as one line")
    return text


def service_bus_namespace(value: str) -> str:
    """The host name of a Service Bus namespace; a scheme before it is removed.

    Raises:
        ValueError: not a fully qualified host name.
    """
    text = _unwrapped(value)
    if "=" in text:
        raise ValueError("must be a host name; a connection string is for ServiceBusConnection")
    host = re.sub(r"\A(?:sb|https|amqps)://", "", text).rstrip("/")
    if not _NAMESPACE.fullmatch(host):
        raise ValueError("must be a full host name, as in NAME.servicebus.windows.net")
    return host


def http_url(value: str) -> str:
    """An HTTP URL that contains no secret, without its trailing slash.

    Raises:
        ValueError: not an HTTP URL, or one with a user, a query or a fragment.
    """
    text = _unwrapped(value)
    url = _split(text)
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("must be a URL, as in https://qlp.azurewebsites.net")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must be a URL without user, query or fragment")
    if _BLANK.search(text) or not (":" in url.hostname or _HOST.fullmatch(url.hostname)):
        raise ValueError(
            "has characters that no URL may have; it should look like https://HOST/PATH"
        )
    return text.rstrip("/")


def private_http_url(value: str) -> str:
    """An `http_url` that tokens may be sent to: over TLS, or in a private network.

    Raises:
        ValueError: not such a URL.
    """
    text = http_url(value)
    url = urlsplit(text)
    if url.scheme == "http" and not _is_private(url.hostname or ""):
        raise ValueError("must begin with https:// unless the host is in a private network")
    return text


def api_key(value: str) -> str:
    """A key as it goes into a header; surrounding quotes and blanks are removed.

    Raises:
        ValueError: it has characters that no key has.
    """
    text = _unwrapped(value)
    if not text or not text.isascii() or _BLANK.search(text):
        raise ValueError("has characters that no key has, perhaps a line break or a blank")
    return text


def seal_signer(value: str) -> str:
    """Where a key is that signs seals: the absolute path of a file, or a key of Azure Key Vault.

    Raises:
        ValueError: neither of the two.
    """
    text = _unwrapped(value)
    if "://" not in text:
        return _absolute_path(text)
    url = _split(http_url(text))
    if url is None or url.scheme != "https" or not _VAULT_KEY.fullmatch(url.path):
        raise ValueError("must be a key of Azure Key Vault: https://NAME.vault.azure.net/keys/NAME")
    return text.rstrip("/")


def seal_anchor(value: str) -> str:
    """Where seals are kept: the absolute path of a file, or a container of Azure Blob Storage.

    Raises:
        ValueError: neither of the two.
    """
    text = _unwrapped(value)
    if "://" not in text:
        return _absolute_path(text)
    bare, _, signature = text.partition("?")
    url = urlsplit(private_http_url(bare))
    if not _CONTAINER.fullmatch(url.path):
        raise ValueError(
            "must be a container of Azure Blob Storage: https://NAME.blob.core.windows.net/CONTAINER"
        )
    remember(signature)
    return f"{bare.rstrip('/')}?{signature}" if signature else bare.rstrip("/")


def _absolute_path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable():
        raise ValueError("must be an absolute path, or a URL that begins with https://")
    return text


#: The connection settings of all programs of this repository, each with its check.
CHECKS: Final[Mapping[str, Callable[[str], str]]] = {
    "DATABASE_URL": database_url,
    "DATABASE_ADMIN_URL": database_url,
    "QLP_DATABASE_URL": database_url,
    "ServiceBusConnection": service_bus_connection,
    "ServiceBusConnection__fullyQualifiedNamespace": service_bus_namespace,
    "OPENAI_BASE_URL": http_url,
    "OPENAI_API_KEY": api_key,
    "AZURE_OPENAI_ENDPOINT": http_url,
    "AZURE_OPENAI_API_KEY": api_key,
    "QLP_SEAL_SIGNER": seal_signer,
    "QLP_SEAL_ANCHOR": seal_anchor,
    "QLP_SANDBOX_URL": http_url,
    "QLP_SANDBOX_APP_URL": private_http_url,
    "QLP_SANDBOX_SESSIONS_ENDPOINT": private_http_url,
}


def connection_setting(environment: Mapping[str, str], name: str) -> str | None:
    """The setting ``name`` of `CHECKS` as clients accept it; None where it is empty or not set.

    Raises:
        ValueError: it is wrong; the message begins with its name.
    """
    value = environment.get(name)
    if not value:
        return None
    try:
        return CHECKS[name](value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _unwrapped(value: str) -> str:
    """``value`` without the surrounding blanks and quotes that copying may have added."""
    text = value.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "'\"`":
        text = text[1:-1].strip()
    return text


def _split(text: str) -> SplitResult | None:
    try:
        url = urlsplit(text)
        return url if url.port != 0 else None  # reading the port may raise
    except ValueError:
        return None


def _is_private(host: str) -> bool:
    """Whether this is an address of this machine or a private network, or a name without dots."""
    try:
        return ip_address(host).is_private
    except ValueError:
        return "." not in host
