"""Backbones: video networks that turn a clip into a feature cube.

`BACKBONES` names each backbone and the function that loads it (`module:function`), which is imported on use alone;
`registry.load_backbone` is the door. What such a function returns is described in `base.py`.
"""

BACKBONES = {
    "r3d": "mastaf.extract.backbones.r3d:load",
    "tsn": "mastaf.extract.backbones.tsn:load",
    "vivit": "mastaf.extract.backbones.vivit:load",
    "hf:MODEL_ID": "mastaf.extract.backbones.huggingface:load",
    "r3d-tiny": "mastaf.extract.backbones.r3d_tiny:load",
}
