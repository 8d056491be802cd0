"""Commands that can be pasted."""

import os
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harmonic_tf import shell


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_a_shell_takes_a_command_apart_into_its_words(words):
    line = " ".join(map(shell.quoted, words))
    assert shlex.split(line) == words


@pytest.mark.parametrize("value", ["mein lauf ü", "a'b", "$HOME", "x;y", "a\nb", ""])
def test_of_a_flag_the_value_alone_is_quoted(value):
    line = shell.command("evaluate", f"--run={value}")
    assert " evaluate --run=" in line
    assert shlex.split(line)[-1] == f"--run={value}"


def scripts(tmp_path, monkeypatch, installed, on_path):
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    program = folder / shell.PROGRAM
    if installed:
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setattr(shell.sysconfig, "get_path", lambda name: str(folder))
    monkeypatch.setenv("PATH", str(folder) if on_path else os.devnull)
    monkeypatch.chdir(tmp_path)
    return shlex.split(shell.command("train"))


def test_the_program_is_named_as_a_shell_finds_it(tmp_path, monkeypatch):
    assert scripts(tmp_path, monkeypatch, True, True) == ["harmonic-tf", "train"]


def test_the_program_of_an_environment_is_named_by_its_path(tmp_path, monkeypatch):
    assert scripts(tmp_path, monkeypatch, True, False) == ["my env/bin/harmonic-tf", "train"]


def test_a_checkout_is_called_by_its_module(tmp_path, monkeypatch):
    assert scripts(tmp_path, monkeypatch, False, False)[1:] == ["-m", "flags", "train"]


def test_long_texts_lose_their_middle():
    assert shell.shortened("x" * 1000) == "x" * 1000
    assert shell.shortened("abcdefghij", longest=4) == "ab...ij"
