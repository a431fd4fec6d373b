"""Whether a name is one of lm-eval's own tasks, read from the files of its package. Imports neither torch nor lm-eval."""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Every name that a task file gives: after `task`, `group` or `tag`, or as an item of their lists; those of members, too.
_NAME = re.compile(
    r"""^[ \t]*(?:-[ \t]*)?(?:["']?(?:task|group|tag)["']?[ \t]*:[ \t]*)?["']?([^\s"'#:,\[\]{}]+)["']?[ \t]*(?:#.*)?\r?$""",
    re.M,
)


def unknown_task(name: str) -> str | None:
    """What is wrong with the name of a task that is no file, in words; None if one of lm-eval's files has it.

    lm-eval's own look at its 14,000 files takes 15 s; this one a second at most, and next to none for a task that lies in a
    folder of its own name.
    """
    folder = _folder()
    if folder is None or any(mark in name for mark in "*?["):
        return None
    near: set[str] = set()
    for path in files_likely_first(folder, name):
        names = names_in(path)
        if name in names:
            return None
        near |= {found for found in names if found[:1] == name[:1]}
    guess = difflib.get_close_matches(name, sorted(near), n=1)
    return "is none of lm-eval's tasks." + (f" Did you mean {guess[0]!r}?" if guess else "")


def names_in(path: Path) -> set[str]:
    """Names of tasks, groups and tags that a file gives, those of members among them."""
    return set(_NAME.findall(path.read_text(encoding="utf-8", errors="replace")))


def _folder() -> Path | None:
    spec = find_spec("lm_eval")
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) / "tasks" if places else None


def files_likely_first(folder: Path, name: str) -> list[Path]:
    """Every task file; before the others those in a folder that shares the name's first word."""
    word = re.split(r"[_\-.]", name)[0]
    return sorted(_files(folder), key=lambda path: not path.parts[len(folder.parts)].startswith(word))


@cache
def _files(folder: Path) -> tuple[Path, ...]:
    # What a task file includes may have any name, such as `_template_yaml` or `flores`.
    found = (path for path in folder.rglob("*") if path.suffix in ("", ".yaml", ".yml") and path.is_file())
    return tuple(sorted(found))
