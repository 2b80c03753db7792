"""`easy_vqa:`: drawn shapes with questions and one of 13 answers, from the package easy-vqa (Victor Zhou, MIT)."""

from collections.abc import Mapping
from typing import Any

from etils import epath

from vljax import config
from vljax.data.sources.optional import package
from vljax.data.sources.source import Source


class EasyVqa(Source):
  """One example per question: picture (png, 64 x 64), `question`, `answer`, caption "question answer".

  `part=train` (4,000 pictures) or `part=test` (1,000). `class` is the answer; splits go by picture.
  """

  credit = "easy-VQA by Victor Zhou. License: MIT (https://github.com/vzhou842/easy-VQA)"
  class_field = "answer"
  group_field = "image_id"

  def __init__(self, path: str = "", *, part: str = "train"):
    """Raises ImportError without the package, ValueError for another part."""
    if path:
      raise ValueError(f"easy_vqa:{path} takes no path; write easy_vqa:?part=train")
    data = package("easy_vqa", "easy_vqa", "quickstart")
    parts = {
      "train": (data.get_train_questions, data.get_train_image_paths),
      "test": (data.get_test_questions, data.get_test_image_paths),
    }
    questions, images = config.choose("part of easy_vqa:", part, parts)
    self.name = f"easy_vqa:{part}"
    self.questions, self.answers, self.image_ids = questions()
    self.paths = images()
    self.classes = tuple(sorted(data.get_answers()))

  def __len__(self) -> int:
    return len(self.questions)

  def fields(self, index: int) -> dict[str, Any]:
    image = self.image_ids[index]
    answer, question = self.answers[index], self.questions[index]
    return {"key": f"{image}-{index}", "image_id": image, "question": question, "answer": answer}

  def captions(self, index: int, fields: Mapping[str, Any]) -> list[str]:
    return [f"{fields['question']} {fields['answer']}"]

  def image(self, index: int) -> bytes:
    return epath.Path(self.paths[self.image_ids[index]]).read_bytes()
