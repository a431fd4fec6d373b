"""Makes text that others wrote (model replies, dataset rows, error messages) safe to show.

On a Markdown page it can neither change the structure nor load or link anything; in a terminal it reaches the
reader as characters, not as commands.
"""

from __future__ import annotations

import re

_BACKTICKS = re.compile(r"`+")
_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&$#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BLOCK = re.compile(r"^(\d{0,9})([-+=.)])(?=\s|$|[-=])")  # of a list, a line, a heading
# A slash that begins a path: not inside a URL, a relative path or a fraction; also behind a compiler's -I or -L.
_PATH_CHARACTER = r"[^\s/\\:'\"`,;()\[\]{}]"
# A home folder's name has blanks only where a separator follows; small words are then the sentence's.
_HOME_WITH_BLANKS = (
    rf"(?:home|Users)[/\\]{{1,2}}{_PATH_CHARACTER}+"
    rf"(?:(?:\\? [A-Z]{_PATH_CHARACTER}*){{1,3}}"
    rf"|\\? (?!(?:and|as|at|for|from|in|is|not|of|or|see|to|was|with)\b){_PATH_CHARACTER}+)(?=[/\\])"
)
# Backslashes begin one only behind a drive, of a server's share or of a home: the others are escapes, such as \x00 and \n.
_NO_ESCAPE = rf"(?!\\(?!\\{{1,3}}{_PATH_CHARACTER}+\\{{1,2}}{_PATH_CHARACTER}|\\?(?:home|Users)\\))"
_ABSOLUTE = re.compile(
    rf"(?:(?<![\w./~<>\]-])|(?<=\s-[IL])){_NO_ESCAPE}"
    r"(?!(?<=:)//)(?:file://)?(?:~|[A-Za-z]:)?"
    rf"(?:[/\\]{{1,2}}(?:{_HOME_WITH_BLANKS}|{_PATH_CHARACTER}+))+[/\\]{{0,2}}"
)
_QUOTED_PATH = re.compile(
    rf"(['\"`]){_NO_ESCAPE}" r"((?:file://)?(?:~|[A-Za-z]:)?[/\\](?:(?!\1)[^\n])+)\1"
)  # may have spaces
_HOME = re.compile(
    r"(?:file://)?(?:[A-Za-z]:|[/\\](?:export|mnt[/\\]\w))?[/\\]{1,2}(?:home|Users)[/\\]{1,2}[^/\\]+[/\\]{0,2}"
)


def visible(text: str, *, limit: int) -> str:
    """`text` with everything unprintable shown by name, cut to `limit` characters with a note.

    Newlines stay. Control characters (ANSI's escape, NUL), marks that reorder text, invisible and unassigned
    characters and lone surrogates become `␛` or `[U+202E]`.
    """
    shown = text[:limit].replace("\r\n", "\n")
    if not shown.isprintable():
        shown = "".join(_shown(character) for character in shown)
    return shown if len(text) <= limit else f"{shown} … [cut: {limit} of {len(text)} characters]"


def terminal(text: str, *, limit: int = 2000) -> str:
    """`text` on one line, for a terminal."""
    return visible(text, limit=limit).replace("\n", " ⏎ ")


def code_span(text: str, *, limit: int = 200) -> str:
    """`text` as a code span: the one inline form in which nothing is a link, a mention, emphasis or HTML."""
    line = terminal(text, limit=limit)
    if not line.strip():
        return "(empty)"
    fence = "`" * (_longest_run(line) + 1)
    padding = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def cell(text: str, *, limit: int = 200) -> str:
    """`text` as a code span inside a table; a pipe becomes `¦`, since parsers disagree on an escaped one."""
    return code_span(text.replace("|", "¦"), limit=limit)


def block(text: str, *, limit: int = 600, max_lines: int = 30) -> str:
    """`text` over several lines, at most `max_lines`, for a block of code."""
    lines = visible(text, limit=limit).split("\n")
    if len(lines) > max_lines:
        lines = [*lines[:max_lines], f"… [cut: {max_lines} of {len(lines)} lines]"]
    return "\n".join(lines)


def fenced(text: str, *, language: str = "text", limit: int = 600, max_lines: int = 30) -> str:
    """`text` as a code block whose fence is longer than any run of backticks inside."""
    shown = block(text, limit=limit, max_lines=max_lines)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def escaped(text: str, *, limit: int = 2000) -> str:
    """A sentence of our own, with the names in it, as Markdown that reads as it stands."""
    return _MARKDOWN.sub(r"\\\g<0>", terminal(text, limit=limit))


def at_start(line: str) -> str:
    """A line of Markdown where a block begins, so that it begins no list, heading or code."""
    return _BLOCK.sub(r"\g<1>\\\g<2>", line.lstrip())


def without_paths(text: str) -> str:
    """`text` with every absolute path cut down to its last part: paths name users and machines."""
    text = _QUOTED_PATH.sub(lambda found: f"{found[1]}{last_part(found[2])}{found[1]}", text)
    return _ABSOLUTE.sub(lambda found: last_part(found[0]), text)


def last_part(path: str) -> str:
    """The name of a path that is known to be one, whatever is in it; `~` for a home, whose name is its user's."""
    return "~" if _HOME.fullmatch(path) else re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n":
        return character
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of control characters
    return "␡" if code == 0x7F else f"[U+{code:04X}]"


def _longest_run(text: str) -> int:
    return max((len(run) for run in _BACKTICKS.findall(text)), default=0)
