"""Files of payments as people export them: every two ways of writing occur together in some file; the truth is known.

A `Style` is one choice for each FACTOR. `styles` covers all pairs of choices (greedily, with a fixed seed). `write`
makes the file and says what is in it; `read_plainly` reads it again knowing the style, with nothing but csv, json,
Decimal and datetime.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import random
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.builders.spreadsheets import write_xlsx

FACTORS: dict[str, tuple[str, ...]] = {
    "container": ("csv", "csv", "tsv", "gz", "zip", "folder", "jsonl", "json", "xlsx"),
    "encoding": ("utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-be"),
    "separator": (",", ";", "|", "\t"),
    "lines": ("first", "preamble", "sep", "footer", "blank end", "crlf"),
    "amount": ("plain", "comma", "thousands", "german", "french", "swiss", "dollar", "euro", "code"),
    "sign": ("none", "minus", "brackets", "trailing", "two columns"),
    "date": (
        "iso", "iso T", "iso Z", "german", "american", "british", "american 12 h", "two columns", "four columns",
        "month name", "compact", "epoch_s", "epoch_ms", "epoch_us", "excel",
    ),
    "zone": ("UTC", "Europe/Berlin", "America/New_York"),
    "null": ("", "NA", "N/A", "null", "-"),
    "label": ("01", "floats", "yes", "TRUE", "words", "letters", "german"),
    "account": ("text", "zeros", "floats", "spaces", "scientific"),
    "names": ("english", "german", "french", "spanish", "terse"),
    "quotes": ("minimal", "all"),
}  # fmt: skip
NAMES = {
    "english": ("Account Number", "Transaction Amount", "Merchant", "Transaction Date", "Is Fraud"),
    "german": ("Kontonummer", "Betrag", "Händler", "Buchungsdatum", "Betrug"),
    "french": ("Numéro Compte", "Montant", "Commerçant", "Date", "Fraude"),
    "spanish": ("Cuenta", "Importe", "Comercio", "Fecha", "Fraude"),
    "terse": ("acct", "amt", "shop", "when", "fr"),
}
LABELS = {
    "01": ("1", "0"),
    "floats": ("1.00", "0.00"),
    "yes": ("Yes", "no"),
    "TRUE": ("TRUE", "FALSE"),
    "words": ("Fraud", "Legitimate"),
    "letters": ("Y", "N"),
    "german": ("Ja", "Nein"),
}
SHOPS = ("Café du Nord", "Müller & Söhne", 'The "Best" Shop', "A, B; C | D", "Two\nlines", "Nbsp\u00a0Store", "Plain")
ROWS = 48
NO_TEXT = {"separator": ",", "encoding": "utf-8", "lines": "first", "quotes": "minimal"}
Style = dict[str, str]


@dataclass(frozen=True)
class Payment:
    """What a row means. at: epoch ms; fraud: None if the file doesn't say."""

    account: str
    amount: Decimal
    refund: bool
    at: int
    shop: str
    fraud: bool | None


@dataclass(frozen=True)
class Truth:
    """What a reading of the file must come to."""

    rows: int
    accounts: int
    amount_sum: float
    frauds: int
    unlabelled: int
    first: int
    last: int


def styles(seed: int = 9) -> list[Style]:
    """Styles that cover every pair of choices of two factors; each new one is the best of some random ones."""
    rng = random.Random(seed)
    names = list(FACTORS)
    open_pairs = all_pairs()
    chosen: list[Style] = []
    while open_pairs:
        a, x, b, y = min(open_pairs)
        best: tuple[int, Style] = (-1, {})
        for _ in range(60):
            style = fitted({name: rng.choice(FACTORS[name]) for name in names} | {a: x, b: y}, {a, b})
            if possible(style):
                covered = len(pairs(style) & open_pairs)
                best = max(best, (covered, style), key=lambda each: each[0])
        if best[0] < 1:
            open_pairs.discard((a, x, b, y))
            continue
        chosen.append(best[1])
        open_pairs -= pairs(best[1])
    return chosen


def fitted(style: Style, kept: set[str]) -> Style:
    """The style with what a container can't have set to what it has, but for the factors to keep."""
    if style["container"] in ("csv", "gz", "zip", "folder"):
        return style
    plain = {"separator": "\t"} if style["container"] == "tsv" else NO_TEXT
    return style | {name: choice for name, choice in plain.items() if name not in kept}


def all_pairs() -> set[tuple[str, str, str, str]]:
    """Every pair of choices that go together, as (factor, choice, factor, choice)."""
    return {
        (a, x, b, y)
        for a, b in itertools.combinations(FACTORS, 2)
        for x in FACTORS[a]
        for y in FACTORS[b]
        if possible({a: x, b: y})
    }


def pairs(style: Style) -> set[tuple[str, str, str, str]]:
    """The pairs of choices in a style."""
    return {(a, style[a], b, style[b]) for a, b in itertools.combinations(FACTORS, 2)}


def possible(style: Style) -> bool:
    """Whether choices go together: formats that aren't separated text have no separators, and Excel its own numbers."""
    text = style.get("container", "csv") in ("csv", "tsv", "gz", "zip", "folder")
    if not text and (style.get("lines", "first") != "first" or style.get("quotes", "minimal") != "minimal"):
        return False
    if not text and style.get("separator", ",") != ",":
        return False
    if style.get("container") == "tsv" and style.get("separator", "\t") != "\t":
        return False
    if style.get("container") in ("jsonl", "json", "xlsx") and style.get("encoding", "utf-8") != "utf-8":
        return False
    if style.get("lines") == "sep" and style.get("container") == "folder":
        return False
    if style.get("zone", "UTC") != "UTC" and style.get("date") in ("iso Z", "epoch_s", "epoch_ms", "epoch_us"):
        return False
    if style.get("amount") == "euro" and style.get("encoding") == "latin-1":
        return False
    return not (style.get("sign") == "two columns" and style.get("amount") == "code")


def payments(style: Style, seed: int) -> list[Payment]:
    """The file's content: within all minutes of 2026, so that dates decide the order of day and month; not in order."""
    rng = random.Random(seed)
    zone = ZoneInfo(style["zone"])
    result = []
    for row in range(ROWS):
        local = datetime(2026, 1 + row % 12, 1 + (row * 7) % 28, rng.randrange(24), rng.randrange(60))
        if row == 1:
            local = datetime(2026, 10, 25, 2, 30)  # repeated in Berlin
        if row == 2:
            local = datetime(2026, 3, 29, 2, 30)  # skipped in Berlin
        at = round(local.replace(tzinfo=zone).timestamp() * 1_000)
        number = 10_000 + rng.randrange(20)
        account = {"text": f"K{number}", "zeros": f"00{number}", "spaces": f"K {number}"}.get(
            style["account"], str(number)
        )
        if style["account"] == "scientific":
            account = f"{2_703_100_000_000_000 + number * 10_000_000_000:.5E}"
        cents = rng.randrange(1, 400_000) if row else 123_456
        refund = style["sign"] != "none" and row % 6 == 5
        fraud = None if row % 11 == 10 else row % 9 == 1
        result.append(Payment(account, Decimal(cents) / 100, refund, at, rng.choice(SHOPS), fraud))
    return result


def truth(rows: list[Payment]) -> Truth:
    """The sums of the content."""
    return Truth(
        rows=len(rows),
        accounts=len({p.account for p in rows}),
        amount_sum=float(sum((p.amount for p in rows), Decimal(0))),
        frauds=sum(p.fraud is True for p in rows),
        unlabelled=sum(p.fraud is None for p in rows),
        first=min(p.at for p in rows),
        last=max(p.at for p in rows),
    )


def amount_text(style: Style, amount: Decimal) -> str:
    """A sum of money as the style writes it, without its sign."""
    plain = f"{amount:.2f}"
    grouped = f"{amount:,.2f}"
    return {
        "plain": plain,
        "comma": plain.replace(".", ","),
        "thousands": grouped,
        "german": grouped.translate(str.maketrans(",.", ".,")),
        "french": grouped.translate(str.maketrans(",.", "\u00a0,")),
        "swiss": grouped.replace(",", "'"),
        "dollar": f"${grouped}",
        "euro": f"{grouped.translate(str.maketrans(',.', '.,'))} €",
        "code": f"GBP {plain}",
    }[style["amount"]]


def date_cells(style: Style, at: int) -> list[str]:
    """The cells of a time; local in the style's zone."""
    utc = datetime.fromtimestamp(at / 1_000, UTC)
    local = utc.astimezone(ZoneInfo(style["zone"])).replace(tzinfo=None)
    patterns = {
        "iso": "%Y-%m-%d %H:%M:%S",
        "iso T": "%Y-%m-%dT%H:%M",
        "german": "%d.%m.%Y %H:%M",
        "american": "%m/%d/%Y %H:%M",
        "british": "%d/%m/%Y %H:%M:%S",
        "american 12 h": "%m/%d/%y %I:%M %p",
        "month name": "%d-%b-%Y %H:%M",
        "compact": "%Y%m%d%H%M%S",
    }
    kind = style["date"]
    if kind in patterns:
        return [local.strftime(patterns[kind])]
    if kind == "two columns":
        return [local.strftime("%d/%m/%Y"), local.strftime("%H:%M")]
    if kind == "four columns":
        return [str(local.year), str(local.month), str(local.day), local.strftime("%H:%M")]
    if kind == "iso Z":
        return [utc.strftime("%Y-%m-%dT%H:%M:%SZ")]
    if kind == "excel":
        return [f"{(local - datetime(1899, 12, 30)) / timedelta(days=1):.10f}"]
    return [str(at // 1_000 * {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}[kind])]


def table(style: Style, rows: list[Payment]) -> list[list[str]]:
    """The header and the cells."""
    account, amount, shop, when, fraud = NAMES[style["names"]]
    dates = {"two columns": ["Date", "Time"], "four columns": ["Year", "Month", "Day", "Time"]}.get(
        style["date"], [when]
    )
    amounts = ["Debit", "Credit"] if style["sign"] == "two columns" else [amount]
    yes, no = LABELS[style["label"]]
    cells = [["Note", account, *amounts, shop, *dates, fraud]]
    for number, p in enumerate(rows):
        text = amount_text(style, p.amount)
        signed = {
            "none": [text],
            "minus": [f"-{text}" if p.refund else text],
            "brackets": [f"({text})" if p.refund else text],
            "trailing": [f"{text}-" if p.refund else text],
            "two columns": ["", text] if p.refund else [text, ""],
        }[style["sign"]]
        name = style["null"] if number % 7 == 3 else p.shop
        id_ = {"floats": f"{p.account}.0", "spaces": f" {p.account}\u00a0"}.get(style["account"], p.account)
        label = style["null"] if p.fraud is None else yes if p.fraud else no
        cells.append([f"n{number}", id_, *signed, name, *date_cells(style, p.at), label])
    return cells


def write(style: Style, folder: Path, seed: int) -> tuple[Path, list[Payment]]:
    """Write the file (or folder) and return its path and content."""
    rows = payments(style, seed)
    cells = table(style, rows)
    kind = style["container"]
    if kind == "xlsx":
        return write_xlsx(folder / "d.xlsx", cells), rows
    if kind in ("jsonl", "json"):
        objects = [dict(zip(cells[0], row, strict=True)) for row in cells[1:]]
        lines = "\n".join(json.dumps(each, ensure_ascii=False) for each in objects) + "\n"
        path = folder / f"d.{kind}"
        path.write_text(lines if kind == "jsonl" else json.dumps(objects), encoding="utf-8")
        return path, rows
    if kind == "folder":
        inner = folder / "d"
        inner.mkdir()
        half = len(cells) // 2
        (inner / "a.csv").write_bytes(_encoded(style, cells[:half]))
        turned = [row[::-1] for row in [cells[0], *cells[half:]]]
        (inner / "b.csv").write_bytes(_encoded(style, turned))
        return inner, rows
    content = _encoded(style, cells)
    path = folder / {"csv": "d.csv", "tsv": "d.tsv", "gz": "d.csv.gz", "zip": "d.zip"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("d.csv", content)
    else:
        path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    return path, rows


def _encoded(style: Style, cells: list[list[str]]) -> bytes:
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if style["quotes"] == "all" else csv.QUOTE_MINIMAL
    newline = "\r\n" if style["lines"] == "crlf" else "\n"
    separator = style["separator"]
    if style["lines"] == "preamble":
        out.write(f"Export of all payments{newline}Bank: Example{newline}{newline}")
    if style["lines"] == "sep":
        out.write(f"sep={separator}{newline}")
    csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=newline).writerows(cells)
    if style["lines"] == "footer":
        out.write(f"End of export{newline}")
    if style["lines"] == "blank end":
        out.write(f"{newline}{separator * (len(cells[0]) - 1)}{newline}{newline}")
    text = out.getvalue()
    encoding = style["encoding"]
    return text.encode(encoding)


def read_plainly(style: Style, path: Path) -> Truth:
    """The file's sums by a reader that knows the style: csv, json, Decimal, datetime, zoneinfo."""
    yes, no = LABELS[style["label"]]
    zone = ZoneInfo(style["zone"])
    accounts, total, frauds, unlabelled, times = set(), Decimal(0), 0, 0, list[int]()
    records = _records(style, path)
    for record in records:
        account = record[NAMES[style["names"]][0]].replace("\u00a0", " ").strip()
        accounts.add(account.removesuffix(".0") if style["account"] == "floats" else account)
        if style["sign"] == "two columns":
            written = record["Debit"] or record["Credit"]
        else:
            written = record[NAMES[style["names"]][1]]
        digits = "".join(c for c in written if c.isdigit())
        total += Decimal(digits) / 100
        label = record[NAMES[style["names"]][4]]
        assert label in (yes, no, style["null"])
        frauds += label == yes
        unlabelled += label == style["null"]
        times.append(_plain_time(style, record, zone))
    return Truth(len(records), len(accounts), float(total), frauds, unlabelled, min(times), max(times))


def _records(style: Style, path: Path) -> list[dict[str, str]]:
    kind = style["container"]
    if kind == "xlsx":
        from python_calamine import CalamineWorkbook

        rows = [
            [str(c) for c in row] for row in CalamineWorkbook.from_path(str(path)).get_sheet_by_index(0).to_python()
        ]
        return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    if kind == "json":
        return list(json.loads(path.read_text(encoding="utf-8")))
    if kind == "jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if kind == "folder":
        contents = [child.read_bytes() for child in sorted(path.iterdir())]
    elif kind == "zip":
        contents = [zipfile.ZipFile(path).read("d.csv")]
    else:
        contents = [gzip.decompress(path.read_bytes()) if kind == "gz" else path.read_bytes()]
    records: list[dict[str, str]] = []
    for content in contents:
        text = content.decode(style["encoding"])
        skipped = {"preamble": 3, "sep": 1}.get(style["lines"], 0)
        body = text.split("\n", skipped)[skipped].removesuffix("End of export\n")
        rows = [row for row in csv.reader(io.StringIO(body), delimiter=style["separator"]) if any(row)]
        records += [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    return records


def _plain_time(style: Style, record: dict[str, Any], zone: ZoneInfo) -> int:
    kind = style["date"]
    when = record.get(NAMES[style["names"]][3], "")
    if kind.startswith("epoch"):
        return int(when) * 1_000 // {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}[kind]
    if kind == "excel":
        local = datetime(1899, 12, 30) + timedelta(seconds=round(float(when) * 86_400))
        return round(local.replace(tzinfo=zone).timestamp() * 1_000)
    if kind == "iso Z":
        return round(datetime.fromisoformat(when).timestamp() * 1_000)
    if kind == "two columns":
        when, pattern = f"{record['Date']} {record['Time']}", "%d/%m/%Y %H:%M"
    elif kind == "four columns":
        when = f"{record['Year']} {record['Month']} {record['Day']} {record['Time']}"
        pattern = "%Y %m %d %H:%M"
    else:
        pattern = {
            "iso": "%Y-%m-%d %H:%M:%S",
            "iso T": "%Y-%m-%dT%H:%M",
            "german": "%d.%m.%Y %H:%M",
            "american": "%m/%d/%Y %H:%M",
            "british": "%d/%m/%Y %H:%M:%S",
            "american 12 h": "%m/%d/%y %I:%M %p",
            "month name": "%d-%b-%Y %H:%M",
            "compact": "%Y%m%d%H%M%S",
        }[kind]
    return round(datetime.strptime(when, pattern).replace(tzinfo=zone).timestamp() * 1_000)
