import pytest

pytestmark = pytest.mark.slow


def test_rows_of_each_process(spawn, outputs):
  texts = outputs(
    spawn("""
    for config in (dict(data=2, fsdp=2), dict(data=2, tensor=2), dict(data=1, tensor=4)):
      mesh = parallel.make(parallel.Mesh(**config))
      index, count = parallel.share(mesh)
      rows = np.arange(8).reshape(count, -1)[index]
      batch = parallel.to_global({"x": np.stack([rows, rows ** 2], 1).astype(np.float32)}, mesh)
      whole = parallel.to_host(batch["x"])
      total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, P()))(batch["x"])
      print("share", index, count, whole[:, 0].tolist() == list(range(8)), float(total))
    """)
  )
  for process, text in enumerate(texts):
    lines = [line for line in text.splitlines() if line.startswith("share")]
    assert lines == [f"share {process} 2 True 168.0"] * 2 + ["share 0 1 True 168.0"]
