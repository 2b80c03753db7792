"""The paper's prompts, and dialogues."""

import pytest

from vljax.evaluate import templates
from vljax.evaluate.templates import Template


@pytest.mark.parametrize(
  ("name", "fields", "asked", "shown"),
  [
    ("caption", {}, "Output:", "Output: yes"),
    ("class", {}, "Output:", "Output: yes"),
    ("question", {"question": "Is it?"}, "Question: Is it? Answer:", "Question: Is it? Answer: yes"),
    (
      "hateful_memes",
      {"text": "hi {x}"},
      'is an image with written: "hi {x}" on it. Is it hateful? Answer:',
      'is an image with written: "hi {x}" on it. Is it hateful? Answer: yes',
    ),
    ("rareact", {}, "Caption: a person", "Caption: a person yes"),
  ],
)
def test_the_papers_templates(name, fields, asked, shown):
  found = templates.template(name)
  assert (found.asked(fields), found.shown(fields, "yes"), found.gap) == (asked, shown, " ")


def test_a_template_of_ones_own():
  own = templates.template("Q: {q} of {where}\n{answer}")
  assert own.fields == ("q", "where")
  assert own.shown({"q": "a", "where": "b"}, "c") == "Q: a of b\nc"
  with pytest.raises(ValueError, match="unknown field 'where' of an example, which .* legal: q"):
    own.asked({"q": "a"})
  with pytest.raises(ValueError, match="unknown prompt template 'captoin'; did you mean 'caption'"):
    templates.template("captoin")
  with pytest.raises(ValueError, match=r"must end with '\{answer\}'"):
    Template("{answer}.")


def test_a_dialogue_ends_where_the_model_speaks():
  picture, clip = object(), [object()]
  made = templates.dialogue([([picture, "What is it?"], "A cat."), ("Sure?", "Yes."), (["And", clip], None)], "Hello.")
  assert made == [
    "Hello.\nUser:",
    picture,
    " What is it?\nFlamingo: A cat.\nUser: Sure?\nFlamingo: Yes.\nUser: And",
    clip,
    "\nFlamingo:",
  ]
  assert templates.render(made).count("<image>") == templates.render(made).count("<video>") == 1
  assert templates.dialogue([("Hi", None)])[0].startswith(templates.PREFIX)


@pytest.mark.parametrize(("turns", "wrong"), [([], 0), ([("a", "b")], 0), ([("a", None), ("b", None)], 0)])
def test_a_dialogue_that_does_not_ask(turns, wrong):
  with pytest.raises(ValueError, match=f"turn {wrong} of {len(turns)}: the last turn, and no other, has no answer"):
    templates.dialogue(turns)
