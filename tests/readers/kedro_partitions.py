"""Kedro's own PartitionedDataset: writes partitions under ids, or prints the ids and the rows of those that it finds.

write FOLDER TYPE SUFFIX ID…    one row for each id
read FOLDER TYPE SUFFIX         `{id: rows}` as JSON
"""

import json
import sys

import pandas
from kedro_datasets.partitions import PartitionedDataset


def main(command, folder, kind, suffix, *ids):
    dataset = PartitionedDataset(path=folder, dataset=kind, filename_suffix=suffix)
    if command == "write":
        dataset.save({one: pandas.DataFrame({"id": [i], "text_to_embed": [f"the text of {one}"]}) for i, one in enumerate(ids)})
        return
    found = {one: load() for one, load in dataset.load().items()}
    print(json.dumps({one: rows["id"].tolist() for one, rows in found.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
