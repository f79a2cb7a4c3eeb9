"""A command line of subcommands, each of which fills a frozen dataclass and calls one function.

Flags are the dataclass's fields with dashes for underscores; help comes from its docstring; `--config FILE.yaml` gives
values that flags override. Errors are one line and exit code 2, an interruption that can go on is exit code 75.
"""

import argparse
import contextlib
import functools
import importlib
import io
import itertools
import json
import math
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, TextIO, get_args, get_origin

import yaml
from docstring_parser import parse as parse_docstring

from landscape.app.options import Flag, flags
from landscape.app.yamlfiles import read_yaml_mapping
from landscape.errors import ConfigError, Interrupted, LandscapeError
from landscape.runtime.progress import on_stderr
from landscape.runtime.suggestions import nearest

EXIT_ERROR, EXIT_RESUMABLE = 2, 75
_MODES = {"json": "print the summary as one JSON object", "debug": "show where an error comes from"}
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
    argv = _join_ranges(sys.argv[1:] if arguments is None else arguments)
    if not argv:
        usage = _parser(program, description, commands).format_help()
        _say(f"{usage}\nerror: no command is given; see {program} COMMAND --help for its flags.")
        return EXIT_ERROR
    command = commands.get(argv[0])
    declared: Mapping[str, Flag] = flags(command.config) if command else {}
    try:
        words = _configured(declared, argv)
        held = declared if "--print-config" in argv else words
        words |= _converted(declared, vars(_parser(program, description, commands, held).parse_args(argv)))
    except ConfigError as error:
        _say(f"error: {_hinted(_plain(str(error)), declared)}\nSee {program} {f'{argv[0]} ' if command else ''}--help.")
        return EXIT_ERROR
    except (SystemExit, BrokenPipeError) as left:  # help, the version
        _print("")
        raise SystemExit(getattr(left, "code", 0)) from None
    words.pop("config", None)
    printing, modes = words.pop("print_config", False), {mode: words.pop(mode, False) for mode in _MODES}
    if printing:
        _print(_written(declared, words) + yaml.safe_dump(modes, sort_keys=False))
        raise SystemExit(0)
    try:
        with _terminable():
            summary = _call(commands[argv[0]], words)
        _print((json.dumps(_jsonable(summary)) if modes["json"] else summary.text()) + "\n")
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _fail(error, modes["debug"])


def _call(command: Command, words: dict[str, Any]) -> Any:
    """Run the command's function; whatever users' own code prints goes to standard error."""
    if not command.shared and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("torchrun started several processes, but only connect fit shares its work among them.")
    module, _, name = command.function.partition(":")
    errors: Any = _Forgiving(sys.stderr)
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors):
        function = getattr(importlib.import_module(module), name)
        return function(command.config(**words), on_stderr)


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


def _configured(declared: Mapping[str, Flag], arguments: Sequence[str]) -> dict[str, Any]:
    """What the files of --config say, the last one first.

    Raises:
        ConfigError: one cannot be read, holds no keys and values, or an unknown key; or a value does not fit.
    """
    words: dict[str, Any] = {}
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and (equals or index + 1 < len(arguments)):
            file = Path(value if equals else arguments[index + 1])
            words |= read_yaml_mapping(file, "the configuration", "flags and their values, such as epochs: 40")
    for word in words:
        if word not in {**declared, **_MODES}:
            raise ConfigError(f"the configuration has the unknown key {word!r}{nearest(str(word), declared)}")
    return _converted(declared, words)


def _converted(declared: Mapping[str, Flag], words: Mapping[str, Any]) -> dict[str, Any]:
    return {word: declared[word].converted(value) if word in declared else value for word, value in words.items()}


def _hinted(message: str, words: Iterable[str]) -> str:
    """A parser's message, and the flag that is nearest to one that it does not know."""
    unknown = re.match(r"unrecognized arguments: --([\w-]+)", message)
    return message + (nearest(unknown[1], [word.replace("_", "-") for word in words], "--") if unknown else "")


def _written(declared: Mapping[str, Flag], words: Mapping[str, Any]) -> str:
    """A configuration file that holds these words, and the defaults of all others."""
    held = {word: None if flag.default is MISSING else flag.default for word, flag in declared.items()} | dict(words)
    return yaml.safe_dump({word: _plain_value(value) for word, value in held.items()}, sort_keys=False)


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain_value(part) for part in value]
    return str(value) if isinstance(value, Path) else value


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


class _Parser(argparse.ArgumentParser):
    """A parser that leaves values as text, and all that was not said out; what does not fit is a `ConfigError`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, argument_default=argparse.SUPPRESS)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def _parser(
    program: str, description: str, commands: Mapping[str, Command], configured: Iterable[str] = ()
) -> argparse.ArgumentParser:
    """The program's parser.

    Args:
        program: its name.
        description: what it does.
        commands: by name.
        configured: words that are not required, as where a configuration file holds them.
    """
    parser = _Parser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"{program} {version('mode-connectivity')}")
    subcommands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in commands.items():
        purpose = parse_docstring(command.config.__doc__ or "").short_description
        subparser = subcommands.add_parser(name, description=purpose, help=purpose)
        subparser.add_argument("--config", metavar="PATH", help="YAML file with values; flags override it")
        subparser.add_argument("--print-config", action="store_true", help="print such a file, and do nothing else")
        for mode, purpose in _MODES.items():
            subparser.add_argument(f"--{mode}", action="store_true", help=purpose)
        _add_flags(subparser, command, configured)
    return parser


def _add_flags(parser: argparse.ArgumentParser, command: Command, configured: Iterable[str]) -> None:
    for title, own in itertools.groupby(flags(command.config).values(), lambda flag: flag.title):
        group = parser.add_argument_group(title)
        for flag in own:
            several = any(get_origin(kind) is tuple for kind in flag.kinds)
            required = flag.default is MISSING and flag.word not in configured
            settings: dict[str, Any] = {"help": _help(flag)}
            if flag.hint is bool:
                group.add_argument(flag.name, action="store_true", **settings)
            elif flag.word == command.positional:
                nargs = ("+" if several else None) if required else ("*" if several else "?")
                group.add_argument(flag.word, metavar=flag.word.upper(), nargs=nargs, **settings)
            else:
                settings |= {"nargs": "+"} if several else {}
                group.add_argument(flag.name, metavar=_metavar(flag), required=required, **settings)


@functools.cache
def _documented(owner: type) -> dict[str, str]:
    """What a dataclass's docstring says of its fields."""
    params = parse_docstring(owner.__doc__ or "").params
    return {param.arg_name: " ".join((param.description or "").split()) for param in params}


def _help(flag: Flag) -> str:
    """What is said of a flag, and its default."""
    silent = any(flag.default is nothing for nothing in (MISSING, None, False, ()))
    shown = "" if silent else f" (default: {flag.default})"
    return f"{_documented(flag.owner)[flag.field]}{shown}".replace("%", "%%")


def _metavar(flag: Flag) -> str:
    kind, *_ = [part for kind in flag.kinds for part in (get_args(kind) if get_origin(kind) is tuple else (kind,))]
    if get_origin(kind) is Literal:
        return "{" + ",".join(get_args(kind)) + "}"
    return {Path: "PATH", int: "N", float: "X", bool: "{true,false}"}.get(kind, "TEXT")


def _join_ranges(arguments: Sequence[str]) -> list[str]:
    """Join `--x -1:1:51` to `--x=-1:1:51`, since a value that begins with a dash would be taken for a flag."""
    joined: list[str] = []
    for argument in arguments:
        if _RANGE.match(argument) and joined and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _plain(text: str) -> str:
    return " ".join(text.split())
