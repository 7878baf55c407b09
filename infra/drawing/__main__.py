"""The command line: `python -m infra.drawing` (`make drawing`)."""

if __name__ == "__main__":  # before what takes time to import
    import loaders.interruptible  # noqa: F401 (ends this program in one line when it is interrupted)

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
