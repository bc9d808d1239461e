"""bf16 where it is fast, float32 where it would cost nats: in updates, in evaluations, in the weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch.utils._python_dispatch import TorchDispatchMode

from modeling_seqvae import likelihood
from modeling_seqvae.evaluation.evaluate import Evaluator
from modeling_seqvae.training.checkpoint import evaluate_checkpoint

PRODUCTS = ("aten.mm.", "aten.addmm")
NORMALISERS = ("logsumexp", "log_softmax", "logaddexp")


class Dtypes(TorchDispatchMode):
    """The dtypes of what goes into matrix products, and into sums over words and over samples."""

    def __init__(self) -> None:
        super().__init__()
        self.products: set[torch.dtype] = set()
        self.normalisers: set[torch.dtype] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        dtypes = {tensor.dtype for tensor in args if isinstance(tensor, torch.Tensor)}
        if str(func).startswith(PRODUCTS):
            self.products |= dtypes
        elif any(name in str(func) for name in NORMALISERS):
            self.normalisers |= dtypes
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=["accelerator", "recipe", "launcher"])
def half(request, make_trainer, tmp_path, monkeypatch):
    """A trainer in bf16, by each of the ways to ask for it."""
    if request.param == "accelerator":
        return make_trainer(tmp_path / "run", accelerator=Accelerator(mixed_precision="bf16", cpu=True))
    if request.param == "recipe":
        return make_trainer(tmp_path / "run", "training.precision=bf16")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    return make_trainer(tmp_path / "run")


@pytest.fixture(scope="module")
def trained(make_trainer, tmp_path_factory):
    """A model that uses its latent: its KL is not small."""
    run = tmp_path_factory.mktemp("trained") / "run"
    settings = ["training.epochs=40", "training.optimizer=adam", "training.learning_rate=0.02", "training.kl_stop=0.1"]
    done = make_trainer(run, *settings, "training.kl_start=0", "training.plateau_from=41")
    done.train()
    assert done.history[-1]["kl"] > 1
    return done


@contextmanager
def noted(trainer) -> Iterator[dict]:
    """What the objective of every update gives."""
    objective, seen = trainer.objective.output, {"loss": set(), "reconstruction_loss": set(), "kl": set()}

    def noting(*arguments):
        output = objective(*arguments)
        for name in seen:
            seen[name].add(output[name].dtype)
        return output

    trainer.objective.output = noting
    yield seen


def test_updates_in_bf16_keep_loss_kl_softmax_and_weights_in_float32(half):
    assert half.accelerator.mixed_precision == "bf16"
    with noted(half) as seen, Dtypes() as dtypes:
        half.train()
    assert torch.bfloat16 in dtypes.products
    assert dtypes.normalisers == {torch.float32, torch.float64}  # float64: mutual information, after each epoch
    assert seen == {name: {torch.float32} for name in seen}
    assert {parameter.dtype for parameter in half.model.parameters()} == {torch.float32}
    for state in half.optimizers[0].state.values():
        assert {value.dtype for value in state.values() if isinstance(value, torch.Tensor)} <= {torch.float32}


def test_an_evaluation_in_bf16_keeps_kl_and_importance_weights_in_float32(trained, monkeypatch):
    weights, estimate = set(), likelihood.importance_weighted_nll

    def noting(posterior, reconstruction, *arguments, **options):
        assert posterior.mean.dtype == posterior.kl().dtype == torch.float32

        def noted_reconstruction(latents):
            nll = reconstruction(latents)
            weights.update({latents.dtype, nll.dtype, posterior.log_prob(latents).dtype})
            return nll

        return estimate(posterior, noted_reconstruction, *arguments, **options)

    monkeypatch.setattr("modeling_seqvae.modeling_seqvae.importance_weighted_nll", noting)
    model = trained.accelerator.unwrap_model(trained.model)
    one = evaluator(model, trained, "bf16")
    with Dtypes() as dtypes:
        measured = one.measure()
        nll = one.nll(20)
    assert measured.kl.mean() > 1
    assert torch.bfloat16 in dtypes.products
    assert dtypes.normalisers == weights == {torch.float32}
    assert measured.kl.dtype == measured.reconstruction.dtype == torch.float32
    assert nll.dtype == np.float64


@pytest.mark.parametrize(
    ("precision", "there", "warned"), [("bf16", False, True), ("bf16", True, False), ("no", False, False)]
)
def test_bf16_that_is_slower_than_float32_is_told(
    make_trainer, tmp_path, monkeypatch, recwarn, precision, there, warned
):
    monkeypatch.setattr("modeling_seqvae.training.trainer.has_bfloat16", lambda device: there)
    make_trainer(tmp_path / "run", f"training.precision={precision}", progress=True)
    assert any("no bfloat16 instructions" in str(warning.message) for warning in recwarn) == warned


def evaluator(model, trained, precision: str) -> Evaluator:
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(mixed_precision=precision, cpu=True)
    return Evaluator(model, trained.validation_set, accelerator=accelerator, progress=False)


def test_figures_in_bf16_are_close_to_those_in_float32(trained):
    """Of the same weights and noise, in nats: of any sentence, and of the mean over all."""
    model = trained.accelerator.unwrap_model(trained.model)
    found = {}
    for precision in ("no", "bf16"):
        one = evaluator(model, trained, precision)
        measured = one.measure()
        found[precision] = {
            "bound": (measured.reconstruction + measured.kl).numpy(), "kl": measured.kl.numpy(), "nll": one.nll(100),
        }  # fmt: skip
    for name, exact in found["no"].items():
        error = np.abs(found["bf16"][name] - exact)
        assert 0 < error.max() < 0.05, name
        assert abs(found["bf16"][name].mean() - exact.mean()) < 0.02, name


def test_an_evaluation_by_itself_is_in_what_the_launcher_says(trained, monkeypatch):
    reports = []
    for precision in ("no", "bf16"):
        AcceleratorState._reset_state(reset_partial_state=True)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        with Dtypes() as dtypes:
            reports.append(
                evaluate_checkpoint(str(trained.output_dir), split="validation", nll_samples=5, device="cpu")
            )
        assert (torch.bfloat16 in dtypes.products) == (precision == "bf16")
        assert reports[-1]["precision"] == precision
    for name in ("bound", "kl", "nll"):
        assert reports[0][name] != reports[1][name]
        assert reports[0][name] == pytest.approx(reports[1][name], abs=0.05)


def test_an_evaluation_in_a_precision_that_there_is_not_is_refused(trained, monkeypatch):
    """A CPU computes in float32 under accelerate's fp16, and the report would say fp16."""
    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    with pytest.raises(ValueError, match="precision 'fp16' is not one of no, bf16"):
        evaluate_checkpoint(str(trained.output_dir), split="validation", nll_samples=5, device="cpu")
