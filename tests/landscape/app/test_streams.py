"""The programs where their streams are closed, full, read by nobody or of an old encoding."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import landscape
from connect.app import cli as connect_cli
from landscape.app import cli as landscape_cli

PROGRAM = '''
import dataclasses, sys
from landscape.app.commandline import Command, run
from landscape.app.options import Options


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Options):
    """Do some work – with θ.

    Attributes:
        x: a number.
    """

    x: int = 0


class Summary:
    def text(self):
        return "é – θ 1.5 " + chr(0xdcff) + "!"


def work(config, report):
    print("a user's own words: θ")
    with report("work", 3) as progress:
        for _ in range(3):
            progress.advance()
    return Summary()


if __name__ == "__main__":
    import landscape.runtime.progress
    landscape.runtime.progress._SECONDS_BETWEEN_LINES = 0
    sys.exit(run("program", "Shows – things.", {"work": Command(Config, "__main__:work")}))
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    file = tmp_path_factory.mktemp("program") / "program.py"
    file.write_text(PROGRAM)
    return file


def run(program, command, encoding="utf-8"):
    """Run a shell command in which $P is the program; returns the exit codes of a pipe's parts, and both streams."""
    settings = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(landscape.__file__).parents[1])}
    whole = f'{command}; echo "codes ${{PIPESTATUS[@]}}" >&3'
    done = subprocess.run(
        ["bash", "-c", f"exec 3>codes; {whole}"],
        capture_output=True,
        check=False,
        cwd=program.parent,
        env={**os.environ, **settings, "P": f"{sys.executable} {program}"},
    )
    codes = (program.parent / "codes").read_text().split()[1:]
    return [int(code) for code in codes], done.stdout, done.stderr.decode()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("ascii", b"? ? ? 1.5 ?!\n"), ("latin-1", b"\xe9 ? ? 1.5 ?!\n"), ("utf-8", "é – θ 1.5 ?!\n".encode())],
)
def test_what_an_encoding_lacks_is_replaced(program, encoding, expected):
    codes, stdout, stderr = run(program, "$P work", encoding)
    assert (codes, stdout) == ([0], expected), stderr


def test_help_is_printed_in_any_encoding(program):
    codes, stdout, stderr = run(program, "$P work --help", "ascii")
    assert codes == [0], stderr
    assert b"Do some work ? with ?." in stdout


@pytest.mark.parametrize(
    "command", ["$P work 2>&-", "$P work >&-", "$P work >&- 2>&-", "$P work <&-", "$P work 2>/dev/full"]
)
def test_a_closed_stream_ends_no_work(program, command):
    codes, stdout, stderr = run(program, command)
    assert codes == [0]
    assert "Traceback" not in stderr
    if ">&-" not in command.replace("2>&-", ""):
        assert stdout == "é – θ 1.5 ?!\n".encode()


@pytest.mark.parametrize("arguments", ["work", "work --help", "--help", "--version", "work --print-config"])
def test_a_reader_that_has_gone_is_no_error(program, arguments):
    codes, _, stderr = run(program, f"(sleep 2; exec $P {arguments}) | true")
    assert codes == [0, 0]
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr
    assert "Exception" not in stderr


def test_an_error_that_nobody_reads_keeps_its_code(program):
    codes, _, _ = run(program, "(sleep 2; exec $P work --x many) 2>&1 >/dev/null | true")
    assert codes == [2, 0]


def test_a_full_output_is_said(program):
    codes, _, stderr = run(program, "$P work >/dev/full")
    assert codes == [2]
    assert stderr.splitlines()[-1] == (
        "error: the work is done, but cannot be told of on standard output: No space left on device."
    )


def test_a_program_without_a_command_shows_its_help(program):
    codes, stdout, stderr = run(program, "$P")
    assert (codes, stdout) == ([2], b"")
    assert "Do some work" in stderr
    assert stderr.splitlines()[-1].startswith("error: no command is given; see program COMMAND --help")


def test_the_version_is_told(call, capsys):
    for name, program in (("landscape", landscape_cli), ("connect", connect_cli)):
        with pytest.raises(SystemExit) as left:
            call("--version", program=program)
        assert not left.value.code
        assert capsys.readouterr().out == f"{name} 0.1.0\n"
