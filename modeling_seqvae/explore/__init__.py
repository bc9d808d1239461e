"""A model to look at: a page in the browser, and the same pictures as files."""
