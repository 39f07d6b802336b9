from __future__ import annotations

import pytest

from domain.runs.media_types import media_type_of, picture_type, shown_as


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.png", "image/png"),
        ("deep/er/B.JPG", "image/jpeg"),
        ("notes.txt", "text/plain"),
        ("page.html", "text/html"),
        ("page.html.", "application/octet-stream"),
        ("noext", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("a.png/real", "application/octet-stream"),
    ],
)
def test_the_name_alone_decides(name: str, media_type: str) -> None:
    assert media_type_of(name) == media_type


PNG = b"\x89PNG\r\n\x1a\n...."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", PNG),
        ("a.jpg", b"\xff\xd8\xff\xe0"),
        ("a.gif", b"GIF89a"),
        ("a.webp", b"RIFF\n\x00\x00\x00WEBPVP8 "),
        ("a.svg", b"<svg/>"),
        ("a.svg", "\ufeff<?xml version='1.0'?>\n<!-- plot -->\n<svg xmlns='…'>".encode()),
    ],
)
def test_a_picture_is_shown_as_what_it_is(name: str, content: bytes) -> None:
    assert shown_as(media_type_of(name), content) == media_type_of(name)
    assert picture_type(media_type_of(name), content) == media_type_of(name)


@pytest.mark.parametrize("name", ["a.txt", "a.log", "a.csv", "a.json", "a.md", "a.tsv"])
def test_text_is_shown_as_plain_text_only(name: str) -> None:
    assert shown_as(media_type_of(name), b"<script>1</script>") == "text/plain"
    assert picture_type(media_type_of(name), PNG) is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b"<html><script>1</script>"),
        ("a.png", b"GIF89a"),
        ("a.png", b""),
        ("a.jpg", PNG),
        ("a.webp", b"RIFF\n\x00\x00\x00WAVE"),
        ("a.svg", b"<svgx>"),
        ("a.svg", b"\x00<svg>"),
        ("a.svg", b" " * 5000 + b"<svg>"),
        *((f"x.{kind}", b"<svg>") for kind in ("html", "htm", "xml", "pdf", "js", "xhtml", "bmp")),
    ],
)
def test_what_can_run_or_is_not_what_it_claims_is_not_shown(name: str, content: bytes) -> None:
    assert shown_as(media_type_of(name), content) is None
