"""Speed and memory, and what writes the documents' tables from results."""
