"""By what a resume knows samplers and penalties again."""

import functools
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from connect.paths.curves import Bezier
from connect.paths.fitting import Shortness, _Freed
from connect.paths.sampling import Concentrated
from landscape import Combination, Interrupted, Keeping, Potential, Recipe, SinglePoint, descend
from landscape.errors import ConfigError, ProvenanceError
from landscape.training.descent import Stratified
from landscape.training.identities import described
from tests.oracles import Signalling

FACTOR = 1.0


@pytest.mark.parametrize("own", [Stratified(), _Freed(Bezier(3), False), Shortness(0.1, 2.0), Concentrated()])
def test_our_own_strategies_are_known_by_their_settings_as_ever(own):
    assert described(own) == repr(own)
    assert described(None) == "NoneType"


class Plain:
    def __init__(self, strength):
        self.strength = strength

    def __call__(self, points):
        return self.strength * torch.eye(len(points), dtype=torch.float64)


class Slotted:
    __slots__ = ("strength",)

    def __init__(self, strength):
        self.strength = strength


@dataclass(frozen=True)
class Settled:
    strength: object


class Saying:
    def __init__(self, strength):
        self._own = threading.Lock(), strength

    def describe(self):
        return str(self._own[1])


def closure(strength):
    return lambda points: strength * torch.eye(len(points), dtype=torch.float64)


def with_default(strength):
    def penalty(points, factor=strength):
        return factor * torch.eye(len(points), dtype=torch.float64)

    return penalty


KINDS = {
    "object": Plain,
    "slots": Slotted,
    "dataclass": Settled,
    "describe": Saying,
    "closure": closure,
    "default": with_default,
    "partial": lambda value: functools.partial(closure, value),
    "method": lambda value: Plain(value).__call__,
    "tensor": lambda value: Settled(torch.full((2000,), value)),
    "array": lambda value: Settled(np.full(2000, value)),
    "nested": lambda value: Settled({"a": [(Plain(value),)]}),
    "network": lambda value: torch.nn.PReLU(init=value),
    "generator": lambda value: Settled(torch.Generator().manual_seed(int(value * 8))),
}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_settings_tell_strategies_apart_and_nothing_else_does(kind):
    one, same, other = (described(KINDS[kind](value)) for value in (0.5, 0.5, 0.25))
    assert one == same
    assert one != other
    assert " at 0x" not in one


def test_code_tells_functions_and_methods_apart(monkeypatch):
    assert described(lambda points: points + 1) != described(lambda points: points + 2)
    assert described(lambda points: points.sum()) != described(lambda points: points.mean())

    def uses_the_module(points):
        return FACTOR * points

    before, plain = described(uses_the_module), described(Plain(1.0))
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    assert described(uses_the_module) != before
    monkeypatch.setattr(Plain, "__call__", lambda self, points: points)
    assert described(Plain(1.0)) != plain


def test_what_refers_to_itself_is_told_once():
    one = Plain(1.0)
    one.me = one
    assert "…" in described(one)


def test_what_nothing_tells_apart_is_refused():
    with pytest.raises(ConfigError, match=r"nothing tells this _thread\.lock from another.*dataclass.*describe\(\)"):
        described(Settled(threading.Lock()))


@pytest.mark.parametrize("kind", ["object", "closure", "default"])
def test_a_fit_does_not_go_on_under_another_penalty(tmp_path, kind):
    potential = Potential(lambda theta: (theta**2).sum(), 3)
    keeping = Keeping(tmp_path / "state.safetensors", resume=True)
    recipe = Recipe(epochs=20, batch_size=1)

    def fit(strength, report=None):
        settings = {} if report is None else {"report": report}
        family = Combination(SinglePoint(), penalty=KINDS[kind](strength))
        return descend(potential, torch.ones(1, 3), family, recipe, keeping=keeping, **settings)

    with pytest.raises(Interrupted):
        fit(0.5, Signalling(3))
    with pytest.raises(ProvenanceError, match="begun with penalty"):
        fit(0.25)
    whole = descend(potential, torch.ones(1, 3), Combination(SinglePoint(), penalty=KINDS[kind](0.5)), recipe)
    assert torch.equal(fit(0.5).points, whole.points)
