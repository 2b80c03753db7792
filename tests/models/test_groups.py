import re

import pytest

from vljax import recipes, tree
from vljax.models import dual_encoder, fitting, groups


def names_of(name, **image):
  """Unstacked names of a published CLIP, or of an image tower beside a text tower of that name."""
  model = dual_encoder.build_from(image, {"variant": name}, dim=16) if image else dual_encoder.build(name)
  flat = tree.flatten(fitting.abstract(model))
  return [n for name, leaf in flat.items() for n in tree.layer_names(name, leaf)]


@pytest.fixture(scope="module")
def names():
  return names_of("test")


def test_groups_of_a_vit_are_those_of_open_clip(names):
  found = groups.groups(names, "image")
  assert {n for n, g in found.items() if g == 0} == {
    "image/cls", "image/pos", "image/patch/kernel", "image/norm_pre/scale", "image/norm_pre/bias",
  }  # fmt: skip
  assert {n.split("/")[1] for n, g in found.items() if g == 1} == {"blocks"}
  assert {"image/norm_post/scale", "image/blocks/1/mlp/up/kernel"} <= {n for n, g in found.items() if g == 2}
  assert {n for n, g in found.items() if g == 3} == {"image_head/kernel"}
  assert max(groups.groups(names_of("ViT-B-32"), "text").values()) == 13


@pytest.mark.slow
def test_groups_of_a_resnet():
  found = groups.groups(names_of("RN50"), "image")
  assert max(found.values()) == 1 + 3 + 4 + 6 + 3
  assert found["image/stem_2/kernel"] == 0
  assert found["image/group_1_0/conv_1/kernel"] == 4
  assert found["image/pool/pos"] == found["image/group_3_2/norm_3/scale"] == 16
  assert found["image_head/kernel"] == 17


@pytest.mark.slow
@pytest.mark.parametrize(
  ("tower", "options", "blocks", "last"),
  [
    ("nfnet", dict(variant="test", depths=(1, 2, 1, 3)), 7, ("stage_3/blocks/1/", "final/")),
    ("efficientnet", dict(variant="B0"), 16, ("stage_6_0/", "head_conv/", "head_norm/")),
  ],
)
def test_locks_and_rates_of_convolutional_towers(tower, options, blocks, last):
  names = names_of("test", tower=tower, **options)
  found = groups.groups(names, "image")
  assert max(found.values()) == 1 + blocks
  live = matched(groups.unlocked(names, {"image": 2}), names)
  assert live == {
    n for n in names if n.startswith((*(f"image/{part}" for part in last), "image_head/", "text", "log_scale"))
  }
  rate = groups.rates(names, {"image": 0.5})
  first = next(n for n in names if n.startswith(("image/stage_0/first/", "image/stage_0_0/")))
  assert (rate(first), rate("image_head/kernel")) == (0.5**blocks, 1.0)


def matched(regex, names):
  return {name for name in names if re.fullmatch(regex, name)}


def test_locks(names):
  image = {n for n in names if n.startswith(("image/", "image_head/"))}
  rest = set(names) - image
  assert matched(groups.unlocked(names, {"image": 0}), names) == rest
  assert matched(groups.unlocked(names, {"image": 1}), names) == rest | {"image_head/kernel"}
  two = matched(groups.unlocked(names, {"image": 2}), names) - rest
  assert {n.split("/")[0] + "/" + n.split("/")[1] for n in two} == {
    "image_head/kernel",
    "image/blocks",
    "image/norm_post",
  }
  assert not [n for n in two if n.startswith("image/blocks/0/")]
  assert groups.unlocked(names, {"image": 4}) == ".*"
  both = groups.unlocked(names, {"image": 0, "text": 1}, trains="(?!log_scale).*")
  assert matched(both, names) == {"text_head/kernel"}
  with pytest.raises(ValueError, match=r"config.lock.image = 5; legal: 0 to 4"):
    groups.unlocked(names, {"image": 5})
  with pytest.raises(ValueError, match="unknown tower 'imgae'; did you mean 'image'"):
    groups.unlocked(names, {"imgae": 0})


def test_two_digit_layers_are_not_mistaken():
  names = names_of("ViT-B-32")
  free = matched(groups.unlocked(names, {"image": 4}), names)
  assert {n.split("/")[2] for n in free if n.startswith("image/blocks/")} == {"9", "10", "11"}


def test_rates_fall_towards_the_input(names):
  rate = groups.rates(names, {"image": 0.5})
  assert [rate(n) for n in ("image_head/kernel", "image/norm_post/bias", "image/blocks/1/mlp/up/bias")] == [
    1,
    0.5,
    0.5,
  ]
  assert [rate(n) for n in ("image/blocks/0/mlp/up/bias", "image/pos", "text/pos", "log_scale")] == [0.25, 0.125, 1, 1]
  with pytest.raises(ValueError, match=r"config.layer_decay.text = 0; legal: above 0"):
    groups.rates(names, {"text": 0})


@pytest.mark.slow
def test_the_recipe_locks_and_slows_down(smoke):
  """The lowest blocks of a locked tower send no gradient to their weights; the regex is that of the phase."""
  parsed = recipes.parse(smoke("--config.lock={'image': 2}", "--config.layer_decay={'text': 0.5}"))
  recipe = recipes.build(parsed)
  (phase,) = recipe.phases
  assert recipe.model.image.held == 1
  assert recipe.model.text.held == 0
  assert re.fullmatch(phase.trains, "image/blocks/1/mlp/up/kernel")
  assert not re.fullmatch(phase.trains, "image/blocks/0/mlp/up/kernel")
  assert (phase.rates("text/pos"), phase.rates("image/pos")) == (0.125, 1.0)
