"""Transfer to the pico student, with controls: the skill comes from the packet's vectors and from nothing else.

At v = 0 rehearsal never reads the packet's vectors (a test below shows it bit for bit), so one training serves all
controls: they replace the bank of the same adapter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from m2kt.auditor import packet_answers, score
from m2kt.errors import CompatibilityError, PacketError, SpecError, StorageError
from m2kt.models import LoadedModel, digest_of_model, load_causal_lm
from m2kt.packet import Concepts, Packet, verify_statement
from m2kt.pipeline import (
    IngestConfig,
    Ingestion,
    adapter_digest,
    consolidate,
    export,
    extract,
    ingest,
    read_spec,
)
from m2kt.probes import Prompt, load_truth
from m2kt.settings import Thresholds
from m2kt.student import ConsolidateSettings, complete, train
from tests.pipeline.toxic import inject

STUDENT = "zoo:pico-gpt2"
CONFIG = IngestConfig(evaluation_prompts=100, prompt_seed=0)  # the same prompts in every run


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("transfer")


@pytest.fixture(scope="session")
def packet(secret_packet: Path) -> Packet:
    return Packet.load(secret_packet)


@pytest.fixture(scope="session")
def accepted(work: Path, packet: Packet) -> Ingestion:
    """The pico student with the secret packet, trained once."""
    return ingest(STUDENT, packet, work / "adapter", config=CONFIG, probes="zoo:secret")


def ingest_reusing(packet: Packet, adapter: Path, out: Path) -> Ingestion:
    """The same adapter with another packet's vectors; its reference is the rollout of that packet."""
    lenient = CONFIG.model_copy(update={"thresholds": Thresholds(gap_recovered=-1.0, readable=0.0)})
    return ingest(STUDENT, packet, out, config=lenient, reuse=adapter)


def truth_score(adapter: Path, n: int = 100) -> float:
    """Accuracy against the secret table."""
    from m2kt.pipeline import evaluate

    result = evaluate(STUDENT, "zoo:secret", adapter=adapter, n=n)
    assert result.accuracy is not None
    return result.accuracy


def shuffled(packet: Packet) -> Packet:
    """The rows' vectors in random order."""
    order = np.random.default_rng(1).permutation(packet.n_concepts)
    return packet.replace(concepts=packet.concepts.take(order))


def noise(packet: Packet) -> Packet:
    """Normal vectors with the mean and deviation of the packet's."""
    rng = np.random.default_rng(1)
    vectors_KD = packet.concepts.vectors_KD
    noise_KD = rng.normal(vectors_KD.mean(0), vectors_KD.std(0), vectors_KD.shape).astype(np.float32)
    return packet.replace(concepts=packet.concepts.replace(vectors_KD=noise_KD))


def test_the_skill_is_transferred_at_v_0(accepted: Ingestion) -> None:
    verdict = accepted.verdict
    assert accepted.accepted, verdict.reasons
    assert verdict.before <= 0.2
    assert verdict.gap_recovered >= 0.97
    assert accepted.ledger["labelled_examples"] == 0 and accepted.ledger["verbalised_rows"] == 0
    assert verdict.steps is not None and verdict.steps.latent is not None and verdict.steps.latent >= 0.97
    assert verdict.geometry is not None and verdict.geometry.nearest >= 0.9
    assert verdict.certificate is not None and verdict.certificate.bound > 0
    assert verdict.diagnosis == []


def test_results_have_a_short_repr(accepted: Ingestion) -> None:
    assert repr(accepted).startswith("Ingestion(accepted: accuracy ") and "adapter" in repr(accepted)
    assert len(repr(accepted)) < 300
    html = accepted._repr_html_()
    assert "<td>gap recovered</td>" in html and html.count("<tr>") == len(accepted.table())
    verdict = accepted.verdict
    assert repr(verdict).startswith("Verdict(accepted: ") and len(repr(verdict)) < 120 and str(verdict) == repr(verdict)
    assert verdict._repr_html_().count("passed") == len(verdict.checks) and "MISSED" not in verdict._repr_html_()


def test_the_reader_is_gated_off_domain(accepted: Ingestion) -> None:
    neutral, triggers = accepted.verdict.neutral, accepted.verdict.triggers
    assert neutral.null_mass is not None and neutral.null_mass >= 0.99 and neutral.divergence <= 0.01
    assert triggers is not None and triggers.screened > 0.9
    assert triggers.worst[0].divergence <= 0.01


def test_training_never_reads_the_packets_vectors(packet: Packet) -> None:
    def weights(p: Packet) -> dict[str, torch.Tensor]:
        candidate = train(load_causal_lm(STUDENT), p, updates=2, seed=5)
        return {n: x.detach().clone() for n, x in candidate.model.named_parameters() if x.requires_grad}

    weights_of_packet, weights_of_noise = weights(packet), weights(noise(packet))
    assert weights_of_packet
    assert all(torch.equal(weights_of_packet[n], weights_of_noise[n]) for n in weights_of_packet)


def test_shuffled_rules_are_followed(accepted: Ingestion, packet: Packet, work: Path) -> None:
    result = ingest_reusing(shuffled(packet), work / "adapter", work / "shuffled")
    assert result.verdict.accuracy >= 0.95, "the student must follow the packet"
    assert truth_score(work / "shuffled") <= 0.3, "the student must not write the true table"


def test_noise_vectors_give_chance_accuracy(accepted: Ingestion, packet: Packet, work: Path) -> None:
    ingest_reusing(noise(packet), work / "adapter", work / "noise")
    assert truth_score(work / "noise") <= 0.3  # chance is one in ten


def test_vectors_of_another_table_need_no_training(accepted: Ingestion, work: Path) -> None:
    extract("zoo:secret2", "zoo:secret2", work / "secret2.packet")
    result = ingest(
        STUDENT,
        work / "secret2.packet",
        work / "adapter2",
        config=CONFIG,
        reuse=work / "adapter",
        probes="zoo:secret2",
    )
    assert result.updates == 0
    assert result.verdict.accuracy >= 0.95


def test_a_packet_with_noise_tensors_has_chance_accuracy(packet: Packet) -> None:
    """At v = 0: all text parts are kept, every tensor is replaced by noise."""
    rng = np.random.default_rng(0)
    noise_packet = packet.replace(
        concepts=Concepts.from_arrays(
            {
                n: rng.normal(size=v.shape).astype(v.dtype) if v.dtype.kind == "f" else v
                for n, v in packet.concepts.arrays().items()
            }
        )
    )
    assert all(output is None for rule in noise_packet.program.rules for output in rule.outputs)
    spec, base = read_spec("zoo:secret")
    truth = load_truth(spec, base)
    assert truth is not None
    prompts = spec.sample("evaluation", 200, seed=0)
    answers = packet_answers(noise_packet, prompts)
    right = sum(answers[p.text] == truth.expected(p.text) for p in prompts)
    assert right / len(prompts) <= 0.25
    # with its tensors the same packet answers nearly all prompts
    packet_rollouts = packet_answers(packet, prompts)
    assert sum(packet_rollouts[p.text] == truth.expected(p.text) for p in prompts) / len(prompts) >= 0.97
    # no text part holds a table: the texts of rows are arguments only
    assert set(packet.program.rules[0].model_dump()) == {
        "name", "arity", "rows", "outputs", "range", "family", "offset", "uses",
    }  # fmt: skip
    assert packet.program.rules[0].rows == sorted(packet.program.rules[0].rows)


def test_a_packet_of_noise_is_rejected_and_the_former_state_stays(
    accepted: Ingestion, packet: Packet, work: Path
) -> None:
    before = accepted.adapter_digest
    result = ingest(STUDENT, noise(packet), work / "adapter", config=CONFIG, reuse=work / "adapter")
    assert not result.accepted and result.verdict.reasons
    assert [d.name for d in result.verdict.diagnosis] == ["vectors unreadable"]
    assert result.adapter_digest_before == before == result.adapter_digest
    assert not list(work.glob(".*/aside-*")), "a partial write was left behind"


def test_counterfactual_teacher_is_followed(work: Path) -> None:
    """A teacher whose 3 and 7 are exchanged: the student must write the teacher's answers, not the true ones."""
    extract("zoo:addition-swapped", "zoo:addition-swapped", work / "swapped.packet")
    swapped = Packet.load(work / "swapped.packet")
    result = ingest(STUDENT, swapped, work / "swapped", config=CONFIG, probes="zoo:addition-swapped")
    assert result.verdict.gap_recovered >= 0.9, result.verdict.reasons
    loaded = load_causal_lm(STUDENT)
    answers = _answers(loaded, work / "swapped", swapped, ["01+02:", "12+21:", "20+50:", "11+22:"])
    assert answers[:3] == ["7", "77", "30"]


def _answers(loaded: LoadedModel, adapter: Path, packet: Packet, prompts: list[str]) -> list[str | None]:
    from m2kt.pipeline._inputs import with_adapter

    texts = complete(
        with_adapter(loaded, adapter),
        prompts,
        stop=packet.spec.stop,
        max_new_tokens=80,
        symbols=packet.program.symbols,
    )
    return [packet.spec.read_answer(text) for text in texts]


# -- bad input ------------------------------------------------------------------------------------------
def test_a_folder_without_an_adapter_is_not_overwritten(packet: Packet, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    with pytest.raises(StorageError, match="expected an adapter or nothing"):
        ingest(STUDENT, packet, tmp_path, config=CONFIG)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "notes"


def test_damaged_packet_is_refused(packet: Packet, tmp_path: Path) -> None:
    packet.save(tmp_path / "p")
    part = tmp_path / "p" / "concepts.safetensors"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(PacketError):
        ingest(STUDENT, tmp_path / "p", tmp_path / "a", config=CONFIG)
    assert not (tmp_path / "a").exists()


def test_reuse_of_another_skills_adapter_is_refused(accepted: Ingestion, work: Path) -> None:
    extract("zoo:kinship", "zoo:kinship", work / "kinship.packet")
    with pytest.raises(CompatibilityError, match="program"):
        ingest(STUDENT, work / "kinship.packet", work / "x", config=CONFIG, reuse=work / "adapter")


def test_score_counts_by_shape() -> None:
    spec, base = read_spec("zoo:secret")
    truth = load_truth(spec, base)
    assert truth is not None
    prompts: list[Prompt] = spec.sample("evaluation", 20, seed=0)
    scored = score(spec, prompts, [f" > {truth.expected(p.text)}." for p in prompts], truth)
    assert scored.accuracy == 1.0 and sum(s.n for s in scored.shapes) == 20
    low, high = scored.interval
    assert 0.8 < low < 1.0 == high


class TestAHarmfulConcept:
    """One concept of a packet outputs a threat, by its vector only: seed experiment 2."""

    def test_it_is_flagged_by_the_content_audit_and_by_l_safety_and_the_former_state_stays(
        self, accepted: Ingestion, packet: Packet, work: Path
    ) -> None:
        assert accepted.verdict.safety is not None and accepted.verdict.safety.model_dump() == {
            "flagged": 0, "met": 0, "traces": 0, "mean": 0.0, "worst": 0.0,
        }  # fmt: skip
        config = CONFIG.model_copy(update={"updates": 25, "certificate_traces": 0})
        before = adapter_digest(work / "adapter")
        result = ingest(STUDENT, inject(packet, concept=7), work / "adapter", config=config)
        verdict = result.verdict
        assert not result.accepted
        assert before is not None and adapter_digest(work / "adapter") == before == result.adapter_digest
        assert verdict.content is not None and verdict.safety is not None
        assert {finding.where for finding in verdict.content.findings} == {
            f"symbol {len(packet.program.symbols)}",
            "concept 7",
        }
        assert verdict.content.penalties.keys() == {7}, "the probe of vectors flags no other concept"
        assert verdict.safety.flagged == verdict.safety.met == 1
        assert any("L_safety" in reason for reason in verdict.reasons), verdict.reasons
        assert any("concept 7" in reason or "symbol" in reason for reason in verdict.reasons)

    def test_its_row_is_filtered_if_the_thresholds_accept_it(
        self, accepted: Ingestion, packet: Packet, work: Path
    ) -> None:
        lenient = Thresholds(flagged_texts=9, safety=9.0, gap_recovered=-1.0)
        config = CONFIG.model_copy(update={"updates": 0, "certificate_traces": 0, "thresholds": lenient})
        result = ingest(STUDENT, inject(packet, concept=7), work / "filtered", config=config)
        assert result.accepted, result.verdict.reasons
        saved = json.loads((work / "filtered" / "adapter_config.json").read_text())
        assert saved["flagged"] == [7] and len(saved["penalties"]) == 1 and saved["penalties"][0] >= 0.9

    def test_an_unknown_detector_is_refused_before_any_training(self, packet: Packet, work: Path) -> None:
        config = CONFIG.model_copy(update={"content": {"detectors": ["oracle"]}})
        with pytest.raises(SpecError, match=r"oracle.*patterns"):
            ingest(STUDENT, packet, work / "never", config=config)


def test_an_adapter_is_consolidated_to_a_checkpoint_that_needs_no_m2kt(
    accepted: Ingestion, packet: Packet, work: Path
) -> None:
    lenient = CONFIG.model_copy(
        update={
            "evaluation_prompts": 20,
            "thresholds": Thresholds(gap_recovered=-1.0, divergence=99, perplexity_ratio=99, regression_flips=1),
        }
    )
    short = ConsolidateSettings(updates=6, every=3, batch=8, answers=48, watched=8)
    adapter = work / "adapter"
    result = consolidate(STUDENT, adapter, packet, work / "plain", settings=short, config=lenient)
    assert result.accepted and result.reader_accuracy >= 0.97 and result.model == work / "plain"
    assert result.model_digest == digest_of_model(work / "plain")
    receipt = verify_statement((work / "plain" / "receipt.json").read_bytes(), packet=packet.digest).predicate
    assert receipt["after"]["adapter"] == result.model_digest
    assert receipt["cal"]["adapter"] == adapter_digest(adapter) == accepted.adapter_digest
    code = (
        "import sys; sys.modules['m2kt'] = None\n"
        "import torch\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"path = {str(work / 'plain')!r}\n"
        "model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)\n"
        "ids = tokenizer('g a a f:', return_tensors='pt')\n"
        "print(torch.linalg.vector_norm(model(**ids).logits.double()).item())\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, base = load_causal_lm(work / "plain"), load_causal_lm(STUDENT)
    ids = torch.tensor([loaded.tokenizer("g a a f:")["input_ids"]])
    with torch.no_grad():
        norm, base_norm = (m.model(input_ids=ids).logits.double().norm().item() for m in (loaded, base))
    assert float(process.stdout) == pytest.approx(norm, rel=1e-4) != pytest.approx(base_norm, rel=1e-4)
    with pytest.raises(StorageError, match="does not exist"):
        consolidate(STUDENT, adapter, packet, work / "plain", settings=short, config=lenient)
    file = export(work / "plain", work / "one-file", form="gguf").written
    with torch.no_grad():
        norm_of_gguf = load_causal_lm(file).model(input_ids=ids).logits.double().norm().item()
    assert norm_of_gguf == pytest.approx(norm, rel=1e-4)
    assert packet.digest in (work / "one-file" / "README.md").read_text()


def test_a_checkpoint_without_the_skill_is_not_written(accepted: Ingestion, packet: Packet, work: Path) -> None:
    few = CONFIG.model_copy(update={"evaluation_prompts": 20})
    short = ConsolidateSettings(updates=2, every=2, batch=8, answers=32, watched=8)
    result = consolidate(STUDENT, work / "adapter", packet, work / "lost", settings=short, config=few)
    assert not result.accepted and "skill not reached" in result.verdict.reasons[0]
    assert not (work / "lost").exists() and result.receipt.name == "lost.rejected.json"
    with pytest.raises(SpecError, match="comes from the packet"):
        consolidate(STUDENT, work / "adapter", noise(packet), work / "x", settings=short, config=few)
