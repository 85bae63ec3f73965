"""Makes the shipped head from the shipped replies, and says how good it is.

    python -m responder.reading.train           fit, evaluate by cross-validation, write model/
    python -m responder.reading.train --check   the same without writing

The first figures come from cross-validation of the head alone; replies of one group are never on
both sides. The second come from `held_out`, read as in daily work, with the lexicon.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from responder.reading import corpus, ngrams
from responder.reading.encoder import Encoder
from responder.reading.head import Head, Matrix, fit, join
from responder.reading.labels import LABELS
from responder.reading.reader import Reader

MODEL = Path(__file__).with_name("model")
FOLDS = 5


def main(arguments: Sequence[str]) -> int:
    """Trains; prints the card."""
    examples = corpus.shipped()
    encoder = Encoder.load()
    texts = [example.text for example in examples]
    features = join(encoder.encode(texts), ngrams.features(texts))
    truth = np.zeros((len(examples), len(LABELS)), np.float32)
    for row, example in zip(truth, examples, strict=True):
        for label in example.labels:
            row[LABELS.index(label)] = 1 / len(example.labels)
    guesses = np.zeros_like(truth)
    folds = np.array([fold_of(example) for example in examples])
    for fold in range(FOLDS):
        head = fit(features[folds != fold], truth[folds != fold])
        guesses[folds == fold] = head.certainties(features[folds == fold])
    temperature = best_temperature(guesses, truth)
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]
    whole = fit(features, truth)
    head = Head(whole.weights, whole.bias, temperature, f"head-{digest}+{encoder.version}")
    card = {
        "version": head.version,
        "replies": len(examples),
        "labels": len(LABELS),
        "temperature": round(temperature, 3),
        "five-fold cross-validation": figures(soften(guesses, temperature), truth),
        "held out": judged(Reader(encoder, head)),
    }
    print(json.dumps(card, indent=2))
    if "--check" not in arguments:
        MODEL.mkdir(exist_ok=True)
        head.save(MODEL / "head.npz")
        (MODEL / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return 0


def fold_of(example: corpus.Example) -> int:
    """The fold of a reply is that of its group; the first replies were kept without groups."""
    key = example.text if example.group == "first" else example.group
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % FOLDS


def judged(reader: Reader) -> dict[str, object]:
    """Figures of the whole reading on replies that nothing was tuned on."""
    examples = corpus.shipped("held_out")
    readings = reader.read_many([example.text for example in examples])
    guesses = np.array([[one.intents[label] for label in LABELS] for one in readings], np.float32)
    truth = np.zeros_like(guesses)
    for row, example in zip(truth, examples, strict=True):
        for label in example.labels:
            row[LABELS.index(label)] = 1 / len(example.labels)
    return {"replies": len(examples), **figures(guesses, truth)}


def soften(guesses: Matrix, temperature: float) -> Matrix:
    """Certainties as another temperature would have made them."""
    powers = np.maximum(guesses, 1e-9) ** (1 / temperature)
    softened: Matrix = powers / powers.sum(axis=1, keepdims=True)
    return softened


def best_temperature(guesses: Matrix, truth: Matrix) -> float:
    """The temperature that makes the held-out replies least surprising."""
    candidates = np.linspace(0.3, 2.0, 35)
    losses = [-(truth * np.log(soften(guesses, float(t)) + 1e-9)).sum() for t in candidates]
    return float(candidates[int(np.argmin(losses))])


def figures(guesses: Matrix, truth: Matrix) -> dict[str, object]:
    """Macro-F1 (a further true label counts), accuracy, calibration error, F1 of each label."""
    top = guesses.argmax(axis=1)
    main = truth.argmax(axis=1)
    hit = truth[np.arange(len(top)), top] > 0
    judged = np.where(hit, top, main)
    scores = {}
    for index, label in enumerate(LABELS):
        found, true = top == index, judged == index
        both = float((found & true).sum())
        scores[label] = round(2 * both / max(1.0, float(found.sum() + true.sum())), 3)
    certainty = guesses.max(axis=1)
    order = np.argsort(-certainty)
    surest = order[: int(len(order) * 0.8)]
    bins = np.minimum((certainty * 10).astype(int), 9)
    error = sum(
        abs(hit[bins == b].mean() - certainty[bins == b].mean()) * (bins == b).mean()
        for b in range(10)
        if (bins == b).any()
    )
    return {
        "macro-F1": round(float(np.mean(list(scores.values()))), 3),
        "accuracy": round(float(hit.mean()), 3),
        "precision on the surest 80 %": round(float(hit[surest].mean()), 3),
        "calibration error": round(float(error), 3),
        "F1": scores,
    }


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
