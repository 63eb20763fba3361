"""``tiedae schema``: print the JSON schema of a config, for editors."""

import json

import typer


def schema() -> None:
    """Print the JSON schema of a config, by which editors complete and check YAML (tiedae schema > tiedae.schema.json)."""
    from tiedae_cli.config import Config

    typer.echo(json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}, indent=2))
