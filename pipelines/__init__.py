"""What needs both stages: the demo, two-stage runs, fine-tuning."""
