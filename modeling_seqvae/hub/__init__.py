"""Sharing runs on the Hugging Face hub."""
