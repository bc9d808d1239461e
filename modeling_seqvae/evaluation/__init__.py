"""Figures, probes and estimators of a trained model."""
