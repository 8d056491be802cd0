"""Commands in README and docs are such as the product takes; the site holds every document."""

import ast
import json
import os
import pathlib
import re
import shlex
import sys

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from flags import command, running
from flags.command_line import PRESETS, expanded, files_first

TOP = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([TOP / "README.md", *TOP.glob("docs/*.md")])

# Programs of others, and why what a document says to them is not looked at.
OTHERS = {
    "pip": "changes the environment",
    "source": "of the shell",
    "docker": "needs Docker and an image from a hub",
    "kubectl": "needs a cluster",
    "rsync": "needs runs of hours",
    "tensorboard": "serves until it is interrupted",
    "saved_model_cli": "TensorFlow's own, on a model that a reader has exported",
    "echo": "asks a server that a reader has started",
    "curl": "asks a server that a reader has started",
}
PRODUCT = ("harmonic-tf", "python", "make")


def blocks(text):
    """Code blocks, indented or fenced, without what surrounds them."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:\A|\n)\n((?:    .*\n|\n(?=    ))+)", rest)
    return [*fenced, *(re.sub(r"(?m)^    ", "", block) for block in indented)]


def commands(text):
    """Lines that call a program, those that go on after a backslash as one."""
    for block in blocks(text):
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            line = re.sub(r"^(?:[A-Z_]+=\S* )+", "", line)  # variables before the program
            if line.partition(" ")[0] in (*PRODUCT, *OTHERS):
                yield line


FOUND = [
    (path.relative_to(TOP).as_posix(), line)
    for path in DOCUMENTS
    for line in commands(path.read_text(encoding="utf-8"))
]


def of(program):
    found = [
        pytest.param(shlex.split(line, comments=True)[1:], id=f"{document}: {line}")
        for document, line in FOUND
        if line.partition(" ")[0] == program
    ]
    return pytest.mark.parametrize("arguments", found)


def parse(name, arguments):
    """Reads a command line as the command does, presets and all; nothing is run."""
    chosen, _ = running.load(name)
    files, typed = files_first(arguments)
    running._refuse_flags_of_others(name, chosen, typed)
    # A reader's own flag file is not here; presets are.
    presets = expanded(file for file in files if file.startswith("--preset="))
    with flagsaver.flagsaver():
        absl_flags.FLAGS.unparse_flags()
        positional = absl_flags.FLAGS([name, *presets, *typed])[1:]
    assert not positional or chosen.arguments, positional


def test_docs_have_commands_that_blocks_are_found_by():
    indented = "    harmonic-tf x \\\n      --y\n    said\n\n    python z.py\n"
    text = f"a\n\n{indented}\n```bash\nmake z  # why\n```\n    pip no\n"
    assert list(commands(text)) == ["make z  # why", "harmonic-tf x --y", "python z.py"]
    assert len(FOUND) > 60


@of("harmonic-tf")
def test_docs_name_commands_and_flags_that_there_are(arguments):
    name, *rest = arguments
    if name in ("COMMAND", "--version", "--list_presets"):
        return
    assert name in command.COMMANDS
    if "--help" not in rest:
        parse(name, [argument for argument in rest if argument != "..."])


@pytest.mark.parametrize(
    "line",
    ["train --no_such_flag", "train --epochs=many", "train --preset=no_such", "export stray"],
)
def test_docs_with_a_wrong_command_would_be_found(line):
    with pytest.raises((absl_flags.Error, running.UsageError, ValueError, AssertionError)):
        parse(line.split()[0], line.split()[1:])


def flags_defined_in(path):
    """The names that a script gives to `flags.DEFINE_...` or to `add_argument`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        call.args[0].value.removeprefix("--")
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr.startswith(("DEFINE_", "add_argument"))
    }


@of("python")
def test_docs_name_scripts_and_flags_that_there_are(arguments):
    script, *rest = arguments
    if script in ("-c", "-m"):
        assert script == "-c" or rest[0] in ("pytest", "flags.help", "flags")
        return
    assert (TOP / script).is_file()
    if script in ("train.py", "evaluate.py"):
        parse(script.removesuffix(".py"), rest)
        return
    known = {"preset", *flags_defined_in(TOP / script), *absl_flags.FLAGS}
    for argument in rest:
        name = argument.partition("=")[0].removeprefix("--")
        assert not argument.startswith("--") or name in known, argument


@of("make")
def test_docs_name_targets_that_there_are(arguments):
    makefile = (TOP / "Makefile").read_text(encoding="utf-8")
    for argument in arguments:
        variable, equals, _ = argument.partition("=")
        if equals:
            assert re.search(rf"^{variable} \?=", makefile, re.MULTILINE), argument
        else:
            assert re.search(rf"^{re.escape(argument)}:", makefile, re.MULTILINE), argument


def test_docs_name_presets_that_there_are():
    named = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"--preset=([a-z0-9_]+)", path.read_text(encoding="utf-8"))
    }
    assert named and named <= {path.stem for path in PRESETS.glob("*.cfg")}


@pytest.mark.slow
def test_docs_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="pip install 'harmonic_tf[notebook]'")
    nbformat = pytest.importorskip("nbformat", reason="pip install 'harmonic_tf[notebook]'")
    small = "--scenes_train=32 --scenes_val=8 --scenes_test=8 --epochs=1 --warmup_steps=1"
    monkeypatch.setenv("TUTORIAL_FLAGS", small)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    notebook = nbformat.read(TOP / "docs" / "tutorial.ipynb", as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, resources=where).execute()
    said = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("COCO" in output.get("text", "") for output in said)
    assert sum("image/png" in output.get("data", {}) for output in said) == 2
    assert (tmp_path / "models" / "scenes" / "1" / "saved_model.pb").is_file()


def test_docs_notebook_has_commands_that_the_product_takes():
    cells = json.loads((TOP / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    found = [line for cell in cells for line in cell["source"] if line.startswith("harmonic-tf ")]
    assert len(found) == 4
    for line in found:
        name, *rest = shlex.split(re.sub(r"2>.*|\$\w+", "", line))[1:]
        parse(name, rest)


def test_docs_are_all_in_the_navigation_of_the_site():
    navigation = (TOP / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"[\w/-]+\.md", navigation)
    there = [path.relative_to(TOP / "docs").as_posix() for path in TOP.glob("docs/**/*.md")]
    assert sorted(listed) == sorted(there)
