"""From text to batches: corpora, the embedded corpus, tokenised datasets, length-grouped batches."""
