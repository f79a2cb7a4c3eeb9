"""The import law, the exported names, and what must not be imported for `--help`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import networkx as nx
import pytest

import connect
import landscape

ROOT = Path(__file__).parent.parent
ROOMS = {
    "landscape": [
        "errors",
        "runtime",
        "storage",
        "plots",
        "problems",
        "space",
        "risk",
        "training",
        "sweeps",
        "curvature",
        "app",
    ],
    "connect": ["symmetry", "paths", "measures", "minima", "plots", "app"],
}  # from the ground up


def modules(package):
    return [path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]


def imports(path):
    """The modules that a file imports, as dotted names; all imports here are absolute."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path, package):
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_imports_only_go_down(package):
    order = ROOMS[package]
    for path in modules(package):
        for name in imports(path):
            own, _, rest = name.partition(".")
            if own == package:
                assert rest, f"{path} imports the whole package"
                assert order.index(rest.split(".")[0]) <= order.index(room(path, package)), f"{path} imports {name}"


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_no_modules_import_each_other(package):
    """No cycles, within a room either."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in modules(package)}
    graph = nx.DiGraph()
    for name, path in names.items():
        found = {imported if imported in names else imported.rpartition(".")[0] for imported in imports(path)}
        graph.add_edges_from((name, other) for other in found & names.keys())
    assert not list(nx.simple_cycles(graph))


def test_every_module_is_in_a_room():
    for package, order in ROOMS.items():
        found = {room(path, package) for path in modules(package)}
        assert found <= set(order)


def test_only_connects_app_uses_landscapes_app():
    for path in modules("connect"):
        for name in imports(path):
            assert room(path, "connect") == "app" or not name.startswith("landscape.app"), f"{path} imports {name}"


def test_landscape_never_imports_connect():
    assert not [p for p in modules("landscape") for name in imports(p) if name.split(".")[0] == "connect"]


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_private_names_stay_at_home(package):
    for path in modules(package):
        for name in imports(path):
            private = any(part.startswith("_") for part in name.split("."))
            assert not (private and name.split(".")[0] in ROOMS), f"{path} imports {name}"


@pytest.mark.parametrize("package", [landscape, connect])
def test_every_exported_name_is_there_and_documented(package):
    assert package.__all__
    for name in package.__all__:
        exported = getattr(package, name)
        assert not isinstance(exported, type(sys)), f"{name} is a module"
        if isinstance(exported, type) or hasattr(exported, "__code__"):
            assert exported.__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_packages_only_re_export(package):
    for path in (ROOT / package).rglob("__init__.py"):
        assert not re.search(r"^(def|class) ", path.read_text(), re.MULTILINE)


def drawing(package):
    """The modules that draw: all under `plots/`, and the command that draws a result again."""
    paths = [*(ROOT / package / "plots").rglob("*.py"), ROOT / package / "app" / "commands" / "pictures.py"]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)


@pytest.mark.parametrize("module", [name for package in sorted(ROOMS) for name in drawing(package)])
def test_drawing_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("landscape.app.cli", ["--help"]),
        ("landscape.app.cli", ["train", "--help"]),
        ("landscape.app.cli", ["surface", "--help"]),
        ("connect.app.cli", ["--help"]),
        ("connect.app.cli", ["fit", "--help"]),
    ],
)
def test_help_imports_no_torch(module, arguments):
    code = (
        f"import sys; sys.argv = ['x', *{arguments}]\n"
        f"from {module} import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert not left.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "usage:" in shown.stdout
