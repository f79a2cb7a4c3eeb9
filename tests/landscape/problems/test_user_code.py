"""Users' own code: which files belong to it, that it is loaded again when it changes, and apart from other folders'."""

import importlib
import json
import os
import sys
from pathlib import Path

import h5py
import pytest

from landscape import ProblemSpecification, build_problem
from landscape.errors import ConfigError, ProblemError, ProvenanceError
from landscape.problems.code import code_fingerprints, is_users, load
from landscape.storage.files import fingerprint
from landscape.storage.store import require_same_provenance

MINE = """
import torch
from helper import scale
from package.inner import shift

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, x):
        from late import power
        return scale * self.layer(x) ** power() + shift

def model():
    import importlib
    importlib.import_module("by_name")
    return Net()

def data():
    x = torch.linspace(-1, 1, 40).view(20, 2)
    return (x, (x[:, 0] > 0).long()), (x, (x[:, 0] > 0).long())
"""


@pytest.fixture
def project(tmp_path):
    """A file with what it imports beside it, in a function, in a package and by name; and files that it does not."""
    files = {
        "mine.py": MINE,
        "helper.py": "scale = 1.0\n",
        "late.py": "import later\ndef power(): return later.POWER\n",
        "later.py": "POWER = 1\n",
        "package/__init__.py": "",
        "package/inner.py": "from . import other\nfrom .deep.down import shift\n",
        "package/other.py": "",
        "package/deep/down.py": "shift = 0.0\n",
        "by_name.py": "",
        "unrelated.py": "",
        "random.py": "raise ImportError('not this one')\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def built(folder):
    return build_problem(ProblemSpecification(model=f"{folder}/mine.py:model", data=f"{folder}/mine.py:data"))


def test_everything_that_comes_from_the_folder_is_fingerprinted(project):
    built(project)
    mine = f"{project}/mine.py"
    found = code_fingerprints([f"{mine}:model", f"{mine}:data", "cross_entropy"])
    names = ["helper", "late", "later", "package/__init__", "package/inner", "package/other", "package/deep/down"]
    expected = [mine, *(f"{project}/{name}.py" for name in [*names, "by_name"])]
    assert sorted(found) == sorted(expected)
    for name, digest in found.items():
        assert digest == fingerprint([Path(name).read_bytes()])


def test_modules_are_fingerprinted_by_their_names(project, monkeypatch):
    monkeypatch.chdir(project)
    specification = ProblemSpecification(model="mine:model", data="mine:data")
    build_problem(specification)
    found = code_fingerprints(["mine:model", "mine:data"])
    assert {"mine", "helper", "late", "later", "package", "package.inner", "package.deep.down"} <= set(found)
    assert not [name for name in found if "unrelated" in name or "torch" in name]


def test_installed_packages_are_known_by_the_named_file_alone():
    assert list(code_fingerprints(["torchvision.models:resnet18"])) == ["torchvision.models"]
    assert not is_users(json.__file__)
    assert not is_users(h5py.__file__)
    assert not is_users(load("landscape.problems.code").__file__)


@pytest.mark.parametrize("file", ["mine.py", "helper.py", "late.py", "later.py", "package/deep/down.py"])
def test_code_that_changed_is_loaded_anew_in_the_same_process(project, file):
    """The new content is of the same length, and but for what a forward imports written within the same second."""
    x = built(project).data.splits["train"].tensors[0]
    assert built(project).model(x)[0].shape == (2,)
    changes = {
        "mine.py": ("torch.nn.Linear(2, 2)", "torch.nn.Linear(2, 3)"),
        "helper.py": ("1.0", "3.0"),
        "late.py": ("later.POWER", "0*id(later)"),
        "later.py": ("1", "3"),
        "package/deep/down.py": ("0.0", "9.0"),
    }
    before, after = built(project).model, changes[file]
    was = before(x)
    text = (project / file).read_text()
    (project / file).write_text(text.replace(*after))
    if file.startswith("late"):
        os.utime(project / file, (0, (project / file).stat().st_mtime + 5))
    problem = built(project)
    if file == "mine.py":
        assert problem.model(x).shape == (20, 3)
        return
    problem.model.load_state_dict(before.state_dict())
    layer = before.layer(x)
    expected = {
        "helper.py": 3 * layer, "late.py": layer**0, "later.py": layer**3, "package/deep/down.py": layer + 9.0
    }[file]  # fmt: skip
    assert (problem.model(x) - expected).abs().max() < 1e-5
    assert (problem.model(x) - was).abs().max() > 1e-3


def test_unchanged_code_is_loaded_once(project):
    assert type(built(project).model) is type(built(project).model)


def test_modules_of_one_name_in_two_folders_are_kept_apart(tmp_path):
    folders = [tmp_path / name for name in ("one", "two")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        (folder / "helper.py").write_text(f"scale = {number}\n")
        (folder / "mine.py").write_text(
            "import torch\nfrom helper import scale\n"
            "def model():\n    import helper\n    net = torch.nn.Linear(2, 2)\n"
            "    net.scales = (scale, helper.scale)\n    return net\n"
        )
    for number in (0, 1, 0, 1):
        folder = folders[number]
        model = build_problem(ProblemSpecification(model=f"{folder}/mine.py:model", data="digits")).model
        assert model.scales == (number, number)
        assert set(code_fingerprints([f"{folder}/mine.py:model"])) == {f"{folder}/mine.py", f"{folder}/helper.py"}


def test_a_module_that_a_script_has_loaded_itself_stays_its_own(tmp_path, monkeypatch):
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "helper.py").write_text("scale = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path / "script"))
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    own = importlib.import_module("helper")
    try:
        (tmp_path / "helper.py").write_text("scale = 1\n")
        (tmp_path / "mine.py").write_text("from helper import scale\n")
        assert load(f"{tmp_path}/mine.py").scale == 1
        assert sys.modules["helper"] is own
    finally:
        del sys.modules["helper"]


def test_a_resume_notices_that_what_a_file_imports_has_changed(call, project):
    mine = f"{project}/mine.py"
    problem = ["--model", f"{mine}:model", "--data", f"{mine}:data"]
    out = project / "a.safetensors"
    assert call("train", *problem, "--epochs", 1, "--out", out)[0] == 0
    arguments = ["line", *problem, "--a", out, "--range", "-1:1:3", "--out", project / "l.h5"]
    assert call(*arguments)[0] == 0
    assert call(*arguments, "--resume")[0] == 0
    (project / "later.py").write_text("POWER = 2\n")
    code, _, errors = call(*arguments, "--resume")
    assert code == 2
    assert f"was begun with other code: {project}/later.py changed since" in errors
    (project / "later.py").write_text("POWER = 1\n")
    assert call(*arguments, "--resume")[0] == 0


def test_results_of_older_versions_know_the_named_file_alone(tmp_path):
    now = {"code": {"mine.py": "1", "helper.py": "2"}}
    require_same_provenance(tmp_path, {"code": {"mine.py": "1"}}, now)
    require_same_provenance(tmp_path, now, now)
    for before in ({"mine.py": "0"}, {"mine.py": "1", "helper.py": "0"}, {"mine.py": "1", "gone.py": "3"}):
        with pytest.raises(ProvenanceError, match=r"other code: \w+\.py changed since"):
            require_same_provenance(tmp_path, {"code": before}, now)


def test_what_cannot_be_loaded_leaves_nothing_behind(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import helper_of_nobody")
    before, entries = set(sys.modules), list(sys.path)
    with pytest.raises(ProblemError, match="fails when it is loaded"):
        load(str(path))
    assert {name for name in set(sys.modules) - before if "broken" in name} == set()
    path.write_text("x = 1")
    assert load(str(path)).x == 1
    assert [entry for entry in sys.path if entry != str(tmp_path)] == [e for e in entries if e != str(tmp_path)]
    with pytest.raises(ConfigError, match="there is no file"):
        load(str(tmp_path / "nowhere.py"))


def test_whose_a_relative_name_is_follows_the_folder_that_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(pytest.__file__).parents[1])
    assert not is_users("somewhere.py")
    monkeypatch.chdir(tmp_path)
    assert is_users("somewhere.py")
