"""The report as one HTML file: pictures inlined, no script, no network, every text escaped."""

import base64
import html
import io

import numpy as np
from PIL import Image

from vljax.report import figure
from vljax.report.content import Picture, Query, Report, Score
from vljax.train.progress import duration
from vljax.types import UInt8

STYLE = """
:root { color-scheme: light; --ink: #111827; --grey: #6b7280; --line: #e5e7eb; --pale: #f3f4f6; }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); max-width: 1080px; }
body { margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 0; }
.note { color: var(--grey); margin: .1rem 0 .9rem; overflow-wrap: anywhere; }
pre { background: var(--pale); padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.top { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.top > * { flex: 1 1 24rem; min-width: 0; max-width: 100%; }
table { border-collapse: collapse; } th { color: var(--grey); font-weight: normal; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: right; white-space: nowrap; }
td:first-child, th:first-child { text-align: left; padding-left: 0; white-space: normal; }
.bar { position: relative; display: inline-block; width: 110px; height: 11px; background: var(--pale); }
.bar i { position: absolute; inset: 0 auto 0 0; background: #2563eb; }
.bar b { position: absolute; top: -3px; bottom: -3px; width: 2px; background: #d97706; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 1.1rem; }
figure { display: flex; gap: .8rem; margin: 0; align-items: flex-start; }
figure img { width: 104px; height: 104px; } figcaption { min-width: 0; overflow-wrap: anywhere; }
img { object-fit: contain; border: 1px solid var(--line); background: white; }
ol { margin: 0; padding-left: 1.4rem; } .true { color: #15803d; font-weight: 600; } .miss { color: #b45309; }
.query { display: flex; flex-wrap: wrap; gap: .4rem; align-items: center; margin: .5rem 0; }
.query q { flex: 0 0 13rem; overflow-wrap: anywhere; } .query img { width: 84px; height: 84px; }
img.curves { border: 0; width: 100%; } footer { color: var(--grey); font-size: .85rem; margin: 2rem 0; }
"""


def draw(report: Report) -> str:
  """The page.

  Raises:
    ImportError: matplotlib, which draws the curves, is not installed.
  """
  parts = [_head(report), _measurements(report)]
  if report.pictures:
    parts.append(f"<h2>Pictures and their nearest names</h2>{_note(report.picture_note)}")
    parts.append(f'<div class="pictures">{"".join(map(_picture, report.pictures))}</div>')
  if report.queries:
    parts.append(f"<h2>Typed queries and their nearest pictures</h2>{_note(report.query_note)}")
    parts += map(_query, report.queries)
  if report.credit:
    parts.append(f"<footer>{html.escape(report.credit)}</footer>")
  body = "\n".join(parts)
  return (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    f"<title>{html.escape(report.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
  )


def _head(report: Report) -> str:
  facts = [*([] if report.seconds is None else [f"trained in {duration(report.seconds)}"]), report.machine]
  command = html.escape(report.command)
  return f"<h1>{html.escape(report.title)}</h1>{_note('  ·  '.join(facts))}<pre>{command}</pre>"


def _measurements(report: Report) -> str:
  parts = []
  if report.scores:
    head = "<tr><th></th><th></th><th>held out</th><th>chance</th></tr>"
    parts.append(f"<div><table>{head}{''.join(map(_score, report.scores))}</table></div>")
  curves = figure.draw_curves(report)
  if curves:
    parts.append(f'<div><img class="curves" alt="the loss over the steps" src="{_inline(curves)}"></div>')
  return f'<div class="top">{"".join(parts)}</div>'


def _score(score: Score) -> str:
  bar = ""
  if score.is_rate and score.chance is not None:
    bar = (
      f'<span class="bar"><i style="width:{100 * score.value:.1f}%"></i>'
      f'<b style="left:{100 * score.chance:.1f}%"></b></span>'
    )
  value, chance = html.escape(score.show(score.value)), html.escape(score.show(score.chance))
  return f"<tr><td>{html.escape(score.name)}</td><td>{bar}</td><td><strong>{value}</strong></td><td>{chance}</td></tr>"


def _picture(picture: Picture) -> str:
  item = lambda name: (
    f'<li class="true">{html.escape(name)} ✓</li>' if name in picture.truth else f"<li>{html.escape(name)}</li>"
  )
  names = "".join(map(item, picture.names))
  found = set(picture.names) & set(picture.truth)
  miss = "" if found else f'<div class="miss">is: {html.escape(picture.truth[0])}</div>'
  return f"<figure>{_image(picture.image, picture.truth[0])}<figcaption><ol>{names}</ol>{miss}</figcaption></figure>"


def _query(query: Query) -> str:
  images = "".join(_image(image, f"answer {i}") for i, image in enumerate(query.images, 1))
  return f'<div class="query"><q>{html.escape(query.text)}</q>{images}</div>'


def _note(text: str) -> str:
  return f'<p class="note">{html.escape(text)}</p>'


def _image(image: UInt8[np.ndarray, "h w 3"], alt: str) -> str:
  buffer = io.BytesIO()
  Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG")
  return f'<img alt="{html.escape(alt)}" src="{_inline(buffer.getvalue())}">'


def _inline(png: bytes) -> str:
  return f"data:image/png;base64,{base64.b64encode(png).decode()}"
