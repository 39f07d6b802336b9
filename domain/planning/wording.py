"""Whether two sentences differ in a word that changes what they ask for.

Vectors cannot tell: "transfer from Alice to Bob" against the reverse has a cosine of .9985. This
looks at the words that carry such a difference, one kind at a time, and in doubt finds one; what it
lets through the language model must still confirm.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

from domain.intents.text import normalized
from domain.planning.word_axes import AXES, DIRECTIONS, NEGATIONS, NUMBERS, STEMS, UNITS

#: What opens or closes a quotation; an apostrophe inside of a word does not.
_QUOTE = re.compile(r"[\"“”„«»`]|(?<!\w)['‘’]|['‘’](?!\w)")
#: What file names, paths, addresses and identifiers hold between letters.
_MARKS = frozenset("./\\_:@")
_EDGES = ".,;:!?()[]{}<>\"“”«»'‘’`"
_NUMBER = re.compile(r"[-+−]?(?:\d+(?:[.,:/-]\d+)*|\.\d+)(?:[eE][-+]?\d+)?")
_SYMBOL = re.compile(r"!=|[<>=≤≥≠+*/^%$€£¥&|~°×÷−]+")
_PICTURE = re.compile(r"[^\w\s\x00-\x7f]")
#: White space that may be part of what is asked about.
_GAP = re.compile(r"\s{2,}|[^\S ]")
#: Polite words before what is wanted.
_POLITE = re.compile(
    r"(?:please |i(?:'d| would)? (?:like|need|want) (?:you )?to |(?:can|could|would) you )+",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

Feature = Callable[[str], Sequence[object]]


def difference(one: str, other: str) -> str | None:
    """The kind of difference that changes what two sentences ask for; None if none is found."""
    one, other = map(_bare, (one, other))
    for kind, feature in _FEATURES.items():
        if feature(one) != feature(other):
            return kind
    if _names(one, other) != _names(other, one):
        return "names"
    if _letters(one, other) != _letters(other, one):
        return "capitals"
    words = _words(one), _words(other)
    if words[0] == words[1]:
        return _between(one, other)
    return _order(*words) or _cut_otherwise(one, other)


def _order(one: Sequence[str], other: Sequence[str]) -> str | None:
    """Whether it is the same words, but in another order, or more often."""
    if sorted(one) == sorted(other):
        return "order of words"
    bare = [[word for word in words if word not in _ARTICLES] for words in (one, other)]
    if (bare[0] != bare[1] and {*bare[0]} == {*bare[1]}) or _twice(one) != _twice(other):
        return "repeated words"
    letters = ["".join(words) for words in (one, other)]
    # Some languages have no spaces; in others, anagrams rarely mean the same.
    if letters[0] != letters[1] and sorted(letters[0]) == sorted(letters[1]):
        return "order of letters"
    return None


def _cut_otherwise(one: str, other: str) -> str | None:
    """Whether the same letters are split into other words, except as in "e-mail" and "email"."""
    words = [_words(text.replace("-", "")) for text in (one, other)]
    cut = words[0] != words[1] and "".join(words[0]) == "".join(words[1])
    return "spaces between words" if cut else None


def _twice(words: Sequence[str]) -> list[str]:
    """The words that stand twice in a row."""
    return [word for word, following in pairwise(words) if word == following]


def _between(one: str, other: str) -> str | None:
    """How two sentences of the same words differ, apart from punctuation."""
    if _marks(one) != _marks(other):
        return "marks of letters"
    if _standing_alone(one) != _standing_alone(other):
        return "signs"
    signs = _around_words(one), _around_words(other)
    if len({each.translate(_PUNCTUATION) for each in signs}) > 1:
        return "signs"
    if signs[0] != signs[1] and sorted(signs[0]) == sorted(signs[1]):
        return "order of signs"
    return None


def _marks(text: str) -> list[str]:
    """Vowel signs, accents that are separate characters, and what joins or parts letters."""
    return [char for char in text if unicodedata.category(char) in _MARKS_OF_LETTERS]


_MARKS_OF_LETTERS = frozenset(("Mn", "Mc", "Me", "Cf"))


def _standing_alone(text: str) -> list[str]:
    """Signs between spaces: they are the subject, not punctuation."""
    return [token for token in text.split() if not any(map(str.isalnum, token))]


def _around_words(text: str) -> str:
    """The signs of a sentence, with a letter for each word and a digit for each number."""
    return "".join(_WORD.sub("w", re.sub(r"\d+", "1", text)).split())


#: Signs that may differ between sentences that ask for the same, unless they change places.
_PUNCTUATION = dict.fromkeys(map(ord, ".,;:!?\"“”«»'‘’`"))


def _bare(text: str) -> str:
    """A sentence without space and politeness around it; the rest is unchanged: it may be data."""
    text = normalized("NFC", text).replace("\r\n", "\n").strip()
    return text[polite.end() :] if (polite := _POLITE.match(text)) else text


def _words(text: str) -> list[str]:
    return [_stem(word) for word in _WORD.findall(text.casefold().replace("’", "'"))]


def _stem(word: str) -> str:
    """A word as it stands in the tables: "ascending" is "ascend"."""
    if word in STEMS:
        return STEMS[word]
    for ending in ("ing", "ed", "es", "s"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            for form in (stem, f"{stem}e"):
                if form in STEMS:
                    return STEMS[form]
    return word


def _quoted(text: str) -> list[str]:
    return _QUOTE.split(text)[1::2]


def _file_names(text: str) -> list[str]:
    tokens = (token.rstrip(_EDGES).lstrip(_EDGES.replace(".", "")) for token in text.split())
    return [token for token in tokens if _MARKS & set(token) and not _NUMBER.fullmatch(token)]


def _numbers(text: str) -> list[str]:
    digits = [(match.start(), match.group()) for match in _NUMBER.finditer(text)]
    words = [
        (match.start(), NUMBERS[match.group().casefold()])
        for match in _WORD.finditer(text)
        if match.group().casefold() in NUMBERS
    ]
    return [value for _, value in sorted(digits + words)]


def _symbols(text: str) -> list[str]:
    """Signs of arithmetic and the like, in their order, then emoji and all that is drawn."""
    text = " ".join(_QUOTE.split(text)[::2])
    pictures = [char for char in _PICTURE.findall(text) if unicodedata.category(char) == "So"]
    return [*_SYMBOL.findall(text), *pictures]


def _negations(text: str) -> list[str]:
    """Each "not" is one; "don't" and "without" are too."""
    return ["not" for word in _words(text) if word in NEGATIONS or word.endswith("n't")]


def _poles(text: str) -> list[tuple[str, str]]:
    """Which side of each axis the words name: "newest" is (age, new)."""
    return sorted({AXES[word] for word in _words(text) if word in AXES})


def _order_of_poles(text: str) -> list[tuple[str, str]]:
    """In which order sides of one axis are named: "the first, then the last"."""
    named = [AXES[word] for word in _words(text) if word in AXES]
    times = Counter(axis for axis, _ in named)
    return [(axis, pole) for axis, pole in named if times[axis] > 1]


def _units(text: str) -> list[str]:
    return [UNITS[word] for word in _words(text) if word in UNITS]


def _directions(text: str) -> list[tuple[str, str]]:
    """What follows each "from", "to", "before": their roles must not be exchanged.

    Where a direction is named more than once, its places must not be exchanged either.
    """
    tokens = re.findall(r"[^\s,;!?()\[\]\"“”'`]+", text.casefold())
    pairs = []
    for at, token in enumerate(tokens):
        if token in DIRECTIONS:
            rest = (word for word in tokens[at + 1 :] if word not in _ARTICLES)
            pairs.append((DIRECTIONS[token], next(rest, "").rstrip(".:")))
    times = Counter(direction for direction, _ in pairs)
    return pairs if max(times.values(), default=0) > 1 else sorted(pairs)


_ARTICLES = frozenset(
    ("a", "an", "the", "my", "our", "your", "its", "their", "this", "that", "these", "those")
)


def _gaps(text: str) -> list[str]:
    return _GAP.findall(text)


def _lookalikes(text: str) -> list[str]:
    """Characters that compatibility would turn into others, such as "²" and "ﬁ"."""
    return [char for char in text if not unicodedata.is_normalized("NFKC", char)]


def _letters(text: str, other: str) -> list[str]:
    """The words that stand in capitals here and not there, as they are written, in their order.

    "Rename getUserId to getUserID" and the reverse have the same words, each with the other's
    capitals. A sentence's first word may have a capital.
    """
    forms: defaultdict[str, set[str]] = defaultdict(set)
    words, others = _written(text), _written(other)
    for word in (*words, *others):
        forms[word.casefold()].add(word)
    shared = {word.casefold() for word in words} & {word.casefold() for word in others}
    return [word for word in words if (same := word.casefold()) in shared and len(forms[same]) > 1]


def _written(text: str) -> list[str]:
    words = _WORD.findall(text)
    if words and text.startswith(words[0]) and words[0][1:].islower():
        words[0] = words[0].casefold()
    return words


def _names(text: str, other: str) -> list[str]:
    """Names and formats in their order: words with a capital in either text, but not its first."""
    named = {
        match.group().casefold()
        for each in (text, other)
        for match in list(_WORD.finditer(each))[1:]
        if match.group()[0].isupper()
    }
    return [word for word in _WORD.findall(text.casefold()) if word in named]


_FEATURES: dict[str, Feature] = {
    "quoted words": _quoted,
    "white space": _gaps,
    "look-alikes": _lookalikes,
    "names of files": _file_names,
    "numbers": _numbers,
    "symbols": _symbols,
    "negation": _negations,
    "units": _units,
    "opposites": _poles,
    "order of opposites": _order_of_poles,
    "direction": _directions,
}
