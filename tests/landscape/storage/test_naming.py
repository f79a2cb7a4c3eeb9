"""Which tensor of a checkpoint is which of a network, for the names that trainers, wrappers and libraries give."""

import copy

import pytest
import torch
from torch import nn

from landscape import Checkpoint, ParameterSpace, load_checkpoint
from landscape.errors import LayoutError
from landscape.storage.checkpoints import require_same_layout
from landscape.storage.naming import is_derived, plain_name


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def renamed(state, rename):
    return {rename(name): tensor for name, tensor in state.items()}


def prefixed(state, prefix):
    return renamed(state, lambda name: prefix + name)


STATE = network().state_dict()


def taken(state, model=None):
    """The point that a state gives, the point that it should give, and what was said of it."""
    space = ParameterSpace(model or network(1))
    theta = space.load(state)
    return theta, space.layout.match(state)


def require_taken(state):
    theta, match = taken(state)
    assert torch.equal(theta, ParameterSpace(network()).flatten(STATE))
    assert not match.differences
    return match


@pytest.mark.parametrize(
    "prefix",
    [
        "model.",
        "net.",
        "module.",
        "ema.",
        "ema_model.",
        "averaged_model.module.",
        "trainer.model.encoder.",
        "model._orig_mod.",
        "_forward_module.model.",
        "_fsdp_wrapped_module.model._fsdp_wrapped_module.",
    ],
)
def test_a_common_prefix_is_taken_off_where_the_rest_fits(prefix):
    match = require_taken(prefixed(STATE, prefix))
    assert match.notes == (f"{plain_name(prefix)!r} was taken off the names of its tensors",)


@pytest.mark.parametrize("mark", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"])
def test_marks_anywhere_in_a_name_do_not_matter(mark):
    marked = renamed(STATE, lambda name: f"{mark}.{name[0]}.{mark}{name[1:]}")
    assert require_taken(marked).notes == ()


def test_what_lies_beside_the_prefix_is_left_out_and_counted():
    beside = {"loss_fn.weight": torch.ones(2), "metric.total": torch.tensor(3.0), "n_averaged": torch.tensor(5)}
    match = require_taken({**prefixed(STATE, "model."), **beside})
    assert match.notes[1] == "2 others were left out: loss_fn.weight, metric.total"


def test_of_two_parts_that_fit_neither_is_chosen():
    other = renamed(network(2).state_dict(), lambda name: f"teacher.{name}")
    with pytest.raises(LayoutError, match=r"several of its parts fit, .* begin with 'student\.' and 'teacher\.'"):
        taken({**prefixed(STATE, "student."), **other})


def test_a_part_that_is_there_by_two_names_is_one():
    require_taken({**prefixed(STATE, "model."), **prefixed(STATE, "criterion.model.")})


def test_a_file_of_very_many_parts_is_refused_in_time():
    parts = {f"{number}.{name}": torch.zeros(2) for number in range(3_000) for name in ("weight", "bias")}
    with pytest.raises(LayoutError, match=r"missing: weight, bias; unexpected: 0\.weight, .* and 5997 more"):
        taken({**parts, "a." * 50_000 + "weight": torch.zeros(2)} | {"b.weight": torch.zeros(3)}, nn.LayerNorm(3))


def test_of_two_parts_the_one_that_fits_is_taken():
    wider = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).state_dict()
    match = require_taken({**prefixed(STATE, "student."), **prefixed(wider, "teacher.")})
    assert match.notes[0].startswith("'student.' was taken off")


def test_names_that_fit_as_they_are_stay():
    with pytest.raises(LayoutError, match=r"unexpected: ema\.0\.weight"):
        taken({**STATE, **prefixed(STATE, "ema.")})


def test_differences_are_told_by_the_names_that_nearly_fit():
    state = {**prefixed(STATE, "model."), "model.2.weight": torch.zeros(2, 9)}
    message = r"names without 'model\.': shapes: 2\.weight is \(2, 9\), expected \(2, 4\)$"
    with pytest.raises(LayoutError, match=message):
        taken(state)


class Headed(nn.Module):
    """A language model in small: a body, and a head that is tied to its embedding or not."""

    def __init__(self, tied=True, vocabulary=5):
        super().__init__()
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(vocabulary, 3), "h": nn.Linear(3, 3)})
        self.lm_head = nn.Linear(3, vocabulary, bias=False)
        if tied:
            self.lm_head.weight = self.transformer["wte"].weight
        self.register_buffer("inv_freq", torch.tensor([1.0, 0.1]), persistent=False)


def test_the_networks_own_prefix_is_put_before_the_names_of_its_body():
    body = {name: tensor + 1 for name, tensor in Headed().transformer.state_dict().items()}
    space = ParameterSpace(Headed())
    space.load(body)
    assert torch.equal(space.network.lm_head.weight, body["wte.weight"])
    assert space.layout.match(body).notes == ("'transformer.' was put before the names of its tensors",)
    with pytest.raises(LayoutError, match=r"names with 'transformer\.' before them: missing: lm_head\.weight"):
        ParameterSpace(Headed(tied=False)).load(body)


def test_a_tied_tensor_may_be_there_once_or_twice_but_not_differ():
    state = Headed().state_dict()
    once = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    for frozen in (False, True):
        model = Headed()
        model.transformer["wte"].weight.requires_grad_(not frozen)
        space = ParameterSpace(model)
        assert torch.equal(space.load(once), space.load(state))
        with pytest.raises(LayoutError, match=r"lm_head\.weight is tied to transformer\.wte\.weight .*tie_word_embed"):
            space.load({**state, "lm_head.weight": torch.zeros(5, 3)})


def test_vocabularies_that_differ_are_told_by_their_tensors():
    with pytest.raises(LayoutError, match=r"wte\.weight is \(7, 3\), expected \(5, 3\).*sizes of vocabularies or numb"):
        ParameterSpace(Headed()).load(Headed(vocabulary=7).state_dict())
    with pytest.raises(LayoutError, match=r"\(9, 3\), expected \(4, 3\), .*expected \(2, 4\)$"):
        taken({**STATE, "0.weight": torch.zeros(9, 3), "2.weight": torch.zeros(2, 9)})


# ------------------------------------------------------------------ what a network makes itself


DERIVED = {
    "h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8).tril(),
    "h.0.attn.masked_bias": torch.tensor(-1e4),
    "embeddings.position_ids": torch.arange(6)[None],
    "rotary_emb.inv_freq": 10000.0 ** -(torch.arange(0, 8, 2) / 8),
}


def test_what_earlier_versions_kept_is_left_out_and_said():
    _, match = taken({**STATE, **DERIVED})
    assert match.notes == (f"what the network makes itself was left out: {', '.join(DERIVED)}",)
    model = Headed()
    _, match = taken({**model.state_dict(), "inv_freq": torch.zeros(2)}, model)
    assert match.notes == ("what the network makes itself was left out: inv_freq",)


@pytest.mark.parametrize("name", sorted(DERIVED))
def test_what_is_called_so_but_is_something_else_is_not_left_out(name):
    other = torch.full(DERIVED[name].shape or (2,), 0.5)
    assert is_derived(name, DERIVED[name])
    assert not is_derived(name, other)
    with pytest.raises(LayoutError, match=f"unexpected: {name}"):
        taken({**STATE, name: other})


# ------------------------------------------------------------------ adapters


class Lora(nn.Module):
    """A linear layer as PEFT wraps it, with the names that its networks have."""

    def __init__(self, layer, name="default"):
        super().__init__()
        self.base_layer = layer
        self.lora_A = nn.ModuleDict({name: nn.Linear(layer.in_features, 2, bias=False)})
        self.lora_B = nn.ModuleDict({name: nn.Linear(2, layer.out_features, bias=False)})
        self.lora_magnitude_vector = nn.ModuleDict({name: nn.Linear(1, layer.out_features, bias=False)})


class Saved(nn.Module):
    """A module that PEFT trains whole."""

    def __init__(self, layer):
        super().__init__()
        self.original_module = layer
        self.modules_to_save = nn.ModuleDict({"default": copy.deepcopy(layer)})


def adapted(seed=0):
    model = network(seed)
    model[0], model[2] = Lora(model[0]), Saved(model[2])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora" in name or "to_save" in name)
    return nn.ModuleDict({"base_model": nn.ModuleDict({"model": model})})


def adapter_file(model):
    """What `save_pretrained` of PEFT keeps, written by its rules and not by ours."""

    def kept(name):
        name = name.replace(".modules_to_save.default", "").replace("_vector.default.weight", "_vector")
        return name.replace(".default", "")

    trained = {n: tensor + 1 for n, tensor in model.state_dict().items() if "lora" in n or "to_save" in n}
    return renamed(trained, kept)


def test_an_adapter_is_read_alone_and_leaves_its_base():
    model = adapted()
    state = adapter_file(model)
    assert "base_model.model.0.lora_A.weight" in state
    assert "base_model.model.2.weight" in state
    theta, match = taken(state, model)
    space = ParameterSpace(model)
    assert torch.allclose(theta, space.theta + 1)
    assert match.is_partial
    assert match.notes == ("it holds the trainable parameters alone; the others stay as the network has them",)
    space.load(state)
    base = [name for name in model.state_dict() if "base_layer" in name or "original_module" in name]
    assert base
    assert all(torch.equal(space.network.state_dict()[name], model.state_dict()[name]) for name in base)


def test_an_adapter_with_a_part_of_its_base_does_not_fit():
    model = adapted()
    state = {**adapter_file(model), "base_model.model.0.base_layer.weight": torch.zeros(4, 3)}
    with pytest.raises(LayoutError, match=r"missing: base_model\.model\.0\.base_layer\.bias"):
        taken(state, model)
    with pytest.raises(LayoutError, match=r"missing: base_model\.model\.0\.lora_A\.default\.weight"):
        taken({n: t for n, t in adapter_file(model).items() if "lora_A" not in n}, model)


def test_an_adapter_is_not_measured_on_the_base_of_another_checkpoint():
    model = adapted()
    alone, whole = adapter_file(model), {name: tensor + 1 for name, tensor in model.state_dict().items()}
    space = ParameterSpace(model)
    space.load(alone)
    space.load(model.state_dict())
    space.load(alone)
    space.load(whole)
    with pytest.raises(LayoutError, match="holds the trainable parameters alone, and what they belong to has been rep"):
        space.load(alone)
    space.load(whole)


def test_trainable_tensors_that_a_user_saved_fit_as_well():
    model = network()
    space = ParameterSpace(model, trainable="2.*")
    theta = space.load({"2.weight": torch.ones(2, 4), "2.bias": torch.zeros(2)})
    assert theta.tolist() == [1.0] * 8 + [0.0] * 2
    assert torch.equal(space.network[0].weight, model[0].weight)


# ------------------------------------------------------------------ weight normalisation


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
@pytest.mark.parametrize("old_file", [True, False])
def test_old_and_new_weight_normalisation_read_each_others_files(old_file):
    old, new = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    torch.manual_seed(0)
    source = nn.Sequential((old if old_file else new)(nn.Linear(3, 4)))
    torch.manual_seed(1)
    space = ParameterSpace(nn.Sequential((new if old_file else old)(nn.Linear(3, 4))))
    space.move_to(space.load(source.state_dict()))
    inputs = torch.randn(5, 3)
    assert torch.allclose(space.network(inputs), source(inputs), atol=1e-6)


# ------------------------------------------------------------------ pairs of checkpoints


def test_files_of_others_may_differ_by_what_a_network_knows():
    own = Checkpoint(STATE, {"seed": 1}, path="own.safetensors")
    lightning = Checkpoint({**prefixed(STATE, "model."), "loss_fn.weight": torch.ones(2)}, path="lit.ckpt")
    part = Checkpoint({name: STATE[name] for name in ("2.weight", "2.bias")}, path="part.pt")
    other = Checkpoint({"2.weight": torch.zeros(9, 9)}, path="other.pt")
    for one, two in ((own, lightning), (lightning, own), (own, part), (part, own), (lightning, lightning)):
        require_same_layout(one, two)
    with pytest.raises(LayoutError, match=r"other\.pt does not fit own\.safetensors"):
        require_same_layout(own, other)
    with pytest.raises(LayoutError, match=r"missing: 0\.weight"):
        require_same_layout(own, Checkpoint(part.state, {"seed": 2}, path="own part.safetensors"))


def test_commands_say_what_they_did_to_names_once(call, tmp_path, caplog):
    problem = ["--model", "mlp", "--model-args", "{widths: [4]}", "--data", "digits"]
    for seed in (1, 2):
        assert call("train", *problem, "--epochs", 0, "--seed", seed, "--out", tmp_path / f"{seed}.safetensors")[0] == 0
        state = load_checkpoint(tmp_path / f"{seed}.safetensors").state
        beside = {"epoch": 3, "hyper_parameters": {"width": 4}, "loss_fn.weight": torch.ones(2)}
        torch.save({**beside, "state_dict": prefixed(state, "model.")}, tmp_path / f"{seed}.ckpt")
    caplog.clear()
    a, b = (tmp_path / f"{seed}.ckpt" for seed in (1, 2))
    assert call("line", "--a", a, "--b", b, *problem, "--range", "0:1:3", "--out", tmp_path / "l.h5")[0] == 0
    said = [message for message in caplog.messages if "taken off" in message]
    assert sorted(said) == [f"note: {file}: 'model.' was taken off the names of its tensors." for file in (a, b)]
