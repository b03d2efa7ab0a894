"""Docstrings, comments, messages and documents avoid the project's former dialect.

The word list is a thermometer, not a style guide: CONTRIBUTING.md says how we write, and a reader is the test.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

MAX_PER_1000_WORDS = 2.0
FOLDERS = ("spokes", "ingest", "workers", "handlers", "tests", "chaos", "bench")
DIALECT = re.compile(
    r"\b(?:tells?|told|telling|stands?|standing|stood|whoever|whatever|whichever|nobody|somebody|everybody|anybody|besides|"
    r"so (?:many|long|often|much|far)|of late|now and then|meanwhile|anew|by then|once more|mend(?:s|ed|ing)?|"
    r"reckon(?:s|ed|ing)?|nought|bears|likewise|of (?:which|whom)|knocks?|knocked|the house|doors?|lives on|"
    r"what is there|all the same|has to do with|lets? in|let in|at work|makes? of it|becomes? of)\b"
)
SENTENCE = re.compile(r"[A-Z][^\s]*(?: [^\s]+){3,}")  # a literal that reads as a message, not a key or a pattern


def python_prose(path: Path) -> Iterator[str]:
    """Yield the docstrings, comments and sentence-like literals of a module."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SENTENCE.match(node.value.strip()):
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield re.sub(r"#\s*(noqa|type:|fmt:|pragma)[^-]*-?", "", token.string).lstrip("# ")


def lua_prose(path: Path) -> Iterator[str]:
    """Yield the comments of a script."""
    for line in path.read_text().splitlines():
        if "--" in line:
            yield line.partition("--")[2]


def page_prose(path: Path) -> Iterator[str]:
    """Yield the text of a document or template without code and markup."""
    text = re.sub(r"```.*?```|`[^`\n]*`|\{[{%#].*?[}%#]\}|<[^>]*>", " ", path.read_text(), flags=re.DOTALL)
    yield text


READERS = {".py": python_prose, ".lua": lua_prose, ".md": page_prose, ".html": page_prose}


def dialect_per_1000(paths: list[Path]) -> float:
    """Return how many words of the dialect the prose of these files holds per 1,000 words."""
    text = "\n".join(part for path in paths for part in READERS[path.suffix](path)).lower()
    return len(DIALECT.findall(text)) * 1000 / max(len(re.findall(r"[a-z']+", text)), 1)


def files(*roots: str) -> list[Path]:
    """Return every file with prose under these folders, this module left out."""
    found = [path for root in roots for path in (ROOT / root).rglob("*") if path.suffix in READERS]
    return sorted(path for path in found if path != Path(__file__) and not {".venv", "node_modules"} & set(path.parts))


PACKAGES = [
    *(
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "spokes").iterdir())
        if (path / "__init__.py").exists()
    ),
    *(folder for folder in FOLDERS if folder != "spokes"),
]


@pytest.mark.parametrize("package", PACKAGES)
def test_code_avoids_the_dialect(package: str) -> None:
    assert dialect_per_1000(files(package)) <= MAX_PER_1000_WORDS


def test_documents_avoid_the_dialect() -> None:
    paths = [*ROOT.glob("*.md"), *(path for path in files("docs") if path.name != "glossary.md")]
    assert dialect_per_1000(paths) <= MAX_PER_1000_WORDS


def test_dialect_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Whoever lacks the key is told so at the door.")
    assert dialect_per_1000([page]) > MAX_PER_1000_WORDS
