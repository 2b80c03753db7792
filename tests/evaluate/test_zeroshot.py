"""The classifier made of prompts, and its accuracy."""

import numpy as np
import pytest

from vljax.evaluate import prompts, zeroshot


def hashing(texts):
  """A text encoder without weights: letters counted, unnormalised."""
  assert len(texts) == 4
  return np.array([[text.count(letter) + 0.1 for letter in "abcdefgh"] for text in texts])


def test_weights_are_the_mean_of_unit_prompts():
  names, templates = ["cab", "hedge", "fig"], ("a {}.", "the bad {}")
  weights = zeroshot.classifier(hashing, names, templates, batch=4)
  assert weights.shape == (8, 3)
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  for i, name in enumerate(names):
    each = unit(np.array([[t.replace("{}", name).count(x) + 0.1 for x in "abcdefgh"] for t in templates]))
    np.testing.assert_allclose(weights[:, i], unit(each.mean(0)), rtol=1e-5)


def test_names_may_be_an_array():
  encode = lambda texts: np.array([[len(text), 1.0] for text in texts])
  given = ["a", "bcd"]
  np.testing.assert_array_equal(zeroshot.classifier(encode, np.array(given)), zeroshot.classifier(encode, given))


def test_braces_in_a_class_name_stay():
  seen = []
  zeroshot.classifier(lambda texts: seen.extend(texts) or np.ones((len(texts), 2)), ["{0}"], ("a {}.",))
  assert seen == ["a {0}."]


def test_accuracy():
  weights = np.eye(3)
  image_z = np.array([[3, 2, 1], [3, 2, 1], [1, 2, 3], [0, 1, 0]])
  found = zeroshot.evaluate(image_z, np.array([0, 1, 2, 1]), weights, ["x", "y", "z"], ks=(1, 2), block=3)
  assert found["top1"] == 0.75
  assert found["top2"] == 1.0
  assert found["top1/chance"] == pytest.approx(1 / 3)
  assert found["mean_per_class"] == pytest.approx((1 + 0.5 + 1) / 3)
  assert (found["per_class/x"], found["per_class/y"], found["per_class/z"]) == (1.0, 0.5, 1.0)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_collapsed_model_gets_nothing(value):
  assert zeroshot.evaluate(np.full((4, 2), value), np.zeros(4, int), np.ones((2, 3)), ks=(1,))["top1"] == 0.0


@pytest.mark.parametrize(("names", "templates"), [("cat", ["a {}"]), (["cat"], "a {}"), ([], ["a {}"]), (["cat"], [])])
def test_names_and_templates_are_lists(names, templates):
  with pytest.raises(ValueError, match="needs a list of class names and one of templates; found"):
    zeroshot.classifier(lambda part: np.ones((len(part), 2)), names, templates)


def test_bad_input_is_named():
  encode = lambda texts: np.ones((len(texts), 2))
  with pytest.raises(ValueError, match=r"the template 'a photo' must hold '\{\}' once"):
    zeroshot.classifier(encode, ["x"], ("a photo",))
  with pytest.raises(ValueError, match="needs a list of class names and one of templates"):
    zeroshot.classifier(encode, [], ("a {}",))
  with pytest.raises(ValueError, match="needs a list of class names and one of templates"):
    zeroshot.classifier(encode, ["x"], "a {}")
  with pytest.raises(ValueError, match="labels hold 0 to 3; legal: 0 to 2"):
    zeroshot.evaluate(np.ones((2, 2)), np.array([0, 3]), np.ones((2, 3)))
  with pytest.raises(ValueError, match=r"found \(2, 2\), \(3,\), \(2, 3\)"):
    zeroshot.evaluate(np.ones((2, 2)), np.zeros(3, int), np.ones((2, 3)))
  with pytest.raises(ValueError, match="2 class names for weights of 3 classes"):
    zeroshot.evaluate(np.ones((1, 2)), np.zeros(1, int), np.ones((2, 3)), prompts.class_names("cifar10")[:2])
