"""A command line of subcommands, each of which fills a frozen dataclass and calls one function.

Flags are the dataclass's fields with dashes for underscores; help comes from its docstring; `--config FILE.yaml` gives
values that flags override. Errors are one line and exit code 2, an interruption that can go on is exit code 75.
"""

import contextlib
import importlib
import inspect
import json
import math
import os
import re
import signal
import sys
import threading
import traceback
from argparse import SUPPRESS, ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import FrameType, NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_dumper, set_loader

from landscape.errors import ConfigError, Interrupted, LandscapeError
from landscape.progress import on_stderr
from landscape.yamlfiles import parse_yaml

EXIT_ERROR, EXIT_RESUMABLE = 2, 75
_YAML = "yaml12"
_RANGE = re.compile(r"-[\d.][\d.eE+-]*:")


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        config: the dataclass that its flags fill; the first line of its docstring is the command's help.
        function: `package.module:function`, imported only when the command runs.
        positional: a field that is given without a flag.
        shared: whether several processes may share its work, as `torchrun` starts them.
    """

    config: type
    function: str
    positional: str | None = None
    shared: bool = False


def run(program: str, description: str, commands: Mapping[str, Command], arguments: Sequence[str] | None = None) -> int:
    """Parse, call, print.

    Args:
        program: the program's name.
        description: what it does.
        commands: subcommands by name.
        arguments: by default those of the process.

    Returns:
        The exit code.
    """
    given = _join_ranges(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(program, description, commands)
    try:
        parsed = parser.parse_args(given)
    except ArgumentError as error:
        print(f"error: {_plain(str(error))}\nSee {program} {_named(given, commands)}--help.", file=sys.stderr)
        return EXIT_ERROR
    chosen = commands[parsed.subcommand]
    options: Namespace = parsed[parsed.subcommand]
    values = {field.name: _frozen(options[field.name]) for field in fields(chosen.config)}
    try:
        with _terminable():
            summary = _call(chosen, values)
        print(json.dumps(_jsonable(summary)) if options.json else summary.text(), flush=True)
        return 0
    except Interrupted as stop:
        return _fail(stop, str(stop), options.debug, EXIT_RESUMABLE)
    except LandscapeError as error:
        return _fail(error, f"error: {_plain(str(error))}", options.debug, EXIT_ERROR)
    except KeyboardInterrupt as error:
        text = "stopped; what was finished before is on disk, go on with --resume."
        return _fail(error, text, options.debug, EXIT_RESUMABLE)
    except Exception as error:  # the edge of the process: anything else is a defect, and is told as one
        text = f"unexpected {type(error).__name__}: {_plain(str(error))}\nRun again with --debug to see where."
        if type(error).__name__ == "OutOfMemoryError":
            text = "error: out of memory; lower --batch-size, --eval-batch-size or --statistics-batch-size."
        return _fail(error, text, options.debug, EXIT_ERROR)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _call(command: Command, values: dict[str, Any]) -> Any:
    """Run the command's function; whatever users' own code prints goes to standard error."""
    if not command.shared and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("torchrun started several processes, but only connect fit shares its work among them.")
    module, _, name = command.function.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        function = getattr(importlib.import_module(module), name)
        return function(command.config(**values), on_stderr)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C where no work watches for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(error: BaseException, text: str, debug: bool, code: int) -> int:
    if debug:
        traceback.print_exception(error)
    print(text, file=sys.stderr)
    return code


def _jsonable(value: Any) -> Any:
    """Plain values for JSON, which has no NaN: such figures become null."""
    if is_dataclass(value):
        return {field.name: _jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parser(program: str, description: str, commands: Mapping[str, Command]) -> ArgumentParser:
    set_loader(_YAML, parse_yaml, exceptions=(yaml.YAMLError,))
    set_dumper(_YAML, lambda values: yaml.safe_dump(values, sort_keys=False))
    parser = ArgumentParser(
        prog=program,
        description=description,
        exit_on_error=False,
        print_config=None,
        parser_mode=_YAML,
        formatter_class=_Formatter,  # the subcommands inherit it
    )
    subcommands = parser.add_subcommands(required=True, metavar="COMMAND")
    for name, command in commands.items():
        documented = parse_docstring(command.config.__doc__ or "")
        told = documented.short_description or ""
        subparser = ArgumentParser(
            description=told,
            exit_on_error=False,
            print_config="--print-config",
            parser_mode=_YAML,
        )
        subparser.add_argument("--config", action="config", help="YAML file with values; flags override it")
        _add_fields(subparser, command)
        subparser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
        subparser.add_argument("--debug", action="store_true", help="show where an error comes from")
        subcommands.add_subcommand(name, subparser, help=told)
    return parser


class _Formatter(DefaultHelpFormatter):
    """Help that shows defaults, but not the types, which the flags' placeholders tell already."""

    def _get_help_string(self, action: Any) -> str:
        hidden = not action.option_strings or action.default is None or action.default is False
        shown = not hidden and action.default != SUPPRESS
        return f"{action.help or ''}{f' (default: {action.default})' if shown else ''}"


def _add_fields(parser: ArgumentParser, command: Command) -> None:
    hints = get_type_hints(command.config)
    added: set[str] = set()
    for owner in _owners(command.config):
        documented = parse_docstring(owner.__doc__ or "")
        helps = {param.arg_name: " ".join((param.description or "").split()) for param in documented.params}
        title = "command" if owner is command.config else owner.__name__.removesuffix("Options").lower()
        group = parser.add_argument_group(title)
        for field in fields(owner):
            if field.name not in inspect.get_annotations(owner) or field.name in added:
                continue
            added.add(field.name)
            required = field.default is MISSING
            settings: dict[str, Any] = {"help": helps[field.name]} | ({} if required else {"default": field.default})
            if hints[field.name] is bool:
                group.add_argument(_flag(field.name), action="store_true", help=helps[field.name])
                continue
            kind = hints[field.name]
            if get_origin(kind) is tuple:
                kind, settings["nargs"] = get_args(kind)[0], "+"
            if field.name == command.positional:
                group.add_argument(field.name, type=kind, **settings)
            else:
                settings["metavar"] = _metavar(kind)
                group.add_argument(_flag(field.name), type=kind, required=required, **settings)


def _owners(config: type) -> list[type]:
    """The dataclass and those it inherits from, its own flags first."""
    return [owner for owner in config.__mro__ if is_dataclass(owner)]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _metavar(hint: Any) -> str:
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    choices = [value for kind in kinds for value in ((kind,) if isinstance(kind, str) else get_args(kind))]
    if choices and all(isinstance(choice, str) for choice in choices):
        return "{" + ",".join(choices) + "}"
    return {"Path": "PATH", "int": "N", "float": "X", "bool": "{true,false}"}.get(
        getattr(kinds[0], "__name__", ""), "TEXT"
    )


def _join_ranges(arguments: Sequence[str]) -> list[str]:
    """Join `--x -1:1:51` to `--x=-1:1:51`, since a value that begins with a dash would be taken for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if _RANGE.match(argument) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _named(arguments: Sequence[str], commands: Mapping[str, Command]) -> str:
    return f"{arguments[0]} " if arguments and arguments[0] in commands else ""


def _plain(text: str) -> str:
    return " ".join(text.split())
