"""What tests share: a module, or a folder, for each part that they meet."""

from pathlib import Path

#: The repository.
ROOT = Path(__file__).resolve().parents[2]
