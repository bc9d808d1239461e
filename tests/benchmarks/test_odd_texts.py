"""Odd texts are compared with usual ones by nats a token and bits per byte, and a table says where there are none."""

from pathlib import Path

import odd_texts
import pytest
from datasets import Dataset
from report import odd_texts as table_of_odd_texts

from modeling_seqvae import SeqVAE

CHECKPOINT = Path(__file__).resolve().parents[2] / "model_cards" / "demo-max-pool"


@pytest.mark.filterwarnings("ignore:.*unknown words")
def test_a_model_of_words_has_no_bits_per_byte_of_unknown_words():
    usual = ["the staff were friendly .", "the room was cold , and the staff were slow .", "a cold room !"]
    records = odd_texts.measure(SeqVAE.from_pretrained(CHECKPOINT), Dataset.from_dict({"text": usual}))
    assert [record["text"] for record in records] == list(odd_texts.ODD)
    assert all(record["unknown"] > 0 and record["bits_per_byte"] is None for record in records)
    assert all(0 <= record["share_nats_a_token"] <= 1 for record in records)
    made = table_of_odd_texts({"records": [{"run": "words"} | record for record in records]})
    assert "| words | gibberish | 8 of 8 |" in made and made.splitlines()[2].endswith("| – | – |")
