"""Source groups by file names."""

import pytest
from mastaf.extract.datasets.groups import source_group


@pytest.mark.parametrize(
    ("class_name", "stem", "group"),
    [
        ("Archery", "v_Archery_g07_c02", "Archery/g07"),
        ("HandstandPushups", "v_HandStandPushups_g25_c01", "HandstandPushups/g25"),
        ("Archery", "v_Archery", ""),
    ],
)
def test_ucf101_numbers_recordings_per_class(class_name, stem, group):
    assert source_group("ucf101", class_name, stem) == group


@pytest.mark.parametrize(
    ("class_name", "stem", "film"),
    [
        ("kick", "THE_PROTECTOR_kick_f_cm_np1_ba_bad_37", "THE_PROTECTOR"),
        ("kick", "kick__Bruce_Lee_Kick_kick_u_cm_np1_fr_med_0", "kick__Bruce_Lee_Kick"),
        ("kick_ball", "Amazing_Soccer_#2_kick_ball_f_cm_np1_ba_bad_5", "Amazing_Soccer_#2"),
        ("fencing", "Die_Another_[HD]_avi_fencing_f_cm_np2_le_goo_0", "Die_Another_[HD]_avi"),
        ("run", "a;b@c+d~(e)&!_run_h_nm_np12_ri_med_103", "a;b@c+d~(e)&!"),
        ("run", "some_holiday_video", ""),
        ("run", "film_walk_h_nm_np1_ri_med_1", ""),
    ],
)
def test_hmdb51_groups_by_film(class_name, stem, film):
    assert source_group("hmdb51", class_name, stem) == film


def test_other_data_sets_have_no_groups():
    assert source_group("folder", "run", "v_run_g07_c02") == ""
