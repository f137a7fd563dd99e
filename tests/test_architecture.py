"""The house: which file may import which, what the core keeps away from, how large it may be."""

import ast
import inspect
import io
import re
import subprocess
import sys
import tokenize
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import resilience
import resilience.genesys
import resilience.integrations.rabbitmq
import resilience.integrations.redis
import resilience.retry
import resilience.testing

HOUSE = Path(resilience.__file__).parent

# In the order in which a call travels. A file imports only files that stand lower.
CORE = (
    "__init__",
    "decorator",
    "retry",
    "retry_after",
    "budget",
    "registry",
    "breaker",
    "sharing",
    "gated",
    "guards",
    "permit",
    "gate",
    "waiting",
    "history",
    "rejections",
    "events",
    "circuit",
    "policy",
    "classify",
    "errors",
    "genesys",
    "lock",
    "checks",
    "text",
)
# What retries add to the core: nothing else needs it.
RETRIES = {"retry", "retry_after", "budget", "gate", "gated"}
TESTING = ("testing", "testing.genesys", "testing.api", "testing.port", "testing.clock")

# Names that a type checker needs and a running program does not.
UPWARDS_FOR_TYPES = {
    ("errors", "circuit"),
    ("permit", "breaker"),
    ("gated", "breaker"),
    ("gate", "breaker"),
    ("gate", "permit"),
    ("sharing", "breaker"),
}

# What decides has no I/O, no clock, no chance, no log, and belongs to no library.
PURE = ("sharing", "circuit", "policy", "classify", "errors", "checks", "text")
NEVER_IN_PURE = {"asyncio", "time", "random", "logging", "loguru", "tenacity", "aiohttp"}

MOST_LINES = 1_200  # without what retries add
MOST_LINES_FOR_RETRIES = 500
# What a circuit makes of what other processes know: one protocol, in one file.
MOST_LINES_TO_SHARE = 340
# What operators see decides nothing about a call.
SEEING, MOST_LINES_TO_SEE = ("history", "rejections"), 90
# The wrappers that every call goes through are longer than they had to be, for speed.
FAST, MOST_LINES_TO_BE_FAST = ("guards",), 120
MOST_LINES_OF_A_FUNCTION = 40

PUBLIC = {
    "BreakerPolicy",
    "CircuitBreaker",
    "CircuitBreakerOpenError",
    "CircuitBreakerRegistry",
    "CircuitSnapshot",
    "CircuitState",
    "Outcome",
    "Permit",
    "ResilienceError",
    "StateChanged",
    "__version__",
    "classify_error",
    "classify_status",
    "default_registry",
    "failures",
    "region_breaker",
}


def files(folder=""):
    return {
        ".".join(path.relative_to(HOUSE).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((HOUSE / folder).rglob("*.py"))
    }


def core_files():
    return {
        name: path
        for name, path in files().items()
        if name.split(".")[0] not in ("testing", "integrations")
    }


@cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """Yield (module, whether only for type checkers) for each import statement in a file."""
    tree = tree_of(path)
    for_types = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inside in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            names = (
                [f"resilience.{alias.name}" for alias in node.names]
                if node.module == "resilience"
                else [node.module]
            )
        else:
            continue
        for name in names:
            yield name, id(node) in for_types


def siblings(path):
    """The same for the files of the house only, as they are called here."""
    for module, for_types in imports(path):
        if module.split(".")[0] == "resilience":
            yield module.removeprefix("resilience").removeprefix(".") or "__init__", for_types


# Arrows


def test_every_file_of_the_core_has_its_place():
    assert core_files().keys() - set(CORE) == set(), "place the new file in CORE"
    assert set(CORE) - core_files().keys() == set(), "a file that is gone is listed"
    assert files("testing").keys() == set(TESTING)


@pytest.mark.parametrize("name", core_files())
def test_a_file_of_the_core_imports_only_files_that_stand_lower(name):
    for other, for_types in siblings(core_files()[name]):
        if not (for_types and (name, other) in UPWARDS_FOR_TYPES):
            assert other in CORE, f"{name} imports {other}, which is no part of the core"
            assert CORE.index(other) > CORE.index(name), f"{name} imports {other}, which is above"


def test_no_upward_import_is_listed_that_is_not_there():
    there = {
        (name, other)
        for name, path in core_files().items()
        for other, for_types in siblings(path)
        if for_types and other in CORE and CORE.index(other) < CORE.index(name)
    }
    assert there == UPWARDS_FOR_TYPES


@pytest.mark.parametrize("name", TESTING)
def test_a_file_for_users_tests_imports_only_lower_ones_and_the_core(name):
    for other, _ in siblings(files()[name]):
        if other not in CORE:
            assert TESTING.index(other) > TESTING.index(name)


def test_integrations_have_one_file_or_folder_for_each_library():
    names = {name.split(".")[1] for name in files("integrations") if "." in name}
    assert names == {"opentelemetry", "prometheus", "rabbitmq", "reading", "redis", "status_page"}


# In the order in which a message travels: from what users see down to the broker.
RABBITMQ = (
    "__init__",
    "shared",
    "region",
    "hold",
    "consumer",
    "sorting",
    "line",
    "part",
    "inspection",
    "pace",
    "hand",
    "intake",
    "work",
    "verdict",
    "publisher",
    "copies",
    "broker",
)


def test_every_file_of_the_rabbitmq_integration_imports_only_files_that_stand_lower():
    folder = "integrations.rabbitmq"
    found = {
        name.removeprefix(folder).removeprefix(".") or "__init__": path
        for name, path in files("integrations/rabbitmq").items()
    }
    assert found.keys() == set(RABBITMQ)
    for name, path in found.items():
        for other, _ in siblings(path):
            if other.startswith(folder):
                below = other.removeprefix(f"{folder}.")
                assert RABBITMQ.index(below) > RABBITMQ.index(name), f"{name} imports {below}"
            else:
                assert other in CORE, f"{name} imports {other}"


# What the core keeps away from


@pytest.mark.parametrize("name", PURE)
def test_what_decides_imports_no_clock_no_chance_no_log_and_no_library(name):
    path = core_files()[name]
    assert not {module.split(".")[0] for module, _ in imports(path)} & NEVER_IN_PURE
    assert {other for other, for_types in siblings(path) if not for_types} <= set(PURE)


def test_only_the_breaker_reads_a_clock():
    # An HTTP date is a time of day, which is nobody else's business.
    readers = {name for name, path in core_files().items() if reads_a_clock(path)}
    assert readers - {"retry_after"} == {"breaker"}


def reads_a_clock(path):
    clocks = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "process_time"}
    calls = (node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))
    asked = {
        function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        for function in calls
    }
    timeless = "time" not in {module for module, _ in imports(path)}
    # clock_gettime, monotonic_ns and their like
    return not timeless or any(name in clocks or name.endswith(("_ns", "time")) for name in asked)


def test_importing_the_package_loads_loguru_and_no_other_library():
    proof = (
        "import sys; sys.path[:] = {path!r}; before = set(sys.modules); import resilience; "
        "roots = {{name.split('.')[0] for name in set(sys.modules) - before}}; "
        "print(*(root for root in roots - sys.stdlib_module_names if root[0] != '_'))"
    )
    run = subprocess.run(
        [sys.executable, "-c", proof.format(path=[str(HOUSE.parent), *sys.path])],
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(run.stdout.split()) - {"colorama", "win32_setctime"} == {"loguru", "resilience"}


# Size: lines that are neither blank nor comment nor docstring


def code_lines(path):
    source = path.read_text(encoding="utf-8")
    nothing = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENCODING,
        tokenize.ENDMARKER,
    )
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in nothing:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, node.end_lineno + 1))
    return lines


def function_sizes():
    for name, path in files().items():
        lines = code_lines(path)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = len(lines.intersection(range(node.lineno, node.end_lineno + 1)))
                yield size, f"{name}.{node.name}"


def test_the_core_stays_small():
    sizes = {name: len(code_lines(path)) for name, path in core_files().items()}
    retries = sum(sizes.pop(name) for name in RETRIES)
    seeing = sum(sizes.pop(name) for name in SEEING)
    fast = sum(sizes.pop(name) for name in FAST)
    sharing = sizes.pop("sharing")
    total = sum(sizes.values())
    more = f"retries {retries}, to share {sharing}, to see it {seeing}, to be fast {fast}"
    print(f"core: {total} lines; {more}", sizes)  # noqa: T201 - for pytest -s
    assert 0 < total <= MOST_LINES, sizes
    assert 0 < retries <= MOST_LINES_FOR_RETRIES
    assert 0 < sharing <= MOST_LINES_TO_SHARE
    assert 0 < seeing <= MOST_LINES_TO_SEE
    assert 0 < fast <= MOST_LINES_TO_BE_FAST


def test_no_function_is_long():
    sizes = sorted(function_sizes(), reverse=True)
    print(f"longest functions: {sizes[:3]}")  # noqa: T201 - for pytest -s
    assert [one for one in sizes if one[0] > MOST_LINES_OF_A_FUNCTION] == []


def test_lines_are_counted_as_they_are_meant(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        '"""A docstring\nof two lines."""\n\n# a comment\nx = (\n    1,  # one\n)\n'
        '"""What x is."""\n\n\ndef f():\n    """Say."""\n'
        '    text = """two\nlines"""\n    return text\n'
    )
    assert code_lines(file) == {5, 6, 7, 11, 13, 14, 15}


# The public names


def test_all_is_the_public_api():
    assert set(resilience.__all__) == PUBLIC
    assert sorted(resilience.__all__) == resilience.__all__
    assert set(resilience.testing.__all__) == {"FakeClock", "FakeGenesys"}


def test_the_package_shows_nothing_but_its_public_names_and_its_files():
    shown = {
        name
        for name, value in vars(resilience).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert shown | {"__version__"} == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC | {"FakeClock", "FakeGenesys"}))
def test_every_public_name_is_there(name):
    assert getattr(resilience.testing if name.startswith("Fake") else resilience, name) is not None


def documented():
    """Yield every public function, class and member with its docstring."""
    testing = resilience.testing
    sharing = resilience.integrations.redis
    rabbitmq = resilience.integrations.rabbitmq
    modules = (resilience, testing, resilience.genesys, resilience.retry, sharing, rabbitmq)
    for module in modules:
        yield module.__name__, module.__doc__
    public = [getattr(resilience, name) for name in sorted(PUBLIC - {"__version__"})]
    public += [testing.FakeClock, testing.FakeGenesys]
    public += [resilience.genesys.GenesysRegion, resilience.genesys.canonical_region]
    public += [getattr(resilience.retry, name) for name in resilience.retry.__all__]
    public += [sharing.RedisSharing]
    public += [getattr(rabbitmq, name) for name in rabbitmq.__all__]
    for thing in public:
        if not hasattr(thing, "__qualname__"):
            continue  # an object: its class is among them
        yield thing.__qualname__, thing.__doc__
        if isinstance(thing, type):
            for name, member in vars(thing).items():
                if name == "__call__" or (not name.startswith("_") and is_documentable(member)):
                    yield f"{thing.__qualname__}.{name}", inspect.getdoc(member)


def is_documentable(member):
    return inspect.isroutine(member) or isinstance(member, property | classmethod | staticmethod)


@pytest.mark.parametrize(
    ("name", "text"), [pytest.param(name, text, id=name) for name, text in documented()]
)
def test_every_public_name_says_in_one_sentence_what_it_is(name, text):
    assert text, f"{name} has no docstring"
    first, *rest = text.splitlines()
    assert first.endswith("."), f"{name}: {first}"
    assert not re.search(r"[.!?] [A-Z]", first), f"{name}: more than one sentence: {first}"
    assert rest[:1] in ([], [""]), f"{name}: the first line is the summary"
