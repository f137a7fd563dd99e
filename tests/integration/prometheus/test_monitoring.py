"""The alert rules and the dashboard in the docs fit what the collector shows."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from resilience import CircuitBreakerRegistry
from resilience.integrations.metrics import read_circuit
from resilience.integrations.prometheus import CircuitCollector
from tests.support.needs import needs

HERE = Path(__file__).parent
MONITORING = HERE.parents[2] / "docs" / "monitoring"
RULES = MONITORING / "alerts.yml"


@pytest.fixture
def promtool():
    needs("promtool")

    def run(*arguments):
        command = [shutil.which("promtool"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shown():
    """Everything that the collector shows: name of a series -> its labels and their values."""
    registry = CircuitBreakerRegistry(name="tokens")
    registry.get("eu-west-1")
    return {
        (sample.name, label, value)
        for family in CircuitCollector(registry).collect()
        for sample in family.samples
        for label, value in sample.labels.items()
    }


def queries(dashboard):
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    noted = [note["expr"] for note in dashboard["annotations"]["list"] if "expr" in note]
    return asked + noted


def test_the_rules_are_rules(promtool):
    assert "6 rules found" in promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_not_before(promtool, tmp_path):
    test = tmp_path / "test.yml"
    text = (HERE / "alerts_test.yml").read_text().replace("RULES", str(RULES))
    # Twenty workers that open once in the same outage: that is no flapping.
    labels = 'region="ap-south-1",from="CLOSED",to="OPEN"'
    twenty = [
        f"      - series: 'circuit_breaker_transitions_total{{{labels},instance=\"{number}\"}}'\n"
        '        values: "0x20 1x70"\n'
        for number in range(20)
    ]
    test.write_text(text.replace("TWENTY", "".join(twenty)))
    assert "SUCCESS" in promtool("test", "rules", test)
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"alertname: (\w+)", test.read_text()))


def test_what_is_asked_for_is_there(dashboard, shown):
    asked = "\n".join([*queries(dashboard), RULES.read_text(encoding="utf-8")])
    names = set(re.findall(r"circuit_breaker_\w+", asked))
    assert names <= {name for name, _, _ in shown}
    for name, selectors in re.findall(r"(circuit_breaker_\w+)\{([^}]*)\}", asked):
        for label, value in re.findall(r'(\w+)="(\w+)"', selectors):
            assert (name, label, value) in shown, (name, label, value)


def test_each_query_of_the_dashboard_is_one(dashboard, promtool, tmp_path):
    rules = [
        {"record": f"panel:{number}", "expr": expr.replace("$__rate_interval", "5m")}
        for number, expr in enumerate(queries(dashboard))
    ]
    file = tmp_path / "queries.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_is_whole(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 12
    taken = set()
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names == ["datasource", "registry", "region"]
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) == {*names, "__rate_interval"}


def panel(dashboard, title):
    (found,) = (panel for panel in dashboard["panels"] if panel["title"] == title)
    return found


def test_outcomes_have_the_colours_that_they_mean(dashboard):
    overrides = panel(dashboard, "Calls by outcome")["fieldConfig"]["overrides"]
    colours = {
        override["matcher"]["options"]: override["properties"][0]["value"]["fixedColor"]
        for override in overrides
    }
    registry = CircuitBreakerRegistry()
    outcomes = set(read_circuit(registry.get("a")).calls())
    assert set(colours) == outcomes
    assert (colours["success"], colours["failure"]) == ("green", "red")


def test_the_table_shows_no_time_of_the_scrape_and_nothing_infinite(dashboard):
    table = panel(dashboard, "Next probe")
    (organize,) = table["transformations"]
    assert organize["options"]["excludeByName"] == {"Time": True}
    assert "Inf" not in json.dumps(dashboard)


def test_each_opening_and_closing_is_an_annotation(dashboard):
    _, opened, closed = dashboard["annotations"]["list"]
    assert (opened["name"], opened["iconColor"]) == ("Opened", "red")
    assert (closed["name"], closed["iconColor"]) == ("Closed", "green")
    assert all(note["enable"] for note in (opened, closed))


def test_the_ratio_of_errors_leaves_out_what_was_not_asked(dashboard):
    (target,) = panel(dashboard, "Error ratio")["targets"]
    assert re.findall(r'outcome=~?"([^"]+)"', target["expr"]) == [
        "failure",
        "success|failure|answered",
    ]
    assert panel(dashboard, "Error ratio")["fieldConfig"]["defaults"]["unit"] == "percentunit"
