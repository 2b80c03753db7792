"""What a Flamingo must hold to: who sees which picture, packing, padding, caches, the language model underneath."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vljax import parallel, tree
from vljax.data.interleave import phi as looks
from vljax.data.packing import Pack
from vljax.models import fitting, flamingo
from vljax.objectives import lm as objective

MILLIONS = {
  "flamingo-3b": dict(lm=1374, xattn=1208, resampler=193.6, vision=435.3),
  "flamingo-9b": dict(lm=7110, xattn=1610, resampler=193.6, vision=435.3),
  "flamingo-9b-table4": dict(lm=8860, xattn=2013, resampler=193.6, vision=435.3),
  "flamingo-80b": dict(lm=70_060, xattn=9664, resampler=193.6, vision=435.3),
}
"""L * 13 D^2 + 32000 D, n * 12 D^2, and the counts of timm's NFNet-F6 without its head (docs/flamingo.md)."""

PRINTED = {"flamingo-3b": (1.4, 1.2, 3.2), "flamingo-9b": (7.1, 1.6, 9.3), "flamingo-80b": (70, 10, 80)}
"""Table 5: billions of the language model, of gated cross-attention, in all."""

T = 12
PHI = np.array([[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2], [1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2]], np.int32)


@functools.cache
def made(**overrides):
  """(model, parameters of which no gate is zero, the logits of a call, jitted)."""
  model = flamingo.build("test", **{n: dict(v) if isinstance(v, tuple) else v for n, v in overrides.items()})
  params = nn.meta.unbox(jax.jit(lambda: model.init(jax.random.key(0), *model.inputs())["params"])())
  noise = lambda keys, p: p + 0.1 * jax.random.normal(jax.random.key(len(str(keys)) + p.size), p.shape)
  params = jax.tree.map_with_path(noise, params)
  gates = jax.tree.map(lambda p: p + 0.5, {n: p for n, p in params["xattn"]["blocks"].items() if "gate" in n})
  params["xattn"]["blocks"] |= gates
  return model, params, jax.jit(lambda *x, **o: model.apply({"params": params}, *x, **o), static_argnames="bypass")


def draw(b=2, t=T, n=2, f=1, size=16):
  rng = np.random.default_rng(0)
  tokens = rng.integers(1, 66, (b, t)).astype(np.int32)
  return tokens, rng.normal(size=(b, n, f, size, size, 3)).astype(np.float32)


def moved(a, b):
  """Which rows differ."""
  return np.abs(np.asarray(a) - np.asarray(b)).max(-1) > 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_counts(name):
  params = fitting.abstract(flamingo.build(name))
  found = {part: tree.count(params[part]) / 1e6 for part in params}
  assert found == {part: pytest.approx(count, rel=0.01) for part, count in MILLIONS[name].items()}
  if name in PRINTED:
    lm, xattn, total = PRINTED[name]
    assert found["lm"] / 1e3 == pytest.approx(lm, rel=0.02)
    assert found["xattn"] / 1e3 == pytest.approx(xattn, rel=0.04)
    assert sum(found.values()) / 1e3 == pytest.approx(total, rel=0.01)


@functools.cache
def count(part):
  """Billions of parameters of a part; of a graft, those of its blocks."""
  return tree.count(fitting.abstract(part)) / 1e9


@pytest.mark.slow
def test_ablations_have_the_totals_of_the_paper():
  def total(**overrides):
    model = flamingo.build("flamingo-3b", **overrides)
    graft = 0 if model.graft is None else tree.count(fitting.abstract(model.graft)["blocks"]) / 1e9
    return graft + sum(map(count, (model.vision, model.lm, model.resampler, model.xattn)))

  assert total(xattn=dict(dense=False)) == pytest.approx(2.4, abs=0.05)
  assert total(xattn=dict(every=4)) == pytest.approx(2.3, abs=0.05)
  assert total(xattn=dict(every=2)) == pytest.approx(2.6, abs=0.05)
  assert total(xattn=dict(placement="middle")) == pytest.approx(2.0, abs=0.06)
  assert total(graft=12) == pytest.approx(3.3, abs=0.05)
  assert total(vision=dict(tower="nfnet", variant="F0")) == pytest.approx(2.9, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("name", flamingo.VARIANTS)
def test_every_parameter_maps_through_the_rules(name):
  mesh = jax.sharding.AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))
  whole = part = 0
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  for keys, box in jax.tree.leaves_with_path(fitting.abstract(flamingo.build(name), boxed=True), is_leaf=is_box):
    assert is_box(box), tree.path(keys)
    where = parallel.sharding(mesh, parallel.DEFAULT, box.names, box.value.shape)
    if not tree.path(keys).startswith("vision/"):
      whole, part = whole + box.value.size, part + np.prod(where.shard_shape(box.value.shape))
  assert not name.startswith("flamingo") or part < 1.01 * whole / 8


@pytest.mark.slow
def test_closed_gates_leave_the_language_model_bit_for_bit():
  model, params, run = made()
  tokens, images = draw()
  closed = {n: jnp.zeros_like(p) if "gate_" in n else p for n, p in tree.flatten(params).items()}
  bare = jax.jit(model.lm.apply)({"params": params["lm"]}, tokens)
  shown = [False] * 64 + [True] + [False]
  logits = jax.jit(model.apply)({"params": tree.unflatten(closed)}, tokens, images, PHI)
  np.testing.assert_array_equal(logits, np.where(shown, flamingo.HIDDEN, bare))
  np.testing.assert_array_equal(run(tokens, images, PHI, bypass=True), np.where(shown, flamingo.HIDDEN, bare))
  assert moved(run(tokens, images, PHI), bare).all()


@pytest.mark.slow
def test_a_picture_moves_its_own_rows_and_what_looks_back_at_them():
  _, _, run = made()
  tokens, images = draw()
  whole = run(tokens, images, PHI)
  for k in (1, 2):
    edited = images.copy()
    edited[:, k - 1] *= -1
    np.testing.assert_array_equal(moved(run(tokens, edited, PHI), whole), k <= PHI)


@pytest.mark.slow
def test_a_lone_layer_has_no_way_back():
  """With one gated block before the last layer's, only attention of that layer carries pictures to later rows."""
  model, params, _ = made(xattn=(("every", 4), ("placement", "last")))
  tokens, images = draw()
  assert model.xattn.at == (3,)
  quiet = {**params, "lm": jax.tree.map(lambda p: p, params["lm"])}
  blocks = quiet["lm"]["blocks"]
  out = blocks["attention"]["out"]["kernel"]
  quiet["lm"]["blocks"] = {**blocks, "attention": {**blocks["attention"], "out": {"kernel": out.at[3].set(0)}}}
  run = jax.jit(lambda images: model.apply({"params": quiet}, tokens, images, PHI))
  edited = images.copy()
  edited[:, 0] *= -1
  np.testing.assert_array_equal(moved(run(edited), run(images)), PHI == 1)


@pytest.mark.slow
def test_padding_changes_nothing():
  _, _, run = made()
  tokens, images = draw()
  real = np.arange(T) < np.array([[12], [8]])
  padded = np.where(real, tokens, 0)
  phi = np.where(real, PHI, 0)
  more = np.concatenate([images, np.full_like(images[:, :1], 5.0)], axis=1)
  whole = np.asarray(run(tokens, images, PHI))
  for media in (images, more):
    np.testing.assert_allclose(np.asarray(run(padded, media, phi, key_padding=real))[real], whole[real], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("previous", [False, True])
def test_packed_documents_are_documents_alone(previous):
  """Also where the first one looks forward from its last medium on, and so at none."""
  _, _, run = made(xattn=(("previous", previous),))
  rng = np.random.default_rng(0)
  tokens, pixels = draw(b=1)[0][0], rng.integers(0, 256, (4, 1, 16, 16, 3), np.uint8)
  for stands, forward in (([0, 1, 0, 1, 0], False), ([0, 1, 0, 1, 0], True), ([1, 0, 0, 0, 0], True)):
    documents = [
      dict(tokens=tokens[:5], phi=looks(np.array(stands, bool), forward), images=pixels[: sum(stands)]),
      dict(tokens=tokens[5:10], phi=np.array([0, 0, 1, 1, 2], np.int32), images=pixels[2:]),
    ]
    row = Pack(T, 4).join([{**document, "loss_mask": np.ones(5, bool)} for document in documents])
    call = lambda x, **o: run(x["tokens"][None], x["images"][None] / np.float32(127.5) - 1, x["phi"][None], **o)
    places = {name: row[name][None] for name in ("segments", "first")}
    packed = call(row, **places)
    for document, at in zip(documents, (slice(0, 5), slice(5, 10)), strict=True):
      np.testing.assert_allclose(packed[:, at], call(document), atol=1e-5)
    edited = call({**row, "images": 255 - row["images"]}, **places)
    np.testing.assert_array_equal(moved(edited, packed)[0, 5:7], [False, False])


@pytest.mark.slow
@pytest.mark.parametrize("graft", [0, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_decoding_equals_the_whole(graft, side):
  """Prompts of 7 and 5 tokens with two pictures, then five tokens, one of which looks at another picture."""
  model, params, run = made(graft=graft)
  tokens, images = draw()
  lengths, phi = np.array([7, 5]), PHI.copy()
  phi[0, :7] = [0, 1, 1, 1, 2, 2, 2]
  phi[:, 7:] = 2
  phi[0, 9:] = 1
  pads = [slice(0, n) if side == "right" else slice(7 - n, 7) for n in lengths]
  prompt, seen, real = np.zeros((2, 7), np.int32), np.zeros((2, 7), np.int32), np.zeros((2, 7), bool)
  for row, (pad, n) in enumerate(zip(pads, lengths, strict=True)):
    prompt[row, pad], seen[row, pad], real[row, pad] = tokens[row, :n], phi[row, :n], True
  start = jax.jit(
    lambda prompt, images, phi, real: model.apply(
      {"params": params}, prompt, model.apply({"params": params}, images, method="encode_image"), phi, room=T,
      key_padding=real, method="prefill",
    )
  )  # fmt: skip
  step = jax.jit(lambda *x, **o: model.apply({"params": params}, *x, **o, method="decode"))
  logits, memory = start(prompt, images, seen, real)
  whole = np.asarray(run(tokens, images, phi))
  for row, n in enumerate(lengths):
    np.testing.assert_allclose(logits[row][real[row]], whole[row, :n], atol=2e-5)
  assert memory.phi.tolist() == [2, phi[1, 4]]
  longer = np.stack([tokens[0, 7:12], tokens[1, 5:10]])
  twice, _ = step(longer[[1, 1], :1], memory.take(jnp.array([1, 1])), phi=phi[[1, 1], 5:6])
  np.testing.assert_allclose(twice[:, 0], whole[[1, 1], 5], atol=2e-5)
  for i in range(5):
    turned = {"phi": np.array([[phi[0, 7 + i]], [phi[1, 5 + i]]])}
    logits, memory = step(longer[:, i : i + 1], memory, **turned)
    np.testing.assert_allclose(logits[0, 0], whole[0, 7 + i], atol=2e-5)
    np.testing.assert_allclose(logits[1, 0], whole[1, 5 + i], atol=2e-5)


@pytest.mark.slow
def test_without_phi_decoding_goes_on_looking_at_the_last_picture():
  model, params, run = made()
  tokens, images = draw()
  apply = functools.partial(model.apply, {"params": params})
  visual = apply(images, method="encode_image")
  _, memory = apply(tokens[:, :8], visual, PHI[:, :8], room=T, method="prefill")
  logits, _ = jax.jit(lambda *x: apply(*x, method="decode"))(tokens[:, 8:], memory)
  np.testing.assert_allclose(logits, run(tokens, images, PHI)[:, 8:], atol=2e-5)


def test_texts_without_pictures():
  _, _, run = made()
  tokens, images = draw()
  blind = run(tokens, None, None)
  np.testing.assert_allclose(blind, run(tokens, images, np.zeros_like(PHI)), atol=1e-5)
  assert moved(blind, run(tokens, None, None, bypass=True)).all()


@pytest.mark.slow
def test_clips_of_different_lengths():
  _, _, run = made()
  tokens, images = draw(f=3)
  frames = np.array([[[1, 1, 1], [1, 0, 0]]] * 2, bool)
  whole = run(tokens, images, PHI, frames=frames)
  edited = images.copy()
  edited[:, 1, 1:] += 1
  np.testing.assert_array_equal(run(tokens, edited, PHI, frames=frames), whole)
  edited[:, 0, 2] *= -1
  np.testing.assert_array_equal(moved(run(tokens, edited, PHI, frames=frames), whole), PHI >= 1)


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [{}, {"class_token": True}, {"graft": 2}])
def test_attention_maps_show_the_own_picture(overrides):
  model, params, _ = made(**overrides)
  tokens, images = draw(f=2)
  layer = model.xattn.depth - 1
  look = jax.jit(lambda images: model.apply({"params": params}, tokens, images, PHI, layer, method="attention_map"))
  shares = np.asarray(look(images))
  assert shares.shape == (2, T, 2, 4, 4)
  np.testing.assert_allclose(shares.sum((2, 3, 4)), PHI > 0, atol=1e-5)
  edited = images.copy()
  edited[:, 1] *= -1
  np.testing.assert_array_equal(np.abs(np.asarray(look(edited)) - shares).max((2, 3, 4)) > 1e-6, PHI == 2)


@pytest.mark.slow
@pytest.mark.parametrize(
  "vision", [(("tower", "nfnet"), ("variant", "test")), (("tower", "vit"), ("variant", "small"))]
)
def test_any_tower_with_a_grid_sees(vision):
  model = flamingo.build("test", vision=dict(vision))
  tokens, images, phi = model.inputs()
  out = jax.eval_shape(lambda *x: model.init_with_output(jax.random.key(0), *x)[0], tokens, images, phi)
  assert out.shape == (*tokens.shape, 66)
  assert model.resampler.media_width == model.vision.width


@pytest.mark.parametrize(("class_token", "pool", "seen"), [(False, "cls", 4), (False, "mean", 4), (True, "cls", 5)])
def test_a_trained_tower_may_drop_patches(class_token, pool, seen):
  vision = dict(patch_dropout=0.75, pool=pool)
  model, images = flamingo.build("test", vision=vision, class_token=class_token), np.zeros((2, 1, 3, 16, 16, 3))
  init = lambda **options: jax.eval_shape(
    lambda: model.init_with_output(
      dict(params=jax.random.key(0), dropout=jax.random.key(1)), images, method="features", **options
    )[0]
  )
  assert init(train=True).shape == (2, 1, 3, seen, 32)
  assert init().shape == (2, 1, 3, 16 + class_token, 32)


@pytest.mark.slow
def test_a_mesh_gives_the_same_loss_and_gradients():
  model, params, _ = made()
  (tokens, images), phi = draw(b=8), np.concatenate([PHI] * 4)

  def loss(params, tokens, images, phi):
    apply = functools.partial(model.apply, {"params": params})
    x = apply(tokens, apply(images, method="encode_image"), phi, method="hidden")
    head = lambda x: apply(x, method="logits")
    return objective.next_token(head, x, tokens, (tokens != 64).astype(jnp.float32))[0]

  one = jax.jit(jax.value_and_grad(loss))(params, tokens, images, phi)
  mesh = parallel.make(parallel.Mesh(data=2, fsdp=2, tensor=2))
  boxes = fitting.abstract(model, boxed=True)
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  where = lambda box, p: jax.device_put(p, parallel.sharding(mesh, parallel.DEFAULT, box.names, p.shape))
  with parallel.use(mesh, parallel.DEFAULT):
    placed = jax.tree.map(where, boxes, params, is_leaf=is_box)
    batch = jax.device_put((tokens, images, phi), parallel.batch_sharding(mesh))
    many = jax.jit(jax.value_and_grad(loss))(placed, *batch)
  np.testing.assert_allclose(many[0], one[0], rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), many[1], one[1])


def test_overrides_reach_their_part():
  model = flamingo.build("test", dtype="bfloat16", remat="dots", lm=dict(depth=6), xattn=dict(every=3))
  assert {part.dtype for part in (model.vision, model.lm, model.resampler, model.xattn)} == {"bfloat16"}
  assert {part.remat for part in (model.vision, model.lm, model.resampler)} == {"dots"}
  assert model.xattn.at == (0, 3)
  assert (model.silent, model.lm.extra) == (1, 2)


@pytest.mark.parametrize(
  ("overrides", "message"),
  [
    (dict(vison={}), "unknown override 'vison' of Flamingo; did you mean 'vision'"),
    (dict(vision=dict(tower="nfn")), "unknown vision tower 'nfn'; did you mean 'nfnet'"),
    (dict(xattn=dict(evry=2)), "unknown override 'evry' of GatedXattn; did you mean 'every'"),
    (dict(resampler=dict(variant="tst")), "unknown Resampler variant 'tst'; did you mean 'test'"),
  ],
)
def test_unknown_names_say_the_nearest(overrides, message):
  with pytest.raises(ValueError, match=message):
    flamingo.build("test", **overrides)


@pytest.mark.slow
def test_what_cannot_be_says_so():
  model, params, run = made()
  tokens, images = draw()
  with pytest.raises(ValueError, match="images without phi"):
    run(tokens, images, None)
  previous = flamingo.build("test", xattn=dict(previous=True))
  with pytest.raises(ValueError, match="segments without first"):
    previous.apply({"params": params}, tokens, images, PHI, segments=np.ones_like(PHI))
  with pytest.raises(ValueError, match="gated block 2 of 2; legal: 0 to 1"):
    model.apply({"params": params}, tokens, images, PHI, 2, method="attention_map")
