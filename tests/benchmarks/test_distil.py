"""The distillation baselines: real trainers, tiny students."""

from __future__ import annotations

import copy
import importlib
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from benchmarks import distil
from benchmarks.distil import _curve
from benchmarks.distil._curve import rate
from benchmarks.distil._rows import check_on_policy, method_for, rows_of
from m2kt.errors import CompatibilityError, SpecError, TrainingError
from m2kt.models import LoadedModel, encode_prompt, generate_greedy, load_causal_lm, text_of
from tests.tiny import CHARACTERS, bpe_tokenizer, char_tokenizer, save_tiny

PAIRS = [(f"{a}+{b}:", f" {(3 * a + b) % 10}.\n") for a in range(1, 5) for b in range(4)]


def load_tiny(path: Path, family: str, tokenizer: Any, **options: Any) -> LoadedModel:
    return load_causal_lm(save_tiny(path, family, tokenizer, **options), device="cpu", dtype="fp32")


def never(model: Any) -> tuple[float, int]:
    return 0.0, 1


def accuracy_on(loaded: LoadedModel, pairs: list[tuple[str, str]]) -> Any:
    """An ``evaluate`` that compares greedy completions with those of the pairs."""
    prompts = [encode_prompt(loaded.tokenizer, prompt) for prompt, _ in pairs]

    def evaluate(model: Any) -> tuple[float, int]:
        assert not model.training
        completions = generate_greedy(replace(loaded, model=model), prompts, 8, "\n")
        hits = [c.text == answer for c, (_, answer) in zip(completions, pairs, strict=True)]
        return sum(hits) / len(hits), len(hits)

    return evaluate


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_rank_nearest_in_parameters(tmp_path: Path, family: str) -> None:
    model = load_tiny(tmp_path, family, char_tokenizer()).model
    size = get_peft_model(copy.deepcopy(model), distil.lora(model, 5)).get_nb_trainable_parameters()[0]
    assert distil.equal_rank(model, size) == 5
    assert distil.equal_rank(model, size + size // 15) == 5
    assert distil.equal_rank(model, size - size // 15) == 5
    assert distil.equal_rank(model, size + size // 5) == 6
    assert distil.equal_rank(model, 1) == 1


def test_lora_is_on_every_linear_layer_of_the_blocks_and_nowhere_else(tmp_path: Path) -> None:
    model = load_tiny(tmp_path, "gpt2", char_tokenizer()).model
    adapted = get_peft_model(model, distil.lora(model, 2))
    trainable = {name for name, p in adapted.named_parameters() if p.requires_grad}
    wrapped = {name.split(".lora_A")[0] for name in trainable if "lora_A" in name}
    assert len(wrapped) == 3 * 4  # c_attn, c_proj, c_fc, c_proj of three blocks
    assert all("lora_" in name and ".h." in name for name in trainable)


def test_sft_learns_stops_at_the_target_and_leaves_the_student_frozen() -> None:
    student = load_causal_lm("zoo:pico-gpt2", device="cpu")
    ids = torch.tensor([encode_prompt(student.tokenizer, "1+2:")])
    with torch.no_grad():
        before = student.model(input_ids=ids).logits
    run = distil.sft(
        student,
        PAIRS,
        distil.Settings(rank=8, lr=3e-3, batch=8, max_epochs=200, target=0.9),
        evaluate=accuracy_on(student, PAIRS),
    )
    assert run.stopped == "reached"
    assert run.curve[-1].accuracy >= 0.9 > run.curve[0].accuracy
    assert run.curve[-1].tokens == run.tokens and run.curve[-1].sequences == run.sequences
    with torch.no_grad(), run.model.disable_adapter():
        assert torch.equal(run.model(input_ids=ids).logits, before)


def test_tokens_and_sequences_are_counted_without_padding(tmp_path: Path) -> None:
    student = load_tiny(tmp_path, "llama", char_tokenizer())
    pairs = [("1:", " 2\n"), ("1+1+1:", " 3\n"), ("1+1:", " 2\n")]
    run = distil.sft(student, pairs, distil.Settings(rank=2, lr=1e-3, batch=2, max_epochs=3), evaluate=never)
    assert run.sequences == 9
    assert run.tokens == 3 * sum(len(p) + len(c) for p, c in pairs)
    assert run.stopped == "epochs"


def test_a_part_of_an_epoch_ends_with_an_evaluation_too(tmp_path: Path) -> None:
    student = load_tiny(tmp_path, "llama", char_tokenizer())
    run = distil.sft(student, PAIRS, distil.Settings(rank=2, lr=1e-3, batch=2, max_epochs=0.3), evaluate=never)
    assert run.stopped == "epochs" and run.sequences == 6  # 0.3 of 8 batches, rounded up
    assert [point.sequences for point in run.curve] == [6]


def test_a_token_budget_ends_the_run_with_an_evaluation(tmp_path: Path) -> None:
    student = load_tiny(tmp_path, "llama", char_tokenizer())
    run = distil.sft(
        student,
        PAIRS,
        distil.Settings(rank=2, lr=1e-3, batch=4, max_tokens=200, max_epochs=99, first_point=50),
        evaluate=never,
    )
    assert run.stopped == "budget"
    assert 200 <= run.tokens < 200 + 4 * 8
    points = [point.tokens for point in run.curve]
    assert points[-1] == run.tokens and points[0] >= 50
    assert all(later >= 1.5 * point for point, later in pairwise(points[:-1]))


def test_seconds_of_evaluation_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    def slow(model: Any) -> tuple[float, int]:
        now[0] += 1000
        return 0.0, 1

    monkeypatch.setattr(_curve.time, "perf_counter", clock)
    student = load_tiny(tmp_path, "llama", char_tokenizer())
    run = distil.sft(
        student,
        PAIRS,
        distil.Settings(rank=2, lr=1e-3, batch=4, max_seconds=100, max_epochs=4, first_point=1),
        evaluate=slow,
    )
    assert run.stopped == "epochs" and len(run.curve) > 2
    assert run.seconds < 100


def test_the_rate_warms_up_and_ends_with_the_budget() -> None:
    budget = distil.Settings(rank=1, lr=1.0, max_epochs=10, max_tokens=1000, max_seconds=50)
    assert budget.share(1, 100, 5) == 0.1
    assert budget.share(1, 900, 5) == 0.9
    assert budget.share(1, 100, 40) == 0.8
    assert distil.Settings(rank=1, lr=1.0, max_epochs=10).share(1, 10**9, 1e9) == 0.1
    assert rate(0.0, 0.001, 0) < 0.1
    assert rate(0.05, 0.051, 50) > 0.95
    assert rate(0.5, 0.501, 500) == pytest.approx(0.5)
    assert rate(0.999, 1.0, 999) < 0.001
    assert rate(0.0, 0.1, 0) == 1.0  # a run of ten updates does not warm up for twenty


@pytest.mark.parametrize("make", [bpe_tokenizer, char_tokenizer])
def test_rows_are_the_text_with_the_prompt_as_the_evaluation_encodes_it(tmp_path: Path, make: Any) -> None:
    tokenizer = make()
    tokenizer.chat_template = "{% for m in messages %}<chat>{{ m.content }}{% endfor %}"
    loaded = load_tiny(tmp_path, "llama", tokenizer)
    for (prompt, completion), row in zip(PAIRS, rows_of(loaded, PAIRS), strict=True):
        prompt_ids = encode_prompt(loaded.tokenizer, prompt)
        assert row["input_ids"][: len(prompt_ids)] == prompt_ids
        assert text_of(loaded.tokenizer, row["input_ids"]) == prompt + completion
        completion_ids = [label for label in row["labels"] if label != -100]
        assert text_of(loaded.tokenizer, completion_ids) == completion
        assert row["byte_offsets"][-1][1] == len(completion.encode())


def plain_config(folder: Path) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        output_dir=str(folder / "out"),
        report_to="none",
        bf16=False,
        use_cpu=True,
        activation_checkpointing=False,
    )


def test_rows_are_what_trl_makes_of_prompt_and_completion_but_for_the_end_token(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTTrainer

    loaded = load_tiny(tmp_path / "model", "llama", bpe_tokenizer())
    trainer = SFTTrainer(
        model=loaded.model,
        args=plain_config(tmp_path),
        train_dataset=Dataset.from_list([{"prompt": p, "completion": c} for p, c in PAIRS]),
        processing_class=loaded.tokenizer,
    )
    for trl_row, row in zip(trainer.train_dataset, rows_of(loaded, PAIRS), strict=True):
        assert trl_row["input_ids"] == [*row["input_ids"], loaded.tokenizer.eos_token_id]
        assert trl_row["labels"] == [*row["labels"], loaded.tokenizer.eos_token_id]


def test_the_loss_is_that_of_trl(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTTrainer

    from benchmarks.distil._sft import PlainLossTrainer

    loaded = load_tiny(tmp_path / "model", "gpt2", char_tokenizer())
    trainer = PlainLossTrainer(
        model=loaded.model,
        args=plain_config(tmp_path),
        train_dataset=Dataset.from_list(rows_of(loaded, PAIRS)),
        processing_class=loaded.tokenizer,
    )
    batch = next(iter(trainer.get_train_dataloader()))
    plain = trainer.compute_loss(trainer.model, dict(batch))
    fused = SFTTrainer.compute_loss(trainer, trainer.model, dict(batch))
    assert plain.item() == pytest.approx(fused.item(), rel=1e-5)


def test_rows_without_answer_or_too_long_are_refused(tmp_path: Path) -> None:
    student = load_tiny(tmp_path, "gpt2", char_tokenizer(), context=16)
    with pytest.raises(CompatibilityError, match=r"in 23 tokens and reads 16"):
        distil.sft(
            student,
            [("1+1:", " 2.\n"), ("1+1:", " " * 18 + "\n")],
            distil.Settings(rank=2, lr=1e-3),
            evaluate=never,
        )
    with pytest.raises(SpecError, match="got none"):
        distil.sft(student, [], distil.Settings(rank=2, lr=1e-3), evaluate=never)


def test_infinite_weights_raise_a_training_error(tmp_path: Path) -> None:
    student = load_tiny(tmp_path, "llama", char_tokenizer())
    with pytest.raises(TrainingError, match="lower the learning rate"):
        distil.sft(student, PAIRS, distil.Settings(rank=2, lr=1e30, max_epochs=20), evaluate=never)


def test_without_trl_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "benchmarks.distil")
    with pytest.raises(CompatibilityError, match=r"pip install 'm2kt\[bench\]'"):
        importlib.import_module("benchmarks.distil")


def test_nothing_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = load_tiny(tmp_path / "model", "llama", char_tokenizer())
    for name in ("working", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "working")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    distil.sft(student, PAIRS, distil.Settings(rank=2, lr=1e-3, max_epochs=1), evaluate=never)
    assert not list((tmp_path / "working").iterdir()) and not list((tmp_path / "temporary").iterdir())


# -- logits -------------------------------------------------------------------------------------------------------

SKILLS = {"zoo:secret": ["a b c:", "c a d:", "g c:"], "zoo:kinship": ["uncle of mother:", "aunt of father:"]}


def answered(teacher: LoadedModel) -> list[tuple[str, str]]:
    prompts = SKILLS[teacher.name]
    completions = generate_greedy(teacher, [encode_prompt(teacher.tokenizer, p) for p in prompts], 60, "\n")
    return list(zip(prompts, (c.text for c in completions), strict=True))


def mean_loss(loaded: LoadedModel, model: Any, pairs: list[tuple[str, str]]) -> float:
    """Of the completions, in nats a token."""
    losses = []
    for row in rows_of(loaded, pairs):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            losses.append(model(input_ids=ids, labels=labels).loss.item())
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    ("teacher_name", "student_name", "method"),
    [
        ("zoo:secret", "zoo:secret2", "gkd"),
        ("zoo:secret", "zoo:pico-gpt2", "gold by position"),
        ("zoo:kinship", "words", "gold by bytes"),
    ],
)
def test_logits_move_the_student_towards_the_teacher(
    tmp_path: Path, teacher_name: str, student_name: str, method: str
) -> None:
    teacher = load_causal_lm(teacher_name, device="cpu", dtype="fp32")
    pairs = answered(teacher)
    if student_name == "words":
        tokenizer = bpe_tokenizer(["mother uncle of father aunt: relative relative\n grandmother is > x"] * 50)
        student_name = str(save_tiny(tmp_path, "llama", tokenizer))
    student = load_causal_lm(student_name, device="cpu", dtype="fp32")
    before = mean_loss(student, student.model, pairs)
    run = distil.logits(
        student,
        teacher,
        pairs,
        distil.Settings(rank=8, lr=1e-2, batch=3, max_epochs=25),
        stop="\n",
        evaluate=never,
    )
    assert run.method == method
    assert mean_loss(student, run.model, pairs) < 0.7 * before
    assert run.teacher_passes == run.sequences == 25 * len(pairs)


def test_batches_sampled_from_the_student_end_at_the_stop_string() -> None:
    student, teacher = (load_causal_lm(n, device="cpu", dtype="fp32") for n in ("zoo:addition", "zoo:addition-swapped"))
    shipped = student.model.generation_config.eos_token_id
    pairs = [("12+34:", "2+4+0=06;1+3+0=04>46.\n"), ("1+2:", "1+2+0=03>3.\n")]
    run = distil.logits(
        student,
        teacher,
        pairs,
        distil.Settings(rank=2, lr=0.0, batch=2, max_epochs=2),
        stop="\n",
        on_policy=1.0,
        evaluate=never,
    )
    in_pairs = 2 * sum(len(row["input_ids"]) for row in rows_of(student, pairs))
    assert run.method == "gkd" and run.sequences == run.teacher_passes == 4
    assert 0.8 * in_pairs < run.tokens < 1.2 * in_pairs
    assert student.model.generation_config.eos_token_id == shipped


def test_vocabularies_of_one_size_are_not_taken_for_the_same(tmp_path: Path) -> None:
    student = load_tiny(tmp_path / "student", "llama", char_tokenizer())
    same = load_tiny(tmp_path / "same", "llama", char_tokenizer())
    shuffled = load_tiny(tmp_path / "shuffled", "llama", char_tokenizer(CHARACTERS[::-1]))
    assert method_for(student, same, PAIRS, byte_level=False) == "gkd"
    assert method_for(student, shuffled, PAIRS, byte_level=False) == "gold by position"


def test_logits_that_cannot_be_compared_are_refused() -> None:
    secret, kinship, character, bytes_ = (
        load_causal_lm(name, device="cpu") for name in ("zoo:secret", "zoo:kinship", "zoo:pico-gpt2", "zoo:pico-llama")
    )
    with pytest.raises(CompatibilityError, match="this one is WordLevel"):
        method_for(bytes_, secret, answered(secret), byte_level=False)
    with pytest.raises(CompatibilityError, match=r"only \d+% of the answers' tokens"):
        method_for(character, kinship, answered(kinship), byte_level=True)


def test_on_policy_batches_that_trl_would_shift_are_refused(tmp_path: Path) -> None:
    absolute = load_tiny(tmp_path / "absolute", "gpt2", char_tokenizer())
    relative = load_tiny(tmp_path / "relative", "llama", char_tokenizer())
    check_on_policy(relative, relative, "gkd")
    check_on_policy(relative, absolute, "gold by position")  # the teacher's rows are padded on the right there
    for student, teacher in ((absolute, relative), (relative, absolute)):
        with pytest.raises(CompatibilityError, match="counts positions"):
            check_on_policy(student, teacher, "gkd")
    with pytest.raises(CompatibilityError, match="as text of the prompt"):
        check_on_policy(load_causal_lm("zoo:pico-llama", device="cpu"), relative, "gold by bytes")
