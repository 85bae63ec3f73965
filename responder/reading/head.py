"""The trained part: one logistic regression a label over embedding and n-grams, calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from responder.reading.labels import LABELS

Matrix = npt.NDArray[np.float32]

EMBEDDING_WEIGHT = 5.0
NGRAM_WEIGHT = 5.0


@dataclass(frozen=True)
class Head:
    """Weights (features × labels), a bias a label, and the temperature of the softmax."""

    weights: Matrix
    bias: Matrix
    temperature: float
    version: str

    def certainties(self, features: Matrix) -> Matrix:
        """Rows that sum to one: how sure each label is."""
        scores = (features @ self.weights + self.bias) / self.temperature
        scores -= scores.max(axis=1, keepdims=True)
        powers = np.exp(scores)
        return cast(Matrix, powers / powers.sum(axis=1, keepdims=True))

    def save(self, path: Path) -> None:
        """Writes the head; half precision is enough and a quarter of the size."""
        np.savez_compressed(
            path,
            weights=self.weights.astype(np.float16),
            bias=self.bias,
            temperature=np.float32(self.temperature),
            labels=np.array(LABELS),
            version=np.array(self.version),
        )

    @classmethod
    def load(cls, path: Path) -> Head:
        """Reads a head. Raises `ValueError` if it was made for other labels."""
        with np.load(path, allow_pickle=False) as kept:
            if tuple(str(label) for label in kept["labels"]) != LABELS:
                raise ValueError(f"{path} was made for other labels; train it again")
            return cls(
                kept["weights"].astype(np.float32),
                kept["bias"].astype(np.float32),
                float(kept["temperature"]),
                str(kept["version"]),
            )


def join(embedding: Matrix, ngrams: Matrix) -> Matrix:
    """Both kinds of features side by side."""
    return np.hstack([embedding * EMBEDDING_WEIGHT, ngrams * NGRAM_WEIGHT])


def fit(features: Matrix, truth: Matrix, *, decay: float = 3e-3, rounds: int = 150) -> Head:
    """Softmax regression by full-batch Adam; `truth` rows sum to one. Deterministic."""
    width, labels = features.shape[1], truth.shape[1]
    weights, bias = np.zeros((width, labels), np.float32), np.zeros(labels, np.float32)
    moments = [np.zeros_like(weights), np.zeros_like(weights)]
    bias_moments = [np.zeros_like(bias), np.zeros_like(bias)]
    for step in range(1, rounds + 1):
        scores = features @ weights + bias
        scores -= scores.max(axis=1, keepdims=True)
        guess = np.exp(scores)
        guess /= guess.sum(axis=1, keepdims=True)
        error = (guess - truth) / len(features)
        for value, gradient, (first, second) in (
            (weights, features.T @ error + decay * weights, moments),
            (bias, error.sum(axis=0), bias_moments),
        ):
            first += 0.1 * (gradient - first)
            second += 0.01 * (gradient**2 - second)
            value -= (
                0.1 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            ).astype(np.float32)
    return Head(weights, bias, 1.0, "")
