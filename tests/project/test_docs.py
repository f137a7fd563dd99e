"""The pages do what they say: their code runs, their output is what it prints."""

import ast
import asyncio
import doctest
import importlib
import importlib.util
import inspect
import re
import runpy
import sys
import tomllib
import unittest
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest
from django.conf import UserSettingsHolder, global_settings, settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path as django_path
from loguru import logger
from sphinx.application import Sphinx
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import resilience
import resilience.explain
import resilience.limits
import resilience.recording
import resilience.replay
import resilience.retry
import resilience.testing
from resilience import CircuitBreakerRegistry, TenantThrottledError
from resilience.classify.libraries import LIBRARIES
from resilience.classify.library import ClientLibrary, Codes, Meaning
from resilience.genesys import canonical_region
from resilience.integrations import rabbitmq
from tests.support.extras import NEEDED
from tests.support.stores import serving

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def a_registry_of_the_pages_own(monkeypatch):
    registry = CircuitBreakerRegistry(normalize=canonical_region)
    modules = ("resilience", "resilience.registry", "resilience.decorator")
    for module in (*modules, "resilience.testing.circuits"):
        monkeypatch.setattr(importlib.import_module(module), "default_registry", registry)


@pytest.fixture
def quiet_log():
    """Let a page do with the log what it likes, and give it back as it was."""
    yield
    logger.enable("resilience")


@pytest.fixture
def store_of_the_page(path, tmp_path, monkeypatch):
    """What `REDIS_URL` names, for a page with a program that needs a store."""
    if "REDIS_URL" not in path.read_text(encoding="utf-8"):
        yield
        return
    with serving("valkey", tmp_path) as store:
        monkeypatch.setenv("REDIS_URL", store.url)
        yield


class _Page:
    """One page: runs its Python, and compares what that prints with the output that follows."""

    def __init__(self, path, capsys):
        self.capsys = capsys
        self.compared = 0
        python = PythonCodeBlockParser()
        output = CodeBlockParser("output", self.compare)
        self.document = Sybil([SkipParser(), python, output], encoding="utf-8").parse(path)

    def compare(self, example):
        printed = self.capsys.readouterr().out
        assert doctest.OutputChecker().check_output(example.parsed, printed, SAME), (
            f"{example.path}:{example.line} says\n{example.parsed}\nbut it is\n{printed}"
        )
        self.compared += 1

    def run(self):
        self.document.namespace.update(
            __name__="__main__", is_missing=lambda name: importlib.util.find_spec(name) is None
        )
        for example in self.document.examples():
            try:
                example.evaluate()
            except unittest.SkipTest as reason:
                assert "not installed" in str(reason)  # noqa: PT017 - the only good reason

    def run_its_tests(self):
        """Run what a page shows as a test: it must pass, too."""
        for name, thing in list(self.document.namespace.items()):
            if isinstance(thing, type) and issubclass(thing, unittest.TestCase):
                result = unittest.TestResult()
                unittest.defaultTestLoader.loadTestsFromTestCase(thing).run(result)
                assert result.wasSuccessful(), result.failures + result.errors
            elif name.startswith("test_") and callable(thing):
                result = thing()
                if inspect.iscoroutine(result):
                    asyncio.run(result)


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
@pytest.mark.usefixtures("a_registry_of_the_pages_own", "quiet_log", "store_of_the_page")
def test_the_python_on_a_page_runs_and_prints_what_the_page_says(path, capsys, monkeypatch):
    # pickle and dataclasses look up the module that a class says it comes from.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules[__name__])
    page = _Page(path, capsys)
    page.run()
    page.run_its_tests()
    assert page.compared == path.read_text(encoding="utf-8").count("```output\n")


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_python_that_is_not_run_is_at_least_python(path):
    for block in _blocks(path, "python"):
        compile(block, str(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.fixture
def django_settings():
    """The defaults of Django, for one test: other tests have settings of their own."""
    before = settings._wrapped
    settings._wrapped = UserSettingsHolder(global_settings)
    yield settings._wrapped
    settings._wrapped = before


def test_the_middleware_for_django_answers_a_rejection(django_settings, monkeypatch, capsys):
    page = _Page(DOCS / "how-to" / "web-server.md", capsys)
    page.run()
    registry = page.document.namespace["registry"]

    async def view(request, region):
        if region == "throttled":
            raise TenantThrottledError("eu-west-1", "acme", retry_after=2.5)
        registry.get(region).acquire().succeed()
        return HttpResponse("sent")

    site = ModuleType("site_of_this_test")
    site.urlpatterns = [django_path("<region>", view)]
    site.RejectionMiddleware = page.document.namespace["RejectionMiddleware"]
    monkeypatch.setitem(sys.modules, site.__name__, site)
    django_settings.MIDDLEWARE = [f"{site.__name__}.RejectionMiddleware"]
    django_settings.ROOT_URLCONF = site.__name__
    handler = WSGIHandler()
    rejected = handler.get_response(RequestFactory().get("/eu-west-1"))
    assert (rejected.status_code, rejected["Retry-After"]) == (503, "60")
    assert handler.get_response(RequestFactory().get("/us-east-1")).content == b"sent"
    throttled = handler.get_response(RequestFactory().get("/throttled"))
    assert (throttled.status_code, throttled["Retry-After"]) == (503, "3")
    registry.get("us-east-1").force_open("an example")
    assert "Retry-After" not in handler.get_response(RequestFactory().get("/us-east-1"))


def _blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


# Commands


def _commands():
    for path in PAGES:
        for block in _blocks(path, "console"):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield path.name, line.removeprefix("$ ").split("#")[0].split()


def test_every_make_target_on_a_page_is_in_the_menu_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    menu = set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))
    wanted = {words[1] for _, words in _commands() if words[0] == "make"}
    assert {"demo", "test"} <= wanted <= menu


def _extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return set(project["optional-dependencies"])


def _extras_named_in(text):
    return {
        extra
        for named in re.findall(r"region-breaker\[([\w,]+)\]", text)
        for extra in named.split(",")
    }


def test_what_is_installed_on_a_page_is_this_package_and_extras_that_it_has():
    installed = {
        word.strip('"')
        for _, words in _commands()
        if words[:2] == ["pip", "install"]
        for word in words[2:]
    }
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'name = "region-breaker"' in project
    alone = {f"region-breaker[{extra}]" for extra in _extras()}
    # The folder of a clone, until there is a release.
    assert installed == {"./region-breaker", "region-breaker[rabbitmq,aiohttp]", *alone}


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_a_page_names_no_extra_that_does_not_exist(path):
    assert _extras_named_in(path.read_text(encoding="utf-8")) <= _extras()


def _extras_used_in(code):
    """Return the extras that a program needs for what it imports of this package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilience."):
            for alias in node.names:
                yield from NEEDED.keys() & {node.module, f"{node.module}:{alias.name}"}


HOW_TOS = [page for page in PAGES if page.parent.name == "how-to" or page.name == "tutorial.md"]


@pytest.mark.parametrize("path", HOW_TOS, ids=[page.stem for page in HOW_TOS])
def test_a_page_names_the_extras_of_what_it_uses(path):
    used = {NEEDED[name] for code in _blocks(path, "python") for name in set(_extras_used_in(code))}
    assert used - _extras_named_in(path.read_text(encoding="utf-8")) == set()


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield importlib.import_module("test_extras")
    sys.modules.pop("test_extras")
    sys.modules.pop("wheels")


def test_each_extra_has_a_program_that_make_test_extras_runs(script):
    programs = script.programs()
    assert {program.extra for program in programs} == _extras()
    marked = sum(page.read_text(encoding="utf-8").count("<!-- a program for ") for page in PAGES)
    assert len(programs) == marked


def test_a_program_says_on_its_page_what_to_install(script):
    for program in script.programs():
        commands = "\n".join(_blocks(script.PAGES / program.page, "console"))
        assert f'pip install "region-breaker[{program.extra}]"' in commands


def test_the_repository_has_one_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project["urls"]["Source"]
    assert all(url.startswith(source) for url in project["urls"].values())
    cloned = {words[2] for _, words in _commands() if words[:2] == ["git", "clone"]}
    assert cloned == {source}


# The README on a package index


@pytest.fixture
def hatch_build(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    yield importlib.import_module("hatch_build")
    sys.modules.pop("hatch_build")


def test_the_links_of_the_readme_are_absolute_on_a_package_index(hatch_build):
    hook = hatch_build.CustomMetadataHook(str(ROOT), {})
    metadata = {"urls": {"Source": "https://forge.example/a/b"}}
    hook.update(metadata)
    readme = metadata["readme"]
    assert readme["content-type"] == "text/markdown"
    original = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(_links(readme["text"])) == len(_links(original)) > 10
    assert [link for link in _links(readme["text"]) if "://" not in link] == []
    for link in _links(readme["text"]):
        into = re.fullmatch(r"https://forge\.example/a/b/(?:blob|raw)/main/([^#]+)(#.*)?", link)
        if into is not None:
            assert (ROOT / into[1]).is_file()


def test_pictures_are_fetched_and_other_files_are_shown(hatch_build):
    text = "![a picture](a/b.png), [a page](c.md#d), [here](#d), [there](https://x.example/)"
    assert hatch_build.with_absolute_links(text, "https://y.example") == (
        "![a picture](https://y.example/raw/main/a/b.png), "
        "[a page](https://y.example/blob/main/c.md#d), [here](#d), [there](https://x.example/)"
    )


def _links(text):
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_every_file_of_the_project_that_a_command_names_exists():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    scripts = set(re.findall(r"[`$ ]((?:scripts|examples|benchmarks)/[\w./-]*\w/?)", text))
    assert scripts
    assert not [script for script in scripts if not (ROOT / script).exists()]


# Links


def _broken_links(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target and not (path.parent / target.split("#")[0]).exists():
            yield target


@pytest.mark.parametrize("path", PAGES, ids=NAMES)
def test_what_a_page_links_to_exists(path):
    assert not list(_broken_links(path))


# The words that users search for


def _entries():
    """Yield the words of each row of the index, and its answer."""
    for line in (DOCS / "words.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith("| word "):
            words, _, answer = line.strip("| ").partition(" | ")
            yield re.split(r", | and ", words), answer


def _says(path, word):
    return word.casefold() in path.read_text(encoding="utf-8").casefold()


def test_the_index_has_the_words_that_users_search_for():
    indexed = {word for words, _ in _entries() for word in words}
    wanted = {"idempotent", "thundering herd", "shadow mode", "bulkhead", "fallback"}
    wanted |= {"Django", "Celery", "Sentry"}
    assert wanted - indexed == set()
    assert len(indexed) > 60


@pytest.mark.parametrize(
    ("words", "answer"), [pytest.param(*entry, id=entry[0][0]) for entry in _entries()]
)
def test_each_word_of_the_index_leads_to_an_answer(words, answer):
    targets = [DOCS / link.split("#")[0] for link in _links(answer)]
    assert targets
    if "Not here" not in answer:
        assert any(_says(page, word) for page in targets for word in words)


# The options of the integrations

RENAMED = {"keep", "max_hold"}  # deprecated


def _options_tables():
    """Yield what each table of options is of, and its rows: the default of each option."""
    for page in sorted((DOCS / "how-to").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for names, table in re.findall(r"<!-- options of (.*) -->\n\n((?:\|.*\n)+)", text):
            rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
            defaults = {name: row[1] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
            yield names.split(), defaults


def _options(name):
    """Return the options of a function or class of the integrations by their names."""
    module, _, attribute = name.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    return {
        option.name: option.default
        for option in parameters.values()
        if (option.default is not option.empty or option.kind is option.KEYWORD_ONLY)
        and option.name not in RENAMED
    }


def _is_shown(default, cell):
    if default is inspect.Parameter.empty:
        return cell == "required"
    if default is resilience.classify_status:
        return cell == "`classify_status`"
    if default == ():
        return cell == "none"
    # None stands for something, which the table names.
    shown = f'`"{default}"`' if isinstance(default, str) else str(default)
    return default is None or cell == shown


@pytest.mark.parametrize(
    ("names", "defaults"),
    [pytest.param(*table, id=table[0][0].split(".", 2)[2]) for table in _options_tables()],
)
def test_a_table_has_the_options_of_an_integration_with_their_defaults(names, defaults):
    options = [_options(name) for name in names]
    assert set().union(*options) == set(defaults)
    for known in options:
        wrong = [name for name in known if not _is_shown(known[name], defaults[name])]
        assert wrong == []


def test_each_integration_that_has_options_has_a_table():
    text = (DOCS / "reference" / "integrations.md").read_text(encoding="utf-8")
    public = re.findall(r"^\.\. auto(?:function|class):: (\S+)", text, re.MULTILINE)
    with_options = {name for name in public if _options(name)}
    assert len(with_options) > 15
    assert with_options == {name for names, _ in _options_tables() for name in names}


# The reference


def test_the_reference_has_every_public_name():
    pages = "\n".join(
        page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")
    )
    documented = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", pages, re.MULTILINE))
    expected = {f"resilience.{name}" for name in resilience.__all__ if name != "__version__"}
    expected |= {f"resilience.testing.{name}" for name in resilience.testing.__all__}
    expected |= {f"resilience.testing.rabbitmq.{name}" for name in ("QueueCounts", "StubMessage")}
    expected |= {
        f"resilience.testing.conformance.{name}"
        for name in ("BreakerAdapter", "Check", "Finding", "check_breaker", "is_failure")
    }
    expected |= {f"resilience.retry.{name}" for name in resilience.retry.__all__}
    expected |= {"resilience.history.History", "resilience.tenants.Tenants"}
    expected |= {f"resilience.limits.{name}" for name in resilience.limits.__all__}
    expected |= {
        f"resilience.explain.{name}" for name in resilience.explain.__all__ if name != "explain"
    }
    expected |= {f"resilience.recording.{name}" for name in resilience.recording.__all__}
    expected |= {
        f"resilience.replay.{name}"
        for name in resilience.replay.__all__
        if name != "report_outage"  # for the registry
    }
    expected |= {
        f"resilience.integrations.{name}"
        for name in (
            "status_page.bearer_token",
            "status_page.status_page",
            "status_page.StatusPage",
            "readiness.is_ready",
            "asgi.ReadinessApp",
            "aiohttp_web.rejection_middleware",
            "aiohttp_web.readiness_handler",
            "starlette.handle_rejections",
            "starlette.readiness_endpoint",
            "starlette.respond_unavailable",
            "aiohttp.RegionMiddleware",
            "aiohttp.region_session",
            "requests.RegionAdapter",
            *(
                f"{library}.{name}"
                for library in ("httpx", "httpx2")
                for name in ("RegionTransport", "AsyncRegionTransport")
            ),
            *(
                f"{library}.RequestRejectedError"
                for library in ("aiohttp", "httpx", "httpx2", "requests")
            ),
            "logging.use_logging",
            "logging.use_structlog",
            "redis.Fleet",
            "redis.FleetCircuit",
            "metrics.HasStats",
            "metrics.QueueStats",
            "prometheus.CircuitCollector",
            "prometheus.ConsumerCollector",
            "opentelemetry.observe",
            "opentelemetry.observe_consumers",
            "opentelemetry.trace_circuits",
            "redis.RedisSharing",
            *(f"rabbitmq.{public}" for public in rabbitmq.__all__),
        )
    }
    expected |= {"resilience.genesys.GenesysRegion", "resilience.genesys.canonical_region"}
    methods = {name for name in documented if name.rpartition(".")[0] in expected}
    assert documented - methods == expected


# The figures that pages share with the page they come from


@pytest.mark.parametrize("page", ["README.md", "docs/explanation/comparison.md"])
def test_what_a_page_quotes_is_on_the_scoreboard_row_by_row(page):
    full = _rows(DOCS / "scoreboard.md")
    assert [row for row in _rows(ROOT / page) if row not in full] == []


def test_the_readme_quotes_the_scoreboard():
    assert len(_rows(ROOT / "README.md")) >= 5


def _rows(path):
    text = path.read_text(encoding="utf-8")
    _, _, quoted = text.partition("<!-- make scoreboard -->")
    lines = (quoted.partition("<!-- end -->")[0] or text).splitlines()
    return [line for line in lines if line.startswith("|") and "---" not in line]


# The diagram


@pytest.fixture
def diagram(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module("state_diagram")
    sys.modules.pop("state_diagram")


def test_the_diagram_is_drawn_from_what_a_breaker_does(diagram):
    drawing = ET.fromstring(diagram.svg())
    words = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {"CLOSED", "OPEN", "HALF_OPEN", "OPEN (forced)"} <= words
    assert len(diagram.changes()) == 12


def test_the_diagram_refuses_a_breaker_that_does_something_else(diagram, monkeypatch):
    known = diagram.changes()
    closed_by_chance = diagram.Change("OPEN", "CLOSED", "fail")
    monkeypatch.setattr(diagram, "changes", lambda: {*known, closed_by_chance})
    with pytest.raises(diagram.ExtensionError, match=r"lacks .*fail"):
        diagram.svg()
    monkeypatch.setattr(diagram, "changes", lambda: known - diagram.ARROWS[0].changes)
    with pytest.raises(diagram.ExtensionError, match=r"too much .*CLOSED.*OPEN"):
        diagram.svg()


# llms.txt, and the links to the sources


@pytest.fixture
def llms_txt(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module("llms_txt")
    sys.modules.pop("llms_txt")


def test_llms_txt_has_a_group_for_each_part_and_a_link_for_each_page(llms_txt, tmp_path):
    pages = {
        "conf.py": "extensions = ['llms_txt']",
        "index.rst": "Name\n====\n\nWhat it\nis.\n\n.. toctree::\n\n   part\n",
        "part.rst": "Part\n====\n\n.. toctree::\n\n   b\n   a\n",
        "a.rst": "Page ``a``\n==========\n\nThis :doc:`shows <b>`::\n\n    code\n",
        "b.rst": "Page b\n======\n\nBelow\n-----\n\n" + "A sentence. " * 40,
    }
    for name, text in pages.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    built = tmp_path / "built"
    app = Sphinx(tmp_path, tmp_path, built, tmp_path / "doctrees", "html", status=None)
    app.build()
    summary = " ".join(["A sentence."] * 25)
    assert (built / "llms.txt").read_text(encoding="utf-8") == (
        "# Name\n\n> What it is.\n\n## Part\n\n- [Part](part.html)\n"
        f"- [Page b](b.html): {summary}\n- [Page a](a.html): This shows.\n"
    )


def test_a_sentence_that_is_too_long_is_not_cut(llms_txt):
    long = "word " * 100
    assert llms_txt.shorten(f"{long}end. More.") == f"{long}end."
    assert llms_txt.shorten(f"{long}end") == f"{long}end"


def test_the_links_to_the_sources_are_made_from_the_address_of_the_repository(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())  # which conf.py changes
    links = runpy.run_path(str(DOCS / "conf.py"))["html_theme_options"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    source = project["urls"]["Source"]
    assert links == {
        "source_view_link": f"{source}/blob/main/docs/{{filename}}",
        "source_edit_link": f"{source}/edit/main/docs/{{filename}}",
    }


# The table of the clients


@pytest.fixture
def client_table(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    yield importlib.import_module("client_table")
    sys.modules.pop("client_table")


def test_the_table_has_a_row_for_each_client(client_table):
    lines = client_table.markdown({"redis": "8.1.0"}).splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines[2:]}
    assert len(rows) == len(LIBRARIES)
    assert {re.sub(r" \d[\w.]*", "", name) for name in rows} == {
        library.name for library in LIBRARIES
    }
    (redis,) = (line for name, line in rows.items() if name.startswith("redis 8.1.0, valkey"))
    _, failure, answered, ignored, _ = redis.split(" | ")
    assert "`BusyLoadingError`" in failure
    assert "`AuthenticationError`" in answered
    assert "`MaxConnectionsError`" in ignored


def test_each_column_of_the_table_has_what_the_rules_know(client_table):
    outage, refused, ignored = Meaning.OUTAGE, Meaning.REFUSAL, Meaning.LOCAL
    library = ClientLibrary(
        name="one, two (of two)",
        packages=("one", "two"),
        outages=("Down",),
        wrappers=("Around",),
        refusals=("No",),
        throttling=("TooMany",),
        misuse=("Wrong",),
        local=("Full",),
        codes=(Codes("code", outages=(7, range(1, 4)), others=refused),),
        texts=(("fell|over", outage), ("", ignored)),
        advice="Nothing.",
    )
    assert client_table.row(library, {"two": "2.0"}) == (
        "one, two (of two) 2.0",
        "5xx; `Around`; `Down`; `code`: 7, 1 to 3; “fell\\|over”",
        "4xx; `No`; `TooMany`; `code`: others",
        "407; `Full`; `Wrong`; an empty message",
        "Nothing.",
    )


def test_the_versions_in_the_table_are_those_that_were_tested(client_table, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# a comment\nmy-client==1.2.3 \\\n    --hash=x\nMy_Other==4 ; python\n")
    assert client_table.versions(lock) == {"my-client": "1.2.3", "my-other": "4"}
    assert client_table.versions(tmp_path / "missing") == {}
    assert "aiohttp" in client_table.versions()
