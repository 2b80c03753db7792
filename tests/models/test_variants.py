"""Sizes, names and layouts of every variant, without computing anything."""

import flax.linen as nn
import jax
import pytest

from vljax import parallel, tree
from vljax.models import dual_encoder, fitting, text, vit

COUNTS = {
  "test": 56_449,
  "small": 3_163_777,
  "RN50": 102_007_137,
  "RN101": 119_688_033,
  "RN50x4": 178_300_601,
  "RN50x16": 290_979_217,
  "RN50x64": 623_258_305,
  "ViT-B-32": 151_277_313,
  "ViT-B-16": 149_620_737,
  "ViT-L-14": 427_616_513,
  "ViT-L-14-336": 427_944_193,
  "ViT-H-14": 986_109_441,
  "ViT-g-14": 1_366_678_273,
  "ViT-bigG-14": 2_539_567_105,
  "ViT-B-16-SigLIP": 203_155_970,
  "ViT-L-16-SigLIP-256": 652_150_786,
  "ViT-SO400M-14-SigLIP": 877_360_306,
  "ViT-B-16-SigLIP2": 375_187_970,
  "ViT-L-16-SigLIP2-256": 881_526_786,
  "ViT-SO400M-14-SigLIP2": 1_135_463_602,
}
"""Those of the published names are the counts of open_clip 3.3's builds, and OpenAI's for ViT-B/32."""

IMAGE_COUNTS = {
  "B/32": 87_849_216,
  "B/16": 86_192_640,
  "L/14": 303_966_208,
  "L/14@336": 304_293_888,
  "H/14": 632_076_800,
  "g/14": 1_012_645_632,
  "bigG/14": 1_844_907_264,
}
"""Of open_clip's image towers, which count the head."""

HEADS = {"B/32": 512, "B/16": 512, "L/14": 768, "L/14@336": 768, "H/14": 1024, "g/14": 1024, "bigG/14": 1280}


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_parameter_counts(name):
  assert tree.count(fitting.abstract(dual_encoder.build(name))) == COUNTS[name]


def test_every_variant_is_counted():
  assert set(COUNTS) == set(dual_encoder.VARIANTS)
  assert {*IMAGE_COUNTS, "test", "small"} == {name for name in vit.VARIANTS if not name.startswith("SigLIP")}


@pytest.mark.parametrize("name", IMAGE_COUNTS)
def test_image_tower_counts(name):
  model = vit.build(name)
  assert tree.count(fitting.abstract(model)) + model.width * HEADS[name] == IMAGE_COUNTS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", dual_encoder.VARIANTS)
@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 8, 1), (1, 1, 8)])
def test_every_parameter_maps_through_the_rules(name, shape):
  mesh = jax.sharding.AbstractMesh(shape, ("data", "fsdp", "tensor"))
  boxes = fitting.abstract(dual_encoder.build(name), boxed=True)
  is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)
  bytes_per_device = whole = 0
  for keys, box in jax.tree.leaves_with_path(boxes, is_leaf=is_box):
    if not is_box(box):
      assert box.shape == (), tree.path(keys)
      continue
    where = parallel.sharding(mesh, parallel.DEFAULT, box.names, box.value.shape)
    part = where.shard_shape(box.value.shape)
    whole += tree.size([box.value])
    bytes_per_device += tree.size([jax.ShapeDtypeStruct(part, box.value.dtype)])
  if name.startswith("ViT") and shape[1] > 1:
    assert bytes_per_device < 1.1 * whole / (shape[1] * shape[2])


@pytest.mark.parametrize("module", [vit, text, dual_encoder])
def test_unknown_variants_and_overrides_name_the_nearest(module):
  with pytest.raises(ValueError, match="unknown .* variant 'tset'; did you mean 'test'"):
    module.build("tset")
  with pytest.raises(ValueError, match="unknown override 'drpout' of .*; did you mean 'dropout'"):
    module.build("test", drpout=0.1)
  with pytest.raises(ValueError, match="unknown dtype of .* 'bfloat'; did you mean 'bfloat16'"):
    module.build("test", dtype="bfloat")


def test_misspelt_tower_overrides_name_the_nearest():
  with pytest.raises(ValueError, match="unknown override 'image_sise' of ViT; did you mean 'image_size'"):
    dual_encoder.build("test", image={"image_sise": 64})
  with pytest.raises(ValueError, match="unknown override 'dimm' of DualEncoder; did you mean 'dim'"):
    dual_encoder.build_from(image={"variant": "test"}, text={"variant": "test"}, dimm=4)


def test_variants_ignore_case():
  assert vit.build("b/32") == vit.build("B/32")
  assert dual_encoder.build("vit-bigg-14") == dual_encoder.build("ViT-bigG-14")


def test_activations_are_explicit():
  both = lambda name, **o: {t.activation for t in (lambda m: (m.image, m.text))(dual_encoder.build(name, **o))}
  assert both("ViT-B-32") == {"quick_gelu"}
  assert both("ViT-L-14-336") == {"quick_gelu"}
  assert both("ViT-H-14") == {"gelu"}
  assert both("ViT-B-32", activation="gelu") == {"gelu"}


def test_overrides_reach_their_tower():
  model = dual_encoder.build(
    "test", dtype="bfloat16", remat="dots", dim=8, image={"image_size": 32, "remat": "full"}, text={"length": 12}
  )
  assert (model.dim, model.image.image_size, model.text.length) == (8, 32, 12)
  assert (model.image.dtype, model.text.dtype) == ("bfloat16", "bfloat16")
  assert (model.image.remat, model.text.remat) == ("full", "dots")


def test_shared_overrides_reach_the_towers_that_have_them():
  model = dual_encoder.build("RN50", dtype="bfloat16", dropout=0.1, activation="gelu")
  assert (model.image.dtype, model.text.dtype, model.text.dropout) == ("bfloat16", "bfloat16", 0.1)
  assert (model.image.activation, model.text.activation) == ("relu", "gelu")


@pytest.mark.parametrize("name", dual_encoder.VARIANTS)
def test_a_tower_is_its_config(name):
  model = dual_encoder.build(name)
  assert dual_encoder.build_tower("image", **dual_encoder.tower_config(model.image)) == model.image
  assert dual_encoder.build_tower("text", **dual_encoder.tower_config(model.text)) == model.text


def test_unknown_towers_name_the_nearest():
  with pytest.raises(ValueError, match="unknown tower of image 'vti'; did you mean 'vit'"):
    dual_encoder.build("test", image={"tower": "vti"})
  with pytest.raises(ValueError, match="unknown tower of text 'vit'; legal: bert, clip"):
    dual_encoder.build_from(image={"variant": "test"}, text={"tower": "vit"})


def test_towers_without_a_variant():
  model = vit.build(image_size=16, patch=4, width=16, depth=1, heads=2)
  assert tree.count(fitting.abstract(model)) > 0
  with pytest.raises(
    ValueError, match="ViT without a variant also needs width, heads; found image_size, patch, depth"
  ):
    vit.build(image_size=16, patch=4, depth=1)


def test_a_patch_must_divide_the_image():
  with pytest.raises(ValueError, match="patches of 5 pixels do not divide an image of 16"):
    vit.build("test", patch=5)


def test_names_of_parameters():
  names = set(tree.flatten(fitting.abstract(dual_encoder.build("test", image={"patch_bias": True}))))
  block = {f"{n}/{leaf}" for n in ("norm_1", "norm_2") for leaf in ("scale", "bias")}
  block |= {f"attention/{n}/{leaf}" for n in ("query", "key", "value", "out") for leaf in ("kernel", "bias")}
  block |= {f"mlp/{n}/{leaf}" for n in ("up", "down") for leaf in ("kernel", "bias")}
  blocks = {f"{tower}/blocks/{name}" for tower in ("image", "text") for name in block}
  norms = {
    f"{n}/{leaf}" for n in ("image/norm_pre", "image/norm_post", "text/norm_post") for leaf in ("scale", "bias")
  }
  rest = {"image/patch/kernel", "image/patch/bias", "image/cls", "image/pos", "text/token/embedding", "text/pos"}
  assert names == blocks | norms | rest | {"image_head/kernel", "text_head/kernel", "log_scale"}


def test_models_are_hashable_and_comparable():
  assert dual_encoder.build("test") == dual_encoder.build("test")
  assert hash(dual_encoder.build("test")) == hash(dual_encoder.build("test"))
  assert dual_encoder.build("test") != dual_encoder.build("test", dtype="bfloat16")
