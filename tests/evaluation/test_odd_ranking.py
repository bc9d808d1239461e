"""With byte-level BPE, texts that are odd are the most unusual ones of a file; with words, the file says why not."""

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset, DatasetDict

from modeling_seqvae import SeqVAE, SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.data import demo
from modeling_seqvae.data.subwords import train_bpe_tokenizer
from modeling_seqvae.evaluation.scoring import score_to_file
from modeling_seqvae.tokenization import train_tokenizer

ODD = [
    "xqzv jkwp brtl vvnq zzkx pwqj mnbv qlrt",
    "das Zimmer war sauber und die Mitarbeiter waren sehr freundlich",
    "aaaa aaaa aaaa aaaa aaaa aaaa",
]
UPDATES = 100


@pytest.fixture(autouse=True)
def _one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def reviews() -> DatasetDict:
    return demo.build()


def trained(reviews: DatasetDict, tokenizer) -> SeqVAE:
    """A small model after seconds of training, on texts that none of the others is among."""
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos")}
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "embedding_size": 64, "hidden_size": 64, "latent_size": 8}
    model = SeqVAEForTextModeling(SeqVAEConfig(**sizes, **ids)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    texts, order = reviews["train"]["text"][:3000], np.random.default_rng(0)
    for _ in range(UPDATES):
        chosen = [texts[place] for place in order.integers(0, len(texts), 32)]
        batch = tokenizer(chosen, padding=True, return_tensors="pt")
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(batch["input_ids"], batch["attention_mask"], labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return SeqVAE(model.eval(), tokenizer)


def test_with_bytes_odd_texts_are_the_most_unusual(reviews, tmp_path):
    vae = trained(reviews, train_bpe_tokenizer(reviews["train"]["text"][:3000], vocabulary_size=600))
    usual = reviews["test"]["text"][:300]
    rows = Dataset.from_dict({"text": [*usual[:150], *ODD, *usual[150:]]})
    score_to_file(vae, rows, tmp_path / "a.csv", quick=True, keep=["text"], reference=reviews["validation"])
    scores = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    first = scores.sort_values("bits_per_byte", ascending=False)[:3]
    assert set(first["text"]) == set(ODD) and (first["quantile"] > 0.99).all()
    assert (scores["unknown"] == 0).all() and (scores["warning"] == "").all()
    assert scores["quantile"].drop(first.index).mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.filterwarnings("ignore:.*unknown words")
def test_with_words_odd_texts_say_that_their_words_are_unknown(reviews, tmp_path):
    vae = trained(reviews, train_tokenizer(reviews["train"]["text"][:3000]))
    rows = Dataset.from_dict({"text": [*reviews["test"]["text"][:20], *ODD]})
    score_to_file(vae, rows, tmp_path / "a.csv", quick=True, reference=reviews["validation"])
    scores = pd.read_csv(tmp_path / "a.csv", keep_default_na=False)
    assert list(scores["warning"][20:]) == [f"{len(text.split())} of {len(text.split())} words unknown" for text in ODD]
    assert (scores["bits_per_byte"][20:] == "").all() and (scores["bits_per_byte"][:20] != "").all()
