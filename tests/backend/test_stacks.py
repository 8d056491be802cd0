"""What differs between Keras 2 and Keras 3 has one place, and goes by the same names there."""

import ast
import re

FILES = ("harmonic_tf/backend/keras2.py", "harmonic_tf/backend/keras3.py")
# Ways to ask which stack it is.
QUESTIONS = re.compile(
    r"KERAS_3|keras\.__version__|tf\.__version__\s*[<>=]|hasattr\(\s*(keras|tf)\b|"
    r"version_info|keras\.optimizers\.legacy|import tf_keras"
)
MAY_ASK = {f"harmonic_tf/backend/{name}.py" for name in ("__init__", "libraries", "keras2")}


def public(source):
    """Classes and functions by name, functions with the names of their arguments."""
    body = ast.parse(source).body
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    taken = {node.name: [argument.arg for argument in node.args.args] for node in functions}
    return {**taken, **dict.fromkeys(classes)}


def exported(source_tree):
    module = ast.parse(source_tree.read("harmonic_tf/backend/__init__.py"))
    return [
        {alias.name for alias in node.names}
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module.rpartition(".")[2].startswith("keras")
    ]


def test_both_stacks_have_what_the_package_takes(source_tree):
    two, three = exported(source_tree)
    assert two == three
    assigned = re.findall(r"^(\w+) = \w+$", source_tree.read(FILES[1]), re.MULTILINE)
    for names, extra in zip((public(source_tree.read(file)) for file in FILES), ([], assigned)):
        assert two <= {*names, *extra}


def test_functions_of_both_take_the_same(source_tree):
    two, three = (public(source_tree.read(file)) for file in FILES)
    common = two.keys() & three.keys()
    assert len(common) > 8
    assert {name: two[name] for name in common} == {name: three[name] for name in common}


def test_nobody_else_asks_which_stack_it_is(source_tree):
    files = source_tree.files("harmonic_tf/**/*.py", "flags/**/*.py", "*.py", "benchmarks/*.py")
    asking = {file for file in files if QUESTIONS.search(source_tree.read(file))}
    assert asking == MAY_ASK
