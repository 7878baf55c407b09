"""The docs site with each column's class, mask and readers: written into what `dbt docs generate` has made.

It needs neither a database nor the lineage: the generated macro column_privacy stands in dbt's manifest.
"""

import json
from pathlib import Path
from typing import Any

from privacy import policy

MACRO_ID = "macro.lakehouse.column_privacy"


def annotate(target: Path) -> None:
    """Add to the target folder's manifest.json, and to static_index.html where there is one. Twice does no harm.

    Raises FileNotFoundError where no docs were generated.
    """
    manifest_file, static = target / "manifest.json", target / "static_index.html"
    before = manifest_file.read_text()
    manifest = json.loads(before)
    columns = column_privacy(manifest)
    for node in [*manifest["nodes"].values(), *manifest["sources"].values()]:
        if node["resource_type"] in ("model", "seed", "source", "snapshot"):
            _annotate(node, columns)
    after = json.dumps(manifest)
    if static.exists():
        index = (target / "index.html").read_text()
        for placeholder, text in (
            ('"MANIFEST.JSON INLINE DATA"', after),
            ('"CATALOG.JSON INLINE DATA"', (target / "catalog.json").read_text()),
        ):
            index = index.replace(placeholder, text)
        static.write_text(index)
    manifest_file.write_text(after)


def column_privacy(manifest: dict[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """What the macro column_privacy returns."""
    text = manifest["macros"][MACRO_ID]["macro_sql"]
    return json.loads(text[text.index("return(") + len("return(") : text.rindex(") }}")])


def _annotate(node: dict[str, Any], columns: dict[str, dict[str, dict[str, str]]]) -> None:
    name = f"{node['source_name']}.{node['name']}" if node["resource_type"] == "source" else node["name"]
    layer = node["fqn"][1] if node["resource_type"] == "model" else node["schema"]
    for column, privacy in columns.get(name, {}).items():
        if column in node["columns"]:
            meta = {
                "personal data": privacy["class"],
                "masked by": privacy.get("masked_by", "nothing: in the clear"),
                "read by": policy.readers(layer),
            }
            node["columns"][column]["meta"] = meta
