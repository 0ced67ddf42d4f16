"""`sentinel schema`: prints the schema of what crosses the edge."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="transaction, feedback, decision, dead-letter or webhook.")
    ] = None,
    avro: Annotated[bool, typer.Option("--avro", help="Avro instead of JSON Schema, of what lies on Kafka.")] = False,
) -> None:
    """Print the JSON Schema, or the Avro schema, of a message; without a name, say which there are."""
    from console import edge_schemas
    from console.tables import print_table

    if name is not None:
        print(edge_schemas.text(name, "avro" if avro else "json"), end="")
        return
    print_table(
        ("name", "avro", "meaning"),
        [
            {"name": each, "avro": "yes" if found.on_kafka else "", "meaning": found.meaning.replace("`", "")}
            for each, found in edge_schemas.PUBLISHED.items()
        ],
    )
