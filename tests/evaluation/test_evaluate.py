"""Figures of a model on sentences: what they are, and all that they do not depend on."""

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from threading import Barrier, Lock
from types import MethodType
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset, concatenate_datasets
from torch.distributions import Independent, Normal, kl_divergence

from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.evaluation import evaluate as module
from modeling_seqvae.evaluation.evaluate import (
    Evaluator,
    Measurements,
    evaluate,
    nll_figures,
    standard_error,
    summarise,
)
from modeling_seqvae.evaluation.metrics import Dispersion
from modeling_seqvae.evaluation.table import COLUMNS as TABLE_COLUMNS
from modeling_seqvae.noise import seed_of, standard_normal
from modeling_seqvae.training.report import COLUMNS as HISTORY_COLUMNS

ROOT = Path(__file__).parents[2]
COUNT = 70  # two groups of 32, and a rest
SAMPLES = 7


def sentences(count: int, seed: int = 0) -> Dataset:
    """Tokenised sentences of 0 to 8 random words, the first few of known lengths."""
    random = np.random.default_rng(seed)
    words = [5, 1, 0, 2, 8, *random.integers(0, 9, count)][:count]
    ids = [[1, *random.integers(3, 20, length).tolist(), 2] for length in words]
    return Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "index": list(range(count))})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return sentences(COUNT)


@pytest.fixture
def model(make_model: Callable[..., Any]) -> SeqVAEForTextModeling:
    return make_model().double()  # so that the order of additions does not show


@pytest.fixture
def language_model(make_model: Callable[..., Any]) -> SeqVAEForTextModeling:
    return make_model(latent_size=0).double()


def evaluator(model: SeqVAEForTextModeling, dataset: Dataset, **arguments: Any) -> Evaluator:
    return Evaluator(model, dataset, **{"progress": False, **arguments})


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == (value if value is None else pytest.approx(value, abs=1e-9)), name


def log_q(measured: Measurements) -> torch.Tensor:
    """log q(z|x) of each draw, (N,), by torch.distributions."""
    return Independent(Normal(measured.mean, (0.5 * measured.base_logvar).exp()), 1).log_prob(measured.latents)


# What the figures are


def test_measurements_are_those_of_each_sentence_alone(model, dataset) -> None:
    measured = evaluator(model, dataset, seed=3).measure()
    assert measured.number.tolist() == list(range(COUNT))
    for number, ids in enumerate(dataset["input_ids"]):
        row = torch.tensor([ids])
        posterior = model.encode(row)
        noise = standard_normal(1, posterior.mean, [torch.Generator().manual_seed(seed_of(3, number))])[0, 0]
        z = posterior.mean + posterior.variance.sqrt() * noise
        log_probs = model(row, decoder_input_ids=row, latents=z).logits.log_softmax(-1)[0]
        reconstruction = -sum(log_probs[position, token] for position, token in enumerate(ids[1:]))
        q = Normal(posterior.mean, posterior.variance.sqrt())
        torch.testing.assert_close(measured.latents[number], z[0])
        torch.testing.assert_close(measured.reconstruction[number], reconstruction)
        torch.testing.assert_close(measured.kl[number], kl_divergence(q, Normal(0.0, 1.0)).sum())
        assert measured.tokens[number] == len(ids) - 1  # </s> counted, <s> not


def test_the_bound_is_reconstruction_plus_kl_at_weight_one(model, dataset) -> None:
    model.kl_weight = 0.1
    measured = evaluator(model, dataset).measure()
    summary = summarise(measured)
    assert summary["rec"] == pytest.approx(measured.reconstruction.mean().item())
    assert summary["kl"] == pytest.approx(measured.kl.mean().item())
    assert summary["bound"] == pytest.approx((measured.reconstruction + measured.kl).mean().item())


def test_the_report_holds_every_figure_and_is_plain_json(model, language_model, dataset) -> None:
    names = {
        "bound", "rec", "kl", "mi", "mi_corpus", "mi_equal_length", "au", "cosine",
        "nll", "nll_se", "nll_gap", "nll_gap_se", "nll_sentences", "nll_samples", "ppl",
        "sentences", "tokens", "shuffled", "bits_per_byte", "bytes",
    }  # fmt: skip
    for measured_model in (model, language_model):
        report = evaluate(evaluator(measured_model, dataset), SAMPLES)
        assert report.keys() == names
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_documentation_names_every_figure(model, dataset) -> None:
    explained = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    figures = {*evaluate(evaluator(model, dataset), SAMPLES), *TABLE_COLUMNS, *HISTORY_COLUMNS}
    assert [name for name in figures if f"`{name}`" not in explained] == []


def test_perplexity_is_per_token_with_the_end_of_the_sentence(model, dataset) -> None:
    measured = evaluator(model, dataset)
    report = evaluate(measured, SAMPLES)
    nll = measured.nll(SAMPLES)
    tokens = sum(len(ids) - 1 for ids in dataset["input_ids"])
    assert report["tokens"] == tokens
    assert report["ppl"] == pytest.approx(math.exp(nll.sum() / tokens))
    assert report["nll"] == pytest.approx(nll.mean())
    assert report["nll_se"] == pytest.approx(nll.std(ddof=1) / math.sqrt(COUNT))


def test_the_standard_error_is_the_spread_of_means() -> None:
    values = np.random.default_rng(0).normal(size=(2000, 50))
    assert np.mean([standard_error(row) for row in values]) == pytest.approx(values.mean(1).std(), rel=0.05)
    assert standard_error(np.array([3.0])) is None


def test_a_collapsed_model_shows_no_kl_no_information_and_no_active_unit(model, dataset) -> None:
    for parameter in model.get_encoder().posterior.parameters():
        torch.nn.init.zeros_(parameter)
    summary = summarise(evaluator(model, dataset).measure())
    assert summary["kl"] == pytest.approx(0, abs=1e-12)
    assert summary["mi"] == pytest.approx(0, abs=1e-12)
    assert summary["au"] == 0


def test_one_sentence_has_no_spread(model, dataset) -> None:
    report = evaluate(evaluator(model, dataset.select([4])), SAMPLES)
    assert (report["nll_se"], report["cosine"], report["au"]) == (None, None, 0)
    json.dumps(report, allow_nan=False)


# What bounds what


def test_the_nll_with_one_draw_is_the_bound_s_own_draw(model, dataset) -> None:
    """-log p(x|z) + log q(z|x) - log p(z), at the same z as `measure`."""
    one = evaluator(model, dataset)
    measured = one.measure()
    log_p = Independent(Normal(torch.zeros(3).double(), 1.0), 1).log_prob(measured.latents)
    expected = measured.reconstruction + log_q(measured) - log_p
    np.testing.assert_allclose(one.nll(num_samples=1), expected.numpy(), atol=1e-10)


def test_the_one_draw_bound_averages_to_above_the_nll(model, dataset) -> None:
    few = dataset.select(range(10))
    measured = [evaluator(model, few, seed=seed).measure() for seed in range(60)]
    bounds = torch.stack([one.reconstruction + one.kl for one in measured]).numpy()  # (seeds, sentences)
    single = np.stack([evaluator(model, few, seed=seed).nll(1) for seed in range(60)])
    nll = evaluator(model, few, seed=100).nll(2000)
    error = standard_error(bounds.mean(1))
    assert bounds.mean() > nll.mean() + 3 * error
    assert single.mean() == pytest.approx(bounds.mean(), abs=4 * (error + standard_error(single.mean(1))))
    assert evaluator(model, few).nll(40).mean() < bounds.mean()


def test_a_language_model_s_nll_is_exact(language_model, dataset) -> None:
    one = evaluator(language_model, dataset)
    expected = []
    for ids in dataset["input_ids"]:
        log_probs = language_model(torch.tensor([ids])).logits.log_softmax(-1)[0]
        expected.append(-sum(log_probs[position, token].item() for position, token in enumerate(ids[1:])))
    np.testing.assert_allclose(one.nll(num_samples=1), expected, atol=1e-10)
    assert one.nll(num_samples=500).tolist() == one.nll(num_samples=1).tolist()
    measured = one.measure()
    np.testing.assert_allclose(measured.reconstruction.numpy(), expected, atol=1e-10)
    assert measured.kl.tolist() == [0.0] * COUNT


def test_a_language_model_has_no_figures_of_a_latent(language_model, dataset) -> None:
    report = evaluate(evaluator(language_model, dataset))
    assert [report[name] for name in ("mi", "mi_corpus", "au", "cosine")] == [None] * 4
    assert report["kl"] == 0
    assert report["nll"] == pytest.approx(report["bound"])
    assert report["nll_samples"] == 1


# What they do not depend on


@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batch_size_changes_no_figure(model, dataset, batch_size: int) -> None:
    expected = evaluate(evaluator(model, dataset, shuffle_words=True), SAMPLES, nll_sentences=20)
    found = evaluate(evaluator(model, dataset, shuffle_words=True, batch_size=batch_size), SAMPLES, nll_sentences=20)
    assert_same(found, expected)


def test_batch_size_hardly_changes_a_figure_in_single_precision(make_model, dataset) -> None:
    expected = evaluate(evaluator(make_model(), dataset), SAMPLES)
    found = evaluate(evaluator(make_model(), dataset, batch_size=9), SAMPLES)
    assert found.keys() == expected.keys()
    assert [found[name] for name in expected] == pytest.approx(list(expected.values()), abs=1e-4)


@pytest.mark.parametrize("latent_size", [0, 3])
def test_single_precision_is_that_of_a_model_which_was_prepared_for_bf16(make_model, dataset, latent_size) -> None:
    """accelerate gives it a `forward` that autocasts, which stays on it when it is unwrapped."""
    expected = evaluate(evaluator(make_model(latent_size=latent_size), dataset, precision="no"), SAMPLES)
    prepared = make_model(latent_size=latent_size)
    prepared.forward = MethodType(torch.autocast("cpu", torch.bfloat16)(type(prepared).forward), prepared)
    assert evaluate(evaluator(prepared, dataset, precision="no"), SAMPLES) == expected
    assert evaluate(evaluator(prepared, dataset, precision="bf16"), SAMPLES) != expected


def test_the_order_of_the_dataset_changes_no_figure(model, dataset) -> None:
    shuffled = dataset.select(np.random.default_rng(0).permutation(COUNT))
    given = {"num_samples": SAMPLES, "nll_sentences": 20}
    expected = evaluate(evaluator(model, dataset, shuffle_words=True), **given)
    assert_same(evaluate(evaluator(model, shuffled, shuffle_words=True), **given), expected)


@pytest.mark.parametrize("chosen", [range(20), [40, 3, 17]])
def test_a_sentence_s_values_are_those_it_has_in_the_whole(model, dataset, chosen: Iterable[int]) -> None:
    numbers = sorted(chosen)
    whole, part = evaluator(model, dataset), evaluator(model, dataset.select(chosen))
    np.testing.assert_allclose(part.nll(SAMPLES), whole.nll(SAMPLES)[numbers], atol=1e-10)
    all_measured, measured = whole.measure(), part.measure()
    assert measured.number.tolist() == numbers
    for name in ("tokens", "reconstruction", "kl", "mean", "base_logvar", "latents"):
        torch.testing.assert_close(getattr(measured, name), getattr(all_measured, name)[numbers])


def test_the_seed_alone_decides_the_noise(model, dataset) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first, again, other = (evaluator(model, dataset, seed=seed) for seed in (5, 5, 6))
    state = torch.get_rng_state()
    latents = first.measure().latents
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(latents, again.measure().latents, rtol=0, atol=0)
    assert (latents != other.measure().latents).all()
    assert first.nll(SAMPLES).tolist() == again.nll(SAMPLES).tolist()
    assert (first.nll(SAMPLES) != other.nll(SAMPLES)).all()


def test_no_two_sentences_share_their_noise(model, dataset) -> None:
    measured = evaluator(model, dataset).measure()
    noise = (measured.latents - measured.mean) / (0.5 * measured.base_logvar).exp()
    assert len(np.unique(noise.numpy().round(9), axis=0)) == COUNT


class OneOf:
    """An accelerator that says it is one of several processes."""

    is_main_process = True
    mixed_precision = "no"

    def __init__(self, index: int, count: int):
        self.process_index, self.num_processes = index, count
        self.autocast = Accelerator().autocast


@pytest.mark.parametrize("processes", [2, 3, 50])
def test_the_number_of_processes_changes_no_figure(
    model, dataset, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads in place of processes, one at work at a time, which gather what each has. Of 50, most are idle."""
    expected = evaluate(evaluator(model, dataset, shuffle_words=True), SAMPLES, nll_sentences=40)
    turn, barrier = Lock(), Barrier(processes, timeout=300)
    number, shares, sizes = ContextVar[int]("number"), dict[int, list[Any]](), list[list[int]]()

    def gather(own: list[Any]) -> list[Any]:
        shares[number.get()] = own
        turn.release()
        if barrier.wait() == 0:
            sizes.append([len(shares[index]) for index in range(processes)])
        gathered = [part for index in range(processes) for part in shares[index]]
        barrier.wait()
        turn.acquire()
        return gathered

    monkeypatch.setattr(module, "gather_object", gather)

    def measured(index: int) -> dict[str, Any]:
        number.set(index)
        with turn:
            one = evaluator(model, dataset, shuffle_words=True, accelerator=OneOf(index, processes))
            return evaluate(one, SAMPLES, nll_sentences=40)

    with ThreadPoolExecutor(processes) as pool:
        for found in pool.map(measured, range(processes)):
            assert_same(found, expected)
    assert len(sizes) == 3 and sizes[0].count(0) == max(0, processes - 3)


WORKER = """
import json, sys
from accelerate import Accelerator
from datasets import load_from_disk
from modeling_seqvae import SeqVAEForTextModeling
from modeling_seqvae.evaluation.evaluate import Evaluator, evaluate

accelerator = Accelerator()
assert accelerator.num_processes == 2 and accelerator.device.type == "cpu"
model = SeqVAEForTextModeling.from_pretrained("model").double().eval()
evaluator = Evaluator(model, load_from_disk("sentences"), shuffle_words=True, accelerator=accelerator, progress=False)
report = evaluate(evaluator, num_samples=7, nll_sentences=40)
with open(f"{accelerator.process_index}.json", "w") as file:
    json.dump(report, file)
accelerator.end_training()
"""


def test_two_real_processes_each_see_the_whole_report(make_model, dataset, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path / "model")
    model = SeqVAEForTextModeling.from_pretrained(tmp_path / "model").double().eval()
    expected = evaluate(evaluator(model, dataset, shuffle_words=True), SAMPLES, nll_sentences=40)
    dataset.save_to_disk(tmp_path / "sentences")
    (tmp_path / "worker.py").write_text(WORKER, "utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={port}"]
    environment = os.environ | {
        "ACCELERATE_USE_CPU": "true",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, *launch, "worker.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        assert_same(json.loads((tmp_path / f"{rank}.json").read_text("utf-8")), expected)


# A subset for the NLL


def test_nll_sentences_takes_the_first_and_leaves_the_rest_alone(model, dataset) -> None:
    one = evaluator(model, dataset)
    whole, part = evaluate(one, SAMPLES), evaluate(one, SAMPLES, nll_sentences=20)
    values = one.nll(SAMPLES)
    assert len(values) == COUNT
    np.testing.assert_allclose(one.nll(SAMPLES, 20), values[:20], atol=1e-10)
    measured = one.measure()
    gap = (measured.reconstruction.double() + measured.kl.double()).numpy()[:20] - values[:20]
    assert (part["nll_gap"], part["nll_gap_se"]) == (pytest.approx(gap.mean()), pytest.approx(standard_error(gap)))
    assert part["nll"] == pytest.approx(part["bound"] - gap.mean())
    assert part["ppl"] == pytest.approx(math.exp(part["nll"] * COUNT / part["tokens"]))
    assert (part["nll_sentences"], whole["nll_sentences"]) == (20, COUNT)
    own = ("nll", "nll_se", "nll_gap", "nll_gap_se", "ppl", "nll_sentences")
    assert_same({k: v for k, v in part.items() if k not in own}, {k: v for k, v in whole.items() if k not in own})


def test_the_nll_of_some_sentences_estimates_that_of_all_and_tells_its_error() -> None:
    """Sentences whose likelihoods differ by far more than their gaps, as in text: many corpora drawn of one kind."""
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(1500):
        nll = rng.normal(100, 40, 120)
        gap = 1 + 0.5 * rng.normal(size=120) + 0.01 * (nll - 100)
        estimates.append({"mean": nll.mean(), "first": nll[:15].mean(), **nll_figures(nll + gap, nll[:15])})
    found = {name: np.array([estimate[name] for estimate in estimates]) for name in estimates[0]}
    assert found["nll"].mean() == pytest.approx(100, abs=0.4)
    assert np.std(found["nll"] - found["mean"]) < np.std(found["first"] - found["mean"]) / 20
    assert found["nll_gap_se"].mean() == pytest.approx(np.std(found["nll_gap"]), rel=0.05)
    assert found["nll_se"].mean() == pytest.approx(np.std(found["nll"]), rel=0.05)


def test_the_nll_of_all_sentences_is_their_mean() -> None:
    nll, gap = np.random.default_rng(1).normal(100, 40, 50), np.random.default_rng(2).normal(1, 0.5, 50)
    figures = nll_figures(nll + gap, nll)
    assert figures["nll"] == pytest.approx(nll.mean()) and figures["nll_se"] == pytest.approx(standard_error(nll))
    assert figures["nll_gap"] == pytest.approx(gap.mean())


def test_the_error_of_few_gaps_is_that_of_their_mean() -> None:
    """Where all -ELBOs are equal the gaps alone are uncertain, however few they are."""
    bound, nll = np.full(1000, 100.0), 100 - np.array([1.0, 3.0])
    figures = nll_figures(bound, nll)
    assert figures["nll_se"] == pytest.approx(standard_error(nll))
    assert figures["nll_se"] == pytest.approx(figures["nll_gap_se"])


def test_a_single_nll_has_no_error() -> None:
    figures = nll_figures(np.array([3.0, 5.0]), np.array([2.0]))
    assert figures == {"nll": 3.0, "nll_se": None, "nll_gap": 1.0, "nll_gap_se": None}


def test_more_nll_sentences_than_there_are_are_all_of_them(model, dataset) -> None:
    one = evaluator(model, dataset)
    assert_same(evaluate(one, SAMPLES, nll_sentences=1000), evaluate(one, SAMPLES))


@pytest.mark.parametrize("count", [0, -1])
def test_an_nll_of_no_sentences_is_refused(model, dataset, count: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 sentence, got sentences={count}"):
        evaluator(model, dataset).nll(SAMPLES, count)


# Shuffled words (paper, Table 4)


@pytest.fixture
def reads(model, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[int]]]:
    """The sentences that encoder and decoder read, without padding."""
    seen: dict[str, list[list[int]]] = {"encoder": [], "decoder": []}

    def note(side: str, ids: torch.Tensor) -> None:
        seen[side] += [[token for token in row if token != 0] for row in ids.tolist()]

    encoder, decoder = model.get_encoder(), model.model.decoder
    read = encoder.read
    monkeypatch.setattr(encoder, "read", lambda ids, *rest: note("encoder", ids) or read(ids, *rest))
    decoder.embed_tokens.register_forward_pre_hook(lambda module, inputs: note("decoder", inputs[0]))
    return seen


@pytest.mark.parametrize("ask", [Evaluator.measure, lambda one: one.nll(1)], ids=["measure", "nll"])
def test_shuffling_permutes_the_encoder_s_words_and_not_the_decoder_s(reads, model, dataset, ask: Callable) -> None:
    ask(evaluator(model, dataset, shuffle_words=True))
    assert len(reads["encoder"]) == len(reads["decoder"]) == COUNT
    moved = 0
    for shuffled, original in zip(reads["encoder"], reads["decoder"], strict=True):
        assert (shuffled[0], shuffled[-1]) == (1, 2)
        assert sorted(shuffled[1:-1]) == sorted(original[1:-1])
        moved += shuffled != original
    assert moved > COUNT / 2
    assert sorted(reads["decoder"]) == sorted(dataset["input_ids"][:])


def test_measure_and_nll_read_the_same_permutation(reads, model, dataset) -> None:
    shuffled = evaluator(model, dataset, shuffle_words=True)
    shuffled.measure()
    first = reads["encoder"][:]
    reads["encoder"].clear()
    shuffled.nll(1)
    assert reads["encoder"] == first


def test_every_permutation_is_as_likely(model) -> None:
    count = 3000
    same = Dataset.from_dict({"input_ids": [[1, 5, 6, 7, 2]] * count, "length": [5] * count, "index": range(count)})
    one = evaluator(model, same, shuffle_words=True)
    ids = torch.tensor(same["input_ids"][:])
    mask = torch.ones_like(ids)
    shuffled = one._encoder_words(np.arange(count), {"input_ids": ids, "attention_mask": mask})
    _, counts = np.unique(shuffled.numpy(), axis=0, return_counts=True)
    assert len(counts) == 6
    assert np.abs(counts - count / 6).max() < 5 * math.sqrt(count / 6)


def test_shuffling_changes_nothing_where_there_is_nothing_to_permute(model) -> None:
    ids = [[1, 5, 2], [1, 2], [1, 9, 2], [1, 7, 7, 7, 2]]
    short = Dataset.from_dict({"input_ids": ids, "length": [len(row) for row in ids], "index": range(4)})
    plain = evaluate(evaluator(model, short), SAMPLES)
    shuffled = evaluate(evaluator(model, short, shuffle_words=True), SAMPLES)
    assert (plain.pop("shuffled"), shuffled.pop("shuffled")) == (False, True)
    assert_same(shuffled, plain)


def test_shuffling_changes_the_figures_of_a_latent_only(model, language_model, dataset) -> None:
    plain, shuffled = (evaluator(model, dataset, shuffle_words=choice).measure() for choice in (False, True))
    assert (plain.kl - shuffled.kl).abs().max() > 0.01
    assert torch.equal(plain.tokens, shuffled.tokens)
    plain, shuffled = (evaluator(language_model, dataset, shuffle_words=choice).nll(1) for choice in (False, True))
    assert plain.tolist() == shuffled.tolist()


# The model it is given


@pytest.mark.parametrize("training", [True, False])
def test_the_model_s_mode_is_restored_and_dropout_is_no_part_of_the_figures(make_model, dataset, training) -> None:
    expected = evaluate(evaluator(make_model().double(), dataset), SAMPLES)
    model = make_model(embedding_dropout=0.5, word_dropout=0.5).double().train(training)
    assert_same(evaluate(evaluator(model, dataset), SAMPLES), expected)
    assert model.training == training


@pytest.mark.parametrize("ask", [Evaluator.measure, lambda one: one.nll(1)], ids=["measure", "nll"])
def test_mode_and_matmul_precision_are_restored_after_an_error(
    model, dataset, monkeypatch: pytest.MonkeyPatch, ask: Callable
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise KeyError("encoder")

    monkeypatch.setattr(model.get_encoder(), "read", fail)
    model.train()
    with pytest.raises(KeyError):
        ask(evaluator(model, dataset))
    assert model.training
    assert torch.get_float32_matmul_precision() == "highest"


def test_nothing_is_kept_for_a_gradient(model, dataset) -> None:
    measured = evaluator(model, dataset).measure()
    assert not any(getattr(measured, name).requires_grad for name in ("reconstruction", "kl", "mean", "latents"))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("mode", ["last", "avg", "max", "abs", "attention"])
def test_dispersion_is_of_the_pooled_features(make_model, dataset, mode: str) -> None:
    model = make_model(pooling_mode=mode).double()
    expected = Dispersion()
    for ids in dataset["input_ids"]:
        expected.add(model.get_encoder().read(torch.tensor([ids]), None)[1].detach())
    summary = summarise(evaluator(model, dataset).measure())
    assert summary["cosine"] == pytest.approx(expected.cosine(), abs=1e-10)


def test_a_likelihood_that_is_no_number_names_the_sentence(model, dataset) -> None:
    bad = next(number for number, ids in enumerate(dataset["input_ids"]) if 9 in ids)
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight[9] = math.nan
    with pytest.raises(FloatingPointError, match=f"sentence {bad} is not a finite number"):
        evaluator(model, dataset).nll(SAMPLES)
    with pytest.raises(FloatingPointError, match=f"sentence {bad} is not a finite number"):
        evaluator(model, dataset.select([bad])).nll(SAMPLES)  # its number, not its place


@pytest.mark.parametrize("shuffle_words", [False, True])
def test_sentences_of_datasets_put_together_are_known_by_their_places(model, dataset, shuffle_words) -> None:
    """Of two sentences with one index the second would be shuffled as if it were as long as the first."""
    together = concatenate_datasets([dataset, sentences(9, seed=1), dataset.select([3, 1])])
    numbered = together.remove_columns("index").add_column("index", list(range(len(together))))
    found, expected = (
        evaluate(evaluator(model, rows, shuffle_words=shuffle_words), SAMPLES) for rows in (together, numbered)
    )
    assert_same(found, expected)


def test_no_sentences_are_refused(model, dataset) -> None:
    with pytest.raises(ValueError, match="no sentences to evaluate on"):
        evaluator(model, dataset.select([]))


def test_seeds_are_mixed_from_all_their_parts() -> None:
    seeds = {seed_of(seed, number) for seed in range(30) for number in range(30)}
    assert len(seeds) == 900
    assert seed_of(1, 2) == seed_of(1, 2) != seed_of(2, 1)
    assert all(0 <= seed < 2**32 for seed in seeds)
    others = [
        (1,),
        (1, 0),
        (1, 0, 0),
        (1, 0, 0, 0, 0),
        (0,),
        (0, 0),
        (5 + (3 << 32),),
        (5, 3),
        (11, 1),
        (1, 11),
        (1, 1, 1),
    ]
    assert len({seed_of(*parts) for parts in others}) == len(others)  # SeedSequence knows neither zeros nor sizes
