"""Methods: the few-shot heads, one paper a file.

`METHODS` names them, each as `module:class`; `registry.load_method` imports one when it is asked for. Command lines,
documents and the contract tests derive from this table.
"""

METHODS = {
    "mastaf": "mastaf.fewshot.methods.mastaf:MASTAF",
    "tsnpp": "mastaf.fewshot.methods.tsnpp:TSNPlusPlus",
    "protonet": "mastaf.fewshot.methods.protonet:ProtoNet",
    "matchingnet": "mastaf.fewshot.methods.matchingnet:MatchingNet",
    "otam": "mastaf.fewshot.methods.otam:OTAM",
    "trx": "mastaf.fewshot.methods.trx:TRX",
    "baseline": "mastaf.fewshot.methods.baseline:Baseline",
    "baselinepp": "mastaf.fewshot.methods.baselinepp:BaselinePlusPlus",
    "feat": "mastaf.fewshot.methods.feat:FEAT",
    "pal": "mastaf.fewshot.methods.pal:PAL",
    "cmn": "mastaf.fewshot.methods.cmn:CMN",
    "cmn_j": "mastaf.fewshot.methods.cmn_j:CMNJ",
    "arn": "mastaf.fewshot.methods.arn:ARN",
    "protogan": "mastaf.fewshot.methods.protogan:ProtoGAN",
    "hyrsm": "mastaf.fewshot.methods.hyrsm:HyRSM",
    "chamferpp": "mastaf.fewshot.methods.chamferpp:ChamferPlusPlus",
    "simpleshot": "mastaf.fewshot.methods.simpleshot:SimpleShot",
    "can": "mastaf.fewshot.methods.can:CAN",
    "probe": "mastaf.fewshot.methods.probe:LinearProbe",
}
