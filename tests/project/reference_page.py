"""docs/reference.md, from the signatures and docstrings of the public modules: `make reference` writes it."""

import sys
from collections.abc import Iterator
from typing import Any, Final

import griffe

from tests.support.deployment import ROOT

PAGE: Final = ROOT / "docs" / "reference.md"
MODULES: Final = ("spokes", "spokes.errors", "spokes.testing")
_SHOWN_METHODS: Final = ("__call__", "__getitem__", "__iter__")
_HEAD: Final = """\
# Reference

The names that handlers and their tests import, with signatures and docstrings. [handlers.md](handlers.md) explains
their use, and which changes a new version may bring. `make reference` writes this page.
"""


def reference_page() -> str:
    """Return the text of docs/reference.md."""
    package = griffe.load("spokes", search_paths=[str(ROOT)], docstring_parser="google")
    lines = [_HEAD]
    for name in MODULES:
        module: Any = package[name.partition(".")[2]] if "." in name else package
        lines.append(f"## {name}\n\n{module.docstring.value.partition(chr(10))[0]}\n")
        for public in sorted(module.exports, key=str.lower):
            if public in package.exports and module is not package:
                lines.append(f"### {public}\n\nSee [{public}](#{public.lower()}) of `spokes`.\n")
            else:
                lines += _section(public, module[public])
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, member: Any) -> Iterator[str]:  # griffe types a member as any of its five kinds
    if member.is_alias:
        member = member.final_target
    yield f"### {name}\n"
    if member.is_class:
        bases = [str(base) for base in member.bases if str(base).partition("[")[0] not in {"Protocol", "Generic"}]
        if bases == ["NamedTuple"]:
            yield _code(f"{name}({', '.join(_field(each) for each in member.attributes.values())})")
        elif _is_made_by_handlers(member):
            yield _code(member.members["__init__"].signature(return_type=False).replace("__init__", name, 1))
        if bases:
            yield f"Base: `{', '.join(bases)}`\n"
        yield from _docstring(member)
        yield from _members(name, member)
    elif member.is_function:
        yield _code(member.signature())
        yield from _docstring(member)
    else:
        yield _code(f"{name} = {member.value}")


def _is_made_by_handlers(member: Any) -> bool:
    """Return whether the constructor takes nothing that only a worker has."""
    return (
        "__init__" in member.members
        and ".testing." not in member.path
        and not any(parameter.name == "access" or parameter.name.startswith("_") for parameter in member.parameters)
    )


def _field(attribute: Any) -> str:
    default = f" = {attribute.value}" if attribute.value is not None else ""
    return f"{attribute.name}: {attribute.annotation}{default}"


def _members(owner: str, member: Any) -> Iterator[str]:
    described = {each.name: each.description for section in _sections(member, "attributes") for each in section.value}
    attributes = [each for name, each in member.members.items() if _is_shown_attribute(name, each)]
    for each in attributes:
        text = _one_line(each.docstring.value if each.docstring else described.get(each.name, ""))
        yield f"- `{each.name}: {each.annotation}`{': ' + text if text else ''}"
    if attributes:
        yield ""
    for name, each in member.members.items():
        if each.is_function and (not name.startswith("_") or name in _SHOWN_METHODS):
            yield f"#### {owner}.{name}\n"
            yield _code(("async " if each.has_labels("async") else "") + "def " + each.signature())
            yield from _docstring(each)


def _is_shown_attribute(name: str, member: Any) -> bool:
    return member.is_attribute and not name.startswith("_") and member.annotation is not None


def _docstring(member: Any) -> Iterator[str]:
    init = member.members.get("__init__") if member.is_class else None
    for documented in (member, init):
        for section in _sections(documented, "text", "parameters", "raises") if documented else ():
            if section.kind is griffe.DocstringSectionKind.parameters:
                yield "\n".join(f"- `{each.name}`: {_one_line(each.description)}" for each in section.value) + "\n"
            elif section.kind is griffe.DocstringSectionKind.raises:
                yield (
                    "\n".join(f"- raises `{each.annotation}`: {_one_line(each.description)}" for each in section.value)
                    + "\n"
                )
            else:
                yield f"{section.value}\n"


def _sections(member: Any, *kinds: str) -> list[Any]:
    sections = member.docstring.parsed if member.docstring else []
    return [section for section in sections if section.kind.value in kinds]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(reference_page())
    sys.exit()
