"""Parameter spaces that need a look of their own; what holds for all is in tests/laws."""

import pytest
import torch
from torch import nn

from landscape import ParameterSpace
from landscape.errors import LayoutError, NonFiniteError, ProblemError
from tests.oracles import networks


def test_tied_weights_move_together():
    space = ParameterSpace(networks()["tied"][0])
    assert (space.segments[0].name, space.segments[0].aliases) == ("embedding.weight", ("output.weight",))
    state = space.state_dict(torch.arange(float(space.dimension)))
    assert torch.equal(state["embedding.weight"], state["output.weight"])
    assert space.network.output.weight.data_ptr() == space.network.embedding.weight.data_ptr()


def test_weights_that_share_memory_but_not_the_object_are_tied_too():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.data)
    assert ParameterSpace(model).dimension == 9


@pytest.mark.parametrize(
    ("trainable", "names"),
    [
        ("last.*", ["last.weight", "last.bias"]),
        (lambda name, parameter: parameter.ndim > 1, ["first.weight", "last.weight"]),
    ],
)
def test_a_subset_moves_and_the_rest_stays(trainable, names):
    model, (inputs, _) = networks()["buffers"]
    space = ParameterSpace(model, trainable=trainable)
    assert [s.name for s in space.segments] == names
    space.move_to(torch.zeros(space.dimension))
    for name, parameter in space.network.named_parameters():
        assert parameter.requires_grad == (name in names)
        assert bool(parameter.any()) == (name not in names) or name == "norm.bias"
    space.gradient.zero_()
    space.network(inputs).sum().backward()
    assert space.network.norm.weight.grad is None


def test_frozen_parameters_are_no_coordinates():
    model = networks()["buffers"][0]
    model.first.requires_grad_(False)
    space = ParameterSpace(model)
    assert not any(s.name.startswith("first") for s in space.segments)
    assert set(space.fixed(model.state_dict())) == {"first.weight", "first.bias"}


def test_integers_and_masks_never_move():
    model = networks()["buffers"][0]
    space = ParameterSpace(model)
    theta = space.load(model.state_dict())
    state = space.state_dict(theta * 2)
    assert torch.equal(state["order"], model.order)
    assert torch.equal(state["mask"], model.mask)
    assert state["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrapped_networks_are_unwrapped(wrap):
    model = nn.Linear(2, 2)
    assert [s.name for s in ParameterSpace(wrap(model)).segments] == ["weight", "bias"]


@pytest.mark.parametrize(
    ("model", "trainable", "message"),
    [
        (nn.Linear(2, 2), "nothing.*", "no parameter of Linear is trainable under 'nothing"),
        (nn.ReLU(), None, "no parameter of ReLU"),
        (nn.Linear(2, 2, dtype=torch.complex64), None, "complex"),
    ],
)
def test_networks_without_a_space_are_refused(model, trainable, message):
    with pytest.raises(ProblemError, match=message):
        ParameterSpace(model, trainable=trainable)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_network_without_shapes_is_refused():
    with pytest.raises(ProblemError, match="has no shape yet"):
        ParameterSpace(nn.LazyLinear(2))


def test_tensors_that_do_not_fit_are_refused():
    space = ParameterSpace(nn.Linear(2, 3))
    with pytest.raises(LayoutError, match="missing: bias"):
        space.flatten({"weight": torch.zeros(3, 2)})
    with pytest.raises(LayoutError, match=r"weight is \(2, 3\), expected \(3, 2\)"):
        space.flatten({"weight": torch.zeros(2, 3), "bias": torch.zeros(3)})
    with pytest.raises(NonFiniteError):
        space.flatten({"weight": torch.full((3, 2), float("nan")), "bias": torch.zeros(3)})


def test_convolution_weights_lie_channels_last():
    space = ParameterSpace(nn.Conv2d(3, 4, 3))
    assert space.network.weight.is_contiguous(memory_format=torch.channels_last)
    assert space.network.weight.untyped_storage().data_ptr() == space.theta.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("layer", "filters"),
    [
        (nn.Linear(5, 3), (1, 3)),
        (nn.Conv2d(4, 6, 3, groups=2), (1, 6)),
        (nn.Conv1d(4, 6, 3), (1, 6)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 3)),
        (nn.ConvTranspose1d(4, 6, 3), (1, 6)),
        (nn.Embedding(9, 2), (1, 9)),
    ],
)
def test_what_a_filter_is(layer, filters):
    space = ParameterSpace(layer)
    assert tuple(space.segments[0].filters(space.theta).shape[:2]) == filters
    assert all(segment.role == "bias" for segment in space.segments[1:])


@pytest.mark.parametrize("layer", [nn.LayerNorm((3, 4)), nn.GroupNorm(2, 4), nn.BatchNorm2d(3), nn.RMSNorm(5)])
def test_normalisation_layers_have_no_filters(layer):
    assert {segment.role for segment in ParameterSpace(layer).segments} == {"norm"}


def test_attention_runs_in_the_space():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    space = ParameterSpace(layer)
    inputs = torch.randn(2, 5, 8)
    space.move_to(space.flatten(layer.state_dict()))
    torch.testing.assert_close(space.network(inputs), layer.eval()(inputs))
    roles = {segment.name: segment.role for segment in space.segments}
    assert roles["self_attn.in_proj_weight"] == "weight"
    assert roles["self_attn.in_proj_bias"] == "bias"
