"""launch/evaluate.py in this process: each kind on a source that the model was not trained with."""

import base64
import io
import json
import runpy

import numpy as np
import pytest
from PIL import Image

from vljax import hub

COLORS = {"red": (200, 0, 0), "blue": (0, 0, 200), "green": (0, 200, 0)}


@pytest.fixture(scope="module")
def main(root):
  return runpy.run_path(f"{root}/launch/evaluate.py")["main"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A table of somebody else's: pictures as base64, two captions each, a class."""
  rows = []
  for number in range(24):
    name = list(COLORS)[number % 3]
    picture = np.full((20, 24, 3), COLORS[name], np.uint8) + np.uint8(number)
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    content = base64.b64encode(data.getvalue()).decode()
    rows.append(dict(image=content, captions=[f"{name} {number}", f"a {name} picture"], color=name))
  path = tmp_path_factory.mktemp("table") / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def run(main, capsys, *arguments):
  assert main(list(map(str, arguments))) == 0
  return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_retrieval_on_any_table(main, smoke_workdir, table, capsys):
  found = run(main, capsys, f"--model={smoke_workdir}", f"--source=jsonl:{table}")
  assert found["text_to_image/R@10/chance"] == pytest.approx(10 / 24)
  assert 0 <= found["image_to_text/R@1"] <= found["image_to_text/R@10"] <= 1


@pytest.mark.slow
def test_classes_by_prompts_and_by_labelled_pictures(main, smoke_workdir, table, capsys):
  asked = f"--model={smoke_workdir}", f"--source=jsonl:{table}?class=color"
  zeroshot = run(main, capsys, *asked, "--kind=zeroshot", "--templates=imagenet_7")
  assert zeroshot["top1/chance"] == pytest.approx(1 / 3)
  known = f"--gallery=jsonl:{table}?class=color"
  assert run(main, capsys, *asked, "--kind=probe", known)["top1"] == 1.0
  assert "top1" in run(main, capsys, *asked, "--kind=knn", known)


@pytest.mark.slow
def test_what_is_unknown_is_named(main, smoke_workdir, table):
  asked = f"--model={smoke_workdir}", f"--source=jsonl:{table}?class=color"
  with pytest.raises(ValueError, match="unknown kind 'retreival'; did you mean 'retrieval'"):
    main([*asked, "--kind=retreival"])
  with pytest.raises(ValueError, match="--kind=probe learns from the labelled pictures of --gallery"):
    main([*asked, "--kind=probe"])
  with pytest.raises(ValueError, match="cifar10 has 10 classes, the source 3"):
    main([*asked, "--kind=zeroshot", "--names=cifar10"])


@pytest.mark.slow
def test_texts_by_a_model_that_writes(main, language_folder, tmp_path, capsys):
  (tmp_path / "text.txt").write_text("that is a text of some tokens")
  asked = f"--model={language_folder}", f"--source={tmp_path / 'text.txt'}"
  found = run(main, capsys, *asked, "--kind=perplexity")["perplexity"]
  assert found == pytest.approx(hub.load(language_folder).perplexity("that is a text of some tokens"))
  assert run(main, capsys, *asked, "--kind=perplexity", "--most=8")["perplexity"] != found
  with pytest.raises(ValueError, match="--kind=retrieval of .*, a language model; legal: perplexity, of a text file"):
    main([*asked])
