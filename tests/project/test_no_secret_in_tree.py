"""No file of the tree contains a secret: text that looks like one must be a known invented one."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployment import ROOT

SKIPPED_FOLDERS = {".git", ".venv", ".spokes", "__pycache__", ".mypy_cache", ".ruff_cache", "build", ".hypothesis"}
SECRET_PATTERN = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\w"
    r"|\bpat-(?:na|eu|ap)\d-(?!0{8})[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"  # HubSpot's tokens
    r"|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b|\bxox[abpr]-[0-9A-Za-z-]{20,}"
    r"|\bhttps://[0-9a-f]{32}@[\w.]*sentry\.io"
    r"|\b(?:postgres(?:ql)?|rediss?)://[^\s:/@'\"{}]+:(?!secret|password|hunter|pw\b|p@?ss)[^\s/@'\"{}]{8,}@"
    r"|(?i:secret|token|password|api_?key)[\"']?\s*[:=]\s*[\"'](?=[^\"']*\d)(?=[^\"']*[A-Z])[A-Za-z0-9+/]{32,}={0,2}[\"']"
)
FILES_WITH_INVENTED_SECRETS = {"tests/project/test_no_secret_in_tree.py"}


def texts(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of every text file of the tree."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and SKIPPED_FOLDERS.isdisjoint(part for part in path.relative_to(root).parts):
            try:
                yield str(path.relative_to(root)), path.read_text()
            except UnicodeDecodeError:
                continue


def test_tree_contains_no_secret() -> None:
    matches = [
        f"{name}: {match[0][:12]}..."
        for name, text in texts(ROOT)
        if name not in FILES_WITH_INVENTED_SECRETS and not name.startswith("spokes.egg-info")
        for match in SECRET_PATTERN.finditer(text)
    ]
    assert matches == []


@pytest.mark.parametrize(
    "secret",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE",
        "pat-eu1-0a1b2c3d-0000-4000-8000-0123456789ab",
        "AKIA0123456789ABCDEF",
        "postgres://ada:correcthorse@db.example.com/x",
        'client_secret = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MEFCQ0RF"',
    ],
)
def test_pattern_matches_every_kind_of_secret(secret: str) -> None:
    assert SECRET_PATTERN.search(secret)
