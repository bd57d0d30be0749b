"""Methods: the few-shot heads, one paper a file.

`METHODS` names them, each as `module:class`; `registry.load_method` imports one when it is asked for. Command lines,
documents and the contract tests derive from this table.
"""

METHODS = {
    "mastaf": "mastaf.fewshot.methods.mastaf:MASTAF",
}
