"""Networks, data and losses as people have them and tools stumble over: factories for `--model`, `--data` and `--loss`.

Activations are smooth, so that differences of losses tell what second derivatives should be.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.utils.checkpoint import checkpoint

from landscape.problems.models import MODELS

EXAMPLES = 48


def _labels(generator):
    return torch.randint(3, (EXAMPLES,), generator=generator)


def images():
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(EXAMPLES, 1, 6, 6, generator=generator), _labels(generator)
    return (x, y), (x[:20], y[:20])


def larger_images():
    return tuple((x.repeat(1, 1, 3, 3)[..., :16, :16], y) for x, y in images())


def vectors():
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(EXAMPLES, 4, generator=generator), _labels(generator)
    return (x, y), (x[:20], y[:20])


def double_vectors():
    return tuple((x.double(), y) for x, y in vectors())


def tokens():
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randint(7, (EXAMPLES, 5), generator=generator), _labels(generator)
    return (x, y), (x[:20], y[:20])


def soft_labels():
    return tuple((x, F.one_hot(y, 3) * 0.7 + 0.1) for x, y in vectors())


def line():
    x = torch.linspace(0, 3, EXAMPLES)[:, None]
    return (x, x), (x[:20], x[:20])


# ---------------------------------------------------------------------- losses


def residual(model, batch):
    """A physics-informed loss: u' = cos(x)."""
    x = batch[0].detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    return (slope - torch.cos(x)).pow(2).flatten(1).mean(1)


def jacobian(model, batch):
    """A penalty on the derivative in the inputs, mapped over the examples by torch.func."""
    parameters = dict(model.named_parameters())

    def scores(x: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (x[None],))[0]

    slopes = torch.func.vmap(torch.func.jacrev(scores))(batch[0])
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none") + 0.1 * slopes.square().flatten(1).sum(1)


# ---------------------------------------------------------------------- our own networks


def mlp():
    return MODELS["mlp"](input_shape=(1, 6, 6), classes=3)


def cnn():
    return MODELS["cnn"](input_shape=(1, 6, 6), classes=3)


def resnet():
    return MODELS["resnet8"](input_shape=(1, 6, 6), classes=3)


def resnet_without_shortcuts():
    return MODELS["resnet8"](input_shape=(1, 6, 6), classes=3, shortcut=False)


def vgg():
    return MODELS["vgg9"](input_shape=(1, 6, 6), classes=3)


def densenet():
    return MODELS["densenet121"](input_shape=(1, 16, 16), classes=3, growth=4)


# ---------------------------------------------------------------------- networks over images


def _pair(convolution, norm):
    return nn.Sequential(convolution, norm, nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))


def plain():
    return _pair(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))


def norm_without_bias():
    return _pair(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, bias=False))


def sync_norm():
    return _pair(nn.Conv2d(1, 4, 3), nn.SyncBatchNorm(4))


def norm_without_statistics():
    return _pair(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))


def instance_norm():
    return _pair(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))


def other_norms():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True),
        nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 8), nn.RMSNorm(8), nn.Tanh(), nn.Linear(8, 3),
    )  # fmt: skip


def spectral_norm_of_old():
    return _pair(nn.utils.spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4))


def spectral_norm():
    return _pair(parametrizations.spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4))


def weight_norm_of_old():
    return _pair(nn.utils.weight_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4))


def weight_norm():
    return _pair(parametrizations.weight_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4))


class _Symmetric(nn.Module):
    def forward(self, weight):
        return (weight + weight.transpose(-1, -2)) / 2


def parametrized():
    convolution = nn.Conv2d(1, 4, 3)
    parametrize.register_parametrization(convolution, "weight", _Symmetric())
    return _pair(convolution, nn.BatchNorm2d(4))


def pruned():
    convolution = nn.Conv2d(1, 4, 3)
    mask = torch.ones_like(convolution.weight)
    mask[:, :, 0, 1] = 0
    return _pair(prune.custom_from_mask(convolution, "weight", mask), nn.BatchNorm2d(4))


def hooked():
    network = plain()
    network[0].register_forward_hook(lambda module, inputs, output: output * 1.5 + 0.2)
    return network


def hooked_before():
    network = plain()
    network[0].register_forward_pre_hook(lambda module, inputs: (inputs[0] * 0.5,))
    return network


def own_forward():
    network = plain()
    convolution = network[0]
    convolution.forward = lambda x: convolution._conv_forward(x, convolution.weight - convolution.weight.mean(), None)
    return network


class Training(nn.Module):
    """Batch norm that sees to its own mode."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, x):
        self.norm.train()
        return self.last(torch.tanh(self.norm(self.conv(x))).flatten(1))


class Branching(nn.Module):
    """What the convolution returns is read elsewhere too, but only for some batches."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

    def forward(self, x):
        y = self.conv(x)
        z = self.norm(y)
        if x[0].mean() > 0.2:
            z = z + y
        return self.last(torch.tanh(z).flatten(1))


class Auxiliary(nn.Module):
    """A second head, and norms of another domain, that take no part in evaluation."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.last, self.aside = nn.Linear(64, 3), nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 3))

    def forward(self, x):
        features = torch.tanh(self.norm(self.conv(x))).flatten(1)
        return self.last(features) + self.aside(features) if self.training else self.last(features)


class ByKeyword(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.norm, self.last = nn.Parameter(torch.randn(2, 1, 3, 3)), nn.BatchNorm2d(2), nn.Linear(2, 3)

    def forward(self, x):
        x = F.conv2d(input=x, weight=self.weight)
        return self.last(torch.tanh(self.norm(input=x)).mean(dim=(2, 3)))


def twice_wrapped():
    inner = torch.compile(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)), backend="eager")
    return torch.compile(nn.Sequential(inner, nn.Tanh(), nn.Flatten(), nn.Linear(64, 3)), backend="eager")


def in_parallel():
    return nn.DataParallel(plain())


# ---------------------------------------------------------------------- networks over vectors


class Scaled(nn.Module):
    """An input scaler that is kept as buffers and fitted in training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.full((4,), 0.3))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.mean(dim=0) + 1, 0.5)
            self.seen += len(x)
        return self.last(torch.tanh(x - self.mean))


class Counting(nn.Module):
    """Changes its buffers whenever it runs."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        self.count = self.count + 1
        return self.last(x) * (1 + 0.1 * self.count)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x -= 0.5
        return self.last(x)


class Noisy(nn.Module):
    """Draws at test time too."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.tanh(self.first(x + 0.1 * torch.randn_like(x)))
        return self.last(F.dropout(x, 0.2, training=True))


class Adapted(nn.Module):
    """A frozen base in low precision, and an adapter."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(4, 6).bfloat16().requires_grad_(False)
        with torch.no_grad():
            self.base.weight.copy_(torch.linspace(-1, 1, 24).view(6, 4))
            self.base.bias.zero_()
        self.down, self.up, self.last = nn.Linear(4, 2, bias=False), nn.Linear(2, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.base(x.bfloat16()).to(x) + self.up(self.down(x))))


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        if torch.is_grad_enabled():
            x = x.clone().requires_grad_(True)
            return self.last(checkpoint(lambda z: torch.tanh(self.first(z)), x, use_reentrant=True))
        return self.last(torch.tanh(self.first(x)))


class _Once(torch.autograd.Function):
    """A hyperbolic tangent whose derivative has a derivative of 0, in silence."""

    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, slope):
        (y,) = ctx.saved_tensors
        return slope * (1 - y.detach() ** 2)


class Once(nn.Module):
    """An operation of its own whose second derivative is wrong."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(_Once.apply(self.first(x)))


def two_layers():
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def orthogonal():
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3))


def in_double():
    return two_layers().double()


def curve():
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


# ---------------------------------------------------------------------- networks over tokens


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.cells, self.last = nn.Embedding(7, 4), nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(self.cells(self.embedding(x))[0][:, -1])


class Attending(nn.Module):
    """Attention with a mask of minus infinities, in the fused and in torch's own form."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu", batch_first=True)
        self.last = nn.Linear(8, 3)
        self.register_buffer("mask", torch.triu(torch.full((5, 5), float("-inf")), diagonal=1))

    def forward(self, x):
        x = self.embedding(x)
        x = x + self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0]
        return self.last(self.layer(x, src_mask=self.mask).mean(dim=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.output = nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(self.embedding(x))).mean(dim=1))[:, :3]


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.last = nn.Embedding(7, 4, sparse=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.embedding(x).mean(dim=1)))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.last = nn.EmbeddingBag(7, 4, sparse=True, mode="sum"), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.bag(x)))
