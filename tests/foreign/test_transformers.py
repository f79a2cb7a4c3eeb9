"""Networks of transformers by the folder that it writes: as the library has them, and nobody else's code."""

import json
import socket

import pytest
import torch
import torch.nn.functional as F

from landscape import ParameterSpace, Problem
from landscape.errors import ConfigError
from landscape.problems.libraries.folders import files_read, folder_model
from landscape.problems.models import MODELS
from landscape.risk.empirical import EmpiricalRisk
from tests.foreign import made

transformers = pytest.importorskip("transformers", reason="transformers is installed by make foreign")
pytestmark = [
    pytest.mark.foreign,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """A machine without a network."""

    def refuse(*_):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    def write(kind, **settings):
        place = tmp_path / kind
        made.network(kind, transformers, **settings).save_pretrained(place)
        return place

    return write


def losses(model, batch):
    """A plain loss `[B]` of whatever network: the mean of the scores' cross entropies against fixed labels."""
    given = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**given).logits.double()
    labels = batch["labels"] if "labels" in batch else batch["input_ids"]
    entropies = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return entropies.view(len(labels), -1).mean(dim=1)


@pytest.mark.parametrize("kind", made.CONFIGS)
def test_a_folders_network_is_the_one_that_was_saved(folder, kind):
    saved = made.network(kind, transformers)
    built = folder_model(str(folder(kind)))
    assert type(built) is type(saved)
    assert not torch.equal(next(built.parameters()), next(saved.parameters()))  # random, not the folder's
    built.load_state_dict(saved.state_dict())
    given = {name: value for name, value in made.batch(kind).items() if name != "labels"}
    with torch.no_grad():
        torch.testing.assert_close(built.eval()(**given).logits, saved(**given).logits)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_no_keys_and_values_are_kept(folder, kind):
    built = folder_model(str(folder(kind)))
    assert built(made.batch(kind)["input_ids"]).past_key_values is None


def test_a_pretrained_network_has_the_folders_weights_in_single_precision(folder):
    place = folder("gpt2")
    saved = made.network("gpt2", transformers).bfloat16()
    saved.save_pretrained(place)
    built = folder_model(str(place), pretrained=True)
    for name, tensor in built.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, saved.state_dict()[name].float())


def test_settings_change_entries_of_the_configuration(folder):
    assert folder_model(str(folder("bert")), num_labels=7).classifier.out_features == 7
    untied = folder_model(str(folder("gpt2")), tie_word_embeddings=False)
    assert untied.lm_head.weight is not untied.transformer.wte.weight


@pytest.mark.parametrize(
    ("architecture", "kind"), [("BertForMaskedLM", "bert"), ("AutoModelForMaskedLM", "bert"), ("GPT2Model", "gpt2")]
)
def test_another_architecture_of_the_same_configuration_may_be_named(folder, architecture, kind):
    wanted = architecture.replace("AutoModel", "Bert")
    assert type(folder_model(str(folder(kind)), architecture=architecture)).__name__ == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_layr": 3}, "a GPT2Config has no 'n_layr'; did you mean n_layer?"),
        ({"architecture": "GPT2LMHead"}, "no architecture 'GPT2LMHead'; did you mean GPT2LMHeadModel?"),
        ({"architecture": "pipeline"}, "transformers has no architecture 'pipeline'"),
        ({"architecture": "BertModel"}, "BertModel is not built from a GPT2Config"),
        ({"attn_implementation": "someone/kernels"}, "is to be 'someone/kernels', expected eager or sdpa"),
        ({"trust_remote_code": True}, "a GPT2Config has no 'trust_remote_code'"),
        ({"base": "."}, "holds no adapter_config.json, so it has no base"),
    ],
)
def test_arguments_that_do_not_fit_are_told(folder, arguments, words):
    with pytest.raises(ConfigError) as caught:
        folder_model(str(folder("gpt2")), **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"model_type": "theirs", "auto_map": {"AutoModel": "modeling.Theirs"}},
            "is of model_type 'theirs', which transformers .* has not and brings code along, which is never run",
        ),
        ({"model_type": None}, "is of model_type None"),
        ({"architectures": ["os"]}, "transformers has no architecture 'os'"),
        ({"architectures": None}, "does not say which architecture it is for"),
        (
            {"attn_implementation": "someone/kernels"},
            "the attention of .* is to be 'someone/kernels', expected eager",
        ),
        (
            {"inner": [{"_attn_implementation": "flash_attention_2"}]},
            "the attention of .* is to be 'flash_attention_2'",
        ),
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(folder, changes, words):
    place = folder("gpt2")
    (place / "modeling.py").write_text("raise SystemExit('their code was run')")
    written = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(written | changes))
    with pytest.raises(ConfigError, match=words):
        folder_model(str(place))


def test_code_beside_a_known_architecture_is_not_run(folder):
    place = folder("gpt2")
    (place / "modeling.py").write_text("raise SystemExit('their code was run')")
    written = json.loads((place / "config.json").read_text())
    codes = {"auto_map": {"AutoModelForCausalLM": "modeling.Theirs", "AutoConfig": "modeling.TheirConfig"}}
    (place / "config.json").write_text(json.dumps(written | codes))
    assert type(folder_model(str(place))) is transformers.GPT2LMHeadModel


def test_a_folder_that_is_not_there_is_not_looked_up(tmp_path):
    with pytest.raises(ConfigError, match=r"no folder gpt2, expected one with config\.json.*download them first"):
        folder_model("gpt2")
    with pytest.raises(ConfigError, match=r"config.json cannot be read as JSON"):
        folder_model(str(tmp_path))


def test_the_files_that_decide_a_network_are_known(folder):
    place = folder("gpt2")
    assert files_read(f"hf:{place}", {}) == [place / "config.json"]
    weights = files_read(f"hf:{place}", {"pretrained": True})
    assert weights == [place / "config.json", place / "model.safetensors"]
    assert files_read("mlp", {}) == []


@pytest.mark.parametrize("kind", made.CONFIGS)
def test_hessian_products_are_differences_of_gradients(kind):
    """Also of copies: rotary embeddings, tied weights, masks and caches are those of the private copy."""
    model = made.network(kind, transformers, use_cache=False) if kind != "vit" else made.network(kind, transformers)
    problem = Problem.of(model, {"train": made.batch(kind)}, losses)
    space = ParameterSpace(problem.model, dtype=torch.float64)
    risk = EmpiricalRisk(space, Problem.of(problem.model, problem.data.of_type(torch.float64), losses))
    v = torch.randn(space.dimension, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    v /= v.norm()
    theta, step = space.theta.clone(), 1e-2
    with risk.at(theta) as here:
        product = here.hessian()(v)
    slopes = []
    for sign in (1, -1):
        with risk.at(theta + sign * step * v) as here:
            slopes.append(here.gradient())
    difference = (slopes[0] - slopes[1]) / (2 * step)
    tolerance = 1e-3 if kind in {"llama", "t5"} else 1e-4  # these normalise in single precision
    assert (product - difference).norm() <= tolerance * product.norm()


def test_our_gpt_is_gpt_2_of_the_same_weights():
    its = made.network("gpt2", transformers).double()
    ours = MODELS["gpt"](input_shape=(made.LENGTH,), classes=made.VOCABULARY, layers=2, heads=2, width=16).double()
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # transformers keeps [inputs, outputs]
    state = {n: t.T if n.endswith(turned) else t for n, t in its.state_dict().items()}
    ours.load_state_dict(state)
    ids = made.batch("gpt2")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(ids), its(ids).logits)
