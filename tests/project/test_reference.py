"""docs/reference.md: generated, and complete."""

import importlib

import pytest

from tests.project.reference_page import MODULES, PAGE, reference_page


def test_reference_is_as_generated() -> None:
    assert PAGE.read_text() == reference_page(), "docs/reference.md is stale: run `make reference`"


@pytest.mark.parametrize("module", MODULES)
def test_reference_has_every_public_name(module: str) -> None:
    section = PAGE.read_text().partition(f"## {module}\n")[2].partition("\n## ")[0]
    headings = {line.removeprefix("### ") for line in section.splitlines() if line.startswith("### ")}
    assert headings == set(importlib.import_module(module).__all__)
