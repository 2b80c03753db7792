"""The tables of SimCLR (Chen et al. 2020, arXiv 2002.05709) as sweeps, with the paper's numbers.

  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --print
  python launch/sweep.py --sweep=configs/ablations/simclr.py:temperature --workdir=runs/temperature --small \
    --config=configs/contrastive/simclr_cifar.py:small,dir=DATA/cifar10

Tables: color, color_supervised (1), transformation (3), losses (4), temperature (5), batch_linear and batch_sqrt
(B.1), head (figure 8), pairs (figure 5), width (6), broader (B.2), supervised (B.3), labels (B.4) and transfer (B.5),
which need `--config=configs/contrastive/finetune_r50.py:init=RUN` (or transfer_r50.py), and v2 (SimCLRv2, arXiv
2006.10029).
The paper's runs are ResNet-50 on ImageNet for 100 epochs of batch 4096 unless the table says otherwise, evaluated by
linear classifiers; ours of that size are evaluated by one nearly unpenalized logistic regression. The small ones show
the order of rows at best, not the numbers.
"""

SMALL, LARGE = 16, 224
TOP1 = {"linear top-1": dict(metric="linear/top1")}
LINEAR = dict(
  kind="linear",
  labelled="tfds:imagenet2012",
  source="tfds:imagenet2012?part=validation",
  penalties=(1.0,),
  crop=0.875,
)
VAL = {"top-1": dict(metric="val/top1")}


def sweep(small=False):
  """Table name to its sweep; with `small`, those that make sense on a few thousand small pictures."""
  tables = dict(color=color(small), losses=losses(), temperature=temperature(), head=head(small), pairs=pairs(small))
  if small:
    config = "configs/contrastive/simclr_cifar.py:small"
  else:
    config = "configs/contrastive/simclr_r50.py:epochs=100"
    tables |= dict(batch_linear=batch("linear"), batch_sqrt=batch("sqrt"), width=width(), broader=broader(), v2=v2())
    for table in tables.values():
      for line in table["rows"]:
        line["overrides"] = dict(evals=dict(linear=LINEAR)) | line.get("overrides", {})
    tables |= dict(labels=labels(), transfer=transfer())
  tables |= dict(transformation=transformation())
  tables |= dict(color_supervised=color_supervised(small), supervised=supervised(small))
  return {name: dict(columns=TOP1, config=config) | table for name, table in tables.items()}


def views(small, strength, flip=True, blur=False):
  """SimCLR's augmentations with one part changed or left out."""
  if small:
    steps = [("random_resized_crop", SMALL, (0.2, 1.0), {"interpolation": "bilinear"})]
  else:
    steps = [("random_resized_crop", LARGE)]
  steps += [("flip_lr",)] * flip
  steps += [jitter(small, strength), ("grayscale", 0.2)]
  return (*steps, ("gaussian_blur", 0.5)) if blur else tuple(steps)


def jitter(small, strength):
  """The color distortion alone; at the paper's size brightness is a summand, as in SimCLR's first version."""
  return ("color_jitter", strength, {"brightness": "multiply" if small else "add"})


def color(small):
  rows = [
    row("1/8", 59.6, augment=views(small, 0.125)),
    row("1/4", 61.0, augment=views(small, 0.25)),
    row("1/2", 62.6, augment=views(small, 0.5)),
    row("1", 63.2, augment=views(small, 1.0)),
    row("1 and blur", 64.5, augment=views(small, 1.0, blur=True)),
    row("1 and blur, no flip", 63.4, augment=views(small, 1.0, flip=False, blur=True)),
    row("AutoAugment", 61.1, augment=(*views(small, 1.0)[:2], ("auto_augment",))),
  ]
  source = "SimCLR, table 1 and its text; its supervised row is color_supervised."
  return dict(title="Strength of the color distortion", source=source, rows=rows)


def color_supervised(small):
  strengths = {"1/8": (0.125, 77.0), "1/4": (0.25, 76.7), "1/2": (0.5, 76.5), "1": (1.0, 75.7)}
  forms = {name: (colors(small, s), top1) for name, (s, top1) in strengths.items()}
  forms |= {"1 and blur": (colors(small, 1.0, blur=True), 75.4), "AutoAugment": ((("auto_augment",),), 77.1)}
  rows = [
    dict(name=name, overrides=dict(augment=steps), paper={"top-1": top1}) for name, (steps, top1) in forms.items()
  ]
  source = "SimCLR, table 1, supervised training; crops and flips are the host's."
  return dict(title="Strength of the color distortion, supervised", source=source, rows=rows) | with_labels(small)


def supervised(small):
  """The augmentations of supervised training, by epochs and width."""
  forms = {"crop": (), "crop, color": colors(small, 1.0), "crop, color, blur": colors(small, 1.0, blur=True)}
  numbers = {
    1: ((76.5, 76.2, 75.8), (75.6, 76.5, 75.2), (75.3, 76.7, 76.4)),
    4: ((78.4, 78.3, 77.9), (78.9, 78.4, 78.2), (78.7, 78.5, 78.3)),
  }
  rows = [
    dict(
      name=f"{name}, {epochs} epochs, width {times}",
      arg=f"epochs={epochs}",
      overrides={"augment": steps} | ({} if small else {"backbone.width_multiplier": times}),
      paper={"top-1": top1},
    )
    for times, lines in numbers.items()
    if not (small and times > 1)
    for (name, steps), line in zip(forms.items(), lines, strict=True)
    for epochs, top1 in zip((90, 500, 1000), line, strict=True)
  ]
  source = "SimCLR, table B.3: supervised training with SimCLR's augmentations. Crops and flips are the host's."
  return dict(title="Supervised baselines", source=source, rows=rows) | with_labels(small)


def with_labels(small):
  """What tables of supervised training share."""
  return dict(columns=VAL, config=f"configs/contrastive/supervised_r50.py:{'cifar=cifar10,small' if small else ''}")


def colors(small, strength, blur=False):
  """SimCLR's color distortion, maybe with its blur."""
  return views(small, strength, flip=False, blur=blur)[1:]


def transformation():
  numbers = {
    "color or grayscale": ("color", 80.0, 99.3, 97.4),
    "rotation": ("rotation", 25.0, 67.6, 25.6),
    "original or corrupted": ("noise", 50.0, 99.5, 59.6),
    "original or Sobel filtered": ("sobel", 50.0, 96.6, 56.3),
  }
  columns = {
    "from h": dict(metric="transformation/features/top1"),
    "from g(h)": dict(metric="transformation/projection/top1"),
    "random guess": dict(metric="transformation/features/top1/chance"),
  }
  rows = [
    dict(name=name, arg=f"transformation={key}", paper={"from h": h, "from g(h)": z, "random guess": chance})
    for name, (key, chance, h, z) in numbers.items()
  ]
  source = (
    "SimCLR, table 3: MLPs that tell from the features h, and from projections g(h) that are as wide, which "
    "transformation a picture went through; all but the first were added to the views of pretraining. MLPs, pictures "
    "(middle squares, each with the one transformation) and how strong the noise is are ours."
  )
  return dict(title="What the features know of the transformation", source=source, columns=columns, rows=rows)


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


def head(small):
  column = "linear top-1 (of the paper: rank, 3 is best)"
  dims = (32, 128) if small else (32, 64, 128, 256, 512, 1024, 2048)
  forms = [("nonlinear", 3, dims), ("linear", 2, dims), ("none", 1, (None,))]
  rows = [
    dict(
      name=kind if dim is None else f"{kind}, {dim}",
      overrides={"head.kind": kind} | ({} if dim is None else {"head.dim": dim}),
      paper={column: rank},
    )
    for kind, rank, widths in forms
    for dim in widths
  ]
  source = (
    "SimCLR, figure 8 and its text: a nonlinear head is 3 points better than a linear one, and more than 10 better "
    "than none, whatever the dimension. Its numbers are printed in a picture only and are not repeated here."
  )
  return dict(title="Projection head", source=source, columns={column: dict(metric="linear/top1")}, rows=rows)


def width():
  columns = TOP1 | {"linear top-5": dict(metric="linear/top5")}
  rows = [
    dict(
      name=f"width {times}",
      arg=f"width={times},epochs=1000",
      paper={"linear top-1": top1, "linear top-5": top5},
    )
    for times, top1, top5 in ((1, 69.3, 89.0), (2, 74.2, 92.0), (4, 76.5, 93.2))
  ]
  return dict(title="Width", source="SimCLR, table 6: ResNet-50, 1000 epochs.", columns=columns, rows=rows)


def broader():
  rows = [
    row(f"width {times}", top1) | dict(arg=f"broader,width={times},epochs=1000")
    for times, top1 in ((1, 70.0), (2, 74.4), (4, 76.8))
  ]
  source = "SimCLR, table B.2: motion blur, equalization, solarization and Sobel's filter added; how often is ours."
  return dict(title="A broader composition of augmentations", source=source, rows=rows)


def v2():
  numbers = {  # (depth, width, selective kernels): linear top-1, fine-tuned on 1 %, 10 % and all labels, supervised
    (50, 1, False): (71.7, 57.9, 68.4, 76.3, 76.6), (50, 1, True): (74.6, 64.5, 72.1, 78.7, 78.5),
    (50, 2, False): (75.6, 66.3, 73.9, 79.1, 77.8), (50, 2, True): (77.7, 70.6, 77.0, 81.3, 79.3),
    (101, 1, False): (73.6, 62.1, 71.4, 78.2, 78.0), (101, 1, True): (76.3, 68.3, 75.1, 80.6, 79.6),
    (101, 2, False): (77.0, 69.1, 75.8, 80.7, 78.9), (101, 2, True): (79.0, 73.2, 78.8, 82.4, 80.1),
    (152, 1, False): (74.5, 64.0, 73.0, 79.3, 78.3), (152, 1, True): (77.2, 70.0, 76.5, 81.3, 79.9),
    (152, 2, False): (77.4, 70.2, 76.6, 81.1, 79.1), (152, 2, True): (79.4, 74.2, 79.4, 82.9, 80.4),
    (152, 3, True): (79.8, 74.9, 80.1, 83.1, 80.5),
  }  # fmt: skip
  columns = TOP1 | {name: dict(metric=None) for name in ("1 % labels", "10 % labels", "fine-tuned", "supervised")}
  rows = [
    dict(
      name=f"ResNet-{depth}, width {times}{', SK' if sk else ''}",
      arg=f"depth={depth},width={times},{'sk' if sk else 'v2'},epochs=800",
      paper=dict(zip(columns, line, strict=True)),
    )
    for (depth, times, sk), line in numbers.items()
  ]
  source = "SimCLRv2, table of the released checkpoints. Without its memory network."
  return dict(title="Depth, width and selective kernels", source=source, columns=columns, rows=rows)


def labels():
  """Fine-tuning of one run of width 1, which `init` of --config names; wider ones stand beside."""
  numbers = {1: ((48.3, 75.5), (65.6, 87.8)), 2: ((58.5, 83.0), (71.7, 91.2)), 4: ((63.0, 85.8), (74.4, 92.6))}
  columns = {"top-1": dict(metric="val/top1"), "top-5": dict(metric="val/top5")}
  columns |= {f"{name}, width {times}": dict(metric=None) for times in (2, 4) for name in ("top-1", "top-5")}
  rows = [
    dict(
      name=f"{share:.0%} of the labels",
      arg=f"fraction={share}",
      paper=dict(zip(columns, (value for line in numbers.values() for value in line[i]), strict=True)),
    )
    for i, share in enumerate((0.01, 0.1))
  ]
  source = "SimCLR, tables 7 and B.4: ResNet-50 of width 1, 2 and 4 after 1000 epochs."
  return dict(
    title="Few labels", source=source, columns=columns, config="configs/contrastive/finetune_r50.py", rows=rows
  )


def transfer():
  """Logistic regression on other data sets, on the features of one run, which `init` of --config names."""
  sets = {  # data set of TFDS: split to fit, split to report, classes, top-1 of the paper at width 1 and 4
    "food101": ("train", "validation", 101, (68.4, 76.9)),
    "cifar10": ("train", "test", 10, (90.6, 95.3)),
    "cifar100": ("train", "test", 100, (71.6, 80.2)),
    "sun397": ("train", "test", 397, (58.8, 65.9)),
    "cars196": ("train", "test", 196, (50.3, 60.0)),
    "dtd": ("train", "test", 47, (74.5, 78.9)),
  }
  columns = {"linear top-1": dict(metric="probe/top1"), "linear top-1, width 4": dict(metric=None)}
  rows = [
    dict(
      name=name,
      arg=f"train=tfds:{name}?part={train},val=tfds:{name}?part={test},classes={classes}",
      paper=dict(zip(columns, numbers, strict=True)),
    )
    for name, (train, test, classes, numbers) in sets.items()
  ]
  source = (
    "SimCLR, tables B.5 and 8: ResNet-50 of width 1 and 4, the sets that are in TFDS and whose measure is top-1. It "
    "fits on training and validation parts, ours on the training part."
  )
  config = "configs/contrastive/transfer_r50.py"
  return dict(title="Transfer", source=source, columns=columns, config=config, rows=rows)


def pairs(small):
  """One crop for both branches; then one of them alone gets the first operation and the second."""
  size = SMALL if small else LARGE
  area = (0.2, 1.0) if small else (0.08, 1.0)
  operations = {
    "crop": ("random_resized_crop", size, area),
    "cutout": ("cutout", size // 2),
    "color": jitter(small, 1.0),
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
