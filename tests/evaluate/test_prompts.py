"""The stated templates and names, counted, and held against open_clip's where that is installed."""

import importlib.util
import pathlib

import pytest

from vljax.evaluate import prompts


def test_counts_and_holes():
  assert len(prompts.templates("imagenet_80")) == len(set(prompts.templates("imagenet_80"))) == 80
  assert len(prompts.templates("imagenet_7")) == 7
  assert set(prompts.templates("imagenet_7")) <= set(prompts.templates("imagenet_80"))
  assert len(prompts.class_names("imagenet")) == 1000
  assert len(set(prompts.class_names("imagenet"))) == 998
  assert len(prompts.class_names("cifar10")) == 10
  assert [len(set(prompts.class_names(name))) for name in ("imagenet_a", "imagenet_r", "objectnet")] == [200, 200, 113]
  for templates in prompts.TEMPLATES.values():
    assert all(template.count("{}") == 1 for template in templates)
  for names in prompts.CLASS_NAMES.values():
    assert all(name == name.strip() and name and "\n" not in name for name in names)


@pytest.mark.parity
def test_names_and_templates_are_those_of_the_stated_source():
  found = importlib.util.find_spec("open_clip")
  if found is None:
    pytest.skip("open_clip is not installed")
  file = pathlib.Path(found.origin).parent / "zero_shot_metadata.py"
  spec = importlib.util.spec_from_file_location("zero_shot_metadata", file)
  source = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(source)
  assert prompts.class_names("imagenet") == tuple(source.IMAGENET_CLASSNAMES)
  assert prompts.templates("imagenet_80") == tuple(t("{}") for t in source.OPENAI_IMAGENET_TEMPLATES)
  assert prompts.templates("imagenet_7") == tuple(t("{}") for t in source.SIMPLE_IMAGENET_TEMPLATES)


def test_templates_that_go_with_names():
  for name in ("imagenet", "imagenet_a", "imagenet_r", "objectnet"):
    assert prompts.usual(name) == prompts.templates("imagenet_80")
  assert prompts.usual("cifar10") == prompts.templates("cifar10")
  assert prompts.usual(None) == prompts.templates("photo") == ("a photo of a {}.",)


def test_a_misspelt_set_is_answered_with_the_nearest():
  with pytest.raises(ValueError, match="imagenet_80"):
    prompts.templates("imagenet_8")
  with pytest.raises(ValueError, match="cifar10"):
    prompts.class_names("cifar")


def test_numbers_are_labels():
  names = prompts.class_names("imagenet")
  assert prompts.names_for(sorted(map(str, range(1000))), "imagenet")[2] == names[10] == "brambling"
  assert prompts.names_for(["3", "0700"], "imagenet") == (names[3], names[700])
  assert prompts.names_for(list("3456789") + ["10"], "clevr_counts")[-1] == "10"
  with pytest.raises(ValueError, match="the source's class '10' is no label of cifar10; legal: 0 to 9"):
    prompts.names_for([str(i) for i in range(1, 11)], "cifar10")


# Classes and templates of CLIP's data/prompts.md.
COUNTS = {
  "cifar10": (10, 18), "cifar100": (100, 18), "stl10": (10, 2), "food101": (101, 1), "oxford_pets": (37, 1),
  "flowers102": (102, 1), "eurosat": (10, 3), "dtd": (47, 8), "mnist": (10, 1), "resisc45": (45, 18),
  "patch_camelyon": (2, 1), "gtsrb": (43, 3), "fgvc_aircraft": (100, 2), "birdsnap": (500, 1), "caltech101": (102, 34),
  "clevr_counts": (8, 1), "country211": (211, 5), "fer2013": (7, 6), "hateful_memes": (2, 1), "kitti": (4, 1),
  "kinetics700": (700, 28), "pascal_voc2007": (20, 1), "sst2": (2, 1), "stanford_cars": (196, 8), "sun397": (397, 2),
  "ucf101": (101, 48),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts_of_the_usual_sets(name):
  assert (len(prompts.class_names(name)), len(prompts.templates(name))) == COUNTS[name]
  assert len(set(prompts.class_names(name))) == COUNTS[name][0]
  assert len(set(prompts.templates(name))) == COUNTS[name][1]


def test_names_follow_the_order_of_the_source():
  folders = sorted((name.replace(" ", "_") for name in prompts.class_names("food101")), reverse=True)
  assert prompts.names_for(folders, "food101") == tuple(folder.replace("_", " ") for folder in folders)
  assert prompts.names_for([f"class {i}" for i in range(10)], "stl10") == prompts.class_names("stl10")
  with pytest.raises(ValueError, match="mnist has 10 classes, the source 2"):
    prompts.names_for(["0", "1"], "mnist")
  with pytest.raises(ValueError, match="mnist has 10 classes, the source 2"):
    prompts.names_for(["zero", "one"], "mnist")
  with pytest.raises(ValueError, match="class 'kitten' is none of cifar10"):
    prompts.names_for(["kitten", *prompts.class_names("cifar10")[1:]], "cifar10")


def test_subsets_of_imagenet_are_in_the_order_of_its_ids():
  """The first and the last classes, read off the sets' folders: n01498041 and n12267677, n01443537 and n12267677."""
  names = {name: prompts.class_names(name) for name in ("imagenet", "imagenet_a", "imagenet_r")}
  for subset in ("imagenet_a", "imagenet_r"):
    places = [names["imagenet"].index(name) for name in names[subset]]
    assert places == sorted(places)
  assert (names["imagenet_a"][0], names["imagenet_a"][-1]) == ("stingray", "acorn")
  assert (names["imagenet_r"][0], names["imagenet_r"][-1]) == ("goldfish", "acorn")
  wordnet = [f"n{i:08d}" for i in range(200)]
  assert prompts.names_for(wordnet, "imagenet_r") == names["imagenet_r"]


def test_folders_of_objectnet_get_their_names():
  other = {"butcher's knife": "butchers_knife", "drying rack for plates": "drying_rack_for_dishes"}
  other |= {"bath towel": "full_sized_towel", "dishrag or hand towel": "hand_towel_or_rag"}
  other |= {"coffee/french press": "coffee_french_press", "laptop (open)": "laptop_open"}
  names = prompts.class_names("objectnet")
  folders = [other.get(name, name.replace(" ", "_")) for name in names]
  assert prompts.names_for(folders, "objectnet") == names
  assert prompts.names_for(folders[::-1], "objectnet") == names[::-1]
