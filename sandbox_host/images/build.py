"""Build the languages' images without a registry: ``python -m sandbox_host.images.build``.

For each language, ``mmdebstrap`` makes a Debian root with the packages listed in its folder,
``finish-root`` prepares it for boxes, and ``docker import`` makes it an image. Its label has the
recipe's digest; it is rebuilt only when that changes. Needs mmdebstrap, root and an engine.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from domain.contracts.languages import LANGUAGES
from sandbox_host.images import debian
from sandbox_host.images.debian import BuildError
from sandbox_host.images.engine import discard, identity_of, import_root, recipe, recipe_of
from sandbox_host.settings import DEFAULT_IMAGES

_FOLDER = Path(__file__).parent
_COMMON = _FOLDER / "packages"
_FINISH = _FOLDER / "finish-root"
_CHANGES = ("USER 1000:1000", "WORKDIR /box")

#: Roots made at once; more would only wait for the same disk.
_WORKERS = 2


@dataclass(frozen=True)
class Options:
    """How to build images.

    Attributes:
        images: their name, with ``{language}`` in it.
        suite: Debian release; by default this machine's.
        mirror: Debian mirror; by default the one that apt on this machine uses.
        with_data: add the packages for numbers and plots, if a language's folder lists some.
        force: also rebuild images that are up to date.
    """

    images: str = DEFAULT_IMAGES
    suite: str | None = None
    mirror: str | None = None
    with_data: bool = False
    force: bool = False


_DEFAULTS = Options()


@dataclass(frozen=True)
class _Root:
    language: str
    image: str
    packages: tuple[str, ...]
    recipe: str

    @classmethod
    def of(cls, language: str, suite: str, options: Options) -> _Root:
        lists = [_COMMON, _FOLDER / language / "packages"]
        data = _FOLDER / language / "packages.data"
        if options.with_data and data.exists():
            lists.append(data)
        packages = debian.packages_in(*lists)
        made_by = recipe([suite, *packages, *_CHANGES], [_FINISH])
        return cls(language, options.images.format(language=language), packages, made_by)


def build(languages: Sequence[str] = tuple(LANGUAGES), options: Options = _DEFAULTS) -> list[str]:
    """Build the image of each language that is missing or outdated; the names of those built.

    Raises:
        BuildError: a tool is missing, or one of the steps failed.
    """
    if len(languages) > 1 and "{language}" not in options.images:
        raise BuildError(
            f"{len(languages)} images cannot all be named {options.images}: add {{language}} to it"
        )
    suite = options.suite or debian.host_suite()
    roots = [_Root.of(language, suite, options) for language in languages]
    missing = [root for root in roots if options.force or recipe_of(root.image) != root.recipe]
    if missing:
        _say(f"building {', '.join(root.image for root in missing)} on Debian {suite}")
        debian.check_tools()
        with tempfile.TemporaryDirectory(prefix="qlp-images-") as folder:
            _build_all(missing, Path(folder), suite, options.mirror)
    return [root.image for root in missing]


def _build_all(roots: Sequence[_Root], folder: Path, suite: str, mirror: str | None) -> None:
    base = None
    if len(roots) > 1:
        base = folder / "base.tar"
        debian.make_base(base, debian.packages_in(_COMMON), suite, mirror)

    def make(root: _Root) -> None:
        started, tar = time.monotonic(), folder / f"{root.language}.tar"
        debian.make_root(tar, root.packages, suite, mirror, base=base, hook=_FINISH)
        before = identity_of(root.image)
        import_root(tar, root.image, root.recipe, _CHANGES)
        discard(before)
        size, seconds = tar.stat().st_size / 1e6, time.monotonic() - started
        tar.unlink()
        _say(f"{root.image}: {size:.0f} MB in {seconds:.0f} s")

    with ThreadPoolExecutor(_WORKERS) as workers:
        for _ in workers.map(make, roots):
            pass


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; prints the names of the images it has built."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox_host.images.build", description=__doc__
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--language", action="append", choices=list(LANGUAGES), help="only this one; repeatable"
    )
    which.add_argument("--all", action="store_true", help="every language (the default)")
    parser.add_argument("--image", default=DEFAULT_IMAGES, help="name and tag (%(default)s)")
    parser.add_argument("--suite", help="Debian release; default: this machine's, or bookworm")
    parser.add_argument("--mirror", help="Debian mirror; default: the one apt uses here")
    parser.add_argument("--with-data", action="store_true", help="add numpy, pandas, matplotlib")
    parser.add_argument("--force", action="store_true", help="rebuild images that are up to date")
    chosen = parser.parse_args(arguments)
    options = Options(chosen.image, chosen.suite, chosen.mirror, chosen.with_data, chosen.force)
    try:
        built = build(chosen.language or tuple(LANGUAGES), options)
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("".join(f"{image}\n" for image in built))
    if not built:
        _say("all images are up to date; --force rebuilds them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
