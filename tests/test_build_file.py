"""Holds BUILD against the files on disk, without Bazel: its rules are stood in for."""

from __future__ import annotations

import posixpath

import pytest

RULES = {"py_library", "py_binary", "py_test"}
PRODUCT = ("harmonic_tf/**/*.py", "flags/**/*.py", "benchmarks/**/*.py", "*.py")


class BuildFile:
    """The targets that BUILD declares: name -> {"rule": ..., and the attributes as written}."""

    def __init__(self, source_tree):
        self.source_tree = source_tree
        self.targets: dict[str, dict] = {}
        self.exported: list[str] = []
        names = {rule: self._declare(rule) for rule in RULES}
        names["glob"] = self._glob
        names["exports_files"] = self.exported.extend
        names["package"] = names["licenses"] = lambda *args, **kwargs: None
        exec(compile(source_tree.read("BUILD"), "BUILD", "exec"), names)

    def _declare(self, rule):
        def declare(name, **attributes):
            assert name not in self.targets, f"BUILD declares {name} twice"
            self.targets[name] = {
                "rule": rule,
                "srcs": [],
                "data": [],
                "deps": [],
                "imports": [],
                **attributes,
            }

        return declare

    def _glob(self, include, exclude=()):
        left_out = set(self.source_tree.files(*exclude))
        return [file for file in self.source_tree.files(*include) if file not in left_out]

    def of(self, *rules: str) -> dict[str, dict]:
        return {name: target for name, target in self.targets.items() if target["rule"] in rules}

    def owners(self, file: str) -> list[str]:
        """The libraries and binaries that have `file` among their sources."""
        return [n for n, t in self.of("py_library", "py_binary").items() if file in t["srcs"]]

    def owner_of_module(self, module: str) -> str | None:
        """The target that an imported name comes from; None for everybody else's modules."""
        parts = module.split(".")
        folders = {folder for target in self.targets.values() for folder in target["imports"]}
        for length in range(len(parts), 0, -1):
            for path in (posixpath.join(folder, *parts[:length]) for folder in ("", *folders)):
                for owner in [*self.owners(f"{path}.py"), *self.owners(f"{path}/__init__.py")]:
                    return owner
        return None

    def imported(self, name: str) -> set[str]:
        """The other targets that the sources of target `name` import from."""
        found = {
            self.owner_of_module(imported.module)
            for file in self.targets[name]["srcs"]
            for imported in self.source_tree.imports(file, self.source_tree.read(file))
        }
        return found - {None, name}

    def reached(self, name: str) -> set[str]:
        """`name` and all that it depends on, however far."""
        below = (self.reached(label[1:]) for label in self.targets[name]["deps"])
        return {name}.union(*below)


@pytest.fixture(scope="module")
def build(source_tree):
    return BuildFile(source_tree)


def test_every_product_file_is_in_one_library_or_binary(build, source_tree):
    owners = {file: build.owners(file) for file in source_tree.files(*PRODUCT)}
    assert owners
    wrong = {file: names for file, names in owners.items() if len(names) != 1}
    assert not wrong, f"not in exactly one py_library or py_binary: {wrong}"


def test_every_test_file_has_its_py_test(build, source_tree):
    tests = {test: [f"{test}.py", "tests/run_pytest.py"] for test in build.of("py_test")}
    assert {test: build.targets[test]["srcs"] for test in tests} == tests
    assert sorted(srcs[0] for srcs in tests.values()) == source_tree.files("tests/**/test_*.py")


def test_every_file_under_tests_is_in_a_target(build, source_tree):
    named = {file for target in build.targets.values() for file in target["srcs"]}
    assert set(source_tree.files("tests/**/*.py")) <= named


def test_every_named_file_exists(build, source_tree):
    named = set(build.exported)
    for target in build.targets.values():
        named.update(target["srcs"], target["data"], [target.get("main", "BUILD")])
    missing = sorted(file for file in named if not (source_tree.top / file).is_file())
    assert not missing, f"BUILD names files that are not there: {missing}"


def test_no_target_is_empty(build):
    assert not [name for name, target in build.targets.items() if not target["srcs"]]


def test_every_dep_is_a_target(build):
    labels = {label for target in build.targets.values() for label in target["deps"]}
    assert labels <= {f":{name}" for name in build.targets}


def test_deps_are_what_the_code_imports(build):
    wrong = []
    for name, target in build.of("py_library", "py_binary").items():
        expected = sorted(f":{other}" for other in build.imported(name))
        if name != "test_support" and sorted(target["deps"]) != expected:
            wrong.append(f"{name}: deps should be {expected}")
    assert not wrong, "\n".join(wrong)


def test_tests_reach_what_they_import(build):
    for name in [*build.of("py_test"), "test_support"]:
        missing = build.imported(name) - build.reached(name)
        assert not missing, f"{name} imports from {sorted(missing)}, which it does not reach"
