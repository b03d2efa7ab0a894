"""`handlers`: the handlers of the deployment."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import spokes

LIMITED = '''
from spokes import Host, Router, uses

ROUTER = Router()


@ROUTER.register("contact.creation")
@uses(calls=(Host("https://ERP.example.com", rate="10/s"), "http://10.0.0.7:8080"), concurrency=2, retries=(1, 60))
async def order(event, tools):
    """Order."""


@ROUTER.register("deal.creation")
@uses(calls=("https://erp.example.com",), timeout_s=30, rate="5/h", each_event=True)
async def bill(event, tools): ...
'''


@pytest.fixture
def limited(environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The settings of a deployment whose handlers declare hosts and limits."""
    (tmp_path / "limited_handlers.py").write_text(LIMITED)
    monkeypatch.syspath_prepend(tmp_path)
    return {**environ, "HANDLERS": "limited_handlers"}


def test_handlers_are_shown_with_their_events(environ: dict[str, str]) -> None:
    shown = spokes(environ, "handlers").stdout
    assert "contacts.keep_reachable" in shown
    assert "contact.creation" in shown
    assert "Hosts" not in shown


def test_declared_hosts_and_limits_are_shown(limited: dict[str, str]) -> None:
    shown = spokes(limited, "handlers").stdout
    for text in ("https://erp.example.com, 10/s", "http://10.0.0.7:8080", "concurrency 2", "rate 5/h", "each event"):
        assert text in shown
    order, bill = (json.loads(line) for line in spokes(limited, "handlers", "--json").stdout.splitlines())
    assert order["calls"][1] == {
        "url": "https://erp.example.com", "rate": "10/s", "connections": 10, "timeout_s": 10.0
    }  # fmt: skip
    assert bill["calls"] == order["calls"][1:]  # the limit of one handler holds for all
    assert order["limits"] == {"retries": [1.0, 60.0], "concurrency": 2}
    assert (bill["limits"], bill["each_event"]) == ({"timeout_s": 30.0, "rate": "5/h"}, True)


@pytest.mark.parametrize("command", ["up", "handlers", "doctor", "subscriptions export"])
def test_faults_of_settings_and_handlers_are_reported_together(
    command: str, limited: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "wrong_handlers.py").write_text(
        "from spokes import HandlerSettings, uses\nclass Erp(HandlerSettings):\n    erp_key: str\n"
        "@uses(rate='often')\nasync def handle(event, tools): ...\n"
    )
    done = spokes({**limited, "HANDLERS": "wrong_handlers", "PORT": "many"}, *command.split())
    assert done.returncode == 2
    for text in ("PORT", "ERP_KEY is not set", "`rate` takes", "no ROUTER of type Router"):
        assert text in done.stderr
