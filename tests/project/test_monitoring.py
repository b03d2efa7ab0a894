"""docs/monitoring: dashboard and alert rules query metrics that exist, in valid PromQL."""

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
SUFFIXES = {"counter": {"_total": ()}, "gauge": {"": ()}, "histogram": {"_bucket": ("le",), "_count": (), "_sum": ()}}
LABELS = {
    metric._name + suffix: {*metric._labelnames, *extra}
    for metric in METRICS._collector_to_names
    for suffix, extra in SUFFIXES[metric._type].items()
}


def nodes(expression: object) -> Iterator[object]:
    """Yield an expression and every expression in it."""
    yield expression
    for name in ("lhs", "rhs", "expr", "args", "vector_selector"):
        inner = getattr(expression, name, None)
        for child in inner if isinstance(inner, list) else [inner]:
            if child is not None:
                yield from nodes(child)


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    return [node for node in nodes(promql_parser.parse(query)) if isinstance(node, promql_parser.VectorSelector)]


@pytest.mark.parametrize("query", QUERIES)
def test_query_uses_metrics_and_labels_that_exist(query: str) -> None:
    used = selectors(query)
    grouped = {
        label
        for node in nodes(promql_parser.parse(query))
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier
        for label in node.modifier.labels
    }
    assert used
    assert [selector.name for selector in used if selector.name not in LABELS] == []
    for selector in used:
        assert {matcher.name for matcher in selector.matchers.matchers} <= LABELS[selector.name]
        assert grouped <= LABELS[selector.name]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legend_names_labels_of_its_metrics(panel: dict[str, list[dict[str, str]]]) -> None:
    for target in panel["targets"]:
        labels = {label for selector in selectors(target["expr"]) for label in LABELS[selector.name]}
        named = {part.partition("}}")[0] for part in target["legendFormat"].split("{{")[1:]}
        assert named <= labels


def test_every_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    """A metric that is neither shown nor alerted on is not worth counting."""
    used = {selector.name for query in QUERIES for selector in selectors(query)}
    families = {
        metric._name: {metric._name + suffix for suffix in SUFFIXES[metric._type]}
        for metric in METRICS._collector_to_names
    }
    assert [name for name, samples in families.items() if not samples & used] == []


def test_rules_have_a_severity_a_summary_and_advice() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "do"}
    assert len({rule["alert"] for rule in RULES}) == len(RULES)


def test_panels_do_not_overlap() -> None:
    occupied: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & occupied, panel["title"]
        assert at["x"] + at["w"] <= 24
        occupied |= cells
