"""The layout: no crowded folders, no class name with two meanings, decisions listed in their index."""

import ast
import re
from collections import Counter, defaultdict
from pathlib import Path

from spokes.core.redis import key_table
from tests.support.deployment import ROOT

FOLDERS = ("spokes", "ingest", "workers", "handlers", "chaos")
MAX_MODULES = 15
MORE_MODULES = {"bench": 17}  # one for each command; may not grow
MAX_LINES = 49  # of a function, without its signature and docstring
MORE_LINES = {  # none may grow
    "workers/worker.py build_worker": 70, "ingest/app.py _services_context": 52,
}  # fmt: skip
DECISIONS = ROOT / "docs" / "adr"


def modules() -> list[Path]:
    """Return every module of the product."""
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_folder_holds_more_modules_than_a_reader_can_scan() -> None:
    paths = [*modules(), *(path for folder in ("bench", "tests") for path in (ROOT / folder).rglob("*.py"))]
    sizes = Counter(path.parent.relative_to(ROOT).as_posix() for path in paths if path.name != "__init__.py")
    crowded = {folder: size for folder, size in sizes.items() if size > MORE_MODULES.get(folder, MAX_MODULES)}
    assert crowded == {}


def statements_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    return function.body[1:] if ast.get_docstring(function) else function.body


def test_functions_are_short() -> None:
    lengths: dict[str, int] = {}
    for path in [*modules(), *sorted((ROOT / "bench").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (statements := statements_of(node)):
                lines = (statements[-1].end_lineno or 0) - statements[0].lineno + 1
                name = f"{path.relative_to(ROOT).as_posix()} {node.name}"
                lengths[name] = max(lines, lengths.get(name, 0))
    assert {name: lines for name, lines in lengths.items() if lines > MORE_LINES.get(name, MAX_LINES)} == {}


def test_no_class_name_has_two_meanings() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_decisions_have_one_form() -> None:
    headings = ["## Context", "## Decision", "## Consequences"]
    for page in sorted(DECISIONS.glob("0*.md")):
        lines = page.read_text().splitlines()
        assert lines[0].startswith(f"# {page.name[:4]}. "), page.name
        assert lines[2].startswith("Status: "), page.name
        assert [line for line in lines if line.startswith("## ")] == headings, page.name


def test_index_of_decisions_is_complete() -> None:
    index = (DECISIONS / "README.md").read_text()
    for page in sorted(DECISIONS.glob("0*.md")):
        lines = page.read_text().splitlines()
        title, status = lines[0].partition(". ")[2], lines[2].removeprefix("Status: ")
        assert f"| [{page.name[:4]}]({page.name}) | {title} | {status} |" in index, page.name


def test_index_of_decisions_is_in_order_of_number() -> None:
    numbers = re.findall(r"^\| \[(\d{4})\]", (DECISIONS / "README.md").read_text(), re.MULTILINE)
    assert numbers == sorted(set(numbers))


def test_documents_link_to_files_that_exist() -> None:
    links = [
        (page, target)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target
    ]
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_changelog_of_the_next_release_has_each_subject_and_each_line_once() -> None:
    section = (ROOT / "CHANGELOG.md").read_text().partition("## Unreleased\n")[2].partition("\n## ")[0]
    subjects = re.findall(r"^### (.+)$", section, re.MULTILINE)
    lines = [" ".join(line.split()) for line in re.split(r"^(?:- |### .*\n)", section, flags=re.MULTILINE)]
    assert not {"Added", "Changed", "Fixed"} & set(subjects), "lines are grouped by subject"
    assert [text for text, count in Counter([*subjects, *filter(None, lines)]).items() if count > 1] == []


def test_architecture_page_lists_every_redis_key() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    table = page.partition("<!-- keys -->")[2].partition("<!-- end of keys -->")[0].strip()
    assert table == key_table.table(), "put the output of `python -m spokes.core.redis.key_table` there"


def test_architecture_page_names_modules_and_functions_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    missing = []
    for name in re.findall(r"`((?:spokes|ingest|workers)(?:\.\w+)+)`", page.partition("<!-- keys -->")[0]):
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            path = ROOT.joinpath(*parts[:length])
            if path.is_dir() or path.with_suffix(".py").exists():
                source = path.with_suffix(".py").read_text() if path.with_suffix(".py").exists() else ""
                missing += [name for part in parts[length:] if not re.search(rf"\b(?:def|class) {part}\b", source)]
                break
    assert missing == []
