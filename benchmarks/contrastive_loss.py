"""Memory of the forms of the softmax contrastive loss with its gradient, and the time of tiles against the whole.

`python -m benchmarks.contrastive_loss [PICTURE.png]` draws memory against the number of pairs. Memory is what the
compiler sets aside for temporaries (`compiled.memory_analysis()`); nothing runs. Eight simulated devices.
"""

import os
import subprocess
import sys
from typing import Any

from benchmarks.timing import Result, interleaved, milliseconds

WIDTH = 512
PAIRS = (2048, 4096, 8192, 16_384, 32_768)
DEVICES = 8
FORMS = {
  "plain": "whole matrix, 1 device",
  "tiled": "tiles, 1 device",
  "gathered": "whole matrix on each of 8 devices",
  "local": "all-gather, own rows and columns, 8 devices",
  "sharded": "plain under jit, 8 devices",
  "ring": "ring of tiles, 8 devices",
}


def run(repeats: int) -> Result:
  """MiB of temporaries per device, and times at 4,096 pairs."""
  rows = [{"pairs": n, **found} for n, found in measured().items()]
  seconds = interleaved({form: call(form, 4096) for form in ("plain", "tiled")}, repeats)
  times = ", ".join(f"{form} {milliseconds(seconds, form)} ms" for form in seconds)
  note = (
    f"4,096 pairs, value and gradient: {times}; tiled / plain {seconds['tiled'] / seconds['plain']:.2f} (goal 1.5)"
  )
  goal = "at 32,768 pairs of width 512 under 150 MiB on one device, under 60 MiB on each of 8"
  return Result("Contrastive loss: MiB of temporaries per device", rows, goal, [note])


def measured() -> dict[int, dict[str, float]]:
  """Pairs to form to MiB, from a process of its own that simulates the devices."""
  environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}", "JAX_PLATFORMS": "cpu"}
  command = [sys.executable, "-m", "benchmarks.contrastive_loss", "--measure"]
  lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
  found: dict[int, dict[str, float]] = {}
  for line in lines:
    n, form, mib = line.split()
    found.setdefault(int(n), {})[form] = float(mib)
  return found


def call(form: str, pairs: int) -> Any:
  """The loss and its gradient on real features, on one device."""
  import jax
  import jax.numpy as jnp

  from vljax.objectives.contrastive import softmax_contrastive

  image, text = (jax.random.normal(jax.random.key(i), (pairs, WIDTH)) / WIDTH**0.5 for i in range(2))
  loss = lambda *x: softmax_contrastive(*x, implementation=form)[0]
  f = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
  return lambda: jax.block_until_ready(f(image, text, jnp.float32(10)))


def measure() -> None:
  """Print pairs, form and MiB, line by line; run where the devices are simulated."""
  import jax
  import jax.numpy as jnp

  from vljax import parallel
  from vljax.objectives.contrastive import softmax_contrastive

  mesh = parallel.make(parallel.mesh.Mesh())
  split = jax.sharding.PartitionSpec(parallel.rules.batch_axes(parallel.DEFAULT))

  def local(image, text, scale):
    """open_clip's `local_loss` with `gather_with_grad`: own images against all texts, own texts against all images."""
    axes = parallel.rules.batch_axes(parallel.DEFAULT)
    whole = [jax.lax.all_gather(x, axes, tiled=True) for x in (image, text)]
    own = jax.lax.axis_index(axes) * len(image) + jnp.arange(len(image))

    def entropy(x, others):
      logits = scale * x @ others.T
      return jax.nn.logsumexp(logits, 1).sum() - jnp.take_along_axis(logits, own[:, None], 1).sum()

    return jax.lax.psum(0.5 * (entropy(image, whole[1]) + entropy(text, whole[0])), axes)

  def gathered(image, text, scale):
    axes = parallel.rules.batch_axes(parallel.DEFAULT)
    whole = [jax.lax.all_gather(x, axes, tiled=True) for x in (image, text)]
    own = jax.lax.axis_index(axes) == 0
    return jax.lax.psum(jnp.where(own, softmax_contrastive(*whole, scale, implementation="plain")[0], 0), axes)

  def on_devices(f):
    specs = (split, split, jax.sharding.PartitionSpec())
    return jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=jax.sharding.PartitionSpec(), check_vma=False)

  named = lambda form: lambda *x: softmax_contrastive(*x, implementation=form)[0]
  alone = {"plain": named("plain"), "tiled": named("tiled")}
  spread = {
    "gathered": on_devices(gathered),
    "local": on_devices(local),
    "sharded": named("plain"),
    "ring": named("ring"),
  }
  for n in PAIRS:
    for forms, where in ((alone, None), (spread, jax.NamedSharding(mesh, split))):
      x = jax.ShapeDtypeStruct((n, WIDTH), jnp.float32, sharding=where)
      for form, f in forms.items():
        g = jax.jit(jax.value_and_grad(f, (0, 1, 2)))
        if where is None:
          compiled = g.lower(x, x, jnp.float32(10)).compile()
        else:
          with parallel.use(mesh):
            compiled = g.lower(x, x, jnp.float32(10)).compile()
        print(n, form, round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1), flush=True)


def draw(path: str) -> None:
  """Memory against pairs, both logarithmic."""
  import matplotlib

  matplotlib.use("Agg")
  import matplotlib.pyplot as plt

  found = measured()
  figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
  for form, label in FORMS.items():
    alone = form in ("plain", "tiled")
    axes.plot(list(found), [row[form] for row in found.values()], "o-" if alone else "s--", label=label, markersize=4)
  axes.set(xscale="log", yscale="log", xlabel="pairs", ylabel="MiB of temporaries per device")
  axes.set_xticks(PAIRS, [f"{n:,}" for n in PAIRS])
  axes.minorticks_off()
  axes.grid(alpha=0.3)
  axes.legend(fontsize=8)
  axes.set_title("Softmax contrastive loss and its gradient, width 512, float32", fontsize=10)
  figure.savefig(path, dpi=130)
  for n, row in found.items():
    print(n, row)


if __name__ == "__main__":
  if sys.argv[1:] == ["--measure"]:
    measure()
  else:
    draw(sys.argv[1] if len(sys.argv) > 1 else "contrastive_memory.png")
