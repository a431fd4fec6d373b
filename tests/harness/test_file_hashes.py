"""Contents decide, not times: a touched file keeps its hash, an edited one loses it however well it hides."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from harness import file_hashes
from harness.file_hashes import cache_file, content_hash
from harness.planning import make_plan
from tests.harness.fixtures_results import Run


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", -1.0)  # no test waits for its files to settle


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_is_read_once_as_long_as_nothing_touches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc" * 1000)
    first = content_hash(weights, big=1)
    assert first == sha256(weights)
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert content_hash(weights, big=1) == first


def test_an_edit_of_the_same_size_whose_time_is_put_back_is_noticed(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc" * 1000)
    before, first = weights.stat(), content_hash(weights, big=1)
    with weights.open("r+b") as file:
        file.write(b"x")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert content_hash(weights, big=1) == sha256(weights) != first


def test_a_file_that_has_just_changed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", 3600.0)
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc")
    content_hash(weights, big=1)
    assert not cache_file().exists()


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', "{"])
def test_a_damaged_cache_is_none(tmp_path: Path, text: str) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"abc")
    cache_file().parent.mkdir(parents=True)
    cache_file().write_text(text)
    assert content_hash(weights, big=1) == sha256(weights)
    assert list(json.loads(cache_file().read_text())) == [str(weights)]


def test_a_models_stages_keep_their_ids_when_it_is_touched_or_moved_and_lose_them_when_it_is_edited(
    tmp_path: Path,
) -> None:
    def ids(folder: Path) -> list[str]:
        return [
            stage.id for stage in make_plan(Run(changes={"model": {"name": str(folder)}}).comparison()).stages
        ]

    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"abc" * 1000)
    before = ids(model)
    os.utime(model / "model.safetensors", (1, 1))
    assert ids(model) == before
    moved = model.rename(tmp_path / "moved")
    assert ids(moved) == before
    status = (moved / "model.safetensors").stat()
    (moved / "model.safetensors").write_bytes(b"abd" * 1000)
    os.utime(moved / "model.safetensors", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not set(ids(moved)) & set(before)
