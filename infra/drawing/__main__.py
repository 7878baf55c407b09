"""The command line: `python -m infra.drawing` (`make drawing`)."""

import argparse
import sys

from infra import drawing


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m infra.drawing",
        description="Render infra/drawing/architecture.html to docs/images, in each language.",
    ).parse_args()
    try:
        with drawing.chromium() as browser:
            for path in drawing.render(browser):
                print(path.relative_to(drawing.ROOT))
    except FileNotFoundError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
