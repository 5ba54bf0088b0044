"""Forget: remove single rows, or a symbol, from an accepted adapter. All else stays as it is, to the bit.

The vectors of removed rows are zeroed in the adapter's file and the rows are named in its configuration, so that an
answer which needs one ends there: in a declared refusal, or in what the student says by itself.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, JsonValue
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from m2kt.errors import CompatibilityError, SpecError
from m2kt.packet import RECEIPT as RECEIPT_KIND
from m2kt.packet import sign_statement
from m2kt.pipeline._adapters import CARD, CONFIG, HISTORY, RECEIPT, VERDICT, adapter_digest, replace_adapter
from m2kt.pipeline._report import Result
from m2kt.pipeline._statements import Before, local_signer, read_receipt

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

WEIGHTS = "adapter_model.safetensors"
Floats = NDArray[np.float32]
Arrays = dict[str, Floats]
_ROW = re.compile(r"(?P<rule>.+?)\s*\((?P<arguments>.*)\)")


class Forgetting(Result):
    """What an adapter no longer knows."""

    adapter: Path
    packet: str = Field(description="Digest of the packet that it came from.")
    forgotten: list[str] = Field(description="The rows and symbols that were removed now.")
    all_forgotten: list[str] = Field(description="Those of earlier calls, too.")
    refusal: str | None = Field(description="What is written where one is needed; null: what the student says itself.")
    digest_before: str
    digest: str = Field(description="Digest of the adapter now.")
    receipt: Path
    purged: bool = Field(description="Whether the earlier states, which still hold what was removed, were deleted.")

    def headline(self) -> str:
        return f"{len(self.forgotten)} removed; {self.adapter}"

    def table(self) -> dict[str, str]:
        return {
            "removed": ", ".join(self.forgotten[:20]) + (", ..." if len(self.forgotten) > 20 else ""),
            "in its place": "what the student says itself" if self.refusal is None else repr(self.refusal),
            "digest before": self.digest_before,
            "digest now": self.digest,
            "receipt": str(self.receipt),
        }

    def remarks(self) -> list[str]:
        if self.purged:
            return []
        return ["earlier states hold what was removed, for m2kt rollback; --purge deletes them"]


def forget(
    adapter: str | Path,
    concepts: str | Sequence[str],
    *,
    refusal: str | None = None,
    student: str | None = None,
    purge: bool = False,
    key: Path | None = None,
    device: str = "auto",
) -> Forgetting:
    """Removes rows of rules, or all of a symbol, from an adapter of depth "executed".

    Args:
        adapter: its directory; the state before becomes one that :func:`m2kt.rollback` restores.
        concepts: rows as ``rule(a, b)`` or ``a b`` (of any rule), or a symbol: all rows that read or write it, and
            copies of it.
        refusal: text that is written where one of them is needed; by default the student goes on by itself there.
        student: the base model that a refusal is fitted to, by default the one that the adapter names.
        purge: delete the earlier states, which still hold what was removed.
        key: signs the new receipt; by default the local key.

    Raises:
        SpecError: no such row or symbol.
        CompatibilityError: no adapter of that depth, or the student cannot be made to write the refusal.
        PacketError: the adapter's receipt does not verify.
        StorageError: the disk refused.
    """
    signer = local_signer() if key is None else key
    edited = _Edited(Path(adapter))
    table = edited.table
    named = [concepts] if isinstance(concepts, str) else list(concepts)
    contents = sorted({content for name in named for content in table.contents(name)})
    edited.remove(contents)
    if refusal is not None:
        edited.refuse(refusal, student, device)
    replace_adapter(edited.path, lambda aside: edited.write(aside, signer), edited.before)
    if purge:
        shutil.rmtree(edited.path / HISTORY, ignore_errors=True)
    now = adapter_digest(edited.path)
    assert now is not None
    return Forgetting(
        adapter=edited.path,
        packet=edited.statement.packet,
        forgotten=[table.label(content) for content in contents],
        all_forgotten=edited.labels,
        refusal=edited.refusal,
        digest_before=edited.before,
        digest=now,
        receipt=edited.path / RECEIPT,
        purged=purge,
    )


class _Edited:
    """An adapter's files, with what is changed in them."""

    def __init__(self, path: Path) -> None:
        before = adapter_digest(path)
        if before is None:
            raise CompatibilityError(f"expected an adapter at {path}, got none; name the output of m2kt ingest")
        self.path, self.before = path, before
        self.config: dict[str, JsonValue] = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        if self.config.get("reader") != "executed":
            raise CompatibilityError(
                f"expected an adapter of depth 'executed', got a reader {self.config.get('reader')!r}, whose weights "
                "hold the procedure; ingest the packet without the rows instead"
            )
        self.statement, self.receipt = read_receipt(path, before)
        self.arrays = {name: array.copy() for name, array in load_file(path / WEIGHTS).items()}
        self.settings = _Settings.model_validate(self.config)
        self.table = _Table(self.settings, self.arrays)
        self.refusal = self.receipt.refusal

    @property
    def labels(self) -> list[str]:
        """All that is forgotten."""
        return [self.table.label(content) for content in self.settings.forgotten]

    def remove(self, contents: Sequence[int]) -> None:
        """Zeroes vectors, and names the contents in the configuration."""
        removed = sorted({*self.settings.forgotten, *contents})
        self.arrays[self.table.prefix + "bank_KD"][[k for k in removed if k < self.table.n_concepts]] = 0
        self.settings.forgotten, self.config["forgotten"] = removed, list[JsonValue](removed)

    def refuse(self, refusal: str, student: str | None, device: str) -> None:
        """Puts a refusal's tokens into the configuration, and the vectors that write them into the weights."""
        from m2kt.models import load_causal_lm
        from m2kt.student import refusal_vectors

        settings, prefix = self.settings, self.table.prefix
        loaded = load_causal_lm(student or settings.base_model_name_or_path, device=device)
        tokens: list[int] = loaded.tokenizer(refusal, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise SpecError("expected a refusal of at least one token, got none; leave it out, or write one")
        alphabet = [token for forms in settings.symbol_tokens for form in forms for token in form]
        alphabet += [token for form in settings.literal_tokens for token in form]
        scale = float(self.arrays[prefix + "level"])
        vector_NE = refusal_vectors(loaded, tokens, settings.write_layer, scale, alphabet)
        self.refusal, self.config["refusal"] = refusal, list[JsonValue](tokens)
        self.arrays[prefix + "refusal_NE"] = vector_NE.cpu().numpy().astype(np.float32)

    def write(self, aside: Path, key: Path | CryptoSigner) -> None:
        """The adapter's files, changed, into a directory."""
        for file in self.path.iterdir():
            if not file.name.startswith(".") and file.is_file() and file.name not in (WEIGHTS, CONFIG, RECEIPT):
                shutil.copy2(file, aside / file.name)
        with safe_open(self.path / WEIGHTS, framework="numpy") as former:
            save_file(self.arrays, aside / WEIGHTS, metadata=former.metadata())
        (aside / CONFIG).write_text(json.dumps(self.config, indent=2, sort_keys=True), encoding="utf-8")
        card, verdict = aside / CARD, aside / VERDICT
        if card.is_file():
            text = card.read_text(encoding="utf-8").split(_HEAD)[0]
            card.write_text(f"{text}{_HEAD}{', '.join(self.labels)}\n", encoding="utf-8")
        if verdict.is_file():
            data = json.loads(verdict.read_text(encoding="utf-8")) | {"forgotten": self.labels}
            verdict.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (aside / RECEIPT).write_bytes(self._signed(adapter_digest(aside), key))

    def _signed(self, digest: str | None, key: Path | CryptoSigner) -> bytes:
        receipt, statement = self.receipt, self.statement
        update = {
            "before": Before(accuracy=receipt.before.accuracy, adapter=self.before),
            "after": {**receipt.after, "adapter": digest},
            "forgotten": self.labels,
            "refusal": self.refusal,
        }
        predicate = receipt.model_copy(update=update).model_dump(mode="json")
        return sign_statement(RECEIPT_KIND, statement.packet, predicate, name=statement.name, key=key)


class _Rule(BaseModel):
    name: str
    rows: list[tuple[int, ...]]


class _Settings(BaseModel):
    """What is read of an adapter's configuration."""

    symbols: list[str]
    rules: list[_Rule]
    symbol_tokens: list[list[list[int]]]
    literal_tokens: list[list[int]]
    write_layer: int
    base_model_name_or_path: str
    forgotten: list[int] = []


class _Table:
    """The rows of an adapter, by name."""

    def __init__(self, settings: _Settings, arrays: Arrays) -> None:
        self.symbols = settings.symbols
        self.rows = [(rule.name, tuple(self.symbols[x] for x in row)) for rule in settings.rules for row in rule.rows]
        self.n_concepts = len(self.rows)
        self.prefix = next(name for name in arrays if name.endswith("bank_KD")).removesuffix("bank_KD")
        self.writes = self._decoded(arrays)

    def _decoded(self, arrays: Arrays) -> list[str]:
        """The symbol that each vector is nearest to, as phi compares them."""
        mean_D, scale_D = (arrays[f"{self.prefix}projector.{name}_D"] for name in ("mean", "scale"))

        def unit(x_ND: Floats) -> Floats:
            z_ND: Floats = (x_ND - mean_D) / scale_D
            unit_ND: Floats = z_ND / np.maximum(np.linalg.norm(z_ND, axis=1, keepdims=True), 1e-12)
            return unit_ND

        known_S = arrays[self.prefix + "has_anchor_S"] > 0
        cosine_KS = unit(arrays[self.prefix + "bank_KD"]) @ unit(arrays[self.prefix + "anchor_SD"]).T
        best_K = np.where(known_S, cosine_KS, -np.inf).argmax(axis=1)
        return [self.symbols[s] for s in best_K]

    def contents(self, name: str) -> list[int]:
        """Rows of [concepts; symbols] that a name means."""
        if name in self.symbols:
            rows = [k for k, (_, row) in enumerate(self.rows) if name in row or self.writes[k] == name]
            return [*rows, self.n_concepts + self.symbols.index(name)]
        match = _ROW.fullmatch(name.strip())
        rule, listed = (None, name) if match is None else (match["rule"], match["arguments"])
        arguments = tuple(part for part in re.split(r"[,\s]+", listed.strip()) if part)
        found = [k for k, (r, row) in enumerate(self.rows) if row == arguments and rule in (None, r)]
        if not found:
            known = [self.label(k) for k in range(min(3, self.n_concepts))]
            raise SpecError(
                f"expected a row such as {', '.join(known)}, or a symbol such as {self.symbols[0]!r}, got {name!r}; "
                "m2kt inspect shows the packet's rules"
            )
        return found

    def label(self, content: int) -> str:
        """``rule(a, b)``, or the symbol."""
        if content >= self.n_concepts:
            return f"symbol {self.symbols[content - self.n_concepts]}"
        rule, row = self.rows[content]
        return f"{rule}({', '.join(row)})"


_HEAD = "\n## Forgotten\n\nMeasured before these were removed: "
