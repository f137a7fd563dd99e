"""The house: which file may import which, what the pure files keep away from, what is private."""

import ast
from pathlib import Path

import pytest

import resilience

HOUSE = Path(resilience.__file__).parent
MOST_LINES_OF_A_FUNCTION = 40

# From the top to the bottom. A file imports only files of its own level that form no circle with
# it, and files of the levels below; so every arrow points down.
LEVELS = (
    {"__main__"},
    {"cli"},
    {"integrations", "testing", "__init__", "decorator", "retry"},
    {"registry"},
    {"registry_settings"},
    {"eviction"},
    {"breaker"},
    {
        "answers",
        "permit",
        "protect",
        "protect_fallback",
        "protect_tenants",
        "protectable",
        "unfinished",
        "judge",
        "hints",
        "listeners",
        "loop_delivery",
        "loops",
        "scope",
        "tenant_call",
        "tenants",
        "waiters",
        "watched_permit",
    },
    {"replay"},
    {"recording"},
    {"log", "classify", "history"},
    {"errors", "events", "snapshot"},
    {"explain"},
    {"shared_circuit", "shared_lease", "shared_probe", "shared_record", "shared_tenant_table"},
    {"circuit", "limits"},
    {"circuit_events"},
    {"circuit_states"},
    {"rules"},
    {"outcome", "policy", "ramp", "recovery"},
    {"explanation", "mode"},
    {
        "circuit_name",
        "genesys",
        "identity",
        "_extras",
        "_lock",
        "_threads",
        "_text",
        "_validate",
        "_by_type",
    },
    {"_interrupts"},
    {"_introspection"},
)
# What decides has no I/O, no clock, no chance, no log, and belongs to no library.
PURE = (
    "circuit",
    "circuit_events",
    "circuit_states",
    "rules",
    "shared_circuit",
    "shared_lease",
    "shared_probe",
    "shared_record",
    "shared_tenant_table",
    "limits",
    "outcome",
    "policy",
    "explanation",
    "ramp",
    "recovery",
    "errors",
    "classify",
)
# Imported as a whole; what is private about them is that they are not for users.
OPEN_TO_ALL = ("_validate", "_lock", "_threads", "_text", "_by_type", "_introspection")
# Arrows that may point up, from inside a function only: what is there is no part of what is here.
# `policy.explain()` is a thin method, and runs the circuits for those that call it.
DEFERRED = {("policy", "explain")}
NOT_IN_PURE = {"asyncio", "time", "random", "logging", "loguru", "tenacity", "aiohttp", "threading"}


def module_of(path, house):
    """Name a file as it is imported, without the package."""
    parts = path.relative_to(house).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def read(house):
    return {
        module_of(path, house): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(house.rglob("*.py"))
    }


def deferred_imports(tree, module):
    """Find the imports inside of functions that are allowed to point up."""
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    inside = [
        node for one in ast.walk(tree) if isinstance(one, functions) for node in ast.walk(one)
    ]
    imports = [node for node in inside if isinstance(node, ast.ImportFrom)]
    return [
        node
        for node in imports
        if (module, (node.module or "").removeprefix("resilience.")) in DEFERRED
    ]


def imports_of(tree, known, module=""):
    """Give the modules of the package that a file imports, for types and inside functions too."""
    found = set()
    deferred = deferred_imports(tree, module)
    for node in ast.walk(tree):
        if node in deferred:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            names = [f"{base}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("resilience.") in known else base for name in names]
        else:
            continue
        for name in names:
            if name == "resilience":
                found.add("__init__")
            elif name.startswith("resilience."):
                found.add(name.removeprefix("resilience."))
    return found & known


def level_of(module):
    top = module.split(".")[0]
    for number, level in enumerate(LEVELS):
        if top in level:
            return number
    pytest.fail(f"{module} has no place in the house: give it a level")


def upward_arrows(trees):
    known = set(trees)
    return [
        f"{module} -> {imported}"
        for module, tree in trees.items()
        for imported in imports_of(tree, known, module)
        if module != "__init__" and level_of(imported) < level_of(module)
    ]


def cycles(trees):
    known = set(trees)
    arrows = {module: imports_of(tree, known, module) - {module} for module, tree in trees.items()}
    found = []

    def visit(module, path):
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
            return
        if module in done:
            return
        for imported in sorted(arrows[module]):
            visit(imported, [*path, module])
        done.add(module)

    done = set()
    for module in sorted(arrows):
        visit(module, [])
    return found


def private_names_of_others(tree):
    """Find `thing._name` where the file itself does not give that name to anything."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)}
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own |= {node.attr for node in attributes if isinstance(node.ctx, ast.Store)}
    own |= {
        node.target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    own |= {"_replace"}  # a named tuple's, which is public in spite of its name
    return [
        f"line {node.lineno}: {node.attr}"
        for node in attributes
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in own
        if not (isinstance(node.value, ast.Name) and node.value.id == "self")  # of a base class
    ]


def private_imports(tree):
    """Find what is imported by a private name, or from a private file of another package."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilience"):
            found += [alias.name for alias in node.names if alias.name.startswith("_")]
    return [name for name in found if name not in OPEN_TO_ALL]


TREES = read(HOUSE)


def test_no_arrow_points_up():
    assert upward_arrows(TREES) == []


def test_no_import_forms_a_circle():
    assert cycles(TREES) == []


@pytest.mark.parametrize("module", TREES)
def test_no_file_reads_the_private_names_of_another(module):
    # The lock asks whether it is held in the only way there is. Its comment says so.
    allowed = {"_lock": ["_is_owned"]}.get(module, [])
    found = private_names_of_others(TREES[module])
    assert [name for name in found if name.split(": ")[1] not in allowed] == []
    assert private_imports(TREES[module]) == []


@pytest.mark.parametrize("module", [name for name in TREES if name.split(".")[0] in PURE])
def test_what_decides_is_pure(module):
    imported = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & NOT_IN_PURE == set()


@pytest.mark.parametrize("module", TREES)
def test_functions_fit_in_the_eye(module):
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    long = []
    for node in ast.walk(TREES[module]):
        if not isinstance(node, kinds):
            continue
        body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
        lines = (node.end_lineno or 0) - body[0].lineno + 1
        # A function inside another one is a function by itself, and is counted as one.
        inner = [one for one in body if isinstance(one, kinds)]
        lines -= sum((one.end_lineno or 0) - one.lineno + 1 for one in inner)
        if lines > MOST_LINES_OF_A_FUNCTION:
            long.append(f"{node.name}: {lines}")
    assert long == []


# The checks themselves: each finds what it is for


def house(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(tmp_path)


def test_an_arrow_that_points_up_is_found_even_for_types(tmp_path):
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from resilience import breaker"
    trees = house(tmp_path, {"circuit.py": late, "breaker.py": ""})
    assert upward_arrows(trees) == ["circuit -> breaker"]


def test_an_arrow_that_may_be_deferred_may_not_be_there_from_the_start(tmp_path):
    line = "from resilience.explain import explain"
    files = {"policy.py": line, "explain/__init__.py": ""}
    assert upward_arrows(house(tmp_path, files)) == ["policy -> explain"]
    files["policy.py"] = f"def f():\n {line}"
    assert upward_arrows(house(tmp_path, files)) == []


def test_a_circle_is_found_also_within_a_level(tmp_path):
    files = {
        "scope.py": "import resilience.judge",
        "judge.py": "def f():\n import resilience.scope",
    }
    assert cycles(house(tmp_path, files)) == ["judge -> scope -> judge"]


def test_a_private_name_of_another_file_is_found(tmp_path):
    text = "from resilience.breaker import _hidden\ndef f(b):\n    return b._circuit"
    tree = house(tmp_path, {"retry.py": text})["retry"]
    assert private_names_of_others(tree) == ["line 3: _circuit"]
    assert private_imports(tree) == ["_hidden"]
