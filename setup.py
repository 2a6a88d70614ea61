"""What pyproject.toml cannot say: `experiments/` is a part of the package when it is installed."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["gru_audio*"]), "gru_audio.experiments"],
    package_dir={"gru_audio.experiments": "experiments"},
)
