"""Files that are whole or not there, and errors of the operating system in words."""

import errno
import os

import pytest

from harmonic_tf.files import explained, naming, remove_left_behind, replacing, write_text


def fail(number, filename=None):
    raise OSError(number, os.strerror(number), filename)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Make room there"),
        (errno.EDQUOT, "Make room there"),
        (errno.EROFS, "can be written to"),
        (errno.EACCES, "permissions"),
        (errno.ENOENT, "Check the path"),
        (errno.EMFILE, "ulimit"),
        (errno.EXDEV, "Check the path and its disk"),
    ],
)
def test_an_error_says_path_cause_and_remedy(number, remedy):
    error = OSError(number, "whatever the library says", "a b/ü.txt")
    text = explained(error)
    assert text.startswith(f"a b/ü.txt: {os.strerror(number)}. ")
    assert remedy in text and text.endswith(".")


def test_an_error_with_a_text_of_its_own_is_left_as_it_is():
    assert explained(FileNotFoundError("x.keras: no such checkpoint.")) == (
        "x.keras: no such checkpoint."
    )


def test_a_full_disk_names_the_file_that_was_to_be_written(tmp_path):
    path = tmp_path / "report.md"
    path.write_text("old")
    for filename in (None, "temporary"):
        with pytest.raises(OSError) as raised, replacing(str(path)) as temporary:
            with open(temporary, "w") as file:
                file.write("half of the new")
            fail(errno.ENOSPC, temporary if filename else None)
        assert explained(raised.value).startswith(f"{path}: No space left on device.")
    assert os.listdir(tmp_path) == ["report.md"] and path.read_text() == "old"


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(OSError) as raised, naming(str(tmp_path)):
        fail(errno.ENOENT, "other.jpg")
    assert explained(raised.value).startswith("other.jpg: ")


def test_text_is_written_whole_in_utf8(tmp_path):
    path = tmp_path / "ü.txt"
    write_text(str(path), "größe\n")
    assert path.read_bytes() == "größe\n".encode()


def test_what_a_killed_process_left_behind_is_removed_and_nothing_else(tmp_path):
    kept = ["report.md", ".hidden", ".0123456789abcdef.report.md"]
    for name in kept:
        (tmp_path / name).write_text("")
    (tmp_path / f".{'0123456789abcdef' * 2}.folder").mkdir()
    pid = os.fork()
    if not pid:
        with replacing(str(tmp_path / "report.md")) as temporary, open(temporary, "w"):
            os._exit(0)
    os.waitpid(pid, 0)
    (left,) = tmp_path.glob(f".{'?' * 32}.report.md")
    remove_left_behind(str(tmp_path))
    assert not left.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, f".{'0123456789abcdef' * 2}.folder"])
