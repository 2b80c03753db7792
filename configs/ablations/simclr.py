"""The tables of SimCLR (Chen et al. 2020, arXiv 2002.05709) as sweeps, with the paper's numbers.

  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --print
  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --small \
    --config=configs/contrastive/simclr_cifar.py:small,dir=DATA/cifar10

Tables: color (1), losses (4), temperature (5), batch_linear and batch_sqrt (B.1), head (figure 8), pairs (figure 5).
The paper's runs are ResNet-50 on ImageNet for 100 epochs of batch 4096 unless the table says otherwise, evaluated by
linear classifiers; ours of that size are evaluated by one nearly unpenalized logistic regression. The small ones show
the order of rows at best, not the numbers. For want of the operation or the recipe there is no AutoAugment and no
supervised part of table 1, no table 3 (what the features know of the transformation) and no table B.3.
"""

SMALL, LARGE = 24, 224
TOP1 = {"linear top-1": dict(metric="linear/top1")}
LINEAR = dict(
  kind="linear", labelled="tfds:imagenet2012", source="tfds:imagenet2012?part=validation", penalties=(1.0,)
)


def sweep(small=False):
  """Table name to its sweep; with `small`, those that make sense on a few thousand small pictures."""
  tables = dict(color=color(small), losses=losses(), temperature=temperature(), head=head(), pairs=pairs(small))
  if small:
    config = "configs/contrastive/simclr_cifar.py:small"
  else:
    config = "configs/contrastive/simclr_r50.py:epochs=100"
    tables |= dict(batch_linear=batch("linear"), batch_sqrt=batch("sqrt"))
    for table in tables.values():
      for line in table["rows"]:
        line["overrides"] = dict(evals=dict(linear=LINEAR)) | line["overrides"]
  return {name: dict(columns=TOP1, config=config) | table for name, table in tables.items()}


def views(small, strength, flip=True, blur=False):
  """SimCLR's augmentations with one part changed or left out."""
  if small:
    steps = [("random_resized_crop", SMALL, (0.2, 1.0), {"interpolation": "bilinear"})]
  else:
    steps = [("random_resized_crop", LARGE)]
  steps += [("flip_lr",)] * flip
  steps += [("color_jitter", strength, {"brightness": "multiply" if small else "add"}), ("grayscale", 0.2)]
  return (*steps, ("gaussian_blur", 0.5)) if blur else tuple(steps)


def color(small):
  rows = [
    row("1/8", 59.6, augment=views(small, 0.125)),
    row("1/4", 61.0, augment=views(small, 0.25)),
    row("1/2", 62.6, augment=views(small, 0.5)),
    row("1", 63.2, augment=views(small, 1.0)),
    row("1 and blur", 64.5, augment=views(small, 1.0, blur=True)),
    row("1 and blur, no flip", 63.4, augment=views(small, 1.0, flip=False, blur=True)),
  ]
  source = "SimCLR, table 1 and its text. AutoAugment (61.1) and the supervised row are left out."
  return dict(title="Strength of the color distortion", source=source, rows=rows)


def losses():
  forms = {
    "Margin": (50.9, dict(name="margin")),
    "NT-Logi.": (51.6, dict(name="nt_logistic")),
    "Margin (sh)": (57.5, dict(name="margin", semi_hard=True)),
    "NT-Logi. (sh)": (57.9, dict(name="nt_logistic", semi_hard=True)),
    "NT-Xent": (63.9, dict(name="nt_xent")),
  }
  rows = [row(name, top1, loss=loss) for name, (top1, loss) in forms.items()]
  source = "SimCLR, table 4; sh: semi-hard negatives. The paper tunes each loss, here each has its default."
  return dict(title="Losses", source=source, rows=rows)


def temperature():
  numbers = [
    # normalized, temperature, entropy, contrastive accuracy, linear top-1
    (True, 0.05, 1.0, 90.5, 59.7),
    (True, 0.1, 4.5, 87.8, 64.4),
    (True, 0.5, 8.2, 68.2, 60.7),
    (True, 1.0, 8.3, 59.1, 58.0),
    (False, 10.0, 0.5, 91.7, 57.2),
    (False, 100.0, 0.5, 92.1, 57.0),
  ]
  rows = [
    dict(
      name=f"{'unit length' if normalize else 'not normalized'}, {t:g}",
      overrides=dict(loss=dict(name="nt_xent", temperature=t, normalize=normalize)),
      paper={"linear top-1": top1, "contrastive accuracy": accuracy, "entropy": entropy},
    )
    for normalize, t, entropy, accuracy, top1 in numbers
  ]
  columns = TOP1 | {
    "contrastive accuracy": dict(metric="simclr/train/accuracy"),
    "entropy": dict(metric="simclr/train/entropy", percent=False),
  }
  source = (
    "SimCLR, table 5: length of the projections and temperature of NT-Xent. Accuracy and entropy of the paper are "
    "among 4,096 examples, ours among those of a batch, of the last step that was logged."
  )
  return dict(title="Temperature and normalization", source=source, columns=columns, rows=rows)


def batch(scaling):
  """The learning rate is 0.3 batch / 256 or 0.075 sqrt(batch) (appendix B.1)."""
  numbers = {
    256: ((57.5, 62.8), (61.9, 64.3), (64.7, 65.7), (66.6, 66.5)),
    512: ((60.7, 63.8), (64.0, 65.6), (66.2, 66.7), (67.8, 67.4)),
    1024: ((62.8, 64.3), (65.3, 66.1), (67.2, 67.2), (68.5, 68.3)),
    2048: ((64.0, 64.7), (66.1, 66.8), (68.1, 67.9), (68.9, 68.8)),
    4096: ((64.6, 64.5), (66.5, 66.8), (68.2, 68.0), (68.9, 69.1)),
    8192: ((64.8, 64.8), (66.6, 67.0), (67.8, 68.3), (69.0, 69.1)),
  }
  linear = scaling == "linear"
  rate = {"schedule.lr": 0.3 if linear else 0.075, "schedule.scaling": scaling}
  rows = [
    dict(
      name=f"batch {size}, {epochs} epochs",
      arg=f"batch={size},epochs={epochs}",
      overrides=rate,
      paper={"linear top-1": pair[0 if linear else 1]},
    )
    for size, line in numbers.items()
    for epochs, pair in zip((100, 200, 400, 800), line, strict=True)
  ]
  source = f"SimCLR, table B.1, where the learning rate grows with the batch's {'size' if linear else 'square root'}."
  return dict(title="Batch size and epochs", source=source, rows=rows)


def head():
  column = "linear top-1 (of the paper: rank, 3 is best)"
  forms = {"nonlinear": 3, "linear": 2, "none": 1}
  rows = [dict(name=kind, overrides={"head.kind": kind}, paper={column: rank}) for kind, rank in forms.items()]
  source = (
    "SimCLR, figure 8 and its text: a nonlinear head is 3 points better than a linear one, and more than 10 better "
    "than none."
  )
  return dict(title="Projection head", source=source, columns={column: dict(metric="linear/top1")}, rows=rows)


def pairs(small):
  """One crop for both branches; then one of them alone gets the first operation and the second."""
  size = SMALL if small else LARGE
  area = (0.2, 1.0) if small else (0.08, 1.0)
  operations = {
    "crop": ("random_resized_crop", size, area),
    "cutout": ("cutout", size // 2),
    "color": ("color_jitter", 1.0),
    "sobel": ("sobel",),
    "noise": ("gaussian_noise",),
    "blur": ("gaussian_blur", 1.0),
    "rotate": ("rotate",),
  }
  shared = [("decode",), ("random_resized_crop", size, area), ("keep", "image", "label")]
  rows = [
    dict(
      name=first if first == second else f"{first}, {second}",
      overrides={
        "streams.train.transforms": shared,
        "augment": (),
        "augment_other": (a,) if first == second else (a, b),
      },
    )
    for first, a in operations.items()
    for second, b in operations.items()
  ]
  source = (
    "SimCLR, figure 5, whose numbers are printed in a picture only and are not repeated here. The diagonal has one "
    "operation. The sizes of cutout and noise are ours."
  )
  return dict(title="Pairs of augmentations", source=source, rows=rows)


def row(name, top1, **overrides):
  return dict(name=name, overrides=overrides, paper={"linear top-1": top1})
