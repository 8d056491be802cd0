"""`import harmonic_tf`: silent, light, and of the version that the installation says."""

import ast
import configparser
import os
import subprocess
import sys
from importlib import metadata

import pytest
import setuptools

import harmonic_tf

PROGRAM = """
import sys
import harmonic_tf
sys.exit("tensorflow_addons" in sys.modules)
"""


def test_import_prints_nothing_and_leaves_tensorflow_addons_alone(source_tree, tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    environment["PYTHONPATH"] = str(source_tree.top)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == 0, "tensorflow_addons was imported"


def test_version_is_the_one_that_setup_cfg_reads_without_importing(source_tree):
    settings = configparser.ConfigParser()
    settings.read_string(source_tree.read("setup.cfg"))
    assert settings["metadata"]["version"] == "attr: harmonic_tf.__version__"

    # setuptools does not import the package (and TensorFlow with it) where this is a literal
    module = ast.parse(source_tree.read("harmonic_tf/__init__.py"))
    assigned = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__version__"
    }
    assert assigned == {"__version__": harmonic_tf.__version__}


def test_version_is_the_installed_one():
    try:
        installed = metadata.version("harmonic_tf")
    except metadata.PackageNotFoundError:
        pytest.skip("harmonic_tf is not installed")
    assert installed == harmonic_tf.__version__


def test_everything_is_installed(source_tree, monkeypatch):
    """All modules of harmonic_tf and of flags/, which goes by another name, and its data files."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(source_tree.top)
    exec(compile(source_tree.read("setup.py"), "setup.py", "exec"), {})
    assert given["package_dir"] == {"harmonic_tf_flags": "flags"}
    folders = [name.replace("harmonic_tf_flags", "flags") for name in given["packages"]]
    installed = {f"{name.replace('.', '/')}" for name in folders}
    modules = source_tree.files("harmonic_tf/**/*.py", "flags/**/*.py")
    assert {file.rpartition("/")[0] for file in modules} == installed
    for folder in installed:
        assert (source_tree.top / folder / "__init__.py").is_file(), folder
    for name, folder in {"harmonic_tf": "harmonic_tf", "harmonic_tf_flags": "flags"}.items():
        patterns = [f"{folder}/{pattern}" for pattern in given["package_data"][name]]
        compiled = set(source_tree.files(f"{folder}/**/*.py[co]"))
        kept = set(source_tree.files(f"{folder}/**/*.*")) - compiled
        assert kept == {*source_tree.files(f"{folder}/**/*.py"), *source_tree.files(*patterns)}
