"""Every example of docs/how-to.md is a handler or a test of this module."""

import re

import pytest

from spokes import Conflict, Event, Router, Tools, uses
from tests.support.deployment import ROOT

PAGE = ROOT / "docs" / "how-to.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
router = Router()
NAMES_OF_EXAMPLES = (Conflict, Event, Tools, uses)

exec(compile("\n\n".join(EXAMPLES), PAGE, "exec"))  # noqa: S102 - our own page


@pytest.fixture
def spokes_handlers() -> Router:
    return Router(router)


def test_page_has_a_test_for_each_handler() -> None:
    handlers = sum("@router.register" in example for example in EXAMPLES)
    assert handlers == sum("async def test_" in example for example in EXAMPLES) > 4
