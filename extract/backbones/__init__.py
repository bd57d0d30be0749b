"""Backbones: video networks that turn a clip into a feature cube.

`BACKBONES` names each backbone and the function that loads it (`module:function`), which is imported on use alone;
`registry.load_backbone` is the door. What such a function returns is described in `base.py`.
"""

BACKBONES = {
    "r3d": "mastaf.extract.backbones.r3d:load",
    "r3d-tiny": "mastaf.extract.backbones.r3d_tiny:load",
}
