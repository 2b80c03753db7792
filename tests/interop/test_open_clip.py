"""open_clip's folders and files, and the refusals of what they do not tell."""

import json

import pytest

from vljax import interop
from vljax.interop import open_clip, openai, safetensors_reader, torch_writer


@pytest.mark.parametrize(
  "options",
  [
    {},
    dict(image=dict(activation="gelu", heads=4, mlp=150), text=dict(activation="gelu", heads=2, mlp=99)),
    dict(image=dict(activation="gelu_tanh"), text=dict(activation="gelu")),
    dict(image=dict(norm_pre=False)),
    dict(text=dict(pool="eos", eos_id=5)),
    dict(text=dict(pool="last", causal=False)),
    dict(preprocess=dict(mean=(0.5, 0.4, 0.3), interpolation="bilinear", resize_mode="squash")),
  ],
)
def test_round_trip(make, tmp_path, options):
  made = make(**options)
  assert interop.save(tmp_path / "x", made.imported, "open_clip") == []
  assert interop.detect(tmp_path / "x") == "open_clip"
  made.assert_equal(interop.load(tmp_path / "x"))
  made.assert_equal(interop.load(tmp_path / "x/open_clip_model.safetensors"))


def test_weights_of_torch_beside_their_config(make, tmp_path):
  made = make(text=dict(pool="eos", eos_id=5))
  open_clip.save(tmp_path, made.imported)
  state = safetensors_reader.state_dict(tmp_path / "open_clip_model.safetensors")
  (tmp_path / "open_clip_model.safetensors").unlink()
  torch_writer.write(tmp_path / "open_clip_pytorch_model.bin", state)
  for source in (tmp_path, tmp_path / "open_clip_pytorch_model.bin"):
    assert interop.detect(source) == "open_clip"
    made.assert_equal(interop.load(source))


def test_weights_alone_are_refused(make, tmp_path):
  open_clip.save(tmp_path / "x", make().imported)
  (tmp_path / "x/open_clip_config.json").unlink()
  file = tmp_path / "x/open_clip_model.safetensors"
  with pytest.raises(ValueError, match="QuickGELU") as raised:
    interop.load(file)
  assert str(raised.value) == (
    f"{file}: there is no open_clip_config.json beside the weights, and weights do not tell QuickGELU from GELU; say "
    "which with activation='quick_gelu' (OpenAI, DFN, MetaCLIP) or activation='gelu' (LAION-2B, DataComp)"
  )
  found = interop.load(file, activation="quick_gelu")
  make().assert_equal(found)
  assert "heads follow the width" in found.notes[0]


def test_clip_tokenizer_and_preprocessing_are_noted(make, tmp_path):
  open_clip.save(tmp_path, make().imported)
  edit(tmp_path, lambda c: c.pop("preprocess_cfg"))
  assert (
    f"{tmp_path}/open_clip_config.json gives no preprocess_cfg.mean and std: CLIP's is used"
    in interop.load(tmp_path).notes
  )


def edit(folder, change):
  file = folder / "open_clip_config.json"
  content = json.loads(file.read_text())
  change(content)
  file.write_text(json.dumps(content))


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (
      lambda c: c["model_cfg"]["vision_cfg"].update(timm_model_name="x"),
      "vision_cfg.timm_model_name = 'x', which vljax has no model for; legal: None",
    ),
    (
      lambda c: c["model_cfg"]["vision_cfg"].update(ls_init_value=0.1),
      "vision_cfg.ls_init_value = 0.1, which vljax has no model for; legal: None",
    ),
    (
      lambda c: c["model_cfg"]["vision_cfg"].update(head_widht=64),
      "unknown key vision_cfg.'head_widht'; did you mean 'head_width'?",
    ),
    (
      lambda c: c["model_cfg"]["text_cfg"].update(pool_type="first"),
      "unknown text_cfg.pool_type in ",
    ),
    (
      lambda c: c["model_cfg"]["text_cfg"].update(act_kwargs={"approximate": "tanh"}),
      "text_cfg.act_kwargs = {'approximate': 'tanh'}; legal: {'approximate': 'tanh'} without quick_gelu, or none",
    ),
    (lambda c: c["preprocess_cfg"].update(mean=[0.5]), "preprocess_cfg.mean = [0.5]; legal: three numbers"),
    (lambda c: c["preprocess_cfg"].update(fill_color=3), "preprocess_cfg.fill_color = 3; legal: 0"),
  ],
)
def test_configs_that_ask_for_something_else(make, tmp_path, change, message):
  open_clip.save(tmp_path, make().imported)
  edit(tmp_path, change)
  with pytest.raises(ValueError, match=r"open_clip_config\.json") as raised:
    interop.load(tmp_path)
  assert message in str(raised.value)


def test_broken_config(make, tmp_path):
  open_clip.save(tmp_path, make().imported)
  (tmp_path / "open_clip_config.json").write_text("{")
  with pytest.raises(ValueError, match=r"open_clip_config.json is not JSON"):
    interop.load(tmp_path)


def test_a_folder_without_weights(make, tmp_path):
  open_clip.save(tmp_path, make().imported)
  (tmp_path / "open_clip_model.safetensors").unlink()
  with pytest.raises(
    FileNotFoundError, match=r"holds none of open_clip_model.safetensors, open_clip_pytorch_model.bin"
  ):
    interop.load(tmp_path)


@pytest.mark.slow
def test_an_openai_file_with_gelu(make, tmp_path):
  """The same keys: a `.pt` read as open_clip's with the activation that the user names."""
  openai.save(tmp_path / "x.pt", make().imported)
  found = interop.load(tmp_path / "x.pt", format="open_clip", activation="gelu")
  assert found.config["image"]["activation"] == found.config["text"]["activation"] == "gelu"


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      dict(image=dict(activation="gelu")),
      "text.activation = 'quick_gelu' (its readers assume one of 'gelu', 'gelu_tanh')",
    ),
    (dict(image=dict(pool="mean")), "image.pool = 'mean' (its readers assume 'cls')"),
    (dict(image=dict(patch_bias=True)), "image.patch_bias = True (its readers assume False)"),
    (
      dict(tokenizer=dict(kind="sentencepiece")),
      "the tokenizer 'sentencepiece' (its readers assume 'clip_bpe'; "
      "launch/convert.py --drop_tokenizer leaves it out)",
    ),
    *(
      (
        dict(tokenizer=dict(kind="clip_bpe", clean=rule)),
        f"the tokenizer 'clip_bpe' with clean = {rule!r} (its readers assume 'lower' or 'whitespace' or "
        "'canonicalize'; launch/convert.py --drop_tokenizer leaves it out)",
      )
      for rule in ("siglip", None)
    ),
  ],
)
def test_what_the_format_cannot_hold(make, tmp_path, options, message):
  with pytest.raises(ValueError, match="the format open_clip cannot hold") as raised:
    interop.save(tmp_path / "x", make(**options).imported, "open_clip")
  assert str(raised.value) == f"{tmp_path}/x: the format open_clip cannot hold {message}"
  assert not (tmp_path / "x").exists()


def text_cfg(folder, **fields):
  edit(folder, lambda c: c["model_cfg"]["text_cfg"].update(fields))


@pytest.mark.parametrize(
  ("fields", "name"),
  [
    (dict(tokenizer_kwargs=dict(strip_sep_token=True)), "strip_sep_token"),
    (dict(tokenizer_mode="clips"), "tokenizer_mode"),
  ],
)
def test_tokenizers_that_vljax_has_not_leave_texts_to_ids(make, tmp_path, fields, name):
  made = make(text=dict(vocab=49_408))
  open_clip.save(tmp_path, made.imported)
  text_cfg(tmp_path, **fields)
  found = interop.load(tmp_path)
  assert found.tokenizer == {}
  wanted = f"wants a tokenizer with {name}, which vljax has not: texts must come as ids"
  assert found.notes == [f"{tmp_path}/open_clip_config.json {wanted}"]
  made.assert_equal(found)


@pytest.mark.parametrize("rule", ["siglip", None])
def test_a_cleaning_that_is_not_open_clips_is_refused(make, tmp_path, rule):
  open_clip.save(tmp_path, make().imported)
  text_cfg(tmp_path, tokenizer_kwargs=dict(clean=rule))
  with pytest.raises(ValueError, match=rf"text_cfg.tokenizer_kwargs.clean in .* {rule!r}.*legal: canonical"):
    interop.load(tmp_path)


@pytest.mark.slow
def test_texts_are_cleaned_as_the_config_says(make, tmp_path):
  open_clip.save(tmp_path / "a", make(text=dict(vocab=49_408)).imported)
  text_cfg(tmp_path / "a", tokenizer_kwargs=dict(clean="whitespace"))
  found = interop.load(tmp_path / "a")
  assert found.tokenizer == dict(kind="clip_bpe", length=7, clean="whitespace")
  assert interop.save(tmp_path / "b", found, "open_clip") == []
  assert interop.load(tmp_path / "b").tokenizer == found.tokenizer
  file = tmp_path / "a/tokenizer.json"
  file.write_text(
    json.dumps(dict(model=dict(vocab={"<pad>": 0, "</s>": 1, "<eos>": 2}), padding=dict(pad_token="</s>")))
  )
  text_cfg(tmp_path / "a", tokenizer_kwargs={}, hf_tokenizer_name="x")
  options = dict(kind="hf_json", path=str(file), length=7, eos="<eos>", pad_id=1, clean="whitespace")
  assert interop.load(tmp_path / "a").tokenizer == options
