"""Hashes of the project's own code: which files a stage uses, found by their imports, and what they say; the libraries."""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("harness", "pipelines")


@cache
def code_hashes(
    *modules: str, dispatchers: frozenset[str] = frozenset(), leave_out: frozenset[str] = frozenset()
) -> dict[str, str]:
    """A hash of each of `modules` and of every module of this project that they import, however deep, by module.

    Comments, docstrings and layout do not count: they cannot change a result.

    Args:
        modules: Dotted names such as `pipelines.data.prepare`.
        dispatchers: Modules of which only the imports at the top are followed: those inside functions are of one kind of
            work each.
        leave_out: Modules that do not count, nor what only they import.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found | leave_out:
            found.add(name)
            imported = _imports_at_top(name) if name in dispatchers else _imports(name)
            waiting.extend(
                module for module in imported if module.split(".")[0] in PACKAGES and _path(module)
            )
    return {name: hashlib.sha256(_normalised(name).encode()).hexdigest()[:16] for name in sorted(found)}


def libraries_of(modules: Iterable[str]) -> set[str]:
    """Names of the packages that are neither Python's nor this project's and that `modules` import, such as `lm_eval`."""
    named = {name.split(".")[0] for module in modules for name in _imports(module)}
    return named - sys.stdlib_module_names - set(PACKAGES)


@cache
def _imports(module: str) -> frozenset[str]:
    """What `module` imports anywhere in its text, also inside functions."""
    return _named_by(ast.walk(_tree(module)))


@cache
def _imports_at_top(module: str) -> frozenset[str]:
    return _named_by(_tree(module).body)


def _named_by(nodes: Iterable[ast.AST]) -> frozenset[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


@cache
def _normalised(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


@cache
def _tree(module: str) -> ast.Module:
    path = _path(module)
    if path is None:
        raise ModuleNotFoundError(module)
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _path(module: str) -> Path | None:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None
