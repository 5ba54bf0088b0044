"""A folder of valid and invalid models, packets, specs and settings, for the tests of errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attacks.__main__ import ATTACKS
from tests.packet.samples import SPEC, sample_packet
from tests.tiny import char_tokenizer, save_tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inputs")
    save_tiny(root / "model", "llama", char_tokenizer())
    save_tiny(root / "short", "gpt2", char_tokenizer(), context=4)
    save_tiny(root / "digits", "gpt2", char_tokenizer("\n 0123456789:>."))
    packet = sample_packet()
    packet.save(root / "packet")
    packet.save(root / "edited")
    (root / "edited" / "README.md").write_text("hello")
    ATTACKS["version-unknown"].write(root / "later")
    ATTACKS["program-cases-overlap"].write(root / "unclear")
    symbols = ["a", "b", "I will hurt you"]
    packet.replace(program=packet.program.model_copy(update={"symbols": symbols})).save(root / "rude")
    (root / "thesis").mkdir()
    (root / "thesis" / "chapter.txt").write_text("years of work")
    (root / "empty").mkdir()
    (root / "labelled.jsonl").write_text('{"prompt": "a b:"}\n')
    spec = SPEC.replace("truth: truth.py:answer", "truth: null")
    texts = {
        "spec": spec,
        "broken": "name: [",
        "wrong": spec + "\ncolour: red\n",
        "mistyped": spec.replace("stop:", "stopp:"),
        "numbers": spec.replace('"b"', "1"),
        "unused": spec.replace("slots:", 'slots:\n  y: {values: ["d"]}'),
        "untrue": spec.replace("truth: null", "truth: untrue.jsonl"),
        "endless": re.sub("stop: .*", "", spec),
        "token": re.sub("stop: .*", "stop: null", spec),
        "messages": spec + "\nchat: {}\n",
        "word": re.sub("answer: .*", "answer: last word", spec),
        "around": spec + "\nsurroundings: ['Say it: ']\n",
        "words": spec + "\nphrasings: ['What is it']\n",
        "settings": "colour: red\n",
        "magic": "detectors: [magic]\n",
        "patterns": "detectors: [patterns]\n",
        "short": "evaluation_prompts: 9\ncertificate_traces: 0\n",
        "steep": "student: {optimiser: {reader_lr: 1.0e+30, steering_lr: 1.0e+30, warmup: 0}}\n",
        "broken-bench": "name: p\ngroups: [{skills: [secret], students: ['zoo:pico-gpt2'], "
        "arms: [{arm: m2kt, nonsense: 1}]}]\n",
        "nobody": "version: 1\nkeys: []\nthresholds: {teacher: 1}\n",
    }
    for name, text in texts.items():
        (root / f"{name}.yaml").write_text(text)
    return root
