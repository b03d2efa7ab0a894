"""Every example of docs/own-systems.md is a test of this module."""

import re

from tests.support.deployment import ROOT

PAGE = ROOT / "docs" / "own-systems.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

exec(compile("\n\n".join(EXAMPLES), PAGE, "exec"))  # noqa: S102 - our own page


def test_page_has_examples() -> None:
    assert len(EXAMPLES) > 3
