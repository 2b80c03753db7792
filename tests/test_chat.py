"""Words of a command as parts of a prompt, and a dialogue whose turns become the next prompt."""

import io
import runpy

import numpy as np
import pytest
from PIL import Image

from vljax import chat, flamingo


class Recorder(flamingo.FlamingoBundle):
  """Answers `nice` to everything and keeps what it was asked."""

  def __init__(self):
    object.__setattr__(self, "asked", [])

  def generate(self, prompt, max_tokens=64, *, stream=False, **options):
    self.asked.append((prompt, max_tokens, options))
    return iter([" ni", "ce"]) if stream else " nice"


def encoded(frames):
  file, pictures = io.BytesIO(), [Image.fromarray(np.full((8, 8, 3), 60 * i, np.uint8)) for i in range(frames)]
  pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
  return file.getvalue()


def test_words_that_name_files_are_pictures_and_clips(tmp_path):
  for frames, name in ((1, "one.gif"), (3, "three.gif")):
    (tmp_path / name).write_bytes(encoded(frames))
  assert chat.part(str(tmp_path / "one.gif")) == encoded(1)
  assert len(chat.part(str(tmp_path / "three.gif"))) == 3
  assert chat.part("no such file.jpg") == "no such file.jpg"
  assert chat.part("") == ""
  for word in ("https://a.org/b.jpg shows what?", "what://", "s3://bucket/a.jpg", "hf://x", "a\0b"):
    assert chat.part(word) == word


def test_a_model_that_writes_nothing_is_refused(root, smoke_workdir):
  main = runpy.run_path(f"{root}/launch/generate.py")["main"]
  with pytest.raises(ValueError, match="run writes no text: it is opened as a Bundle; legal: a language model, a run"):
    main([f"--model={smoke_workdir}", "a"])


def test_a_file_that_is_no_picture_is_named(tmp_path):
  (tmp_path / "notes.txt").write_text("hello")
  with pytest.raises(ValueError, match=r"notes\.txt: 5 bytes beginning b'hello' are not an image"):
    chat.part(str(tmp_path / "notes.txt"))


def test_turns_become_the_next_prompt():
  bundle = Recorder()
  dialogue = chat.Chat(bundle)
  dialogue.show(b"PICTURE")
  assert "".join(dialogue.say("What is it?", 8)) == " nice"
  assert list(dialogue.say("And now?", 8, beams=2)) == [" nice"]
  (first, most, options), (second, _, searched) = bundle.asked
  assert most == 8
  assert options == {"stop": ("\n", "User:")}
  assert first[1] == b"PICTURE"
  assert first[2] == " What is it?\nFlamingo:"
  assert second[2] == " What is it?\nFlamingo: nice\nUser: And now?\nFlamingo:"
  assert searched == {"stop": ("\n", "User:"), "beams": 2}


def test_a_model_that_reads_only_is_shown_nothing():
  with pytest.raises(ValueError, match="reads texts only"):
    chat.Chat(object()).show(b"")
