"""What is installed: the two packages, all of them, and a lock that pins every version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = [
    line
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def test_every_package_folder_is_listed_and_none_else() -> None:
    folders = {
        ".".join(path.relative_to(ROOT).parent.parts)
        for name in ("harness", "pipelines")
        for path in (ROOT / name).rglob("*.py")
    }
    mapped = set(PROJECT["tool"]["setuptools"]["package-dir"])
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders | mapped


def test_the_lock_pins_every_package_to_one_version() -> None:
    assert [line for line in LOCK if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.!]*", line)] == []
    assert "torch==2.13.0" in LOCK


def test_the_lock_holds_every_dependency_of_the_project() -> None:
    locked = {_canonical(line.partition("==")[0]) for line in LOCK}
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    assert {_canonical(re.split(r"[<>=\[ ]", one)[0]) for one in wanted} <= locked


@pytest.mark.slow
def test_the_wheel_holds_just_the_two_packages(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("harness", "pipelines", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(tree)]
    if int(version("setuptools").split(".")[0]) >= 77:
        build.insert(4, "--no-build-isolation")
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"harness", "pipelines"}
    assert {"harness/trainer_fields.json", "harness/templates/starter.yaml"} <= set(names)
    shapes = {path.name for path in (ROOT / "configs" / "models").glob("*.json")}
    assert {f"pipelines/forecast/models/{name}" for name in shapes} <= set(names)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
