"""`GET /v1/decisions/{id}/proof`: what it answers, the stand-alone verifier accepts."""

from __future__ import annotations

from pathlib import Path

from sentinel_verify import cli
from sentinel_verify.checkpoint import Key

from core.log.memory import MemoryLog
from core.settings import Settings
from projections.audit.sealed_entries import Anchor
from tests.builders.api import Served, served
from tests.builders.baseline_log import PARTITIONS
from tests.builders.proofs import anchored, corpus


def test_a_proof_is_the_file_that_the_verifier_takes(decided: MemoryLog, tmp_path: Path) -> None:
    """Against the newest checkpoint of the anchors, as an attachment; by ID, place and alert the same bytes."""
    signed = corpus(decided, PARTITIONS)
    with served(decided, tmp_path, anchors(tmp_path, signed.log_id, signed.anchor)) as on:
        row = on.get("/v1/decisions", alerts=True, limit=1).json()["decisions"][0]
        names = (row["transaction_id"], row["place"], row["place"].removeprefix("p"))
        answers = [on.get(f"/v1/decisions/{name}/proof") for name in names]
        assert len({answer.content for answer in answers}) == 1
        disposition = answers[0].headers["content-disposition"]
        assert disposition == f'attachment; filename="{row["place"].replace(":", "-")}.proof"'
        found = cli.verify(answers[0].content, [Key.parse(signed.key)])
        assert found["verified"] and found["level"] == 2
        assert found["transaction"]["transaction_id"] == row["transaction_id"]
        short = on.get(f"/v1/decisions/{row['place']}/proof", level=1)
        assert cli.verify(short.content, [Key.parse(signed.key)], level=1)["verified"] and len(short.content) < 10_000
        assert on.get(f"/v1/decisions/{row['place']}/proof", level=3).status_code == 400
        assert on.get("/v1/decisions/none/proof").status_code == 404
        assert on.get(f"/v1/decisions/{row['place']}/proof", role="viewer").status_code == 403


def test_a_decision_after_the_newest_checkpoint_waits_for_the_next(decided: MemoryLog, tmp_path: Path) -> None:
    """409 with a reason and a remedy."""
    signed = corpus(decided, PARTITIONS)
    early = anchored(decided, signed.log_id, PARTITIONS, seals=1)
    with served(decided, tmp_path, anchors(tmp_path, signed.log_id, early)) as on:
        row = on.get("/v1/decisions", limit=1).json()["decisions"][0]
        answer = on.get(f"/v1/decisions/{row['place']}/proof")
        assert (answer.status_code, answer.json()["reason"]) == (409, "not_anchored"), answer.text


def test_without_anchors_it_proves_less(api: Served) -> None:
    """The proof has no checkpoint, and the verifier says so."""
    row = api.get("/v1/decisions", limit=1).json()["decisions"][0]
    content = api.get(f"/v1/decisions/{row['place']}/proof").content
    assert "no signed checkpoint" in cli.verify(content, [])["refused"]
    assert cli.verify(content, [], unanchored=True)["verified"]


def anchors(directory: Path, log_id: str, anchor: Anchor) -> Settings:
    """Settings whose directory of anchors holds this checkpoint."""
    folder = directory / "anchors" / log_id
    folder.mkdir(parents=True)
    (folder / "000000001.checkpoint").write_bytes(anchor.note.content)
    return Settings(anchors={"directories": [str(directory / "anchors")]})
