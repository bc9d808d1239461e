"""The processes that torchrun or accelerate launched, as every part of the package must see them."""

import os
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def launched(cpu: bool = False, **options: Any) -> PartialState:
    """The processes of this launch, or this one alone; on CPUs with `cpu`, or where several find no GPU.

    accelerate decides it once for a program, and a bare PartialState() takes several processes on CPUs for one each.
    """
    several_without_gpu = "LOCAL_RANK" in os.environ and not torch.cuda.is_available()
    return PartialState(cpu or several_without_gpu or parse_flag_from_env("ACCELERATE_USE_CPU"), **options)
