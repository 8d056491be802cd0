"""The command line: `harmonic-tf` and its commands, their flags, and presets of them.

    command.py       which commands there are; help and presets, without loading TensorFlow
    running.py       parses the flags of one command and runs it; says what is wrong in one line
    commands/        one file a command
    data.py ...      the flags, one module an area
    presets/*.cfg    one flag file an experiment
    help/*.txt       what `--help` prints, written by `python -m flags.help`

Modules import each other relatively: pip installs this folder under the name harmonic_tf_flags.
"""
