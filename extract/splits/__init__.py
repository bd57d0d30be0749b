"""Class tables of the published few-shot splits."""
