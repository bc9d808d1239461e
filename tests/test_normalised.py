"""The posterior with normalised means: a floor under the KL, batch statistics in training, the population's after."""

import pytest
import torch

from modeling_seqvae import SeqVAEConfig, SeqVAEForTextModeling
from modeling_seqvae.gaussian import NormalisedGaussianPosterior

Z, SCALE = 3, 0.6


@pytest.fixture
def head() -> NormalisedGaussianPosterior:
    head = NormalisedGaussianPosterior(4, Z, SCALE)
    torch.nn.init.uniform_(head.shift.weight, -1, 1)
    return head


def test_means_are_those_of_batch_normalisation(head) -> None:
    pooled = torch.randn(16, 4)
    reference = torch.nn.BatchNorm1d(Z, eps=1e-12)
    with torch.no_grad():
        reference.weight.fill_(SCALE)
        reference.bias.copy_(head.shift.weight[:, 0])
        raw, logvar = head.linear(pooled).chunk(2, -1)
        found = head(pooled)
        torch.testing.assert_close(found.mean, reference(raw))
        torch.testing.assert_close(found.logvar, logvar)


def test_sentences_without_a_difference_send_no_gradient_through_their_means(head) -> None:
    """Such as the last batch of one sentence, which stands on every process and counts on one of them."""
    posterior = head(torch.ones(2, 4))
    torch.testing.assert_close(posterior.mean, head.shift.weight[:, 0].expand(2, Z))
    posterior.mean[0].sum().backward()
    assert (head.linear.weight.grad == 0).all()


@pytest.mark.parametrize("spread", [1.0, 1e-4])
def test_the_kl_has_its_floor_however_alike_the_sentences_are(head, spread) -> None:
    posterior = head(1.0 + spread * torch.randn(64, 4))
    floor = 0.5 * (Z * SCALE**2 + head.shift.weight.square().sum())
    assert posterior.kl().mean() >= floor * (1 - 1e-3)
    torch.testing.assert_close(posterior.mean.mean(0), head.shift.weight[:, 0], atol=1e-3, rtol=0)
    torch.testing.assert_close(posterior.mean.var(0, correction=0).sqrt(), torch.full((Z,), SCALE), atol=1e-2, rtol=0)


def test_a_batch_of_one_or_of_equal_sentences_has_finite_values_and_gradients(head) -> None:
    for count in (1, 5):
        posterior = head(torch.ones(count, 4, requires_grad=True))
        posterior.kl().mean().backward()
        assert posterior.mean.isfinite().all() and head.linear.weight.grad.isfinite().all()


def test_a_checkpoint_without_statistics_begins_with_those_of_a_new_head(make_model, tmp_path) -> None:
    """Such as one with a Gaussian posterior, which is to be trained on with normalised means."""
    make_model().save_pretrained(tmp_path)
    loaded = SeqVAEForTextModeling.from_pretrained(tmp_path, posterior="normalised")
    head = loaded.get_encoder().posterior
    assert torch.equal(head.average, torch.zeros(Z)) and torch.equal(head.mean_variance, torch.ones(Z))


def test_in_evaluation_a_sentence_does_not_depend_on_its_batch(head) -> None:
    head.eval()
    pooled = torch.randn(8, 4)
    torch.testing.assert_close(head(pooled).mean[:1], head(pooled[:1]).mean)


def test_the_population_s_statistics_are_exact_and_setting_them_twice_changes_nothing(head) -> None:
    everyone = torch.randn(500, 4) * 3 + 1
    for batch in everyone.split(50):
        head(batch)  # leaves running averages
    head.eval()
    for _ in range(2):
        head.set_population(head(everyone).mean)
        means = head(everyone).mean
        torch.testing.assert_close(means.mean(0), head.shift.weight[:, 0], atol=1e-4, rtol=0)
        torch.testing.assert_close(means.var(0, correction=0).sqrt(), torch.full((Z,), SCALE), atol=1e-4, rtol=0)
    raw = head.linear(everyone)[:, :Z]
    torch.testing.assert_close(head.average, raw.mean(0), atol=1e-4, rtol=1e-4)


def test_a_scale_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="mean_scale must be above 0, got 0"):
        SeqVAEConfig(posterior="normalised", mean_scale=0)
