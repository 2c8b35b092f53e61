"""Writes the generated documents: ``python -m docs.generate``. A test fails when they are out of step."""

from __future__ import annotations

from pathlib import Path

from app.cli.reference import api_markdown, cli_markdown, openapi_document

DOCS = Path(__file__).resolve().parent


def generated() -> dict[str, str]:
    """Name and text of every generated document."""
    return {"API_REFERENCE.md": api_markdown(openapi_document()), "cli.md": cli_markdown()}


if __name__ == "__main__":
    for name, text in generated().items():
        (DOCS / name).write_text(text, encoding="utf-8")
