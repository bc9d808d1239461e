import pytest

from modeling_seqvae.training.run_directory import RECORD, read_history, require_history, write_history

RECORDS = [dict.fromkeys(RECORD, 1.0) | {"epoch": epoch, "rates": [0.5]} for epoch in (1, 2)]


def test_a_history_is_read_as_it_was_written(tmp_path):
    write_history(tmp_path, RECORDS)
    assert read_history(tmp_path) == require_history(tmp_path) == RECORDS


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_before_its_first_record_has_none(tmp_path, begun):
    if begun:
        write_history(tmp_path, [])
    assert read_history(tmp_path) == []
    with pytest.raises(ValueError, match=r"history.jsonl has no record: the run has not ended its first epoch"):
        require_history(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not readable as JSON"),
        ("[1]", "holds no object"),
        ('{"epoch": 1}', "lacks au, bound"),
        ("\xff", "readable"),
    ],
)
def test_a_damaged_history_is_named(tmp_path, line, told):
    path = tmp_path / "history.jsonl"
    path.write_bytes(line.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"history.jsonl is .*{told}"):
        read_history(tmp_path)
