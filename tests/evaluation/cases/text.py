"""Words and letters."""

from __future__ import annotations

from tests.evaluation.case import Case, node, python, ruby, said
from tests.evaluation.checkers import any_order, json_value, number, text

CASES = (
    Case(
        "word-count",
        "easy",
        "How many words are in 'the quick brown fox jumps over the lazy dog'? Just the number.",
        python("print(len('the quick brown fox jumps over the lazy dog'.split()))"),
        number(9),
        said("8", "43"),
    ),
    Case(
        "frequent-words",
        "medium",
        "Give me the three most frequent words of 'to be or not to be that is the question to ask',"
        " one per line as 'word count', most frequent first; words with the same count "
        "alphabetically.",
        python("""\
from collections import Counter
words = Counter("to be or not to be that is the question to ask".split())
for word, count in sorted(words.items(), key=lambda each: (-each[1], each[0]))[:3]:
    print(word, count)
"""),
        text("to 3\nbe 2\nask 1"),
        said("to 3\nbe 2\nor 1", "be 2\nto 3\nask 1", "to: 3\nbe: 2\nask: 1"),
    ),
    Case(
        "reverse-each-word",
        "easy",
        "reverse every word in 'event sourced systems never forget' but keep the words in their "
        "order",
        ruby("puts 'event sourced systems never forget'.split.map(&:reverse).join(' ')\n"),
        text("tneve decruos smetsys reven tegrof"),
        said("forget never systems sourced event", "tegrof reven smetsys decruos tneve"),
    ),
    Case(
        "caesar-decode",
        "easy",
        "This is a Caesar cipher, every letter was moved 3 forward: 'Wkh hdjoh kdv odqghg'. "
        "What does it say?",
        python("""\
print("".join(
    chr((ord(c) - base - 3) % 26 + base) if c.isalpha() else c
    for c in "Wkh hdjoh kdv odqghg"
    for base in [65 if c.isupper() else 97]
))
"""),
        text("The eagle has landed"),
        said("Znk kgmrk ngy rgtjkj", "the eagle has landed"),
    ),
    Case(
        "palindromes",
        "easy",
        "Which of these words are palindromes: level, python, radar, world, Civic, data? "
        "Ignore case. Print them one per line, in the order given, spelled as given.",
        node("""\
for (const word of ["level", "python", "radar", "world", "Civic", "data"]) {
  const low = word.toLowerCase();
  if (low === [...low].reverse().join("")) console.log(word);
}
"""),
        text("level\nradar\nCivic"),
        said("level\nradar", "level\nradar\ncivic", "Civic\nlevel\nradar"),
    ),
    Case(
        "title-case",
        "medium",
        "Put 'the lord of the rings and the return of the king' in title case, but keep 'the', "
        "'of' and 'and' in lower case unless they come first.",
        python("""\
words = "the lord of the rings and the return of the king".split()
small = {"the", "of", "and"}
print(" ".join(w if i and w in small else w.capitalize() for i, w in enumerate(words)))
"""),
        text("The Lord of the Rings and the Return of the King"),
        said(
            "The Lord Of The Rings And The Return Of The King",
            "the Lord of the Rings and the Return of the King",
        ),
    ),
    Case(
        "vowels",
        "easy",
        "Count each vowel in 'Onomatopoeia', ignoring case, and print a JSON object with the keys "
        "a, e, i, o and u.",
        python("""\
import json
print(json.dumps({vowel: "onomatopoeia".count(vowel) for vowel in "aeiou"}))
"""),
        json_value({"a": 2, "e": 1, "i": 1, "o": 4, "u": 0}),
        said(
            '{"a": 2, "e": 1, "i": 1, "o": 3, "u": 0}',
            '{"a": 2, "e": 1, "i": 1, "o": 4}',
            "a 2, e 1, i 1, o 4, u 0",
        ),
    ),
    Case(
        "wrap",
        "medium",
        "Wrap this at 30 characters a line without splitting words: 'An event log never forgets: "
        "what was written stays written, and every state is only a fold over it.'",
        python("""\
import textwrap
sentence = ("An event log never forgets: what was written stays written, "
            "and every state is only a fold over it.")
print(textwrap.fill(sentence, 30))
"""),
        text(
            "An event log never forgets:\n"
            "what was written stays\n"
            "written, and every state is\n"
            "only a fold over it."
        ),
        said(
            "An event log never forgets: wh\nat was written stays written, \n"
            "and every state is only a fold\n over it.",
            "An event log never forgets: what was written stays written, and every state is only "
            "a fold over it.",
        ),
    ),
    Case(
        "anagrams",
        "medium",
        "Group the anagrams among: listen silent enlist google elgoog abc cab dog. One group per "
        "line, its words in alphabetical order with spaces between; leave out words without a "
        "partner. Any order of the lines is fine.",
        python("""\
from collections import defaultdict
groups = defaultdict(list)
for word in "listen silent enlist google elgoog abc cab dog".split():
    groups["".join(sorted(word))].append(word)
for words in groups.values():
    if len(words) > 1:
        print(*sorted(words))
"""),
        any_order("abc cab", "elgoog google", "enlist listen silent"),
        said(
            "abc cab\nelgoog google\nenlist listen silent\ndog",
            "cab abc\nelgoog google\nenlist listen silent",
        ),
    ),
    Case(
        "roman-numerals",
        "medium",
        "write 1994, 2024, 3999 and 4 as roman numerals, one per line",
        python("""\
SIGNS = [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
         (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
for number in (1994, 2024, 3999, 4):
    roman = ""
    for value, sign in SIGNS:
        roman += sign * (number // value)
        number %= value
    print(roman)
"""),
        text("MCMXCIV\nMMXXIV\nMMMCMXCIX\nIV"),
        said("MDCCCCLXXXXIV\nMMXXIV\nMMMCMXCIX\nIIII", "MCMXCIV\nMMXXIV\nMMMCMXCIX\nVI"),
    ),
    Case(
        "accents",
        "medium",
        "Remove the accents: 'Žluťoučký kůň pěl ďábelské ódy'",
        python("""\
import unicodedata
decomposed = unicodedata.normalize("NFD", "Žluťoučký kůň pěl ďábelské ódy")
print("".join(c for c in decomposed if not unicodedata.combining(c)))
"""),
        text("Zlutoucky kun pel dabelske ody"),
        said("luouk k pl belsk dy", "Žluťoučký kůň pěl ďábelské ódy"),
    ),
)
