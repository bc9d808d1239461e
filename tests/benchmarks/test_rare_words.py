"""Nats by how often a word occurs: bins, their sum against the model's own loss, and the table."""

import pytest
import rare_words
import report as report_page
from datasets import Dataset

from modeling_seqvae.tokenization import train_tokenizer

TEXTS = ["a b c", "a a b", "d", "b c a b"]


def test_a_word_is_of_the_bin_that_its_count_has_reached():
    assert rare_words.bins_of([0, 14, 15, 49, 50, 10000, 10**6]).tolist() == [0, 0, 1, 1, 2, 5, 5]


def test_the_bins_add_up_to_the_reconstruction_loss_and_hold_their_own_words(make_model, monkeypatch):
    monkeypatch.setattr(rare_words, "BATCH", 3)
    tokenizer = train_tokenizer(TEXTS)
    model = make_model(vocab_size=len(tokenizer)).eval()
    tokens = Dataset.from_dict({"input_ids": tokenizer(TEXTS)["input_ids"]})
    bins = rare_words.bins_of(
        [20 if token == "a" else 0 for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))]
    )
    nats = rare_words.nats_by_bin(model, tokenizer, tokens, bins)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    output = model(**batch, labels=batch["input_ids"], sample_posterior=False)
    assert sum(nats) == pytest.approx(output.reconstruction_loss.mean().item(), rel=1e-5)
    nll = -output.logits[:, :-1].log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None]).squeeze(2)
    of_a = nll[batch["input_ids"][:, 1:] == tokenizer.convert_tokens_to_ids("a")].sum().item() / len(TEXTS)
    assert nats[1] == pytest.approx(of_a, rel=1e-5) and nats[2:] == [0.0] * 4


def test_the_table_has_a_row_for_each_run_and_split():
    records = [
        {"run": "Adam", "split": split, "nats": [1.0, 2.0, 3.0, 4.0, 5.0, 6.04]} for split in ("train", "validation")
    ]
    made = report_page.rare_words({"corpus": "ptb", "sentences": 1000, "edges": rare_words.EDGES, "records": records})
    assert "| below 15 | 15 to 49 |" in made and "| 1,000 to 9,999 | 10,000 or more | all |" in made
    assert "| Adam | validation | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 6.0 | 21.0 |" in made
