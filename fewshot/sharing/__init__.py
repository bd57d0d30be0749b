"""Runs on the Hugging Face hub: pushed as safetensors with a model card, and loaded by name."""
