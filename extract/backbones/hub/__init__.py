"""Encoders in the format of the Hugging Face hub: found (files), described (pixels, positions), made (model, layout,
build), run (net, graph), and given as backbones (wrap)."""
