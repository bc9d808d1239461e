"""Batches arrive as they were sent."""

import torch

from modeling_seqvae.transfers import arriving, to_device


def test_batches_arrive_in_order_and_one_late():
    asked = []

    def sent():
        for number in range(3):
            asked.append(number)
            yield {"number": torch.tensor([number]), "value": torch.full((2,), float(number))}

    arrived = arriving(sent())
    first = next(arrived)
    assert asked == [0, 1] and first["number"].item() == 0
    assert [batch["value"][0].item() for batch in arrived] == [1.0, 2.0]
    assert list(arriving([])) == []


def test_on_its_own_device_a_tensor_stays_itself():
    tensor = torch.ones(2)
    assert to_device(tensor, torch.device("cpu")) is tensor
