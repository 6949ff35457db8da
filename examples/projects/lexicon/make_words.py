"""Makes data/words.csv: made-up words with definitions, some of which mean nearly the same. The same file every time."""

import csv
from pathlib import Path

THINGS = ["lamp", "kettle", "ladder", "bridge", "coat", "engine", "garden", "letter", "mirror", "needle"]
QUALITIES = ["small", "large", "old", "new", "broken"]
WORDINGS = ["a {quality} {thing}", "a {thing} that is {quality}"]


def main() -> None:
    path = Path(__file__).parent / "data" / "words.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["id", "word", "definition"])
        number = 0
        for thing in THINGS:
            for quality in QUALITIES:
                for wording in WORDINGS:
                    number += 1
                    out.writerow([f"w{number:03}", f"{quality[:2]}{thing[:3]}{number}", wording.format(quality=quality, thing=thing)])


if __name__ == "__main__":
    main()
