"""From text to batches: corpora, the demo corpus, tokenised datasets, length-grouped batches."""
