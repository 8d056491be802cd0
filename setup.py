"""Says what setup.cfg cannot: the folder flags/ is installed under a name of its own."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["harmonic_tf", "harmonic_tf.*"]),
        *("harmonic_tf_flags", "harmonic_tf_flags.commands"),
    ],
    package_dir={"harmonic_tf_flags": "flags"},
    package_data={
        "harmonic_tf": ["demo/static/*"],
        "harmonic_tf_flags": ["presets/*.cfg", "help/*.txt"],
    },
)
