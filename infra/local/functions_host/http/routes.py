"""Route templates of HTTP triggers and their order.

The real host passes templates to ASP.NET's router *in alphabetical order of function names* and
takes the first that matches; literal segments have no precedence over parameters
(https://github.com/Azure/azure-functions-host/issues/9876, still open). This router does the same,
and warns of overlapping routes at start, because the functions' names decide which one answers.

A route does not match another method, so the answer is 404, not 405 (azure-functions-host#10098).
A route with GET also takes HEAD; a route without it answers 405 (WebScriptHostHttpRoutesManager).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.http import route_constraints
from infra.local.functions_host.model import HostedFunction, HttpTrigger

_PARAMETER = re.compile(
    r"\{(?P<stars>\*{0,2})(?P<name>[^{}:=?*/]+)"
    r"(?P<constraints>(?::(?:\\.|\([^)]*\)|[^{}:=?/(])+)*)(?:=(?P<default>[^{}?]*))?(?P<optional>\?)?\}"
)


@dataclass(frozen=True)
class Parameter:
    """One ``{name:constraint=default?}`` of a template."""

    name: str
    constraints: Sequence[route_constraints.Predicate]
    default: str | None
    optional: bool
    catch_all: bool

    def accepts(self, value: str) -> bool:
        """Return whether ``value`` satisfies every constraint."""
        return all(constraint(value) for constraint in self.constraints)


@dataclass(frozen=True)
class Template:
    """A compiled route template; case and a final slash do not matter in a match."""

    text: str
    pattern: re.Pattern[str]
    parameters: Sequence[Parameter]
    segments: Sequence[str | Parameter | None] = field(repr=False)

    def match(self, path: str) -> dict[str, str] | None:
        """Return the route values of a decoded path, or None if it does not match."""
        match = self.pattern.match(path)
        if match is None:
            return None
        values: dict[str, str] = {}
        for parameter, value in zip(self.parameters, match.groups(), strict=True):
            if not value:
                if parameter.default is not None:
                    values[parameter.name] = parameter.default
                continue
            if not parameter.accepts(value):
                return None
            values[parameter.name] = value
        return values

    @property
    def takes_the_rest(self) -> bool:
        """Whether it is literal segments and a catch-all: a fallback for paths below them."""
        *fixed, last = self.segments or [""]
        return _is_catch_all(last) and all(isinstance(segment, str) for segment in fixed)

    def overlaps(self, other: Template) -> bool:
        """Return whether some path matches both, judged segment by segment."""
        for mine, theirs in zip(self.segments, other.segments, strict=False):
            if _is_catch_all(mine) or _is_catch_all(theirs):
                return True
            if not _segments_overlap(mine, theirs):
                return False
        rest = self.segments[len(other.segments) :] or other.segments[len(self.segments) :]
        return all(isinstance(part, Parameter) and _may_be_absent(part) for part in rest)


def _may_be_absent(parameter: Parameter) -> bool:
    return parameter.optional or parameter.catch_all or parameter.default is not None


def _is_catch_all(segment: str | Parameter | None) -> bool:
    return isinstance(segment, Parameter) and segment.catch_all


def _segments_overlap(mine: str | Parameter | None, theirs: str | Parameter | None) -> bool:
    if isinstance(mine, str) and isinstance(theirs, str):
        return mine == theirs
    if isinstance(mine, str) and isinstance(theirs, Parameter):
        return theirs.accepts(mine)
    if isinstance(mine, Parameter) and isinstance(theirs, str):
        return mine.accepts(theirs)
    return not _constraints_apart(mine, theirs)


def _constraints_apart(mine: str | Parameter | None, theirs: str | Parameter | None) -> bool:
    """Both have constraints; whether these are disjoint is unknown, so assume that they are."""
    return (
        isinstance(mine, Parameter)
        and isinstance(theirs, Parameter)
        and bool(mine.constraints)
        and bool(theirs.constraints)
    )


def compile_template(text: str) -> Template:
    """Compile a template such as ``api/items/{id:int}/{*rest}``; ValueError if it is not valid."""
    parameters: list[Parameter] = []
    segments: list[str | Parameter | None] = []
    pattern = ""
    parts = [part for part in text.strip("/").split("/") if part]
    for index, part in enumerate(parts):
        found = _compile_segment(part, parameters)
        segment, compiled = found
        segments.append(segment)
        if isinstance(segment, Parameter) and _may_be_absent(segment):
            if index < len(parts) - 1 and segment.catch_all:
                raise ValueError(f"{part} must be the last segment of {text!r}")
            pattern += f"(?:/{compiled})?"
        else:
            pattern += f"/{compiled}"
    names = [parameter.name.lower() for parameter in parameters]
    if len(set(names)) != len(names):
        raise ValueError(f"a parameter occurs twice in {text!r}")
    return Template(text, re.compile(f"{pattern}/?\\Z", re.IGNORECASE), parameters, segments)


def _compile_segment(part: str, parameters: list[Parameter]) -> tuple[str | Parameter | None, str]:
    matches = list(_PARAMETER.finditer(part))
    literal = _PARAMETER.sub("", part)
    if "{" in literal or "}" in literal:
        raise ValueError(f"{part!r} is not a valid route segment")
    if not matches:
        return part.lower(), re.escape(part)
    pattern, position = "", 0
    for match in matches:
        parameter = _parameter(match)
        parameters.append(parameter)
        group = "(.*)" if parameter.catch_all else "([^/]+)" if len(matches) == 1 else "([^/]+?)"
        pattern += re.escape(part[position : match.start()]) + group
        position = match.end()
    pattern += re.escape(part[position:])
    whole = len(matches) == 1 and matches[0].group() == part
    return (parameters[-1] if whole else None), pattern


def _parameter(match: re.Match[str]) -> Parameter:
    constraints = re.findall(r":((?:\\.|\([^)]*\)|[^:(])+)", match["constraints"] or "")
    return Parameter(
        match["name"],
        tuple(route_constraints.parse(constraint) for constraint in constraints),
        match["default"],
        bool(match["optional"]),
        bool(match["stars"]),
    )


@dataclass(frozen=True)
class Route:
    """The route of one function."""

    function: HostedFunction
    template: Template
    methods: frozenset[str] | None

    def allows(self, method: str) -> bool:
        """Return whether the function takes requests with ``method``."""
        return self.methods is None or method in self.methods


@dataclass(frozen=True)
class Match:
    """The function for a request; None means 405, with ``allow`` as its Allow header."""

    function: HostedFunction | None
    values: Mapping[str, str]
    allow: str = ""


class Router:
    """Finds the function for a method and a path."""

    def __init__(self, functions: Iterable[HostedFunction], prefix: str) -> None:
        by_name = sorted(functions, key=lambda function: function.name.lower())
        self.routes = [_route(function, prefix) for function in by_name]

    def match(self, method: str, path: str) -> Match | None:
        """Return the first match for ``method`` and the decoded ``path``; None means 404."""
        for route in self.routes:
            if route.allows(method):
                values = route.template.match(path)
                if values is not None:
                    return Match(route.function, values)
            elif method == "HEAD" and route.template.match(path) is not None:
                return Match(None, {}, ", ".join(sorted(route.methods or ())))
        return None

    def overlaps(self) -> list[tuple[Route, Route]]:
        """Return the pairs of routes that some request matches both of."""
        return [
            (first, second)
            for index, first in enumerate(self.routes)
            for second in self.routes[index + 1 :]
            if (
                first.methods is None
                or second.methods is None
                or (first.methods & second.methods) - {"HEAD"}
            )
            and first.template.overlaps(second.template)
            and not second.template.takes_the_rest
        ]


def _route(function: HostedFunction, prefix: str) -> Route:
    trigger = function.trigger
    assert isinstance(trigger, HttpTrigger)
    try:
        template = compile_template(f"{prefix}/{trigger.route.strip('/')}".strip("/"))
    except (ValueError, re.error) as error:
        raise HostStartupError(f"function {function.name}, route: {error}") from error
    if template.segments and template.segments[0] == "admin":
        raise HostStartupError(
            f"function {function.name}: the route {template.text!r} is reserved for the host; "
            "set extensions.http.routePrefix or choose another route"
        )
    methods = trigger.methods
    return Route(
        function, template, methods | {"HEAD"} if methods and "GET" in methods else methods
    )


def decode_path(raw: str) -> str | None:
    """Percent-decode a request path as Kestrel does; None if it is not valid (400).

    ``%2F`` stays encoded, so that it does not separate segments; ``.`` and ``..`` segments are
    resolved; a NUL is refused.
    """
    if not raw.startswith("/"):
        return None
    if "%" in raw:
        raw = unquote(raw.replace("%2F", "%252F").replace("%2f", "%252f"))
        if "\0" in raw or "\N{REPLACEMENT CHARACTER}" in raw:
            return None
    return _without_dot_segments(raw) if "/." in raw else raw


def _without_dot_segments(path: str) -> str:
    """Resolve ``.`` and ``..`` as in RFC 3986, section 5.2.4."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)
