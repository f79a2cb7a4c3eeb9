"""One point of a 2-D surface against a plain evaluation loop.

Target: at least twice as fast, equal to 1e-5. ResNet-20 at 32×32. The plain loop is what the known tools do: weights
are put into the network tensor by tensor, and a DataLoader with two workers feeds batches of 128 through torchvision's
transforms.
"""

from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from timing import interleaved, show
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from landscape import EmpiricalRisk, ParameterSpace, Plane, Problem, normalise, random_direction
from landscape.problems.models import MODELS

EXAMPLES, REPEATS = 2048, 7
MULTIPLICATIONS = 41e6  # of ResNet-20 for one picture of 32×32
MEAN, DEVIATION = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)


class Pictures(Dataset):
    """Random pictures, kept as CIFAR keeps them."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.pixels = random.integers(0, 256, (EXAMPLES, 32, 32, 3), dtype=np.uint8)
        self.labels = random.integers(0, 10, EXAMPLES)
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])

    def __len__(self):
        return EXAMPLES

    def __getitem__(self, index):
        return self.transform(self.pixels[index]), int(self.labels[index])


def plain_loop(model, state, pictures):
    """Loss and accuracy at one point, as the known tools measure them."""
    loader = DataLoader(pictures, batch_size=128, num_workers=2)
    model.load_state_dict(state)
    model.eval()
    total, right = 0.0, 0
    with torch.no_grad():
        for images, labels in loader:
            outputs = model(images)
            total += F.cross_entropy(outputs, labels).item() * len(labels)
            right += (outputs.argmax(1) == labels).sum().item()
    return total / len(pictures), right / len(pictures)


def measure(risk, theta):
    with risk.at(theta) as here:
        return here.measure()["train"]


def main():
    torch.manual_seed(0)
    pictures = Pictures()
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
    space = ParameterSpace(model)
    decoded = torch.stack([pictures[i][0] for i in range(EXAMPLES)]).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(pictures.labels)
    risk = EmpiricalRisk(space, Problem.of(model, {"train": (decoded, labels)}))
    theta = space.flatten(model.state_dict())
    u, v = (normalise(random_direction(space, seed), theta, space) for seed in (1, 2))
    plane = Plane(theta, u, v)
    for x, y in ((0.0, 0.0), (0.3, -0.2)):
        loss, accuracy = plain_loop(model, space.state_dict(plane(x=x, y=y)), pictures)
        measured = measure(risk, plane(x=x, y=y))
        print(
            f"({x}, {y}): loss {loss:.6f} and {measured.loss:.6f}, relative difference {measured.loss / loss - 1:.1e}"
        )
        assert abs(measured.loss / loss - 1) < 1e-5
        assert accuracy == measured.accuracy
    state = space.state_dict(theta)
    actions = {
        "plain loop": lambda: plain_loop(model, state, pictures),
        "ours": lambda: measure(risk, plane(x=0.1, y=0.1)),
    }
    title = f"One surface point, ResNet-20 at 32x32, {EXAMPLES} examples, our batch {risk.batch_size}"
    matrices = torch.randn(2, 2048, 2048)
    actions["matrix product of 2048 x 2048"] = lambda: matrices[0] @ matrices[1]
    times = interleaved(actions, REPEATS, warm_up=1)
    work = dict.fromkeys(("plain loop", "ours"), 2 * MULTIPLICATIONS * EXAMPLES)
    rates = {**work, "matrix product of 2048 x 2048": 2 * 2048**3}
    show(title, {name: times[name] for name in work}, "plain loop")
    print("  " + ", ".join(f"{n}: {w / median(times[n]) / 1e9:.0f} GFLOP/s" for n, w in rates.items()))


if __name__ == "__main__":
    main()
