"""Eight simulated devices, a persistent compilation cache, and the folder of real data."""

import gc
import os
import pathlib
import signal
import subprocess
import sys

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent
MAPPINGS = 25_000
"""Of memory that a process of tests may hold, out of the 65,530 that Linux gives before XLA's compiler crashes."""

jax.config.update("jax_compilation_cache_dir", str(ROOT / ".cache/jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_fit():
  """Compiled programs, whose kernels each are a mapping, are dropped after the module that makes them too many."""
  yield
  table = pathlib.Path("/proc/self/maps")
  if table.exists() and table.read_bytes().count(b"\n") > MAPPINGS:
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """The folder of real data sets, from VLJAX_DATA."""
  folder = os.environ.get("VLJAX_DATA")
  if not folder:
    pytest.skip("VLJAX_DATA does not name the folder of real data sets")
  return pathlib.Path(folder)


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
  """The repository's root."""
  return ROOT


@pytest.fixture(scope="session")
def smoke(root):
  """A function of overrides that loads the quickstart's `:smoke` config: two steps of a `test`-size CLIP."""
  from vljax import config

  return lambda *overrides: config.load(f"{root}/configs/contrastive/clip_quickstart.py:smoke", overrides)


@pytest.fixture(scope="session")
def smoke_workdir(smoke, tmp_path_factory) -> pathlib.Path:
  """A finished run of the quickstart's `:smoke` config; not to be changed."""
  from vljax import experiment

  workdir = tmp_path_factory.mktemp("smoke") / "run"
  assert experiment.train(smoke(), workdir)
  return workdir


@pytest.fixture(scope="session")
def language_folder(tmp_path_factory):
  """A LLaMA of 300 tokens, 256 of them bytes, whose texts begin with <s>; a Hugging Face folder."""
  import numpy as np
  from tokenizers.pre_tokenizers import ByteLevel

  from vljax.data.tokenizers import byte_bpe
  from vljax.interop import language_models
  from vljax.interop.tower import Tower
  from vljax.models import decoder

  vocabulary = {
    name: i for i, name in enumerate(["<|endoftext|>", "<s>", "</s>", *sorted(ByteLevel.alphabet()), "Ġa", "th"])
  }
  content = byte_bpe.tokenizer_json(
    vocabulary, [("Ġ", "a"), ("t", "h")], begin="<s>", special=["<|endoftext|>", "<s>", "</s>"]
  )
  config = dict(variant="test", vocab=300, length=64, tied=False)
  model = decoder.build(**config)
  params = jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])()
  params = jax.tree.map(lambda x: 5 * np.asarray(x.unbox()), params, is_leaf=lambda x: hasattr(x, "unbox"))
  words = dict(kind="hf_json", content=content, eos="</s>", length=64)
  place = tmp_path_factory.mktemp("lm")
  assert language_models.save(place, Tower("lm", config, {"lm": params}, tokenizer=words), "llama") == []
  return place


@pytest.fixture(scope="session")
def make_trainer(smoke, smoke_workdir):
  """A function of overrides that lays out the `:smoke` run, on the first `devices` devices (None: all)."""
  from vljax import recipes
  from vljax.data import tokenizers
  from vljax.train import trainer

  tokenizer, make_mesh = tokenizers.load(smoke_workdir / "tokenizer"), trainer.meshes.make

  def make(*overrides, devices=None):
    parsed = recipes.parse(smoke(*overrides))
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(trainer.meshes, "make", lambda config: make_mesh(config, jax.devices()[:devices]))
      return trainer.Trainer(recipes.build(parsed), parsed, tokenizer)

  return make


@pytest.fixture(scope="session")
def start_training(root):
  """A function (arguments of launch/train.py, simulated devices) -> the running process; killed by id in the end."""
  running = []

  def start(*arguments, devices=1, before=()):
    environment = os.environ | {
      "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
      "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }
    command = [sys.executable, *before, "launch/train.py", *map(str, arguments)]
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a job in the background, which hands it down
      signal.signal(signal.SIGINT, signal.default_int_handler)
    running.append(subprocess.Popen(command, cwd=root, env=environment, **output))
    return running[-1]

  yield start
  for process in running:
    if process.poll() is None:
      process.kill()
    process.communicate()
