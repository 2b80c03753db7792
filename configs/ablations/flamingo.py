"""The ablations of Flamingo (Alayrac et al. 2022, arXiv 2204.14198) as sweeps, with the paper's numbers.

  python launch/sweep.py --sweep=configs/ablations/flamingo.py:combination --workdir=runs/combination --print
  python launch/sweep.py --sweep=configs/ablations/flamingo.py:combination --workdir=runs/combination --small \
    --config=configs/contrastive/clip_two_sets.py:dir=DATA/flickr8k

Tables: combination (11).
"""

WAYS = ("image to text", "text to image")
KS = (1, 5, 10)


def sweep(small=False):
  """Table name to its sweep; with `small`, those that make sense on two small sets."""
  return dict(combination=combination())


def combination():
  """Table 11: two sets for the contrastive pretraining of the vision encoder, each alone, and both in three ways."""
  numbers = {
    # arguments; R@1, R@5, R@10 of COCO image to text, then text to image
    "the first set": ("sets=photos", (38.6, 66.4, 76.4), (31.1, 57.4, 68.4)),
    "the second set": ("sets=emoji", (32.2, 58.9, 70.6), (23.7, 47.7, 59.4)),
    "both, accumulated": ("combine=accumulate", (42.3, 68.3, 78.4), (31.5, 58.3, 69.0)),
    "both, merged": ("combine=merge", (36.9, 65.8, 76.5), (15.2, 40.8, 55.7)),
    "both, round-robin": ("combine=round_robin", (40.1, 66.7, 77.6), (29.2, 55.1, 66.6)),
  }
  rows = [dict(name=name, arg=arg, paper=recalls(*lines)) for name, (arg, *lines) in numbers.items()]
  metric = lambda data, way, k: dict(metric=f"{data}/{way.replace(' ', '_')}/R@{k}")
  columns = {f"{way} R@{k}": metric("photos", way, k) for way in WAYS for k in KS}
  columns |= {f"emoji, {way} R@10": metric("emoji", way, 10) for way in WAYS}
  source = (
    "Flamingo, table 11: NFNet-F0 and BERT-mini on LTIP and ALIGN, a million gradients of batches of 2,048, zero-shot "
    "retrieval. Ours: a small ViT on photographs (the first set) and emoji (the second), evaluated on photographs "
    "that were held out, which only the first set resembles."
  )
  config = "configs/contrastive/clip_two_sets.py"
  return dict(title="Combining data sets", source=source, config=config, columns=columns, rows=rows)


def recalls(*lines):
  return {f"{way} R@{k}": x for way, line in zip(WAYS, lines, strict=True) for k, x in zip(KS, line, strict=True)}
