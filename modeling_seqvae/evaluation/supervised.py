"""The supervised baseline of the paper's Appendix A: a bidirectional LSTM that learns its features from the labels.

Letters in shapes: B sentences, T tokens, E embedding, H hidden units of each direction, C classes.
"""

import hashlib
import math
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from ..argument_checks import progress_bar
from ..configuration_seqvae import SeqVAEConfig
from ..data.batching import LengthGroupedBatches, collate, in_order_of_length, rows, sentence_lengths
from ..data.columns import array_of, tokens_of
from ..data.files import whole
from ..noise import seed_torch
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
        self.mlp: Any = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
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
    kept: Path | None = None,
) -> Trained:
    """Train on tokenised documents with labels 0 .. C - 1 by Adam, until validation accuracy stays for five passes.

    `config` gives the sizes. The global random state decides nothing and is left as it was: on one device, a seed fixes
    the weights. The bar's time left is of all `epochs`, the longest it can take. With a file `kept` an interrupted call
    goes on from its last pass, if it was of the same documents and arguments; the file goes at the end. Raises
    ValueError where there are no documents.
    """
    labels = torch.from_numpy(array_of(train, "label", np.int64)).to(device)
    batches = LengthGroupedBatches(sentence_lengths(train), batch_size, seed)
    on_gpu = torch.device(device).type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        seed_torch(seed, torch.device(device))
        classifier = BiLSTMClassifier(config, int(labels.max()) + 1).to(device)
        with torch.no_grad():  # a class that no training document has is never predicted
            classifier.mlp[-1].bias.masked_fill_(labels.bincount() == 0, -math.inf)
        optimizer = torch.optim.Adam(classifier.parameters(), LEARNING_RATE)
        passes = _Passes(classifier, optimizer, _fingerprint(config, train, validation, seed, batch_size), device)
        if kept and kept.is_file():
            passes.load(kept)
        with progress_bar(epochs * len(batches), "bi-LSTM", show_progress, "batch") as bar:
            bar.update(len(passes.accuracies) * len(batches))
            while len(passes.accuracies) < epochs and not passes.has_converged():
                classifier.train()
                for numbers in batches.epoch(len(passes.accuracies)):
                    loss = F.cross_entropy(_logits(classifier, train, numbers), labels[numbers])
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(classifier.parameters(), MAX_GRAD_NORM)
                    optimizer.step()
                    bar.update()
                passes.add(float((predict(classifier, validation) == array_of(validation, "label")).mean()))
                bar.set_postfix(validation=f"{passes.accuracies[-1]:.1%}")
                if kept:
                    passes.save(kept)
    if kept:
        kept.unlink(missing_ok=True)
    classifier.load_state_dict(passes.best)
    return Trained(classifier.eval(), passes.accuracies)


class _Passes:
    """The passes of a training so far, and what it goes on from after an interruption."""

    def __init__(self, classifier: BiLSTMClassifier, optimizer: torch.optim.Optimizer, what: str, device: Any):
        self.classifier, self.optimizer, self.what, self.device = classifier, optimizer, what, device
        self.accuracies: list[float] = []
        self.best: dict[str, torch.Tensor] = {}

    def add(self, accuracy: float) -> None:
        """Note the validation accuracy of a pass, and its weights if it is the best; the first of equal ones."""
        if accuracy > max(self.accuracies, default=-1.0):
            self.best = deepcopy(self.classifier.state_dict())
        self.accuracies.append(accuracy)

    def has_converged(self) -> bool:
        """Whether so many passes in a row were no better that training ends."""
        return len(self.accuracies) - 1 - int(np.argmax([*self.accuracies, -1.0])) >= PATIENCE

    def save(self, path: Path) -> None:
        random = [torch.get_rng_state()]
        if torch.device(self.device).type == "cuda":
            random.append(torch.cuda.get_rng_state(self.device))
        state = {
            "what": self.what, "accuracies": self.accuracies, "best": self.best, "random": random,
            "classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict(),
        }  # fmt: skip
        with whole(path) as fresh:
            torch.save(state, fresh)

    def load(self, path: Path) -> None:
        """Go on from a file of `save`; one of something else, or that cannot be read, is left alone."""
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception:  # whatever a damaged file makes of it
            return
        if state["what"] != self.what:
            return
        self.accuracies, self.best = state["accuracies"], state["best"]
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"][0].cpu())
        if len(state["random"]) > 1:
            torch.cuda.set_rng_state(state["random"][1].cpu(), self.device)


def _fingerprint(config: SeqVAEConfig, train: Dataset, validation: Dataset, seed: int, batch_size: int) -> str:
    """A hash of what a pass of training depends on."""
    digest = hashlib.sha256(f"{config.to_json_string()} {seed} {batch_size}".encode())
    for documents in (train, validation):
        for lengths, tokens in tokens_of(documents):
            digest.update(lengths.astype(np.int32).tobytes() + tokens.astype(np.int32).tobytes())
        digest.update(array_of(documents, "label", np.int64).tobytes())
    return digest.hexdigest()


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
