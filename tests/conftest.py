"""What tests share: four CPU devices for strategies; the project's files and their imports."""

from __future__ import annotations

import ast
import pathlib
from typing import NamedTuple

import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from flags import command, running
from harmonic_tf.backend import tf
from tests import untuned  # noqa: F401 (what it changes is wanted)

# As many replicas as any test asks for. TensorFlow takes this only before its first tensor, and
# pytest reads this file before every test module.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)

# Files that take longest: where two processes share the files, these are not to be the last.
LONG = ("test_resume_and_workers", "test_scripts", "test_detectors", "test_train_step")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in LONG)


class Import(NamedTuple):
    """One imported name: `from a import b` and `import a.b` are both `a.b`."""

    module: str
    line: int
    deferred: bool  # inside a function: runs when that is called, not when the file is imported


class SourceTree:
    """The checkout. Files are named by their path from its top, with forward slashes."""

    top = pathlib.Path(__file__).resolve().parents[1]

    def files(self, *patterns: str) -> list[str]:
        found = {path for pattern in patterns for path in self.top.glob(pattern)}
        return sorted(path.relative_to(self.top).as_posix() for path in found)

    def read(self, file: str) -> str:
        return (self.top / file).read_text(encoding="utf-8")

    @staticmethod
    def imports(file: str, source: str) -> list[Import]:
        """What `source`, standing in `file`, imports."""
        found = []

        def visit(node: ast.AST, deferred: bool) -> None:
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
                found.extend(Import(module, node.lineno, deferred) for module in modules)
            elif isinstance(node, ast.ImportFrom):
                parents = file.split("/")[: -node.level] if node.level else []
                parts = [*parents, *([node.module] if node.module else [])]
                modules = [".".join([*parts, alias.name]) for alias in node.names]
                found.extend(Import(module, node.lineno, deferred) for module in modules)
            deferred = deferred or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for child in ast.iter_child_nodes(node):
                visit(child, deferred)

        visit(ast.parse(source, file), deferred=False)
        return found


@pytest.fixture(scope="session")
def source_tree() -> SourceTree:
    return SourceTree()


@pytest.fixture
def run_command():
    """Runs a command of `harmonic-tf` within this process; all flags are as they were then."""

    def run(name, *arguments):
        running.load(name)  # what it defines now is kept
        with flagsaver.flagsaver():
            absl_flags.FLAGS.unparse_flags()
            command.main([name, *map(str, arguments)])

    return run
