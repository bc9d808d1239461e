"""Recipes, schedules, objectives and the trainer."""
