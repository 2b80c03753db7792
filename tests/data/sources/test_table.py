"""Lines of a .jsonl file by number."""

import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vljax.data.sources import table

rows = st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=3), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), st.booleans(), st.integers(1, 64))
def test_any_rows(tmp_path, monkeypatch, content, newline, ended, ascii_only, chunk):
  monkeypatch.setattr(table, "CHUNK", chunk)
  text = newline.join(json.dumps(row, ensure_ascii=ascii_only) for row in content) + newline * ended
  (tmp_path / "t.jsonl").write_bytes(text.encode())
  found = table.Table(tmp_path / "t.jsonl")
  assert [found[n] for n in range(len(found))] == content
  assert pickle.loads(pickle.dumps(found))[0] == content[0]


def test_row_that_is_no_object(tmp_path):
  (tmp_path / "t.jsonl").write_text('{"a": 1}\n[1, 2]\n')
  found = table.Table(tmp_path / "t.jsonl")
  with pytest.raises(ValueError, match=r"t.jsonl: row 1 is b'\[1, 2\]'; legal: an object with fields"):
    found[1]
