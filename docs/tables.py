"""Writes the tables of fields in docs/api.md and of settings in docs/settings.md.

    python docs/tables.py           rewrites the tables (`make docs`)
    python docs/tables.py --check   changes nothing; exit code 1 if a table is out of date

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. NAME is `hosted fields`,
`own fields` or `detect fields`, or `settings` followed by the names of the settings to list.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from server import ENV_PREFIX
from server.api import contract
from server.api.fields import Field
from server.settings import Settings

PAGES = tuple(Path(__file__).parent / name for name in ("api.md", "settings.md"))
_TABLE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_FIELD_HEAD = ("field", "type", "default", "allowed", "meaning")
_SETTING_HEAD = ("variable", "default", "allowed", "meaning")
_FIELDS: Mapping[str, Iterable[Field]] = {
    "hosted fields": contract.HOSTED_FIELDS,
    "own fields": contract.OWN_FIELDS,
    "detect fields": [f for f in contract.DETECT_FIELDS if f not in contract.FIELDS],
}


def main(arguments: Sequence[str]) -> int:
    """Rewrite or check every page; the exit code."""
    check = "--check" in arguments
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    problems = _unlisted("".join(texts.values()))
    for page, text in texts.items():
        rendered = _TABLE.sub(lambda found: f"{found[1]}{_table(found[2])}{found[3]}", text)
        if rendered == text:
            continue
        if check:
            problems.append(f"{page.name}: a table is out of date, `make docs` rewrites it")
        else:
            page.write_text(rendered, encoding="utf-8")
            print(f"{page.name}: rewritten")
    print("\n".join(problems), end="\n" * bool(problems), file=sys.stderr)
    return int(bool(problems))


def _unlisted(text: str) -> list[str]:
    """Tables and settings that do not stand in the pages exactly once, a sentence each."""
    found: list[str] = []
    for _, name, _ in _TABLE.findall(text):
        kind, _, names = name.partition(" ")
        found += names.split() if kind == "settings" else [name]
    wanted = [*_FIELDS, *Settings.model_fields]
    return [
        f"{name}: listed {found.count(name)} times, should be {wanted.count(name)}"
        for name in sorted({*found, *wanted})
        if found.count(name) != wanted.count(name)
    ]


def _table(name: str) -> str:
    kind, _, names = name.partition(" ")
    if kind == "settings":
        known = [name for name in names.split() if name in Settings.model_fields]
        return _markdown(_SETTING_HEAD, map(_setting_row, known))
    return _markdown(_FIELD_HEAD, map(_field_row, _FIELDS.get(name, ())))


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |\n" for cells in (head, *rows)]
    return "".join([lines[0], f"|{'---|' * len(head)}\n", *lines[1:]])


def _field_row(field: Field) -> tuple[str, ...]:
    kind = "picture" if field.kind == "image" else field.kind
    default = "required" if field.default_text is None else f"`{field.default_text}`"
    allowed = ", ".join(f"`{text}`" if field.choices else text for text in field.allowed_texts)
    if field.capped:
        allowed = allowed.replace(str(field.variable), f"`{field.variable}`")
    return (f"`{field.name}`", kind, default, allowed, field.help)


def _setting_row(name: str) -> tuple[str, ...]:
    schema = Settings.model_json_schema()["properties"][name]
    description = " ".join(schema["description"].split())
    return (f"`{ENV_PREFIX}{name.upper()}`", _default(name), _allowed(schema), description)


def _default(name: str) -> str:
    if name == "data_dir":
        # The reader's home, not that of whoever writes the page.
        return "`~/.local/share/face-detailer`"
    default = Settings.model_fields[name].default
    if default is None:
        return "unset"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _allowed(schema: Mapping[str, Any]) -> str:
    # Settings that can be unset, and decimal numbers, list their kinds; the first has the range.
    schema = {**next(iter(schema.get("anyOf", [])), {}), **schema}
    if "allowed" in schema:
        return str(schema["allowed"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "boolean":
        return "true, false"
    if "exclusiveMinimum" in schema:
        allowed = f"above {schema['exclusiveMinimum']:.0f}, to {schema['maximum']:.0f}"
    else:
        allowed = f"{schema['minimum']:.0f}–{schema['maximum']:.0f}"
    return f"{allowed} {schema.get('unit', '')}".rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
