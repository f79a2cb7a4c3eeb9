"""What a surface says of one point, asked of it alone."""

from torch import Tensor


def value_at(surface, theta: Tensor) -> Tensor:
    with surface.at(theta) as here:
        return here.value()


def measure_at(surface, theta: Tensor):
    with surface.at(theta) as here:
        return here.measure()


def gradient_at(surface, theta: Tensor) -> Tensor:
    with surface.at(theta) as here:
        return here.gradient()


def product_at(surface, theta: Tensor, vector: Tensor) -> Tensor:
    with surface.at(theta) as here:
        return here.hessian()(vector)


def predict_at(risk, theta: Tensor, split: str, **options):
    with risk.at(theta) as here:
        return here.predict(split, **options)


def module_at(risk, theta: Tensor):
    with risk.at(theta) as here:
        return here.module()
