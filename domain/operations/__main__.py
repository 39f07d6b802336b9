"""``python -m domain.operations`` is ``qlp``."""

from domain.operations.cli import main

main()
