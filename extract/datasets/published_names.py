"""How the videos of published data sets are named: one canonical spelling, and the other names they go by."""

import re

from .naming import squeeze

# The one class of UCF101 whose files are spelled unlike its folder.
_UCF_FILES = {"HandstandPushups": "HandStandPushups"}
_YOUTUBE_ID = 11


def canonical_stem(dataset: str, class_name: str, stem: str) -> str:
    """The published spelling of a file name found on disk, as far as the data set's own rule tells it.

    UCF101: `v_<class>_gNN_cNN`. HMDB51: no published name has a space.
    """
    if dataset == "ucf101":
        parts = re.fullmatch(r"v[_ ](.+)[_ ](g[0-9]+)[_ ](c[0-9]+)", stem, flags=re.IGNORECASE)
        if parts and squeeze(parts[1]) == squeeze(class_name):
            return f"v_{_UCF_FILES.get(class_name, class_name)}_{parts[2].lower()}_{parts[3].lower()}"
    return stem.replace(" ", "_")


def aliases(dataset: str, stem: str) -> tuple[str, ...]:
    """Names by which a listed video may be found, the published one first.

    Kinetics clips are `<YouTube id>_<start>_<end>`; some copies keep the id alone.
    """
    if dataset == "kinetics-cmn" and re.fullmatch(r".{11}_[0-9]{6}_[0-9]{6}", stem):
        return stem, stem[:_YOUTUBE_ID]
    return (stem,)
