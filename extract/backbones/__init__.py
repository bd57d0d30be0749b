"""Backbones: video networks that turn a clip into a feature cube."""
