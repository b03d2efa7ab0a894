"""Small faults put into a Lua script, one at a time. Rule: pure; every fault still compiles, none is in a comment.

No kept tool mutates Lua. The faults are those of the Python side's: another comparison, another sign, a figure that is
off by one, a condition that always or never holds, a word turned around, an option or a whole statement left out.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from lupa import lua51

# Longest first. What is not in here, as a name or a bracket, is stepped over one character at a time.
_TOKEN: Final = re.compile(r"--[^\n]*|'[^'\n]*'|\"[^\"\n]*\"|\d+(?:\.\d+)?|[A-Za-z_]\w*|==|~=|<=|>=|\.\.|[-+*/%<>#]|\S")
_INSTEAD: Final = {
    "==": ("~=",), "~=": ("==",), "<": ("<=",), "<=": ("<",), ">": (">=",), ">=": (">",),
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "%": ("*",),
    "and": ("or",), "or": ("and",), "true": ("false",), "false": ("true",), "not": ("",),
}  # fmt: skip
_CONDITION: Final = re.compile(r"\b(if|elseif|while) (.+) (then|do)$")
_STATEMENT: Final = re.compile(r"^(redis\.)?call\(.*\)$|^(break|return\b.*)$|^[\w.\[\]# +]+ = [^{]*$")
_OPTION: Final = re.compile(r", '(?:NX|XX|EX|PX|EXAT)'")


class Fault(NamedTuple):
    """A script with one fault: the number of its line from 1, the line as it was and as it is, and the whole text."""

    line: int
    was: str
    becomes: str
    text: str


def faults(script: str) -> Iterator[Fault]:
    """Yield `script` with each fault that can be put into one of its lines."""
    lua = lua51.LuaRuntime()
    lines = script.split("\n")
    for number, line in enumerate(lines, start=1):
        for changed in dict.fromkeys(_changed(line)):
            text = "\n".join([*lines[: number - 1], changed, *lines[number:]])
            if changed != line and _compiles(lua, text):
                yield Fault(number, line.strip(), changed.strip(), text)


def _changed(line: str) -> Iterator[str]:
    """The line with each of its faults."""
    code = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if _STATEMENT.match(code):
        yield f"{indent}-- {code}"
    if found := _CONDITION.search(line):
        for always in ("true", "false"):
            yield f"{line[: found.start(2)]}{always}{line[found.end(2) :]}"
    for option in _OPTION.finditer(line):
        yield line[: option.start()] + line[option.end() :]
    for token in _TOKEN.finditer(line):
        if token[0].startswith("--"):
            return
        instead = (str(int(token[0]) + 1),) if token[0].isdigit() else _INSTEAD.get(token[0], ())
        for other in instead:
            yield line[: token.start()] + other + line[token.end() :]


def _compiles(lua: lua51.LuaRuntime, text: str) -> bool:
    try:
        lua.compile(text)
    except lua51.LuaError:
        return False
    return True
