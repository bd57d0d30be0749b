"""Whether the classes of a test split have names that pretrained weights know."""
