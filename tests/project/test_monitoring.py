"""docs/monitoring: what the dashboard and the alert rules ask for exists, and Prometheus can read it."""

import json
from collections.abc import Iterator

import promql_parser
import pytest
import yaml

from spokes.core.telemetry.metrics import METRICS
from tests.support.deployment import ROOT

FOLDER = ROOT / "docs" / "monitoring"
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
for target in (target for panel in PANELS for target in panel["targets"]):
    target["expr"] = target["expr"].replace("$__rate_interval", "5m")  # as Grafana does
QUERIES = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
ENDINGS = {"counter": {"_total": ()}, "gauge": {"": ()}, "histogram": {"_bucket": ("le",), "_count": (), "_sum": ()}}
LABELS = {
    metric._name + ending: {*metric._labelnames, *more}
    for metric in METRICS._collector_to_names
    for ending, more in ENDINGS[metric._type].items()
}


def parts(expression: object) -> Iterator[object]:
    """An expression with everything in it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        inner = getattr(expression, name, None)
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None:
                yield from parts(one)


def asked(query: str) -> list[promql_parser.VectorSelector]:
    found = parts(promql_parser.parse(query))
    return [one for one in found if isinstance(one, promql_parser.VectorSelector)]


@pytest.mark.parametrize("query", QUERIES)
def test_query_asks_for_metrics_and_labels_that_exist(query: str) -> None:
    selectors = asked(query)
    grouped = {
        label
        for one in parts(promql_parser.parse(query))
        if isinstance(one, promql_parser.AggregateExpr) and one.modifier
        for label in one.modifier.labels
    }
    assert selectors
    assert [one.name for one in selectors if one.name not in LABELS] == []
    for one in selectors:
        assert {matcher.name for matcher in one.matchers.matchers} <= LABELS[one.name]
        assert grouped <= LABELS[one.name]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legend_names_labels_that_are_left(panel: dict[str, list[dict[str, str]]]) -> None:
    for target in panel["targets"]:
        labels = {label for one in asked(target["expr"]) for label in LABELS[one.name]}
        named = {part.partition("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
        assert named <= labels


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    """What nobody looks at need not be counted."""
    used = {one.name for query in QUERIES for one in asked(query)}
    families = {
        metric._name: {metric._name + ending for ending in ENDINGS[metric._type]}
        for metric in METRICS._collector_to_names
    }
    assert [name for name, samples in families.items() if not samples & used] == []


def test_rules_say_how_grave_it_is_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "do"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
