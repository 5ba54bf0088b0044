"""Inputs of the verbs: probe specs by name, evaluation prompts, students with a saved adapter."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m2kt.errors import CompatibilityError, M2KTError, SpecError, first_line
from m2kt.packet import RECEIPT as RECEIPT_KIND
from m2kt.packet import read_statement, verify_statement
from m2kt.pipeline._adapters import CONFIG, RECEIPT
from m2kt.probes import ProbeSpec, Prompt, Truth, check_usable

if TYPE_CHECKING:
    from peft import PeftModel

    from m2kt.models import LoadedModel

WEIGHTS = "adapter_model.safetensors"
_log = logging.getLogger(__name__)


def read_spec(probes: str | Path | ProbeSpec) -> tuple[ProbeSpec, Path]:
    """A spec, and the directory that its truth is relative to.

    Raises SpecError where it is not valid, a slot is used nowhere, or the file of its truth is missing.
    """
    if isinstance(probes, ProbeSpec):
        check_usable(probes)
        return probes, Path()
    from m2kt.models import resolve

    path = Path(resolve(str(probes))) / "probes.yaml" if str(probes).startswith("zoo:") else Path(probes)
    if path.is_dir():
        path = path / "probes.yaml"
    spec = ProbeSpec.from_file(path)
    check_usable(spec, path.parent, str(path))
    return spec, path.parent


def evaluation_prompts(
    spec: ProbeSpec, truth: Truth | None, n: int, *, seed: int, held_out: bool = False
) -> list[Prompt]:
    """Prompts of the evaluation split, drawn by the spec, among the truth's problems where it lists them.

    Raises SpecError where none of those problems is an evaluation prompt of the spec.
    """
    among = None if truth is None else truth.problems
    prompts = spec.sample("evaluation", n, seed=seed, held_out=held_out, among=among)
    if among is not None and not prompts:
        shapes = "held-out shapes" if held_out else "probed shapes, evaluation split"
        raise SpecError(
            f"expected problems of the truth that are prompts of {spec.name} ({shapes}), got none of the {len(among)} "
            "problems; check the truth's prompts"
        )
    return prompts


def question_ids(loaded: LoadedModel, prompt: str, *, chat: bool, turns: Sequence[tuple[str, str]] = ()) -> list[int]:
    """Tokens of a question as a person puts it to a student with an adapter.

    Args:
        chat: in the student's own chat template, if it has one.
        turns: earlier questions, each with its answer; only where there is a chat template.
    """
    from m2kt.auditor import cal_config
    from m2kt.models import conversation_ids, encode_prompt
    from m2kt.student import encode_question, own_chat

    config, form = cal_config(loaded.model), own_chat(loaded.tokenizer) if chat else None
    behind = conversation_ids(loaded.tokenizer, turns, prompt) if form is not None and turns else None
    if behind is not None:
        return behind
    if config is None or config.reader == "executed":
        return encode_prompt(loaded.tokenizer, prompt, form)
    return encode_question(loaded.tokenizer, prompt, config.symbols, form)


def with_adapter(loaded: LoadedModel, adapter: str | Path, name: str = "default") -> LoadedModel:
    """``loaded`` with a saved adapter on it, beside those that it has.

    Args:
        name: of the adapter in peft.

    Raises:
        CompatibilityError: there is no adapter, its files are damaged or incomplete, or it was made for another model,
            also one of the same shape.
        PacketError: its receipt is damaged.
    """
    from peft import PeftModel

    import m2kt.student  # noqa: F401  registers the adapter type with peft

    folder = Path(adapter)
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise CompatibilityError(
                f"expected an adapter directory, got {adapter} without {file}; name the output of m2kt ingest"
            )
    _check_student(loaded, folder)
    try:
        if isinstance(loaded.model, PeftModel):
            model = loaded.model
            model.load_adapter(str(adapter), adapter_name=name)
        else:
            model = PeftModel.from_pretrained(loaded.model, str(adapter), adapter_name=name)
        absent = _absent(model, folder / WEIGHTS, name)
    except M2KTError:
        raise
    except Exception as error:  # safetensors, json, zlib and peft have error classes of their own
        raise CompatibilityError(
            f"expected an intact adapter whose base is {loaded.name}, got {adapter} ({first_line(error)}); name its "
            "base, or get its files again"
        ) from error
    if absent:
        raise CompatibilityError(
            f"expected all weights of the adapter {adapter}, got none for {len(absent)}, such as {absent[0]}; get its "
            "files again"
        )
    model.eval()
    return replace(loaded, model=model)


def _check_student(loaded: LoadedModel, folder: Path) -> None:
    """Raises CompatibilityError where the adapter's receipt names another student."""
    path = folder / RECEIPT
    if not path.is_file():
        return
    predicate = verify_statement(read_statement(path), str(path), expected=RECEIPT_KIND).predicate
    named = predicate.get("base_model")
    if not isinstance(named, dict) or named.get("digest") == loaded.digest:
        return
    found = f"expected the student {named.get('name')} that {folder} was made for, {_short(named.get('digest'))}"
    if not loaded.quantised:
        raise CompatibilityError(
            f"{found}, got {loaded.name}, {_short(loaded.digest)}: other weights, tokenizer or configuration; load the "
            "student that its receipt names, or ingest its packet into this one"
        )
    loaded.notes.append(f"{found}: this one is quantised, and nobody has measured the adapter on it")
    _log.warning("%s: %s", loaded.name, loaded.notes[-1])


def _absent(model: PeftModel, weights: Path, name: str) -> list[str]:
    """Weights of a model's adapter that are in no file: peft would go on with random ones."""
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as file:
        return sorted(set(get_peft_model_state_dict(model, adapter_name=name)) - set(file.keys()))


def _short(digest: object) -> str:
    return str(digest)[:19]
