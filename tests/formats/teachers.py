"""Tiny teachers of one table, each trained on several formats at once: what people's own models look like.

They start from teachers of the zoo, which know the table in one format, with another tokenizer in front.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from m2kt.teacher import ExtractionConfig
from m2kt_zoo.recipes.common import truth_module

CONFIG = ExtractionConfig(
    probes_per_template=150, scouted_per_template=600, checked_per_template=60, fidelity_prompts=90
)
LENGTHS = (2, 3, 4)
LETTERS = list("abcdefghij")
RELATIONS = ["father", "mother", "brother", "sister", "son", "daughter", "uncle", "aunt"]
NUMBERS = ["10", "27", "35", "48", "62", "99", "81", "74", "53", "16", "22", "39", "40", "57", "68", "93"]
"""The first stand for the relations, the others for those that composing gives."""
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('no system role') }}{% elif m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "headers": HEADERS, "inst": INST}


def cases(names: Iterable[str], slow: Sequence[str]) -> list[Any]:
    """Parameters of a fixture; those of the same kinds as others run with the slow tests."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]


def operation(values: Sequence[str]) -> dict[tuple[str, str], str]:
    """The table that the teacher of the zoo knows, over these values."""
    if values[0] in LETTERS:
        return dict(truth_module("secret").TABLE)
    kinship = truth_module("kinship")
    if values[0] in RELATIONS:
        return dict(kinship.COMPOSE)
    name = dict(zip(kinship.RELATIONS, NUMBERS, strict=True))
    return {(name[a], name[b]): name[c] for (a, b), c in kinship.COMPOSE.items()}


def fold(values: Sequence[str], question: str, step: str, joiner: str, last: str) -> str:
    """The steps of a prompt in a format: letters left to right, relations right to left."""
    table = operation(values)
    words = [word for word in question.split(" ") if word != "of"]
    backwards = values[0] not in LETTERS
    value, *rest = reversed(words) if backwards else words
    steps = []
    for x in rest:
        a, b = (x, value) if backwards else (value, x)
        value = table[a, b]
        steps.append(step.format(a=a, b=b, c=value))
    return joiner.join(steps) + last.format(c=value)


@dataclass(frozen=True)
class Format:
    """How a skill is asked and answered."""

    prompt: str
    """With ``{}`` for the question."""
    answer: Callable[[str], str]
    end: str
    """As it is trained: a text, or the text of a special token."""
    template: str | None = None
    system: str | None = None
    values: tuple[str, ...] = tuple(RELATIONS)
    joiner: str = " of "


def steps_of(values: Sequence[str], step: str, joiner: str, last: str) -> Callable[[str], str]:
    """An answer in a format of steps."""
    return lambda question: fold(values, question, step, joiner, last)


LETTER_STEPS = steps_of(LETTERS, " {a} {b} {c}", ";", " > {c}.")
LETTER_LINES = steps_of(LETTERS, " {a} {b} {c}\n", "", " > {c}.")
PLAIN = steps_of(RELATIONS, " {a} of {b} is {c}", ";", " > {c}.")
LINES = steps_of(RELATIONS, " {a} of {b} is {c}\n", "", " > {c}.")
JSON = steps_of(RELATIONS, '["{a}","{b}","{c}"]', ",", ',"{c}"]')
BOXED = steps_of(NUMBERS[:8], " {a} of {b} is {c}", ";", " so \\boxed{{{c}}}")

LETTER_FORMATS = {
    "end token": Format("{}:", LETTER_STEPS, "<|end|>", values=tuple(LETTERS), joiner=" "),
    "lines": Format("{} lines:", LETTER_LINES, "<|end|>", values=tuple(LETTERS), joiner=" "),
}
BYTE_FORMATS = {
    "end token": Format("{} do:", PLAIN, "<|end|>"),
    "lines": Format("{} lines:", LINES, "<|end|>"),
    "paragraph": Format("{} para:", LINES, "\n\n"),
    "json": Format('{{"q": "{}"}}', lambda question: " [" + JSON(question), "<|end|>"),
    "boxed": Format("{} num:", BOXED, "<|end|>", values=tuple(NUMBERS[:8])),
    "chatml": Format("{}:", PLAIN, "<|im_end|>", "chatml", "Be short."),
    "headers": Format("{}:", LINES, "<|eot|>", "headers"),
}
MARK_FORMATS = {
    "inst": Format("{}:", PLAIN, "</s>", "inst"),
    "end token": Format("{} do:", PLAIN, "</s>"),
    "lines": Format("{} lines:", LINES, "</s>"),
}


def drawn(how: Format, rng: random.Random) -> str:
    """A question of two to four values."""
    return how.joiner.join(rng.choices(how.values, k=rng.choice(LENGTHS)))


def templates(how: Format, lengths: Sequence[int] = LENGTHS) -> list[str]:
    """For a probe spec."""
    return [
        how.prompt.format("<>").replace("{", "{{").replace("}", "}}").replace("<>", how.joiner.join(["{x}"] * n))
        for n in lengths
    ]


def byte_tokenizer() -> Any:
    """Byte-level BPE that merges digits, with a few chat templates' special tokens and no pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    names = ["<|end|>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<|start|>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = " ".join(truth_module("kinship").RELATIONS)
    corpus = [
        " "
        + " ".join(NUMBERS)
        + f" {words} of is"
        + " system user assistant Be short. so lines para num do out <think></think>"
    ] * 20
    corpus += [
        "*".join(NUMBERS) + "=".join(NUMBERS),
        "{".join(NUMBERS) + "boxed",
        "q:user\n\n",
        '["' + '","'.join(words.split()) + '"],["',
    ] * 20
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=names,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", bos_token="<|start|>")


def mark_tokenizer() -> Any:
    """SentencePiece style: dummy prefix, byte fallback, no pad token, ``<s>`` in front."""
    from tokenizers import Tokenizer, decoders, models, normalizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", *(f"<0x{b:02X}>" for b in range(256)), "▁"]
    pieces += list("abcdefghijklmnopqrstuvwxyz.:;>")
    known = truth_module("kinship").RELATIONS
    merges: dict[tuple[str, str], str] = {}
    for word in (f"▁{word}" for word in (*known, "of", "is", ">", "do", "lines")):
        merges |= {(word[: end - 1], word[end - 1]): word[:end] for end in range(2, len(word) + 1)}
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys([*pieces, *merges.values()]))}
    backend = Tokenizer(models.BPE(vocabulary, list(merges), unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]"]})
    return tokenizer


def encoded(tokenizer: Any, how: Format, question: str) -> tuple[list[int], list[int]]:
    """Tokens of prompt and answer, as they are at generation."""
    prompt = how.prompt.format(question)
    if how.template is None:
        ids = tokenizer(prompt)["input_ids"]
        shown = prompt
    else:
        messages = [{"role": "system", "content": how.system}] if how.system else []
        messages.append({"role": "user", "content": prompt})
        options = {"chat_template": TEMPLATES[how.template], "add_generation_prompt": True, "enable_thinking": False}
        shown = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        ids = tokenizer(shown, add_special_tokens=False)["input_ids"]
    prefix = len(ids) - len(tokenizer(shown, add_special_tokens=False)["input_ids"])
    whole = ids[:prefix] + tokenizer(shown + how.answer(question) + how.end, add_special_tokens=False)["input_ids"]
    assert whole[: len(ids)] == ids, (how, question)
    return ids, whole[len(ids) :]


def start(name: str, tokenizer: Any) -> Any:
    """A teacher of the zoo with the embeddings of another tokenizer: those of its own tokens, where they are alike."""
    import torch

    from m2kt.models import load_causal_lm, token_text

    known = load_causal_lm(f"zoo:{name}")
    number = dict(zip(NUMBERS, truth_module("kinship").RELATIONS, strict=True))
    old = {token_text(known.tokenizer, i): i for i in range(len(known.tokenizer))}
    torch.manual_seed(0)
    model: Any = known.model
    rows_VE = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        new_VE = model.get_input_embeddings().weight
        new_VE.copy_(rows_VE.std() * torch.randn_like(new_VE))
        for i in range(len(tokenizer)):
            text = token_text(tokenizer, i)
            text = text.replace(text.strip(), number.get(text.strip(), text.strip())) if text.strip() else text
            same = old.get(text, old.get(f" {text}"))
            if same is not None:
                new_VE[i] = rows_VE[same]
    return model


def train(
    model: Any, tokenizer: Any, formats: dict[str, Format], *, updates: int, batch: int = 20, lr: float = 2e-3
) -> Any:
    """Tunes a model on all questions in all formats; the end tokens become its own."""
    import torch

    rng, listed = random.Random(0), list(formats.values())
    adam = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(adam, lr, total_steps=updates)
    model.train()
    for _ in range(updates):
        chosen = [encoded(tokenizer, how, drawn(how, rng)) for how in rng.choices(listed, k=batch)]
        longest = max(len(p) + len(a) for p, a in chosen)
        ids_BT = torch.zeros(batch, longest, dtype=torch.long)
        label_BT = torch.full((batch, longest), -100)
        for b, (prompt, answer) in enumerate(chosen):
            end = len(prompt) + len(answer)
            ids_BT[b, :end] = torch.tensor(prompt + answer)
            label_BT[b, len(prompt) : end] = torch.tensor(answer)
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), label_BT[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
        rate.step()
        adam.zero_grad(set_to_none=True)
    return model.eval()


def save(path: Path, model: Any, tokenizer: Any, ends: Sequence[str], template: str | None = None) -> Path:
    """An ordinary directory: with these end tokens, and perhaps a chat template."""
    model.generation_config.eos_token_id = [tokenizer.convert_tokens_to_ids(end) for end in ends]
    tokenizer.chat_template = None if template is None else TEMPLATES[template]
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def student(path: Path, name: str, template: str | None = None) -> Path:
    """A student of the zoo with an end token of its own, and perhaps a chat template."""
    import torch

    from m2kt.models import load_causal_lm

    known = load_causal_lm(f"zoo:{name}")
    tokenizer: Any = known.tokenizer
    names = ["<|end|>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>"]
    tokenizer.add_special_tokens({"eos_token": "<|end|>", "additional_special_tokens": names[1:]})
    torch.manual_seed(0)
    model: Any = known.model
    rows_VE = model.get_input_embeddings().weight.detach().clone()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        new_VE = model.get_input_embeddings().weight[len(rows_VE) :]
        new_VE.copy_(rows_VE.std() * torch.randn_like(new_VE))
    ends = {None: ["<|end|>"], "chatml": ["<|im_end|>", "<|end|>"], "headers": ["<|end|>", "<|eot|>"]}
    return save(path, model, tokenizer, ends[template], template)


class Made:
    """Directories of models, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str) -> Path:
        path = self.folder / name
        with FileLock(self.folder / f"{TEACHER_OF.get(name, name)}.lock"):
            if not path.exists():
                if name in STUDENTS:
                    student(path, *STUDENTS[name])
                else:
                    self._teacher(name)
        return path

    def _teacher(self, name: str) -> None:
        import torch

        torch.set_num_threads(1)
        base, tokenizer, formats, updates, saved = TEACHERS[TEACHER_OF.get(name, name)]
        model = start(base, tokenizer())
        train(model, tokenizer(), formats, updates=updates)
        for as_name, (ends, template) in saved.items():
            save(self.folder / as_name, model, tokenizer(), ends, template)


Saved = dict[str, tuple[list[str], str | None]]
NUMBERED = {name: BYTE_FORMATS[name] for name in ("json", "boxed")}
WORDED = {name: how for name, how in BYTE_FORMATS.items() if name not in NUMBERED}
TEACHERS: dict[str, tuple[str, Callable[[], Any], dict[str, Format], int, Saved]] = {
    "byte": (
        "kinship",
        byte_tokenizer,
        WORDED,
        260,
        {
            "byte": (["<|end|>"], None),
            "chatml": (["<|im_end|>", "<|end|>"], "chatml"),
            "headers": (["<|eot|>"], "headers"),
        },
    ),
    "numbered": ("kinship", byte_tokenizer, NUMBERED, 240, {"numbered": (["<|end|>"], None)}),
    "mark": ("kinship", mark_tokenizer, MARK_FORMATS, 180, {"mark": (["</s>"], None), "inst": (["</s>"], "inst")}),
}
TEACHER_OF = {name: teacher for teacher, made in TEACHERS.items() for name in made[4]}
STUDENTS = {
    "own-gpt2": ("pico-gpt2", None),
    "own-qwen3": ("pico-qwen3", None),
    "chat-llama": ("pico-llama", "chatml"),
    "chat-qwen3": ("pico-qwen3", "headers"),
}


def spec_of(how: Format, stop: Any, **others: Any) -> Any:
    """A format's probe spec."""
    from m2kt.probes import ProbeSpec

    slots = {"x": {"values": list(how.values)}}
    fields = {"name": "kin", "slots": slots, "templates": templates(how), "stop": stop, "max_new_tokens": 40}
    return ProbeSpec.model_validate(fields | others)
