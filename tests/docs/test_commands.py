"""Every command that the pages show is one: its options exist, and so do the files that it names of this project."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest

from recjax import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands() -> list[tuple[str, list[str]]]:
    """The page and the words of each command in a shell block."""
    found = []
    for page in PAGES:
        for block in SHELL.findall(page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" && "):
                    words = shlex.split(part, comments=True)
                    found += [(page.name, words)] if words else []
    return found


@pytest.fixture
def exit_status(monkeypatch):
    """``exit_status(words)`` of a command whose options are parsed, and which is not run."""
    make = cli._function

    def stand_in(name):
        @functools.wraps(make(name))
        def nothing(*args, **options): ...

        return nothing

    def call(words):
        try:
            cli.main(words)
        except SystemExit as stopped:
            return stopped.code
        return None

    monkeypatch.setattr(cli, "_function", stand_in)
    # The files that these commands read are not here.
    monkeypatch.setattr("recjax.cli.options.with_config_file", lambda arguments, command: command)
    return call


def test_options_of_commands_exist(exit_status):
    shown = [(page, words[1:]) for page, words in commands() if words[0] == "recjax"]
    assert len(shown) > 30
    for page, words in shown:
        if words[0].startswith("--tyro-") or (len(words) == 1 and words[0] in cli.COMMANDS):
            continue  # writes to the home of whoever calls it; shown for its name
        assert not exit_status(words), f"{page}: recjax {' '.join(words)}"
    assert exit_status(["loop", "--no-such-option", "1"]) == 2


def test_scripts_exist():
    names = {word for _, words in commands() for word in words if re.match(r"(experiments|benchmarks|scripts)/", word)}
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    names |= set(re.findall(r"(?:python3? )((?:experiments|benchmarks|scripts)/[\w/]+\.py)", text))
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / name).exists()]
