"""Routes match as ASP.NET templates do, in the real host's order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from infra.local.functions_host.errors import HostStartupError
from infra.local.functions_host.http.routes import Router, compile_template, decode_path
from infra.local.functions_host.model import HostedFunction, HttpTrigger

GUID = "8c9d3f0e-6d7a-4d6e-9f5e-0a1b2c3d4e5f"


def function(name: str, route: str, methods: Iterable[str] | None = None) -> HostedFunction:
    trigger = HttpTrigger("req", route, frozenset(methods) if methods else None, "ANONYMOUS")
    return HostedFunction(name, lambda req: "", False, False, True, trigger, "/", False, [])


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("api/items", "/api/items", {}),
        ("api/items", "/API/Items/", {}),
        ("api/items", "/api/items/1", None),
        ("api/items", "/api//items", None),
        ("api/{id}", "/api/5", {"id": "5"}),
        ("api/{id}", "/api/", None),
        ("api/{id:int}", "/api/5", {"id": "5"}),
        ("api/{id:int}", "/api/x", None),
        ("api/{id:int}", "/api/99999999999", None),
        ("api/{id:long}", "/api/99999999999", {"id": "99999999999"}),
        ("api/{id:guid}", f"/api/{GUID}", {"id": GUID}),
        ("api/{id:guid}", "/api/8c9d3f0e", None),
        ("api/{n:alpha}", "/api/abc", {"n": "abc"}),
        ("api/{n:alpha}", "/api/abc1", None),
        ("api/{b:bool}", "/api/True", {"b": "True"}),
        ("api/{d:datetime}", "/api/2026-11-23", {"d": "2026-11-23"}),
        ("api/{d:datetime}", "/api/soon", None),
        ("api/{x:double}", "/api/-1.5e3", {"x": "-1.5e3"}),
        ("api/{n:length(2,3)}", "/api/ab", {"n": "ab"}),
        ("api/{n:length(2,3)}", "/api/abcd", None),
        ("api/{n:minlength(3)}", "/api/ab", None),
        ("api/{n:range(1,9)}", "/api/9", {"n": "9"}),
        ("api/{n:range(1,9)}", "/api/10", None),
        ("api/{n:int:min(3)}", "/api/2", None),
        ("api/{n:regex(^a+$)}", "/api/aaa", {"n": "aaa"}),
        ("api/{n:regex(^a+$)}", "/api/ab", None),
        ("api/{id?}", "/api", {}),
        ("api/{id?}", "/api/5", {"id": "5"}),
        ("api/{id:int?}", "/api/x", None),
        ("api/{page=1}", "/api", {"page": "1"}),
        ("api/{*rest}", "/api/a/b/c", {"rest": "a/b/c"}),
        ("api/{*rest}", "/api", {}),
        ("api/{**rest}", "/api/a", {"rest": "a"}),
        ("api/{name}.{ext}", "/api/report.pdf", {"name": "report", "ext": "pdf"}),
        ("api/v{n:int}/x", "/api/v2/x", {"n": "2"}),
        ("", "/", {}),
        ("{*all}", "/anything/else", {"all": "anything/else"}),
    ],
)
def test_templates(template: str, path: str, values: dict[str, str] | None) -> None:
    assert compile_template(template).match(path) == values


@pytest.mark.parametrize(
    "template", ["api/{id", "api/id}", "api/{id:nosuch}", "{*a}/b", "{a}/{A}", "{a:length(x)}"]
)
def test_a_wrong_template_is_refused_at_start_with_the_function(template: str) -> None:
    with pytest.raises(HostStartupError, match="function f, route"):
        Router([function("f", template)], "")


def test_a_route_below_admin_is_refused() -> None:
    with pytest.raises(HostStartupError, match="reserved for the host"):
        Router([function("f", "admin/x")], "")


def test_the_prefix_goes_before_every_route_and_may_be_empty() -> None:
    assert Router([function("f", "/x/")], "v1/api").match("GET", "/v1/api/x") is not None
    assert Router([function("f", "x")], "").match("GET", "/x") is not None


def test_the_first_function_by_name_answers_and_the_overlap_is_told() -> None:
    router = Router([function("zz_literal", "items/recent"), function("Get", "items/{id}")], "api")
    match = router.match("GET", "/api/items/recent")
    assert match is not None
    assert match.function is not None
    assert match.function.name == "Get"
    assert [(a.function.name, b.function.name) for a, b in router.overlaps()] == [
        ("Get", "zz_literal")
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (function("a", "items/{id:int}"), function("b", "items/recent")),
        (function("a", "items/{id}", ["GET"]), function("b", "items/{id}", ["POST"])),
        (function("a", "items/{id}"), function("b", "items/{id}/parts")),
        (function("a", "items"), function("b", "things/{id}")),
        (function("a", "items/{id}"), function("b", "{*rest}")),  # which takes what is left
    ],
)
def test_routes_that_cannot_collide_are_not_reported(
    first: HostedFunction, second: HostedFunction
) -> None:
    assert Router([first, second], "api").overlaps() == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (function("a", "{*all}"), function("b", "items/{id}/parts")),
        (function("a", "items/{id?}"), function("b", "items")),
        (function("a", "items/{id}"), function("b", "items/{name:alpha}")),
    ],
)
def test_routes_that_collide_are_reported(first: HostedFunction, second: HostedFunction) -> None:
    assert len(Router([first, second], "api").overlaps()) == 1


def test_a_wrong_method_does_not_match_and_the_next_route_may() -> None:
    router = Router([function("a", "x", ["POST"]), function("b", "x", ["GET"])], "api")
    match = router.match("GET", "/api/x")
    assert match is not None
    assert match.function is not None
    assert match.function.name == "b"
    assert router.match("DELETE", "/api/x") is None


def test_head_goes_to_get_and_is_405_without_it() -> None:
    router = Router([function("a", "x", ["GET"]), function("b", "y", ["POST", "PUT"])], "api")
    head = router.match("HEAD", "/api/x")
    assert head is not None
    assert head.function is not None
    refused = router.match("HEAD", "/api/y")
    assert refused is not None
    assert (refused.function, refused.allow) == (None, "POST, PUT")


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        ("/api/a%20b", "/api/a b"),
        ("/api/%C3%A4", "/api/ä"),
        ("/api/a%2Fb", "/api/a%2Fb"),
        ("/api/a%2fb", "/api/a%2fb"),
        ("/api/../admin/x", "/admin/x"),
        ("/api/%2e%2e/admin", "/admin"),
        ("/../../x", "/x"),
        ("/api/./x/.", "/api/x/"),
        ("/api/.hidden", "/api/.hidden"),
        ("/api/a%00b", None),
        ("/api/%ff", None),
        ("*", None),
        ("http://other/api", None),
    ],
)
def test_paths_are_decoded_once_and_cannot_escape(raw: str, decoded: str | None) -> None:
    assert decode_path(raw) == decoded
