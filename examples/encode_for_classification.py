"""Labels read from features of a frozen encoder, beside what TF-IDF and the commonest label achieve.

python examples/encode_for_classification.py [CHECKPOINT] [--label stars] [--train 5000] [--test 2000]

The texts are those of the demo corpus: reviews with `stars` from 1 to 5 and a `topic`. The vectorizer is a
scikit-learn transformer, so that it takes the place of TfidfVectorizer in pipelines of yours.
"""

import argparse
from pathlib import Path

from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modeling_seqvae import SeqVAEVectorizer
from modeling_seqvae.data import demo

CHECKPOINT = Path(__file__).resolve().parents[1] / "model_cards" / "demo-unigram-pretraining"


def main() -> None:
    """Fit four classifiers and print their accuracy on the test set."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", default=str(CHECKPOINT), help="a folder, or a name on the hub")
    parser.add_argument("--label", choices=("stars", "topic"), default="stars")
    parser.add_argument("--train", type=int, default=5000, help="reviews to fit on")
    parser.add_argument("--test", type=int, default=2000, help="reviews to score on")
    options = parser.parse_args()

    reviews = demo.build(sizes=(options.train, 0, options.test))
    train, test = reviews["train"], reviews["test"]
    classifiers = {
        "commonest label": DummyClassifier(),
        "TF-IDF": make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)),
    }
    for features in ("mean_variance", "pooled"):
        classifiers[f"SeqVAE, {features}"] = make_pipeline(
            SeqVAEVectorizer(options.checkpoint, features), StandardScaler(), LogisticRegression(max_iter=1000)
        )
    for name, classifier in classifiers.items():
        classifier.fit(train["text"][:], train[options.label][:])
        accuracy = classifier.score(test["text"][:], test[options.label][:])
        print(f"{name:24}{accuracy:6.1%} of {options.label} correct")


if __name__ == "__main__":
    main()
