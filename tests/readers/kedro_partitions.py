"""Kedro's own datasets of partitions: writes partitions under ids, or prints the ids and the rows of those that it finds.

write FOLDER TYPE SUFFIX ID…    one row for each id
read FOLDER TYPE SUFFIX         `{id: rows}` as JSON
new FOLDER TYPE SUFFIX          the same of an IncrementalDataset
confirm FOLDER TYPE SUFFIX      the same, and moves its checkpoint
"""

import json
import os
import sys

import pandas
from kedro_datasets.partitions import IncrementalDataset, PartitionedDataset


def main(command, folder, kind, suffix, *ids):
    incremental = command in ("new", "confirm")
    dataset = (IncrementalDataset if incremental else PartitionedDataset)(path=folder, dataset=kind, filename_suffix=suffix)
    if command == "write":
        dataset.save({one: pandas.DataFrame({"id": [i], "text_to_embed": [f"the text of {one}"]}) for i, one in enumerate(ids)})
        return
    if incremental:
        found = dataset.load()
    else:
        found = {one: load() for one, load in dataset.load().items()}
    print(json.dumps({one: rows["id"].tolist() for one, rows in found.items()}))
    if command == "confirm":
        dataset.confirm()


if __name__ == "__main__":
    main(*sys.argv[1:])
    # The interpreter's own end may abort while threads of its libraries still run.
    sys.stdout.flush()
    os._exit(0)
