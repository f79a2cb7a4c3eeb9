"""The import law, the exported names, and what must not be imported for `--help`."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import connect
import landscape

ROOT = Path(__file__).parent.parent
ORDER = {
    "landscape": [
        "errors",
        "seeds",
        "grid",
        "options",
        "config",
        "files",
        "copying",
        "buffers",
        "parameters",
        "metadata",
        "pickles",
        "checkpoints",
        "problems",
        "convolutions",
        "conduct",
        "batchnorm",
        "folding",
        "products",
        "consistency",
        "distributed",
        "predictions",
        "objective",
        "directions",
        "slices",
        "planes",
        "progress",
        "interrupts",
        "results",
        "hdf5",
        "foreign",
        "store",
        "locks",
        "outputs",
        "projections",
        "interpolation",
        "adaptive",
        "curvature",
        "sweeps",
        "recipes",
        "identities",
        "keeping",
        "training",
        "plots",
        "yamlfiles",
        "study",
        "commands",
        "commandline",
        "cli",
    ],
    "connect": [
        "curves",
        "geometry",
        "path",
        "sampling",
        "fitting",
        "neb",
        "autoneb",
        "simplices",
        "ways",
        "barriers",
        "likeness",
        "profiles",
        "planes",
        "ensembles",
        "minima",
        "saddles",
        "disconnectivity",
        "exploring",
        "relations",
        "embedding",
        "committees",
        "plots",
        "config",
        "commands",
        "cli",
    ],
}
INSIDE_PROBLEMS = ["specification", "splits", "augmentation", "datasets", "losses", "models", "code", "registry"]


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


@pytest.mark.parametrize("package", sorted(ORDER))
def test_imports_only_go_up_the_list_of_files(package):
    order = ORDER[package]
    for path in modules(package):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        place = order.index(parts[0])
        for name in imports(path):
            own, _, rest = name.partition(".")
            if own != package or not rest:
                continue
            inner = rest.split(".")
            assert order.index(inner[0]) < place or inner[0] == parts[0], f"{path} imports {name}"
            if inner[0] == "problems" == parts[0] and len(parts) > 1 and inner[1] != parts[1]:
                assert INSIDE_PROBLEMS.index(inner[1]) < INSIDE_PROBLEMS.index(parts[1]), f"{path} imports {name}"


def test_every_file_has_its_place_in_the_list():
    for package, order in ORDER.items():
        found = {path.relative_to(ROOT / package).with_suffix("").parts[0] for path in modules(package)}
        assert found == set(order)


def test_landscape_never_imports_connect():
    assert not [p for p in modules("landscape") for name in imports(p) if name.split(".")[0] == "connect"]


def test_connect_uses_only_what_landscape_exports():
    for path in modules("connect"):
        for name in imports(path):
            own, _, rest = name.partition(".")
            assert own != "landscape" or rest in landscape.__all__, f"{path} imports {name}"


@pytest.mark.parametrize("package", [landscape, connect])
def test_every_exported_name_is_there_and_documented(package):
    assert package.__all__
    for name in package.__all__:
        exported = getattr(package, name)
        assert not isinstance(exported, type(sys)), f"{name} is a module"
        if isinstance(exported, type) or hasattr(exported, "__code__"):
            assert exported.__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("package", sorted(ORDER))
def test_packages_only_re_export(package):
    for path in (ROOT / package).rglob("__init__.py"):
        assert not re.search(r"^(def|class) ", path.read_text(), re.MULTILINE)


def drawing(package):
    """The modules that draw: all under `plots/`, and the command that draws a result again."""
    paths = [*(ROOT / package / "plots").rglob("*.py"), ROOT / package / "commands" / "pictures.py"]
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths)


@pytest.mark.parametrize("module", [name for package in sorted(ORDER) for name in drawing(package)])
def test_drawing_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("landscape.cli", ["--help"]),
        ("landscape.cli", ["train", "--help"]),
        ("landscape.cli", ["surface", "--help"]),
        ("connect.cli", ["--help"]),
        ("connect.cli", ["fit", "--help"]),
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
