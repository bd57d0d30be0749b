"""Class tables of the published few-shot splits, one CSV a split: split, class, n_videos, and id where lists use one.

They restate facts of the list files in github.com/tobyperrett/trx (folder `splits`), which the repositories of STRM
and STAF carry byte for byte; classes stand in order of first appearance there:

    ucf101-arn     ucf_ARN/{train,val,test}list03.txt        70/10/21 classes of UCF101, by ARN (ECCV 2020)
    hmdb51-arn     hmdb_ARN/{train,val,test}list03.txt       31/10/10 classes of HMDB51, by ARN
    ssv2-cmn       ssv2_CMN/{train,val,test}list03.txt       64/12/24 classes of Something-Something V2, 100 videos each
    ssv2-otam      ssv2_OTAM/{train,val,test}list07.txt      64/12/24 classes, by OTAM (CVPR 2020); lists name classes
                                                             by `id`, and each id's videos carry one official label
    kinetics-cmn   kinetics_CMN/{train,val,test}list03.txt   64/12/24 classes of Kinetics, by CMN (ECCV 2018)

The tables say which class is in which split and how many videos it has; which videos, where a split chooses among
them, the list files say (`split_files.py`).
"""
