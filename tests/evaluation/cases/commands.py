"""What a shell does best."""

from __future__ import annotations

from tests.evaluation.case import Case, said, shell
from tests.evaluation.checkers import number, text

CASES = (
    Case(
        "sort-unique",
        "easy",
        "sort these lines and drop duplicates: pear, apple, fig, apple, pear, kiwi (one per line)",
        shell("printf '%s\\n' pear apple fig apple pear kiwi | sort -u\n"),
        text("apple\nfig\nkiwi\npear"),
        said("pear\napple\nfig\nkiwi", "apple\napple\nfig\nkiwi\npear\npear", "fig\nkiwi"),
    ),
    Case(
        "sum-of-a-column",
        "easy",
        "With awk: add up the second column of\na 10\nb 20.5\nc -3\n",
        shell("printf 'a 10\\nb 20.5\\nc -3\\n' | awk '{sum += $2} END {print sum}'\n"),
        number(27.5),
        said("30.5", "27", "33.5"),
    ),
    Case(
        "upper-case",
        "easy",
        "make 'Hello from the Shell' all upper case",
        shell("echo 'Hello from the Shell' | tr '[:lower:]' '[:upper:]'\n"),
        text("HELLO FROM THE SHELL"),
        said("hello from the shell", "Hello From The Shell"),
    ),
    Case(
        "sequence",
        "easy",
        "count down from 10 to 1 in steps of 3, one number per line",
        shell("seq 10 -3 1\n"),
        text("10\n7\n4\n1"),
        said("10\n7\n4", "1\n4\n7\n10", "10\n9\n8\n7\n6\n5\n4\n3\n2\n1"),
    ),
    Case(
        "folders",
        "medium",
        "Create the folders a/b, a/c and d with an empty file x.txt in each of the three and then "
        "list all files with their paths, relative to where you started, without a leading ./, "
        "sorted.",
        shell("""\
cd "$(mktemp -d)"
mkdir -p a/b a/c d
touch a/b/x.txt a/c/x.txt d/x.txt
find . -type f | sed 's|^\\./||' | sort
"""),
        text("a/b/x.txt\na/c/x.txt\nd/x.txt"),
        said("./a/b/x.txt\n./a/c/x.txt\n./d/x.txt", "a/b/x.txt\na/c/x.txt\na/x.txt\nd/x.txt"),
    ),
    Case(
        "numeric-sort",
        "easy",
        "From the lines 'web 9', 'db 100', 'cache 25' print the names by their number, largest "
        "first, one per line.",
        shell("printf 'web 9\\ndb 100\\ncache 25\\n' | sort -k2,2nr | cut -d' ' -f1\n"),
        text("db\ncache\nweb"),
        said("web\ncache\ndb", "web\ndb\ncache", "db 100\ncache 25\nweb 9"),
    ),
    Case(
        "sha256",
        "easy",
        "SHA-256 of the five characters hello (no newline), in hex",
        shell("printf hello | sha256sum | cut -d' ' -f1\n"),
        text("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        said(
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "5d41402abc4b2a76b9719d911017c592",
        ),
    ),
    Case(
        "base64",
        "easy",
        "decode the base64 text cXVpZXQgYXMgYSBtb3VzZQ==",
        shell("echo cXVpZXQgYXMgYSBtb3VzZQ== | base64 -d; echo\n"),
        text("quiet as a mouse"),
        said("cXVpZXQgYXMgYSBtb3VzZQ==", "quiet as a mous"),
    ),
    Case(
        "swap-fields",
        "easy",
        "Swap last and first name in each of these lines so that they read 'First Last': "
        "'Lovelace, Ada', 'Hopper, Grace'",
        shell("printf 'Lovelace, Ada\\nHopper, Grace\\n' | sed -E 's/(.*), (.*)/\\2 \\1/'\n"),
        text("Ada Lovelace\nGrace Hopper"),
        said("Lovelace Ada\nHopper Grace", "Ada, Lovelace\nGrace, Hopper"),
    ),
)
