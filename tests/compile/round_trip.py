"""Reads Argo's objects into Hera's models and writes them back: every key and value of a file must survive.

Types are checked by the models; a misspelt or removed key is one that does not come back.
"""

import sys

import yaml
from hera.workflows import models

KINDS = {"WorkflowTemplate": models.WorkflowTemplate, "CronWorkflow": models.CronWorkflow}


def lost(source, copy, path):
    """What of the source is not in the copy."""
    if isinstance(source, dict):
        for key, value in source.items():
            if not isinstance(copy, dict) or key not in copy:
                yield "%s.%s is lost" % (path, key)
            else:
                yield from lost(value, copy[key], "%s.%s" % (path, key))
    elif isinstance(source, list):
        if not isinstance(copy, list) or len(copy) != len(source):
            yield "%s has another length" % path
        else:
            for index, pair in enumerate(zip(source, copy)):
                yield from lost(*pair, "%s[%s]" % (path, index))
    elif source != copy:
        yield "%s was %r and is %r" % (path, source, copy)


def problems(document):
    try:
        model = KINDS[document["kind"]].model_validate(document)
    except Exception as error:
        return ["%s" % error]
    copy = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    return list(lost(document, copy, document["kind"]))


found = []
for path in sys.argv[1:]:
    with open(path) as file:
        for document in yaml.load_all(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            found += problems(document)
print("\n".join(found[:20]) or "ok")
