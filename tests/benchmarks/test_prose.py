"""Sentences that quote figures say what the kept measurements say."""

import json
import re
from functools import cache

import pytest
import results

measured = cache(results._figures)


def figures(place: str) -> dict:
    return measured(place)[0]


def mean(place: str, method: str, figure: str) -> float:
    return results._mean(figures(place)[method][figure])


def control(place: str, name: str) -> str:
    return results._best(measured(place)[1], name)


def less(place: str, method: str, other: str = "lstm_lm") -> float:
    return mean(place, method, "nll") - mean(place, other, "nll")


ABSTRACTS, YELP, REVIEWS = "arxiv/table6", "yelp_sentiment/table6", "tripadvisor/table6"
ALL_YELP = "all/yelp_sentiment/table6"
SHORT, LONG, POOL = "unigram_pretraining", "unigram_pretraining_long", "max_pool"


def first_page() -> list[str]:
    kl, labels, minutes = (
        [mean(ABSTRACTS, method, figure) for method in (SHORT, LONG)] for figure in ("kl", "label_mean", "minutes")
    )
    (gain,) = {f"{-less(ABSTRACTS, method):.0f}" for method in (SHORT, LONG)}
    short = figures(YELP)[SHORT]["minutes"]["values"]
    worst = {
        corpus: max(
            max(row["nll_gap_se"]["values"])
            for method, row in figures(f"{corpus}/table6").items()
            if method in results.METHODS
        )
        for corpus in results.CORPORA
    }
    return [
        f"it holds {kl[0]:.0f} or {kl[1]:.0f} nats, predicts the field of {labels[0]:.0%} or {labels[1]:.0%} of the "
        f"abstracts (23 fields, 32 numbers), and lowers the NLL by {gain} nats",
        f"20,000 short sentences took {min(short):.0f} to {max(short):.0f} minutes on one core, and 10,000 abstracts "
        f"{minutes[0]:.0f} to {minutes[1]:.0f} minutes",
        f"(s.e. at most {worst.pop('arxiv'):.2f} on arXiv, {max(worst.values()):.2f} elsewhere)",
    ]


def features() -> list[str]:
    def pair(place: str, *names: str) -> str:
        return " and ".join(f"{mean(place, SHORT, f'label_{name}'):.1%}" for name in names)

    abstracts = [f"`{name}` {mean(ABSTRACTS, SHORT, f'label_{name}'):.1%}" for name in ("mean", "pooled")]
    return [
        f"(20,000 of Yelp: {pair(YELP, 'pooled', 'mean')}; all of them: {pair(ALL_YELP, 'pooled', 'mean')})",
        f"(abstracts: {', '.join(abstracts)}; 3,000 hotel reviews: {pair(REVIEWS, 'mean', 'pooled')}",
    ]


def documents() -> list[str]:
    """Of docs/results.md, what its sections on documents say first."""

    def accuracy(place: str, method: str, name: str = "mean") -> str:
        return f"{mean(place, method, f'label_{name}'):.1%}"

    one_pass, short = "one-pass/arxiv/table6", "short_pretraining"
    said = [
        f"The recommended method is {-less(ABSTRACTS, SHORT):.1f} nats of NLL below the language model**, and "
        f"{-less(ABSTRACTS, SHORT, POOL):.1f} below max pooling",
        f"It keeps {mean(ABSTRACTS, SHORT, 'kl'):.1f} nats in all 32 units; max pooling keeps "
        f"{mean(ABSTRACTS, POOL, 'kl'):.1f}, in one unit**, at an NLL {less(ABSTRACTS, POOL):.1f} nats above",
        f"predicts the class of {accuracy(ABSTRACTS, SHORT)} of the documents**, against "
        f"{accuracy(ABSTRACTS, POOL)} with max pooling and {control(ABSTRACTS, 'untrained max, mean')} untrained",
        f"keeps {mean(ABSTRACTS, LONG, 'kl'):.1f} nats at no cost in NLL**, which is {-less(ABSTRACTS, LONG):.1f} nats "
        "below the language model's",
        f"From its means the class of {accuracy(ABSTRACTS, LONG)} of the documents is predicted",
        f"The recommended method keeps {mean(one_pass, short, 'kl'):.1f} nats in all 32 units, at an NLL "
        f"{-less(one_pass, short):.1f} nats below the language model's** (s.e. "
        f"{mean(one_pass, short, 'nll_gap_se'):.1f} of its estimate) and {-less(one_pass, short, POOL):.1f} "
        "below max pooling's",
        f"predicts the class of {accuracy(one_pass, short)} of the documents, on LSA of the same size "
        f"{control(one_pass, 'lsa')}**",
        f"max pooling only {mean(one_pass, POOL, 'kl'):.2f} nats, in {mean(one_pass, POOL, 'au'):.0f} units",
        f"The recommended method is {-less(REVIEWS, SHORT):.1f} nats of NLL below the language model** and "
        f"{-less(REVIEWS, SHORT, POOL):.1f} below max pooling",
        f"predicts the stars of {accuracy(REVIEWS, SHORT)} of the reviews**, as many as on LSA of the same size "
        f"({control(REVIEWS, 'lsa')}) and more than the supervised bi-LSTM ({control(REVIEWS, 'bi_lstm')}), max "
        f"pooling ({accuracy(REVIEWS, POOL)})",
        f"A classifier on the means predicts the sentiment of {accuracy(ALL_YELP, SHORT)} of the sentences**",
        f"The six nats cost {less(ALL_YELP, SHORT):.1f} nats of NLL**",
    ]
    (_, _, pretrained) = json.loads((results.REPRODUCED / f"{ABSTRACTS}.json").read_text("utf-8"))["tables"]
    before = {row["method"]: row for row in pretrained["rows"]}
    left, drawn = (f"{results._mean(before[SHORT][f'label_{name}']):.1%}" for name in ("mean", "draw"))
    (bi_lstm,) = (results.REPRODUCED / "arxiv" / "bi_lstm").glob("*rate_wor*/seed0/labels-*.json")
    validation = json.loads(bi_lstm.read_text("utf-8"))["validation_accuracies"]
    return [
        *said,
        f"had not converged after eight epochs: its validation accuracy was {validation[2]:.1%} after the third and "
        f"{validation[7]:.1%} after the last",
        f"which holds {results._mean(before[SHORT]['kl']):.0f} nats, the accuracy is {left} from the means and {drawn} "
        f"from one draw; after the joint training, with 6 nats, it is {accuracy(ABSTRACTS, SHORT)} and "
        f"{accuracy(ABSTRACTS, SHORT, 'draw')}",
    ]


SENTENCES = {"README.md": first_page, "docs/features.md": features, "docs/results.md": documents}


@pytest.mark.parametrize("page", SENTENCES)
def test_sentences_quote_what_was_measured(page: str):
    text = re.sub(r"\s+", " ", (results.ROOT / page).read_text("utf-8"))
    for sentence in SENTENCES[page]():
        assert sentence in text
