"""A command line of subcommands, each of which fills a frozen dataclass and calls one function.

Flags are the dataclass's fields with dashes for underscores; help comes from its docstring; `--config FILE.yaml` gives
values that flags override. Errors are one line and exit code 2, an interruption that can go on is exit code 75.
"""

import contextlib
import difflib
import importlib
import inspect
import io
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
from importlib.metadata import version
from pathlib import Path
from types import FrameType, NoneType
from typing import Any, TextIO, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_dumper, set_loader

from landscape.app.options import as_told, declared_types, flag, in_words
from landscape.app.yamlfiles import parse_yaml, read_yaml_mapping
from landscape.errors import ConfigError, Interrupted, LandscapeError
from landscape.runtime.progress import on_stderr

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
    _open_streams()
    given = _join_ranges(sys.argv[1:] if arguments is None else arguments)
    parser = _parser(program, description, commands)
    if not given:
        _say(f"{parser.format_help()}\nerror: no command is given; see {program} COMMAND --help for its flags.")
        return EXIT_ERROR
    try:
        _require_configurations(given)
        parsed = parser.parse_args(given)
    except (ArgumentError, ConfigError) as error:
        told = _explained(_plain(str(error)), given, commands)
        _say(f"error: {told}\nSee {program} {_named(given, commands)}--help.")
        return EXIT_ERROR
    except (SystemExit, BrokenPipeError) as left:  # help, the version and a printed configuration
        _print("")
        raise SystemExit(getattr(left, "code", 0)) from None
    chosen = commands[parsed.subcommand]
    options: Namespace = parsed[parsed.subcommand]
    values = {field.name: _frozen(options[field.name]) for field in fields(chosen.config)}
    try:
        with _terminable():
            summary = _call(chosen, values)
        _print((json.dumps(_jsonable(summary)) if options.json else summary.text()) + "\n")
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _fail(error, options.debug)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _call(command: Command, values: dict[str, Any]) -> Any:
    """Run the command's function; whatever users' own code prints goes to standard error."""
    if not command.shared and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("torchrun started several processes, but only connect fit shares its work among them.")
    module, _, name = command.function.partition(":")
    errors: Any = _Forgiving(sys.stderr)
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
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


def _fail(error: BaseException, debug: bool) -> int:
    """Say what went wrong, and return the exit code."""
    code = EXIT_RESUMABLE if isinstance(error, Interrupted | KeyboardInterrupt) else EXIT_ERROR
    if isinstance(error, Interrupted):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = "stopped; what was finished before is on disk, go on with --resume."
    elif isinstance(error, LandscapeError):
        first, semicolon, rest = str(error).partition(";\n")  # which messages of two lines have between them
        text = f"error: {_plain(first)}{semicolon}{_plain(rest)}"
    elif type(error).__name__ == "OutOfMemoryError":
        text = "error: out of memory; lower --batch-size, --eval-batch-size or --statistics-batch-size."
    else:  # the edge of the process: anything else is a defect, and is told as one
        text = f"unexpected {type(error).__name__}: {_plain(str(error))}\nRun again with --debug to see where."
    if debug:
        _say("".join(traceback.format_exception(error)).rstrip())
    _say(text)
    return code


def _open_streams() -> None:
    """Have streams that take any text: closed ones lead nowhere, and what an old encoding lacks is replaced."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - open to the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


class _Forgiving:
    """A stream whose reader may go: what it does not take is lost, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _print(text: str) -> None:
    """Write to standard output; a reader that has gone is no error, since the work is done.

    Raises:
        ConfigError: the output cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # or else the interpreter tries once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise ConfigError(
                f"the work is done, but cannot be told of on standard output: {error.strerror}."
            ) from error


def _say(text: str) -> None:
    """Write a line to standard error, if anybody reads it."""
    errors: Any = _Forgiving(sys.stderr)
    print(text, file=errors, flush=True)


def _require_configurations(arguments: Sequence[str]) -> None:
    """Check that the files of --config can be read.

    Raises:
        ConfigError: one cannot, or holds no keys and values.
    """
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and (equals or index + 1 < len(arguments)):
            file = Path(value if equals else arguments[index + 1])
            read_yaml_mapping(file, "the configuration", "flags and their values, such as epochs: 40")


def _explained(text: str, arguments: Sequence[str], commands: Mapping[str, Command]) -> str:
    """What the parser says of arguments, in the words of the flags."""
    command = commands.get(arguments[0])
    if command is None:
        return text
    hints = declared_types(command.config)

    def label(name: str) -> str:
        return name.upper() if name == command.positional else flag(name)

    if missing := re.match(r"the following arguments are required: (.*)", text):
        names = [label(name.rpartition(".")[2]) for name in missing[1].split(", ")]
        return f"the following arguments are required: {', '.join(names)}"
    if unknown := re.search(r"does not accept option '(.+?)'", text):
        return f"the configuration has the unknown key {unknown[1]!r}{_nearest(unknown[1], list(hints))}"
    if unknown := re.match(r"unrecognized arguments: --([\w-]+)", text):
        return f"{text}{_nearest(unknown[1], [name.replace('_', '-') for name in hints], '--')}"
    if (refused := re.search(r'Parser key "(?:\w+\.)?(\w+)"', text)) and refused[1] in hints:
        value = re.match(r".*(?:Given|Got) value: (.*)$", text)
        given = f"is {as_told(value[1])}" if value else "does not fit"
        return f"{label(refused[1])} {given}, expected {in_words(hints[refused[1]])}."
    return text


def _nearest(name: str, known: Sequence[str], dashes: str = "") -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {dashes}{near[0]}?" if near else "."


def _jsonable(value: Any) -> Any:
    """Plain values for JSON, which has no NaN: such figures become null."""
    if hasattr(value, "flat"):  # figures with names of their own
        return _jsonable(value.flat())
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
    parser.add_argument("--version", action="version", version=f"{program} {version('mode-connectivity')}")
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
                group.add_argument(flag(field.name), action="store_true", help=helps[field.name])
                continue
            kind = hints[field.name]
            if get_origin(kind) is tuple:
                kind, settings["nargs"] = get_args(kind)[0], "+"
            if field.name == command.positional:
                group.add_argument(field.name, type=kind, **settings)
            else:
                settings["metavar"] = _metavar(kind)
                group.add_argument(flag(field.name), type=kind, required=required, **settings)


def _owners(config: type) -> list[type]:
    """The dataclass and those it inherits from, its own flags first."""
    return [owner for owner in config.__mro__ if is_dataclass(owner)]


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
