"""Mutations of a Lua script, one at a time. Pure; every mutant compiles, and none changes only a comment.

No maintained tool mutates Lua. The mutations resemble mutmut's: another comparison, another operator, a number that is
off by one, a condition that always or never holds, a negated keyword, an option or a whole statement removed.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from lupa import lua51

# Longest alternatives first; any other character is a token by itself.
_TOKEN: Final = re.compile(r"--[^\n]*|'[^'\n]*'|\"[^\"\n]*\"|\d+(?:\.\d+)?|[A-Za-z_]\w*|==|~=|<=|>=|\.\.|[-+*/%<>#]|\S")
_REPLACEMENTS: Final = {
    "==": ("~=",), "~=": ("==",), "<": ("<=",), "<=": ("<",), ">": (">=",), ">=": (">",),
    "+": ("-",), "-": ("+",), "*": ("/",), "/": ("*",), "%": ("*",),
    "and": ("or",), "or": ("and",), "true": ("false",), "false": ("true",), "not": ("",),
}  # fmt: skip
_CONDITION: Final = re.compile(r"\b(if|elseif|while) (.+) (then|do)$")
_STATEMENT: Final = re.compile(r"^(redis\.)?call\(.*\)$|^(break|return\b.*)$|^[\w.\[\]# +]+ = [^{]*$")
_OPTION: Final = re.compile(r", '(?:NX|XX|EX|PX|EXAT)'")


class LuaMutation(NamedTuple):
    """A script with one mutation: the line number from 1, the original and the mutated line, and the whole text."""

    line: int
    original: str
    mutated: str
    text: str


def lua_mutations(script: str) -> Iterator[LuaMutation]:
    """Yield `script` with each possible mutation of one of its lines."""
    lua = lua51.LuaRuntime()
    lines = script.split("\n")
    for number, line in enumerate(lines, start=1):
        for changed in dict.fromkeys(_mutated_lines(line)):
            text = "\n".join([*lines[: number - 1], changed, *lines[number:]])
            if changed != line and _compiles(lua, text):
                yield LuaMutation(number, line.strip(), changed.strip(), text)


def _mutated_lines(line: str) -> Iterator[str]:
    """Yield the line with each of its mutations."""
    code = line.strip()
    indent = line[: len(line) - len(line.lstrip())]
    if _STATEMENT.match(code):
        yield f"{indent}-- {code}"
    if match := _CONDITION.search(line):
        for constant in ("true", "false"):
            yield f"{line[: match.start(2)]}{constant}{line[match.end(2) :]}"
    for option in _OPTION.finditer(line):
        yield line[: option.start()] + line[option.end() :]
    for token in _TOKEN.finditer(line):
        if token[0].startswith("--"):
            return
        replacements = (str(int(token[0]) + 1),) if token[0].isdigit() else _REPLACEMENTS.get(token[0], ())
        for replacement in replacements:
            yield line[: token.start()] + replacement + line[token.end() :]


def _compiles(lua: lua51.LuaRuntime, text: str) -> bool:
    try:
        lua.compile(text)
    except lua51.LuaError:
        return False
    return True
