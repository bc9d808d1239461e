"""The supervised baseline of the paper's Appendix A: a bidirectional LSTM that learns its features from the labels.

Letters in shapes: B sentences, T tokens, E embedding, H hidden units of each direction, C classes.
"""

import math
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from tqdm.auto import tqdm

from ..configuration_seqvae import SeqVAEConfig
from ..data.batching import LengthGroupedBatches, collate, in_order_of_length, rows, sentence_lengths
from ..data.columns import array_of
from .probe import MLP_HIDDEN

LEARNING_RATE = 1e-3
MAX_GRAD_NORM = 5.0
DROPOUT = 0.5
EMBEDDING_RANGE = 0.1
EPOCHS = 20
"""Passes over the training documents, at most."""
PATIENCE = 5
"""Passes without a better validation accuracy that end training."""


def matching_hidden_size(embedding_size: int, hidden_size: int) -> int:
    """Units of each direction that give a bi-LSTM about as many weights as an LSTM of `hidden_size` (Appendix A).

    An LSTM of H units on inputs of E has 4 H (E + H + 2) weights, a bi-LSTM twice as many: half the units or more.
    """
    half = hidden_size * (embedding_size + hidden_size + 2) / 2  # h (E + h + 2), solved for h
    return max(1, round(math.sqrt((embedding_size + 2) ** 2 / 4 + half) - (embedding_size + 2) / 2))


class BiLSTMClassifier(nn.Module):
    """Embedding, one bi-LSTM layer, the last state of each direction, three linear layers: paper, Appendix A.

    The embedding is as large as an encoder's of the configuration, the bi-LSTM has about as many weights as its LSTM,
    and the three layers are as wide as those of the probe on features.
    """

    def __init__(self, config: SeqVAEConfig, classes: int):
        super().__init__()
        hidden_size = matching_hidden_size(config.embedding_size, config.encoder_hidden_size or config.hidden_size)
        widths = (2 * hidden_size, *MLP_HIDDEN, classes)
        self.pad_token_id = config.pad_token_id or 0
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        nn.init.uniform_(self.embed_tokens.weight, -EMBEDDING_RANGE, EMBEDDING_RANGE)
        self.lstm = nn.LSTM(config.embedding_size, hidden_size, batch_first=True, bidirectional=True)
        self.mlp = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of input_ids (B, T), padded on the right."""
        embeds = self.dropout(self.embed_tokens(input_ids))  # (B, T, E)
        lengths = attention_mask.sum(1).cpu()
        packed = pack_padded_sequence(embeds, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)  # (2, B, H): forwards at `</s>`, backwards at `<s>`
        features = self.dropout(last.transpose(0, 1).flatten(1))
        for layer in self.mlp[:-1]:
            features = layer(features).relu()
        return self.mlp[-1](features)


@dataclass(frozen=True)
class Trained:
    """A classifier with the weights of its best pass, and the validation accuracy of every pass."""

    classifier: BiLSTMClassifier
    accuracies: list[float]


def train_classifier(
    config: SeqVAEConfig,
    train: Dataset,
    validation: Dataset,
    seed: int = 0,
    epochs: int = EPOCHS,
    batch_size: int = 32,
    device: str | torch.device = "cpu",
    show_progress: bool | None = None,
) -> Trained:
    """Train on tokenised documents with labels 0 .. C - 1 by Adam, until validation accuracy stays for five passes.

    `config` gives the sizes. The global random state decides nothing and is left as it was: on one device, a seed fixes
    the weights. The bar's time left is of all `epochs`, the longest it can take. Raises ValueError where there are no
    documents.
    """
    labels = torch.from_numpy(array_of(train, "label", np.int64)).to(device)
    batches = LengthGroupedBatches(sentence_lengths(train), batch_size, seed)
    accuracies: list[float] = []
    with torch.random.fork_rng([device] if torch.device(device).type == "cuda" else []):
        torch.manual_seed(seed)
        classifier = BiLSTMClassifier(config, int(labels.max()) + 1).to(device)
        optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE)
        best = deepcopy(classifier.state_dict())
        with _bar(epochs * len(batches), show_progress) as bar:
            for epoch in range(epochs):
                classifier.train()
                for numbers in batches.epoch(epoch):
                    loss = F.cross_entropy(_logits(classifier, train, numbers), labels[numbers])
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(classifier.parameters(), MAX_GRAD_NORM)
                    optimizer.step()
                    bar.update()
                accuracies.append(float((predict(classifier, validation) == array_of(validation, "label")).mean()))
                bar.set_postfix(validation=f"{accuracies[-1]:.1%}")
                best_epoch = int(np.argmax(accuracies))  # the first of equal ones
                if best_epoch == epoch:
                    best = deepcopy(classifier.state_dict())
                if epoch - best_epoch == PATIENCE:
                    break
    classifier.load_state_dict(best)
    return Trained(classifier.eval(), accuracies)


@torch.no_grad()
def predict(classifier: BiLSTMClassifier, documents: Dataset, batch_size: int = 32) -> NDArray[np.int64]:
    """The label of each tokenised document, (N,), in order; the classifier is left in evaluation mode."""
    classifier.eval()
    predicted = np.empty(len(documents), np.int64)
    for numbers in in_order_of_length(sentence_lengths(documents), batch_size):
        predicted[numbers] = _logits(classifier, documents, numbers).argmax(1).cpu().numpy()
    return predicted


def _logits(classifier: BiLSTMClassifier, documents: Dataset, numbers: NDArray) -> torch.Tensor:
    batch = collate(rows(documents, numbers), classifier.pad_token_id)
    device = classifier.embed_tokens.weight.device
    return classifier(batch["input_ids"].to(device), batch["attention_mask"].to(device))


def _bar(total: int, show: bool | None) -> tqdm:
    return tqdm(total=total, desc="bi-LSTM", unit="batch", delay=0 if show else 2, disable=show is False, leave=False)
