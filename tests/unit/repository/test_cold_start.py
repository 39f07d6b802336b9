"""What is not needed is not imported: it would delay cold starts of the functions, and ``qlp``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.local.stack.config import ROOT


@pytest.mark.parametrize("module", ["function_app", "domain.operations.cli.doctor"])
def test_the_language_models_sdk_is_imported_only_to_ask_a_model(module: str) -> None:
    script = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert "pydantic" in imported
    assert not imported & {"openai", "httpx2"}
