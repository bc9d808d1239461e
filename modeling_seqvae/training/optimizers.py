"""Optimisers by name, with torch's defaults but for the learning rate."""

import torch

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
"""The values of `training.optimizer`."""
