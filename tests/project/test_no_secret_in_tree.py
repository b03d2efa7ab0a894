"""No secret stands in the tree: what looks like one must be an invented one that is known to be."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

LEFT_OUT = {".git", ".venv", ".spokes", "__pycache__", ".mypy_cache", ".ruff_cache", "build", ".hypothesis"}
LOOKS_LIKE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\w"
    r"|\bpat-(?:na|eu|ap)\d-(?!0{8})[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"  # HubSpot's tokens
    r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abpr]-[0-9A-Za-z-]{20,}"
    r"|\bhttps://[0-9a-f]{32}@[\w.]*sentry\.io"
    r"|\b(?:postgres(?:ql)?|rediss?)://[^\s:/@'\"{}]+:(?!secret|password|hunter|pw\b|p@?ss)[^\s/@'\"{}]{8,}@"
    r"|(?i:secret|token|password|api_?key)[\"']?\s*[:=]\s*[\"'](?=[^\"']*\d)(?=[^\"']*[A-Z])[A-Za-z0-9+/]{32,}={0,2}[\"']"
)
INVENTED = {"tests/project/test_no_secret_in_tree.py"}


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Every text file of the tree, by its path."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and LEFT_OUT.isdisjoint(part for part in path.relative_to(root).parts):
            try:
                yield str(path.relative_to(root)), path.read_text()
            except UnicodeDecodeError:
                continue


def test_no_secret_stands_in_the_tree() -> None:
    found = [
        f"{name}: {match[0][:12]}..."
        for name, text in texts(ROOT)
        if name not in INVENTED and not name.startswith("spokes.egg-info")
        for match in LOOKS_LIKE.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
        "pat-eu1-0a1b2c3d-0000-4000-8000-0123456789ab",
        "AKIA0123456789ABCDEF",
        "postgres://ada:correcthorse@db.example.com/x",
        'client_secret = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MEFCQ0RF"',
    ],
)
def test_secret_that_is_planted_is_seen(planted: str) -> None:
    assert LOOKS_LIKE.search(planted)
