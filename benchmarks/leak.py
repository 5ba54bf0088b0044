"""``python -m benchmarks.leak PACKET=TEACHER ...``: what an adversary reads of a packet at v = 0 without any student.

Five adversaries. All have the packet's rows (arguments, vectors) and know the alphabet. *Prototypes*: the packet as it
is. *Unembedding*: no prototypes, but the teacher's final norm and output head. *Nothing more*: vectors fall into groups
that write one symbol each; which symbol is a guess. *One row*: the output of one row is known. *Statistics*: how often
each symbol is written is known. Guesses are means over random ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from m2kt.models import load_causal_lm
from m2kt.packet import Packet, decode_outputs

GUESSES = 500
HEAD = (
    "| packet | rows | symbols | prototypes | unembedding | groups | nothing more | one row | statistics | guessing |\n"
    "| --- |" + " --- |" * 9
)
Labels = NDArray[np.int64]


def line(name: str, packet: Packet, teacher: str) -> str:
    """A row of the table."""
    with_text = [o for rule in packet.program.rules for o in rule.outputs if o is not None]
    assert not with_text, "the packet is not at v = 0"
    truth_K = np.array(_by_teacher_prototypes(packet))
    shares = {
        "prototypes": float((np.array(decode_outputs(packet.program, packet.concepts)) == truth_K).mean()),
        "unembedding": float((_by_head(packet, teacher) == truth_K).mean()),
    }
    group_K = _groups(packet, len(np.unique(truth_K)))
    shares["groups"] = _purity(group_K, truth_K)
    rng = np.random.default_rng(0)
    shares["nothing more"] = _guessed(group_K, truth_K, rng, known=False, counts=False)
    shares["one row"] = _guessed(group_K, truth_K, rng, known=True, counts=False)
    shares["statistics"] = _guessed(group_K, truth_K, rng, known=False, counts=True)
    shares["guessing"] = 1 / len(np.unique(truth_K))
    symbols = len(np.unique(truth_K))
    return f"| {name} | {len(truth_K)} | {symbols} | " + " | ".join(f"{share:.1%}" for share in shares.values()) + " |"


def _by_teacher_prototypes(packet: Packet) -> list[int]:
    """What the teacher writes at each row; the packets measured here agree with their teachers wholly."""
    return decode_outputs(packet.program, packet.concepts)


def _by_head(packet: Packet, teacher: str) -> Labels:
    """Through the teacher's own norm and head, among the alphabet's tokens with and without a space."""
    loaded = load_causal_lm(teacher)
    symbols = packet.program.symbols
    forms = [
        [loaded.tokenizer(text, add_special_tokens=False)["input_ids"][-1] for text in (s, f" {s}")] for s in symbols
    ]
    model = loaded.model
    norm = next(
        m for n, m in model.named_modules() if n.split(".")[-1] in ("ln_f", "norm", "norm_f", "final_layer_norm")
    )
    with torch.no_grad():
        state_KD = torch.from_numpy(packet.concepts.vectors_KD.astype(np.float32))
        logit_KV = model.get_output_embeddings()(norm(state_KD))
    score_KS = torch.stack([logit_KV[:, form].max(-1).values for form in forms], -1).numpy()
    read_K = np.zeros(len(score_KS), dtype=np.int64)
    for rule in packet.program.rules:
        k = slice(rule.concepts.start, rule.concepts.stop)
        read_K[k] = np.array(rule.range)[score_KS[k][:, rule.range].argmax(-1)]
    return read_K


def _groups(packet: Packet, n: int) -> Labels:
    """Rows whose vectors are alike: as many groups as symbols are written."""
    x_KD = packet.concepts.vectors_KD.astype(np.float64)
    x_KD = (x_KD - x_KD.mean(0)) / np.maximum(x_KD.std(0), 1e-8)
    return np.asarray(KMeans(n, n_init=10, random_state=0).fit_predict(x_KD), dtype=np.int64)


def _purity(group_K: Labels, truth_K: Labels) -> float:
    """Share of rows that are of their group's commonest symbol: what is known of *which rows agree*."""
    commonest = [int(np.bincount(truth_K[group_K == g]).max()) for g in np.unique(group_K)]
    return sum(commonest) / len(truth_K)


def _guessed(group_K: Labels, truth_K: Labels, rng: np.random.Generator, *, known: bool, counts: bool) -> float:
    """Share of rows read rightly where groups get symbols by what is known, and by chance otherwise."""
    groups, symbols = np.unique(group_K), np.unique(truth_K)
    shares = []
    for _ in range(GUESSES):
        named: dict[int, int] = {}
        if known:
            row = int(rng.integers(len(truth_K)))
            named[int(group_K[row])] = int(truth_K[row])
        left_groups = [int(g) for g in groups if int(g) not in named]
        left_symbols = [int(s) for s in rng.permutation(symbols) if int(s) not in named.values()]
        if counts:  # the largest group is the commonest symbol, and so on; ties are guessed
            left_groups = sorted(rng.permutation(left_groups), key=lambda g: -int((group_K == g).sum()))
            left_symbols = sorted(left_symbols, key=lambda s: -int((truth_K == s).sum()))
        named |= {int(g): int(s) for g, s in zip(left_groups, left_symbols, strict=False)}
        shares.append(np.mean([named.get(int(g)) == s for g, s in zip(group_K, truth_K, strict=True)]))
    return float(np.mean(shares))


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    sys.stdout.write(HEAD + "\n")
    for argument in arguments:
        path, _, teacher = argument.partition("=")
        sys.stdout.write(line(Path(path).stem, Packet.load(path), teacher) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
