"""Where the library of an extra is missing, or too old, the error names the extra."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from resilience._extras import needs_extra
from tests.support.extras import NEEDED

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    "aio_pika", "aiohttp", "aiormq", "httpx", "httpx2", "opentelemetry", "pamqp",
    "prometheus_client", "redis", "requests", "starlette", "urllib3", "yarl",
)  # fmt: skip
# What is imported, or a name in it -> the extra that it needs.
IMPORTS = {
    **NEEDED,
    # A module of a package that needs an extra, and the command line.
    "resilience.integrations.rabbitmq.amqp": "rabbitmq",
    "resilience.integrations.redis.fault": "redis",
    "resilience.cli.store_target": "redis",
}
PROGRAM = """
import importlib, json, sys

libraries, names = json.load(sys.stdin)
for library in libraries:
    sys.modules[library] = None
errors = {}
for name in names:
    module, _, public = name.partition(":")
    try:
        getattr(importlib.import_module(module), public or "__name__")
    except ImportError as error:
        errors[name] = f"{type(error).__name__}: {error}"
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def errors():
    """What each import says in a process that has none of the libraries."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([LIBRARIES, list(IMPORTS)]),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", IMPORTS)
def test_the_error_names_the_extra(errors, name):
    extra = IMPORTS[name]
    assert errors[name].startswith("ModuleNotFoundError: ")
    assert f' needs the extra {extra}: pip install "region-breaker[{extra}]" (' in errors[name]


def test_the_error_says_what_needs_it(errors):
    def needs(name):
        return errors[name].removeprefix("ModuleNotFoundError: ").split(" needs ")[0]

    assert needs("resilience.integrations.httpx") == "resilience.integrations.httpx"
    assert needs("resilience.integrations.redis.fault") == "resilience.integrations.redis"
    assert needs("resilience.integrations.status_page:status_page") == "status_page"
    assert needs("resilience.testing:StubBroker") == "StubBroker"
    assert needs("resilience.cli.store_target") == "--redis"


def test_every_extra_is_named_by_an_error():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(NEEDED.values()) == set(project["optional-dependencies"])


def test_an_old_library_is_not_said_to_be_missing():
    old = ImportError("cannot import name 'new' from 'library'", name="library", path="library.py")
    with pytest.raises(ImportError) as raised, needs_extra("a module", "redis"):
        raise old
    assert type(raised.value) is ImportError
    assert str(raised.value) == (
        'a module needs the extra redis: pip install "region-breaker[redis]" '
        "(cannot import name 'new' from 'library')"
    )
    assert (raised.value.name, raised.value.path) == ("library", "library.py")
    assert raised.value.__cause__ is old


def test_other_errors_are_left_alone():
    with pytest.raises(ValueError, match=r"^its own$"), needs_extra("a module", "redis"):
        raise ValueError("its own")
