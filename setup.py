"""What pyproject.toml cannot say: the recipes of `configs` are installed inside `pvt_train`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["convert*", "parity*", "pvt_*"]), "pvt_train.configs"],
    package_dir={"pvt_train.configs": "configs"},
)
