"""Source groups: videos cut from one recording, so nearly the same scene, which an episode should not split."""

import re


def source_group(dataset: str, class_name: str, stem: str) -> str:
    """The source group of a video, '' where none is known.

    UCF101 numbers its recordings per class, `v_Archery_g07_c02` -> `Archery/g07`. HMDB51's file names are
    `<film>_<class>_<visible parts>_<camera>_<people>_<view>_<quality>_<number>`, and the film is the group.
    """
    if dataset == "ucf101":
        numbered = re.search(r"_(g[0-9]+)_", stem)
        return f"{class_name}/{numbered[1].lower()}" if numbered else ""
    if dataset == "hmdb51":
        tail = r"_[ulfh]_(cm|nm)_np[0-9]+_(fr|ba|le|ri)_(goo|med|bad)_[0-9]+"
        cut = re.fullmatch(rf"(.*)_{re.escape(class_name)}{tail}", stem, flags=re.IGNORECASE | re.DOTALL)
        return cut[1] if cut else ""
    return ""
