"""Damage to files: bytes, texts, JSON, archives and records, drawn from a seed."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pathlib
import pickle
import random
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from harmonic_tf.backend import tf

CANARY = "HARMONIC_TF_CANARY"
"""Environment variable that names the file which code of a mutated file makes when it runs."""

Mutation = Callable[[random.Random, bytes], bytes]

_NESTING = 100_000
_OUTSIDE = (
    "../../x",
    "../outside/secret.jpg",
    "/etc/passwd",
    "..\\..\\x",
    "a\0b",
    "~/x",
    "x" * 5000,
)
_NUMBERS = (0, -1, 1.5, 2**31, 2**63, 10**30, -(10**30), 1e308, float("nan"), float("inf"))
_VALUES = (None, True, False, "", [], {}, [[]], {"a": None}, "\ud800", "NaN", *_NUMBERS, *_OUTSIDE)
_TOKENS = (
    *(text.encode() for text in _OUTSIDE[:-1]),
    *(str(number).encode() for number in _NUMBERS),
    *(
        b"9" * 5000,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\0",
        b"\r",
        b"%n",
        b"{}",
        b"--flagfile=flags.cfg",
    ),
    *(b"[" * _NESTING, b'{"a":' * _NESTING, b"<a>" * 20_000, b"- " * 20_000, b"&a;" * 1000),
)
_CODE = f"open(__import__('os').environ['{CANARY}'], 'w').close()"
_NAMED_CODE = (  # what a configuration of Keras may name
    ("builtins", "exec", _CODE),
    ("os", "system", f'touch "${CANARY}"'),
    ("subprocess", "Popen", {"args": f'touch "${CANARY}"', "shell": True}),
    ("keras.layers", "Lambda", {"function": ["4wAA", None, None]}),
    ("keras.layers", "TFSMLayer", {"filepath": "../outside"}),
    ("keras.layers", "StringLookup", {"vocabulary": "../outside/secret.jpg"}),
    ("keras.layers", "TFOpLambda", {"function": "io.write_file"}),
)


class _Canary:
    """Unpickled, it runs code."""

    def __reduce__(self):
        return exec, (_CODE,)


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped bits, changed, lost, doubled and moved blocks, foreign tokens, a file cut short."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        here = rng.randrange(len(changed) + 1)
        there = min(len(changed), here + rng.choice((1, 2, 4, 16, 256)))
        kind = rng.randrange(8)
        if kind == 0 and here < len(changed):
            changed[here] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[here:there] = rng.randbytes(there - here)
        elif kind == 2:
            del changed[here:]
        elif kind == 3:
            del changed[here:there]
        elif kind == 4:
            changed[here:here] = changed[here:there] * rng.choice((1, 3, 1000))
        elif kind == 5:
            block, place = changed[here:there], rng.randrange(len(changed) + 1)
            changed[place:place] = block
        elif kind == 6:
            changed[here:there] = rng.choice(_TOKENS)
        else:
            changed[here : here + 4] = rng.choice((b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f"))
    return bytes(changed)


def mutated_text(rng: random.Random, content: bytes) -> bytes:
    """A number or a word replaced, lines doubled or lost, another encoding."""
    kind = rng.randrange(5)
    if kind == 0:
        encoding = rng.choice(("utf-16", "utf-32", "utf-8-sig", "cp037"))
        return content.decode("utf-8", "replace").encode(encoding, "replace")
    if kind == 1:
        lines = content.splitlines(keepends=True) or [b""]
        lines.insert(rng.randrange(len(lines)), rng.choice(lines) * rng.choice((0, 1, 2, 5000)))
        return b"".join(lines)
    words = list(re.finditer(rb"-?\d[\d.e+-]*" if kind == 2 else rb"[\w./-]+", content))
    if kind == 4 or not words:
        return mutated_bytes(rng, content)
    word = rng.choice(words)
    return content[: word.start()] + rng.choice(_TOKENS) + content[word.end() :]


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    """A value of another type, size or depth, a key lost or renamed, an entry doubled; or bytes."""
    if rng.random() < 0.2:
        return mutated_text(rng, content)
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        document = _mutated_value(rng, document)
    return json.dumps(document).encode()


def _mutated_value(rng: random.Random, document: Any) -> Any:
    places = list(_places(document))
    if not places or rng.random() < 0.02:
        return copy.deepcopy(rng.choice(_VALUES))
    parent, key = rng.choice(places)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice((f"{key}x", key.upper(), ""))] = parent.pop(key)
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    elif kind == 3:
        other, at = rng.choice(places)
        with contextlib.suppress(LookupError):
            parent[key] = copy.deepcopy(other[at])
    else:
        parent[key] = copy.deepcopy(rng.choice(_VALUES))
    return document


def _places(value: Any):
    """Every container and key in a document of JSON."""
    if isinstance(value, (dict, list)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _places(item)


def mutated_xml(rng: random.Random, content: bytes) -> bytes:
    """Entities that grow, that read files, elements that are empty, doubled or deep; or text."""
    kind = rng.randrange(6)
    if kind == 0:
        lines = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
        return f'<!DOCTYPE a [<!ENTITY a0 "a">{lines}]>'.encode() + content.replace(
            b"cat", b"&a11;"
        )
    if kind == 1:
        system = rng.choice(("file:///etc/passwd", "../outside/secret.jpg", "http://127.0.0.1:9/"))
        head = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{system}">]>'.encode()
        return head + content.replace(b"cat", b"&x;")
    tags = sorted(set(re.findall(rb"<(\w+)>", content)))
    if kind in (2, 3) and tags:
        tag = rng.choice(tags)
        whole = re.compile(rb"<%s>.*?</%s>" % (tag, tag), re.DOTALL)
        instead = rng.choice(
            (b"", b"<%s/>" % tag, b"<%s>%s</%s>" % (tag, rng.choice(_TOKENS), tag))
        )
        return whole.sub(lambda _: instead, content, count=rng.choice((0, 1)))
    return mutated_text(rng, content)


def mutated_pickles(rng: random.Random, content: bytes) -> bytes:
    """A pickle that runs code, in front, in the middle or instead; or bytes."""
    if rng.random() < 0.9:
        return mutated_bytes(rng, content)
    canary = pickle.dumps(_Canary(), protocol=rng.choice((0, 2, 4)))
    place = rng.choice((0, 0, content.find(b".") + 1, rng.randrange(len(content) + 1)))
    return content[:place] + canary + content[rng.choice((place, len(content))) :]


def mutated_keras(rng: random.Random, content: bytes) -> bytes:
    """As `mutated_archive`; or a configuration that names code in place of a part of it."""
    if rng.random() < 0.8:
        return mutated_archive(rng, content)
    members = _members(content)
    config = json.loads(members["config.json"])
    module, name, argument = rng.choice(_NAMED_CODE)
    entry = {"module": module, "class_name": name, "config": argument, "registered_name": name}
    if rng.random() < 0.3:
        entry = {**entry, "class_name": "function", "config": name}
    parent, key = rng.choice(list(_places(config)))
    parent[key] = entry
    return _archived({**members, "config.json": json.dumps(config).encode()})


def mutated_archive(rng: random.Random, content: bytes) -> bytes:
    """A member changed, bombed, doubled, named to lie outside, or an array of pickles; or bytes."""
    kind = rng.randrange(8)
    if kind == 0:
        return mutated_bytes(rng, content)
    members = _members(content)
    name = rng.choice(sorted(members))
    if kind == 1:
        bomb = {name: b"\0" * rng.choice((2**20, 2**26))}
        return _archived({**members, **bomb}, zipfile.ZIP_DEFLATED)
    if kind == 2:
        outside = rng.choice(("../outside/x", "/tmp/harmonic_tf_x", "assets/../../x", "a" * 60_000))
        return _archived({**members, outside: b"x"})
    if kind == 3 and name.endswith(".npy"):
        header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
        array = b"\x93NUMPY\x01\x00\x76\x00" + header + pickle.dumps(_Canary())
        return _archived({**members, name: array})
    if kind == 3:
        return _archived({key: value for key, value in members.items() if key != name})
    mutate = mutated_json if name.endswith(".json") else mutated_bytes
    return _archived({**members, name: mutate(rng, members[name])})


def _members(content: bytes) -> Mapping[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _archived(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def mutated_records(rng: random.Random, content: bytes) -> bytes:
    """Bytes of a record changed beneath a right checksum; or bytes of the file."""
    if rng.random() < 0.3:
        return mutated_bytes(rng, content)
    path = pathlib.Path(f"records-{os.getpid()}")
    path.write_bytes(content)
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    place = rng.randrange(len(records))
    records[place] = mutated_text(rng, records[place])
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    content = path.read_bytes()
    path.unlink()
    return content
