"""The rows of the ablations."""

from typing import Any

FULL = "full"
# Name of a row -> the keywords of MASTAF that make it.
FUSION: dict[str, dict[str, Any]] = {
    "neighbor": {"variant": "neighbor"},
    "self": {"variant": "self"},
    "cross": {"variant": "cross"},
    FULL: {},
}
PARTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "no-meta-learner": {"meta_learner": False},
    "no-residual": {"residual": False},
    "lambda-0": {"global_weight": 0.0},
}
# `fusion` is Table 3 of the paper, `parts` its appendix.
ROW_SETS = {"fusion": FUSION, "parts": PARTS, "all": FUSION | PARTS}
