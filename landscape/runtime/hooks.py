"""Functions that are called before or after modules run, as long as a context lasts."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

Before = Callable[[Any, tuple[Any, ...], dict[str, Any]], None]
After = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], Any]


@contextmanager
def hooked(
    modules: Iterable[nn.Module], *, before: Before | None = None, after: After | None = None, always: bool = False
) -> Iterator[None]:
    """Call functions whenever one of some modules runs.

    Args:
        modules: which ones.
        before: is given the module, its arguments and its named arguments.
        after: is given the output too; what it returns takes the output's place, unless it is None.
        always: call `after` also where the module raises an error.
    """
    with ExitStack() as hooks:
        for module in modules:
            if before:
                hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            if after:
                hooks.callback(module.register_forward_hook(after, with_kwargs=True, always_call=always).remove)
        yield
