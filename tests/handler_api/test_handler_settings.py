"""spokes.HandlerSettings: settings of handlers, checked when a process loads the handlers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from spokes import HandlerSettings
from spokes.core.errors import ConfigurationError
from spokes.core.masking import Mask
from spokes.routing import load_router
from tests.support.deployment import ROOT

SECRET = "a-secret-of-the-erp-4711"
MODULE = """
from pydantic import SecretStr
from spokes import HandlerSettings, Router, uses

class ErpSettings(HandlerSettings):
    {name}_url: str
    {name}_key: SecretStr
    {name}_lines: int = 3

SETTINGS = ErpSettings()
router = Router()

@router.register("contact.creation")
@uses(calls=(SETTINGS.{name}_url,))
async def {name}(event, tools): ...
"""


class ErpSettings(HandlerSettings):
    erp_url: str
    erp_key: SecretStr = Field(description="copy it from the ERP's administration page")
    erp_lines: int = Field(default=3, ge=1)

    @field_validator("erp_url")
    @classmethod
    def check_url(cls, url: str) -> str:
        if not url.startswith("https://"):
            raise ValueError(f"is {url}, which has no https://")
        return url


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package whose two modules have settings of their own."""
    folder = tmp_path / "settled"
    folder.mkdir()
    for name in ("erp", "shop"):
        (folder / f"{name}.py").write_text(MODULE.replace("{name}", name))
    (folder / "__init__.py").write_text(
        "from spokes import Router\nfrom settled import erp\nfrom settled import shop\n"
        "ROUTER = Router(erp.router, shop.router)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "settled"


def test_fields_are_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERP_URL", "https://erp.example.com")
    monkeypatch.setenv("ERP_KEY", SECRET)
    settings = ErpSettings()
    assert (settings.erp_url, settings.erp_key.get_secret_value(), settings.erp_lines) == (
        "https://erp.example.com",
        SECRET,
        3,
    )
    assert repr(settings) == "ErpSettings('erp_url', 'erp_key', 'erp_lines')"
    assert SECRET not in f"{settings} {settings!r}"


def test_each_fault_has_a_sentence_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERP_URL", SECRET)
    monkeypatch.setenv("ERP_LINES", "many")
    monkeypatch.setenv("ERP_KEY", "")
    with pytest.raises(ConfigurationError) as caught:
        ErpSettings()
    assert sorted(caught.value.problems) == [
        "ERP_KEY is not set: copy it from the ERP's administration page.",
        "ERP_LINES must be a whole number.",
        "ERP_URL is ***, which has no https://.",
    ]


def test_prefix_belongs_to_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Prefixed(HandlerSettings):
        model_config = SettingsConfigDict(env_prefix="SHOP_")
        parts: dict[str, int]
        token: str

    with pytest.raises(ConfigurationError, match="SHOP_TOKEN is not set: Prefixed needs it \\(class in tests"):
        Prefixed()
    monkeypatch.setenv("SHOP_PARTS", "{")
    with pytest.raises(ConfigurationError, match="SHOP_PARTS must be JSON"):
        Prefixed()


def test_faults_of_a_module_are_reported_without_those_that_follow_from_them(package: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_router(package)
    line = MODULE.splitlines().index("class ErpSettings(HandlerSettings):") + 1
    place = f"{os.path.relpath(tmp_path)}/settled/erp.py:{line}"
    assert caught.value.problems == (
        f"ERP_URL is not set: ErpSettings needs it (class in {place}).",
        f"ERP_KEY is not set: ErpSettings needs it (class in {place}).",
    )


def test_faults_of_several_modules_are_reported_together(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ERP_URL", "SHOP_URL"):
        monkeypatch.setenv(name, "https://erp.example.com")
    with pytest.raises(ConfigurationError) as caught:
        load_router(package)
    assert {problem.partition(" ")[0] for problem in caught.value.problems} == {"ERP_KEY", "SHOP_KEY"}
    monkeypatch.setenv("ERP_KEY", SECRET)
    monkeypatch.setenv("SHOP_KEY", SECRET)
    assert set(load_router(package).hosts) == {"https://erp.example.com"}


def test_worker_prints_faults_of_deployment_and_handlers_and_exits_with_2(package: str, tmp_path: Path) -> None:
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= {"HANDLERS": package, "ENV_FILE": "", "PYTHONPATH": f"{ROOT}:{tmp_path}", "SHOP_KEY": SECRET}
    done = subprocess.run(
        [sys.executable, "-m", "workers"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert {line.partition(" ")[0] for line in done.stderr.splitlines()} >= {
        "HUBSPOT_ACCESS_TOKEN",
        "ERP_URL",
        "ERP_KEY",
    }
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


class Account(BaseModel):
    token: SecretStr


class SecretSettings(HandlerSettings):
    one: SecretStr
    raw: SecretBytes
    generic: Secret[str]
    by_name: dict[str, SecretStr]
    several: list[SecretStr]
    account: Account
    private_key: SecretStr
    number: SecretStr
    brief: SecretStr
    plain: str


def test_secrets_of_handlers_are_masked_in_every_log() -> None:
    mask = Mask()  # as that of the log, which exists before the handlers are loaded
    quoted = 'q"uoted-secret'
    SecretSettings(
        one=SecretStr("hunter2-x"), raw=SecretBytes(b"raw-secret-1"), generic=Secret("generic-secret-1"),
        by_name={"shop": SecretStr("named-secret-1")}, several=[SecretStr(quoted)],
        account=Account(token=SecretStr("nested-secret-1")),
        private_key=SecretStr("-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END KEY-----"),
        number=SecretStr("200"), brief=SecretStr("on"), plain="no secret at all",
    )  # fmt: skip
    for secret in ("hunter2-x", "raw-secret-1", "generic-secret-1", "named-secret-1", quoted, "nested-secret-1"):
        for each in (mask, Mask()):
            assert each.text(f"the key is {secret}.") == "the key is ***."
            assert each.fields({"note": [secret]}) == {"note": ["***"]}
    assert mask.text('{"note": "q\\"uoted-secret"}') == '{"note": "***"}'
    assert mask.text("  MIIEvQIBADANBgkqhkiG") == "  ***"
    for text in ('{"status": 200}', "the switch is on", "no secret at all"):
        assert mask.text(text) == text


STARTED = """
from spokes.core.settings import Settings
from spokes.core.telemetry.setup import log_canonical_line, setup_telemetry
from spokes.routing import load_router
settings = Settings.from_env()
setup_telemetry(settings, "worker")
load_router("settled")
import settled
log_canonical_line("done", {"note": f"canonical {settled.KEY}"})
"""


def test_process_masks_secrets_of_handlers_that_it_loads_later(tmp_path: Path) -> None:
    folder = tmp_path / "settled"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import structlog\nfrom pydantic import SecretStr\nfrom spokes import HandlerSettings, Router\n"
        "class ErpSettings(HandlerSettings):\n    erp_key: SecretStr\n"
        "ROUTER = Router()\nKEY = ErpSettings().erp_key.get_secret_value()\n"
        "print(f'printed {KEY}')\nstructlog.get_logger().warning('logged', note=f'the key {KEY}')\n"
    )
    environ = {"PATH": os.environ["PATH"], "ENV_FILE": "", "PYTHONPATH": f"{ROOT}:{tmp_path}", "ERP_KEY": SECRET}
    command = [sys.executable, "-c", STARTED]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=True)
    output = done.stdout + done.stderr
    assert [text in output for text in ("printed ***", "the key ***", "canonical ***", SECRET)] == [True] * 3 + [False]
