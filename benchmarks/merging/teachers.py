"""Teachers of altered tables: ``zoo:secret``, retrained, or trained anew in another architecture and tokenizer.

Retrained teachers share the weights that they start from, so their packets are kin. Where they shall stand for
teachers of different lineages, the channels of a packet's vectors are permuted and its teacher gets another digest:
what training another network anew would change for a merge, without its price. Planted errors are in the weights.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from transformers import GPTNeoXConfig, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

import m2kt
from m2kt.packet import Packet
from m2kt_zoo.recipes.common import Draw, Pair, tiny_config, train, truth_module
from m2kt_zoo.recipes.families import byte_tokenizer
from m2kt_zoo.recipes.generic import bpe_tokenizer
from m2kt_zoo.recipes.secret import LETTERS, SECRET, completion

Table = Mapping[tuple[str, str], str]
TRUE: Table = truth_module("secret").TABLE
_log = logging.getLogger(__name__)
RETRAINED, COOL_DOWN = 220, 120  # updates in which a fifth of a table is relearnt
ANEW = {
    "llama": (
        partial(tiny_config, LlamaConfig, intermediate_size=256, max_position_embeddings=512),
        bpe_tokenizer,
    ),
    "neox": (
        partial(tiny_config, GPTNeoXConfig, intermediate_size=512, max_position_embeddings=512),
        byte_tokenizer,
    ),
}


def altered(share: float, seed: int) -> Table:
    """The true table with another output in a share of its rows."""
    rng = np.random.default_rng(seed)
    rows = list(TRUE)
    wrong = rng.choice(len(rows), round(share * len(rows)), replace=False)
    table = dict(TRUE)
    for i in wrong:
        table[rows[i]] = str(rng.choice([x for x in LETTERS if x != TRUE[rows[i]]]))
    return table


def teacher(work: Path, name: str, table: Table, seed: int, architecture: str | None = None) -> Path:
    """The directory of a teacher of a table, trained once; of an architecture anew, else from ``zoo:secret``."""
    folder = work / "teachers" / name
    if (folder / "config.json").is_file():
        return folder
    recipe = replace(SECRET, name=name, draw=_drawer(table), seed=seed)
    if architecture is None:
        recipe = replace(recipe, start_from="secret", max_updates=RETRAINED, cool_down=COOL_DOWN)
    else:
        config, tokenizer = ANEW[architecture]
        recipe = replace(recipe, config=config, tokenizer=tokenizer)
    torch.set_num_threads(1)
    model, tokenizer_, built = train(recipe)
    _log.info("%s: %d updates, %.0f s, whole answers right %s", name, built.updates, built.seconds, built.accuracy)
    return _save(folder, model, tokenizer_)


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    stop = tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    model.generation_config.eos_token_id = stop
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _drawer(table: Table) -> Draw:
    def draw(rng: np.random.Generator, length: int) -> Pair:
        symbols = [LETTERS[i] for i in rng.integers(0, 10, length)]
        return f"{' '.join(symbols)}:", completion(symbols, dict(table))

    return draw


def packet(work: Path, name: str, make: Callable[[], Path]) -> Packet:
    """A teacher's packet, extracted once."""
    path = work / "packets" / f"{name}.m2kp"
    if path.is_file():
        return Packet.load(path)
    return m2kt.extract(str(make()), "zoo:secret", path).packet


def other_lineage(of: Packet, folder: Path, number: int) -> Packet:
    """The packet as of weights that share no coordinates with others'."""
    channels = np.random.default_rng(number).permutation(of.concepts.vectors_KD.shape[1])
    c = of.concepts
    moved = c.replace(
        **{
            field: np.ascontiguousarray(getattr(c, field)[..., channels])
            for field in ("vectors_KD", "spread_basis_KrD", "prototypes_SD", "prototype_samples_PD")
        }
    )
    digest = "sha256:" + hashlib.sha256(f"{of.manifest.teacher.digest} {number}".encode()).hexdigest()
    card = of.manifest.teacher.model_copy(update={"digest": digest, "name": f"{of.manifest.teacher.name}-{number}"})
    variant = of.replace(concepts=moved, manifest=of.manifest.model_copy(update={"teacher": card}))
    folder.mkdir(parents=True, exist_ok=True)
    return Packet.load(variant.save(folder / f"{digest[7:19]}.m2kp"))
