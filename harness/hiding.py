"""Hides in a text what opens a door (keys, passwords) and what names a machine or a user; ordinary words stay.

Every pattern begins where a word does and is bounded or cannot backtrack: hostile text of a million characters takes no
longer than its length.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath

from harness.config import Comparison
from harness.hostile import last_part, without_paths

HIDDEN = "[hidden]"

# What services give out as keys, `name:word@` in an address, `user@host` (a sweep names its points `arm@2`), a host by
# name, by private address or by its port, in the words of torch, NCCL, ssh and requests.
_KNOWN = re.compile(
    r"\b(?:hf_|gh[opsur]_|github_pat_|sk-|glpat-|nvapi-|xox[abp]-|AKIA)[A-Za-z0-9_-]{8,}"
    r"|(?<![\w.-])eyJ[\w-]{8,}\.[\w-]+\.[\w-]*"
    r"|(?<=://)[^\s/@]+@(?:(?!localhost)[\w-]+(?![\w.@-]))?|(?i:bearer )[\w.~+/-]{8,}=*"
    r"|(?<=(?i:authorization: ))(?i:basic )[\w+/-]+=*"
    r"|(?<![\w.-])[\w.-]+@[A-Za-z][\w-]*(?:\.[\w-]+)*(?![\w@])"
    r"|(?<![\w.-])[\w-]+(?:\.[\w-]+)*\.(?:internal|intranet|local|localdomain|lan|corp)(?:\.[\w-]+)*(?![\w@])"
    r"|(?:(?<=http://)|(?<=https://)|(?<=tcp://))(?!localhost)[\w-]+(?![\w.@-])"
    r"|(?<![\w\]])\[(?!localhost\])[A-Za-z\d:][\w.:%-]*\](?=:\d{4,5}(?!\d))"
    r"|(?<![\w.-])[A-Za-z][\w.-]*(?=:\d+:\d+ \[\d+\] )"
    r"|(?<=\()(?!localhost,)[A-Za-z][\w.-]*(?=, \d{4,5}\))"
    r"|(?<![\w./@:-])(?!localhost:)(?=[A-Za-z_]+[\d-])[A-Za-z][\w-]*(?=:\d{4,5}(?![\w.:]))"
    r"|(?:(?<=connect to host )|(?<=resolve hostname )|(?<=resolve host: ))(?!localhost)[\w.-]*\w"
    r"|(?<![\w.])(?:10\.\d{1,3}|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2}(?![\w.])"
)

# `name=`, `name: `, `"name": `, behind it a value.
_NAME = re.compile(
    r"(?<![\w-])(?P<name>(?:(?:api|access|auth|private|secret) )?"
    r"[\w-]{0,60}(?:key|token|secret|password|passwd|passphrase|pwd|_pass|host|hostname|addr|username|user|logname))"
    r"(?P<quote>\\?[\"']|)(?: provided)?[ \t]{0,8}(?P<sign>=>|:=|=(?!=)|:(?!:))[ \t]{0,8}",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"\\\"[^\"\\\n]*(?:\\\")?|\\'[^'\\\n]*(?:\\')?|\"(?:[^\"\\\n]|\\.)*\"?|'(?:[^'\\\n]|\\.)*'?"
    r"|(?:[^\s&'\"`,;)}\]\\]|\\(?![\"'n]))+"
)
_FIELD_ENDS = re.compile(r"[ \t]{0,8}(?:[\n,;})\]]|[\"'`](?!\w)|$)")
_LOOKED_AT = 200  # characters of a value that tell what it is

_DOOR = re.compile(
    r"(?i:(?:api|access|account|auth|client|encryption|license|private|secret|service|shared|signing|ssh|storage|"
    r"subscription)[ _-]?key|secret|password|passwd|passphrase)$|(?-i:[A-Z\d]_(?:KEY|PASS))$|(?i:(?<![a-z])pwd)$(?<!PWD)"
)
_TOKEN = re.compile(r"token$", re.IGNORECASE)
# Of a vocabulary, of a model's replies and counts.
_NO_DOOR_TOKEN = re.compile(
    r"(?:bos|eos|eot|eom|pad|padding|unk|sep|cls|mask|image|audio|video|special|stop|start|end|first|last|new|next|"
    r"previous|prompt|max|min|num|per|each|unexpected)[_-]?token$",
    re.IGNORECASE,
)
_WHO = re.compile(
    r"^-*(?:(?:master|remote|node|server)[_-])?(?:host|hostname|addr)$|^-*username$", re.IGNORECASE
)
_WHO_RUNS = re.compile(r"^(?:USER|LOGNAME|USERNAME|HOST)$")
_NO_SECRET = frozenset(("", "none", "null", "true", "false", "localhost", "127.0.0.1", "0.0.0.0"))


def public(text: str) -> str:
    """`text` without what names a machine or a user, or opens a door."""
    return without_paths(without_secrets(text))


def public_path(path: str) -> str:
    """A path out of a config, which may have blanks and quotes: its last part, if it is absolute; else as `public`."""
    absolute = (
        PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute() or path.startswith("~")
    )
    return without_secrets(last_part(path)) if absolute else public(path)


def path_names(comparison: Comparison) -> dict[str, str]:
    """The config's paths to their names, those of which no pattern tells in running text where they end."""
    paths = [comparison.model.name, comparison.data.path]
    if comparison.sft.data is not None:
        paths.append(comparison.sft.data.path)
    names = {path: public_path(path) for path in sorted(paths, key=len, reverse=True)}
    return {path: name for path, name in names.items() if name and name != public(path)}


def without_named(text: str, names: dict[str, str]) -> str:
    """`text` with each of these paths replaced by its name."""
    for path, name in names.items():
        text = text.replace(path, name)
    return text


def without_secrets(text: str) -> str:
    """`text` without keys, users and hosts; paths stay."""
    return _KNOWN.sub(HIDDEN, _without_assigned(text))


def opens_a_door(name: str) -> bool:
    """Whether what is called so (`api_key`, `--password`, `HF_TOKEN`) is a secret; `eos_token` and `key` are none."""
    return bool(_DOOR.search(name)) or _is_token(name)


def _without_assigned(text: str) -> str:
    parts, end = [], 0
    for found in _NAME.finditer(text):
        start = found.end()
        value = _VALUE.match(text, start, start + _LOOKED_AT)
        if found.start() < end or value is None or not _hides(found, value):
            continue
        whole = _VALUE.match(text, start)
        assert whole is not None
        parts += [text[end:start], HIDDEN]
        end = whole.end()
    return "".join([*parts, text[end:]])


def _hides(found: re.Match[str], value: re.Match[str]) -> bool:
    """Whether a value is to be hidden: behind `=` and in JSON any, in running text one that looks like a secret."""
    name, word = found["name"], value[0].strip("\\\"'")
    if word.lower() in _NO_SECRET or HIDDEN[:-1] in word:
        return False
    equals = "=" in found["sign"]
    if _is_token(name):
        return not word.isdecimal() if equals else _is_like_a_key(word)
    if _WHO_RUNS.search(name):
        return equals
    if not _DOOR.search(name) and not _WHO.search(name):
        return False
    if equals or found["quote"] or _is_like_a_key(word):
        return True
    return name.lower() not in ("secret", "host") and _FIELD_ENDS.match(value.string, value.end()) is not None


def _is_token(name: str) -> bool:
    return bool(_TOKEN.search(name)) and not _NO_DOOR_TOKEN.search(name)


def _is_like_a_key(word: str) -> bool:
    if len(word) < 8:
        return False
    return bool(re.search(r"\d", word) and re.search(r"[A-Za-z]", word)) or bool(
        re.fullmatch(r"[\w+/=.~-]{20,}", word)
    )
