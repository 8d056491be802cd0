"""The command line itself: what it takes, what it refuses, what it says of itself."""

import pytest
from absl import flags as absl_flags

from flags import command, help, running
from flags.command_line import expanded, files_first, preset_names, value_in


@pytest.mark.parametrize("name", command.COMMANDS)
def test_help_is_that_of_the_flags(name):
    for other in command.COMMANDS:
        running.load(other)
    shown = (command.HELP / f"{name}.txt").read_text(encoding="utf-8")
    assert shown == help.help_text(name), "write it anew: python -m flags.help"
    for flag in running.load(name)[0].flags:
        assert f"--{flag}" in shown or f"--[no]{flag}" in shown


def test_every_command_takes_flags_that_there_are():
    commands = {name: running.load(name)[0] for name in command.COMMANDS}
    for chosen in commands.values():
        assert set(chosen.flags) <= set(absl_flags.FLAGS)
        assert len(set(chosen.flags)) == len(chosen.flags)


def test_every_flag_is_of_some_command():
    taken = {flag for name in command.COMMANDS for flag in running.load(name)[0].flags}
    modules = absl_flags.FLAGS.flags_by_module_dict()
    ours = {f.name for module in modules if module.startswith("flags.") for f in modules[module]}
    assert ours == taken


def test_presets_are_expanded_where_they_stand(tmp_path):
    file = tmp_path / "mine.cfg"
    file.write_text("# mine\n\n--preset=quickstart_yolov8\n  --epochs=3  \n", encoding="utf-8")
    flags = list(expanded(["--seed=1", "--flagfile", str(file), "--seed=2"]))
    assert (flags[0], flags[-2:]) == ("--seed=1", ["--epochs=3", "--seed=2"])
    assert value_in(flags, "model") == "yolov8_xs"
    assert value_in(flags, "scenes_train") is not None  # of the preset that the preset is based on


@pytest.mark.parametrize("names", [["a.cfg"], ["a.cfg", "b.cfg"]])
def test_flag_files_that_name_each_other_are_refused(names, tmp_path):
    for name, following in zip(names, [*names[1:], names[0]]):
        (tmp_path / name).write_text(f"--seed=1\n--flagfile={tmp_path / following}\n")
    with pytest.raises(ValueError, match=rf"{names[-1]}: --flagfile=.*a.cfg would read a file"):
        list(expanded([f"--flagfile={tmp_path / names[0]}"]))


def test_a_flag_file_may_be_named_twice(tmp_path):
    (tmp_path / "a.cfg").write_text("--seed=1\n")
    assert list(expanded([f"--flagfile={tmp_path / 'a.cfg'}"] * 2)) == ["--seed=1"] * 2


@pytest.mark.parametrize("text", ["--seed=1\n" * 10_000, "- " * 5_000, f"--{'x' * 200}=1"])
def test_files_that_are_no_flag_files_are_refused(text, tmp_path):
    (tmp_path / "a.cfg").write_text(text)
    with pytest.raises(ValueError, match=r"a\.cfg is no flag file"):
        list(expanded([f"--flagfile={tmp_path / 'a.cfg'}"]))


def test_messages_about_long_values_are_short(capsys):
    with pytest.raises(SystemExit):
        command.main(["train", f"--epochs={'9' * 100_000}x"])
    assert len(capsys.readouterr().err) < 2000


def test_what_is_typed_wins_over_files_wherever_it_stands():
    files, typed = files_first(["a", "--epochs=1", "--preset", "quickstart", "--flagfile=x", "b"])
    assert files == ["--preset=quickstart", "--flagfile=x"]
    assert typed == ["a", "--epochs=1", "b"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["trian"], 2, "'trian' is no command"),
        (["train", "--preset=quickstrat"], 2, "Did you mean quickstart"),
        (["train", "--preset="], 2, "no such preset"),
        (["train", "--no_such_flag=1"], 2, "Unknown command line flag 'no_such_flag'"),
        (["train", "--epochs=x"], 2, "epochs"),
        (["train", "--preset=quickstart", "stray"], 2, "stray"),
        (["inspect", "voc:x", "--epochs=1"], 2, "inspect has no flag --epochs"),
        (["evaluate", "--dataset=voc:x", "--learning_rate=1"], 2, "has no flag --learning_rate"),
        (["evaluate", "--dataset=voc:x", "stray"], 2, "Only --compare takes runs"),
        (["evaluate"], 2, "One data set is needed"),
        (["demo"], 2, "--run=DIR of a training run, or --export=models/NAME/1, is needed"),
        (["demo", "--run=a", "--run=b"], 2, "Several are joined by commas"),
        (["demo", "--run=no/such", "--port=0"], 1, "no/such is no training run"),
        (["demo", "--export=no/such/1", "--port=0"], 1, "Give the folder of a version"),
        (["demo", "--run=x", "--host=192.0.2.1"], 1, "Give another --port"),
        (["demo", "--run=x", "--port=65536"], 2, "port"),
        (["data_service"], 2, "dispatcher, or worker"),
        (["data_service", "worker"], 2, "A worker needs --dispatcher"),
    ],
)
def test_misuse_is_explained(arguments, status, words, capsys, run_command):
    for name in ("train", "inspect", "evaluate", "demo", "data_service"):
        running.load(name)
    with pytest.raises(SystemExit) as end:
        if arguments[0] in command.COMMANDS:
            run_command(*arguments)
        else:
            command.main(arguments)
    assert end.value.code == status
    said = capsys.readouterr().err
    assert said.startswith("Error: ") and words in said


def test_overview_and_presets(capsys):
    command.main([])
    overview = capsys.readouterr().out
    assert all(f"  {name} " in overview for name in command.COMMANDS)
    command.main(["--list_presets"])
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == preset_names()
    assert all(len(line.split()) > 4 for line in listed)  # each says what it is
