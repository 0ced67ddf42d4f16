"""The log's wire form: golden bytes of every event type, tolerance for what a newer version adds, exact floats."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import codec, events
from core.codec import decode_account_event, decode_control, encode, encode_control, encode_transactions
from core.errors import BadInput, Corrupt
from core.events import AccountEvent, Control, Position, Transaction, TransactionReceived
from tests.builders.events import T0, fuzz, transaction

ACCOUNT = {"account_id": "a1", "occurred_at": T0}
SYSTEM = {"occurred_at": T0, "actor": "ann", "reason": "why", "causation_id": "c-1"}
HEX = "0f" * 32

# One line an event type: these bytes stand in logs and must decode for ever. A line is added with every new type or
# version. fmt: off
GOLDEN: list[tuple[Any, bytes]] = [
    (
        events.TransactionReceived(
            recorded_at=5,
            transaction_id="t1",
            amount=20.5,
            currency="EUR",
            merchant_id="m1",
            merchant_category="5411",
            country="DE",
            channel="pos",
            device_id="d1",
            ip="10.0.0.1",
            card_id="c1",
            attributes={"x": 1.5, "y": "z"},
            received_at=7,
            **ACCOUNT,
        ),
        b'{"type":"transaction.v1","recorded_at":5,"transaction_id":"t1","account_id":"a1","amount":20.5,"occurred'
        b'_at":1524000000000,"currency":"EUR","merchant_id":"m1","merchant_category":"5411","country":"DE","channe'
        b'l":"pos","device_id":"d1","ip":"10.0.0.1","card_id":"c1","attributes":{"x":1.5,"y":"z"},"rece'
        b'ived_at":7}',
    ),
    (
        events.TransactionScored(
            feedback_position="1-7",
            control_position=3,
            model="tiny-1.0.0",
            digest="0f0f",
            spec=1,
            engine=1,
            program="a5a5",
            margin=-2.25,
            probability=0.1,
            decision="review",
            features=b"\0\1\2\3",
            rules=("VELOCITY_10M",),
            shadow_rules=("MY_RULE",),
            effects=1,
            severity="low",
            degraded="model_error",
        ),
        b'{"type":"score.v1","f":"1-7","c":3,"model":"tiny-1.0.0","digest":"0f0f","spec":1,"engine":1,"program":"a5a5",'
        b'"margin":-2.25,"probability":0.1,"decision":"review","features":"AAECAw==","rules":["VELOCITY_10M"],'
        b'"shadow_rules":["MY_RULE"],"effects":1,"severity":"low","degraded":"model_error"}',
    ),
    (
        events.TransactionScored(
            feedback_position="1-7",
            control_position=3,
            model="tiny-1.1.0",
            digest="0f0f",
            spec=1,
            engine=1,
            program="a5a5",
            margin=-2.25,
            probability=0.1,
            decision="approve",
            features=b"",
            arm="e1/new",
            shadow_model="tiny-1.2.0",
            shadow=0.0,
        ),
        b'{"type":"score.v1","f":"1-7","c":3,"model":"tiny-1.1.0","digest":"0f0f","spec":1,"engine":1,"program":"a5a5",'
        b'"margin":-2.25,"probability":0.1,"decision":"approve","features":"","arm":"e1/new",'
        b'"shadow_model":"tiny-1.2.0","shadow":0.0}',
    ),
    (
        events.AlertRaised(
            alert_id="03:1-9",
            timestamp=T0,
            account_id="a1",
            fraud_score=0.5,
            decision="review",
            severity="low",
            reason_codes=("MODEL_SCORE",),
            values={"amount": 5.1, "speed_kmh": None},
            recommended_actions=("queue_for_review",),
            transaction={"transaction_id": "t1", "amount": 20.5},
            degraded="no_model",
        ),
        b'{"type":"alert.v1","alert_id":"03:1-9","timestamp":1524000000000,"account_id":"a1","fraud_score":0.5,"de'
        b'cision":"review","severity":"low","reason_codes":["MODEL_SCORE"],"values":{"amount":5.1,"speed_kmh":null}'
        b',"recommended_actions":["queue_for_review"],"transaction":{"transaction_id":"t1","amount":20.5},"degraded":"no_model"}',
    ),
    (
        events.TransactionRejected(
            recorded_at=5, topic="transactions", position="1-9", reason="not_json", detail="no", key=b"k", value=b"\xff"
        ),
        b'{"type":"reject.v1","recorded_at":5,"topic":"transactions","position":"1-9","reason":"not_json","detail"'
        b':"no","key":"aw==","value":"/w=="}',
    ),
    (
        events.FeedbackReceived(
            transaction_id="t1",
            source="chargeback",
            verdict="fraud",
            confidence=0.5,
            actor="ann",
            amount=20.5,
            merchant_id="m1",
            device_id="d1",
            transaction_occurred_at=T0,
            reason="r",
            recorded_at=5,
            **ACCOUNT,
        ),
        b'{"type":"feedback.v1","account_id":"a1","transaction_id":"t1","occurred_at":1524000000000,"source":"char'
        b'geback","verdict":"fraud","confidence":0.5,"actor":"ann","amount":20.5,"merchant_id":"m1","device_id":"d'
        b'1","transaction_occurred_at":1524000000000,"reason":"r","recorded_at":5}',
    ),
    (
        events.AccountBlocked(actor="ann", reason="r", causation_id="c", recorded_at=5, **ACCOUNT),
        b'{"type":"account_blocked.v1","account_id":"a1","occurred_at":1524000000000,"actor":"ann","reason":"r","c'
        b'ausation_id":"c","recorded_at":5}',
    ),
    (
        events.AccountUnblocked(actor="ann", reason="r", causation_id="c", recorded_at=5, **ACCOUNT),
        b'{"type":"account_unblocked.v1","account_id":"a1","occurred_at":1524000000000,"actor":"ann","reason":"r",'
        b'"causation_id":"c","recorded_at":5}',
    ),
    (
        events.CaseOpened(case_id="k1", actor="ann", alert_id="03:1-9", recorded_at=5, **ACCOUNT),
        b'{"type":"case_opened.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann",'
        b'"recorded_at":5,"alert_id":"03:1-9"}',
    ),
    (
        events.CaseAssigned(case_id="k1", actor="ann", assignee="bob", recorded_at=5, **ACCOUNT),
        b'{"type":"case_assigned.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann'
        b'","recorded_at":5,"assignee":"bob"}',
    ),
    (
        events.CaseResolved(case_id="k1", actor="ann", verdict="unsure", note="n", recorded_at=5, **ACCOUNT),
        b'{"type":"case_resolved.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann'
        b'","recorded_at":5,"verdict":"unsure","note":"n"}',
    ),
    (
        events.CaseRouted(
            case_id="k1", actor="ann", recorded_at=5, queue="q", causation_id="c", revision=2, act_id="x", **ACCOUNT
        ),
        b'{"type":"case_routed.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann",'
        b'"recorded_at":5,"act_id":"x","revision":2,"queue":"q","causation_id":"c"}',
    ),
    (
        events.CaseReopened(case_id="k1", actor="ann", recorded_at=5, note="n", revision=2, act_id="x", **ACCOUNT),
        b'{"type":"case_reopened.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann'
        b'","recorded_at":5,"act_id":"x","revision":2,"note":"n"}',
    ),
    (
        events.CaseSnoozed(case_id="k1", actor="ann", recorded_at=5, until=9, revision=2, act_id="x", **ACCOUNT),
        b'{"type":"case_snoozed.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann"'
        b',"recorded_at":5,"act_id":"x","revision":2,"until":9}',
    ),
    (
        events.CaseNoted(case_id="k1", actor="ann", recorded_at=5, note="n", mentions=("bob",), act_id="x", **ACCOUNT),
        b'{"type":"case_noted.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann","'
        b'recorded_at":5,"act_id":"x","note":"n","mentions":["bob"]}',
    ),
    (
        events.CaseLinked(
            case_id="k1", actor="ann", recorded_at=5, other_case_id="k2", linked=False, note="n", act_id="x", **ACCOUNT
        ),
        b'{"type":"case_linked.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann",'
        b'"recorded_at":5,"act_id":"x","other_case_id":"k2","linked":false,"note":"n"}',
    ),
    (
        events.CaseChecked(
            case_id="k1", actor="ann", recorded_at=5, verdict="fraud", note="n", revision=2, act_id="x", **ACCOUNT
        ),
        b'{"type":"case_checked.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann"'
        b',"recorded_at":5,"act_id":"x","revision":2,"verdict":"fraud","note":"n"}',
    ),
    (
        events.ActionSucceeded(action="block_account", actor="svc", causation_id="c", recorded_at=5, **ACCOUNT),
        b'{"type":"action_succeeded.v1","account_id":"a1","action":"block_account","occurred_at":1524000000000,"ac'
        b'tor":"svc","causation_id":"c","recorded_at":5}',
    ),
    (
        events.ActionFailed(action="block_account", actor="svc", causation_id="c", error="e", recorded_at=5, **ACCOUNT),
        b'{"type":"action_failed.v1","account_id":"a1","action":"block_account","occurred_at":1524000000000,"a'
        b'ctor":"svc","causation_id":"c","recorded_at":5,"error":"e"}',
    ),
    (
        events.ActionRequested(
            action="notify_customer", actor="ann", causation_id="c", reason="r", recorded_at=5, **ACCOUNT
        ),
        b'{"type":"action_requested.v1","account_id":"a1","action":"notify_customer","occurred_at":1524000000000,"'
        b'actor":"ann","causation_id":"c","reason":"r","recorded_at":5}',
    ),
    (
        events.Seal(
            transactions="1-9",
            feedback="1-7",
            control=3,
            counts=(1, 2, 3, 4),
            recorded_at=5,
            published="1-8",
            digest=HEX,
        ),
        b'{"type":"seal.v1","transactions":"1-9","feedback":"1-7","control":3,"counts":[1,2,3,4],"recorded_at":5,"'
        b'published":"1-8","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.DegradationStarted(partitions=(0, 3), artifacts=(HEX,), **SYSTEM),
        b'{"type":"degradation_started.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","partitions":[0,3],"artifacts":["0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"]}',
    ),
    (
        events.SealsRecorded(seals=(events.SealPoint(2, 7, HEX),), **SYSTEM),
        b'{"type":"seals_recorded.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1'
        b'","seals":[{"partition":2,"sequence":7,"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
        b'0f0f0f0f"}]}',
    ),
    (
        events.CheckpointSigned(number=7, state=HEX, digest=HEX, **SYSTEM),
        b'{"type":"checkpoint_signed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"number":7,"state":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",'
        b'"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.DegradationEnded(partitions=(0, 3), **SYSTEM),
        b'{"type":"degradation_ended.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","partitions":[0,3]}',
    ),
    (
        events.LogCreated(
            log_id="0f" * 16,
            hash_key="1e" * 16,
            partitioner="murmur2",
            partitions=12,
            accounts_max=100_000,
            program="a5" * 32,
            **SYSTEM,
        ),
        b'{"type":"log_created.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1","'
        b'log_id":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","hash_key":"1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e","partitioner":"'
        b'murmur2","partitions":12,"accounts_max":100000,"program":"'
        b'a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"}',
    ),
    (
        events.SourceGenerationStarted(
            topic="feedback", topic_name="f", generation=2, topic_id="uuid", partitions=12, **SYSTEM
        ),
        b'{"type":"source_generation_started.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causati'
        b'on_id":"c-1","topic":"feedback","topic_name":"f","generation":2,"topic_id":"uuid","partitions":12}',
    ),
    (
        events.HistoryStarted(earliest=1, latest=2, begins={"transactions": (0, 5), "feedback": (1, 0)}, **SYSTEM),
        b'{"type":"history_started.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-'
        b'1","earliest":1,"latest":2,"begins":{"transactions":[0,5],"feedback":[1,0]}}',
    ),
    (
        events.HistoryEnded(ends={"transactions": (9, 5)}, **SYSTEM),
        b'{"type":"history_ended.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1"'
        b',"ends":{"transactions":[9,5]}}',
    ),
    (
        events.ModelRegistered(
            name="base", version="1.0.0", digest=HEX, spec=1, metrics={"auc": 0.5}, parent="p", **SYSTEM
        ),
        b'{"type":"model_registered.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c'
        b'-1","name":"base","version":"1.0.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
        b'0f0f0f","spec":1,"metrics":{"auc":0.5},"parent":"p"}',
    ),
    (
        events.ModelDeployed(name="base", version="1.0.0", digest=HEX, alias="shadow", **SYSTEM),
        b'{"type":"model_deployed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1'
        b'","name":"base","version":"1.0.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
        b'0f0f","alias":"shadow"}',
    ),
    (
        events.ModelRolledBack(name="base", version="1.0.0", digest=HEX, alias="shadow", **SYSTEM),
        b'{"type":"model_rolled_back.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","name":"base","version":"1.0.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0'
        b'f0f0f0f","alias":"shadow"}',
    ),
    (
        events.ThresholdsChanged(review=0.25, decline=0.75, **SYSTEM),
        b'{"type":"thresholds_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","review":0.25,"decline":0.75}',
    ),
    (
        events.RulesChanged(parameters={"amount_high": 5.0}, disabled=("VELOCITY_10M",), **SYSTEM),
        b'{"type":"rules_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1"'
        b',"parameters":{"amount_high":5.0},"disabled":["VELOCITY_10M"]}',
    ),
    (
        events.ListChanged(kind="merchant", effect="watch", add=("m1",), remove=("m2",), **SYSTEM),
        b'{"type":"list_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"kind":"merchant","effect":"watch","add":["m1"],"remove":["m2"]}',
    ),
    (
        events.RatesChanged(base="EUR", rates={"USD": 0.92}, **SYSTEM),
        b'{"type":"rates_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"base":"EUR","rates":{"USD":0.92}}',
    ),
    (
        events.ReferencePublished(kind="device", digest=HEX, as_of=T0, rows=7, **SYSTEM),
        b'{"type":"reference_published.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id"'
        b':"c-1","kind":"device","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","as_o'
        b'f":1524000000000,"rows":7}',
    ),
    (
        events.SourceQuarantined(source="analyst", name="bot", hour_start=3_600_000, **SYSTEM),
        b'{"type":"source_quarantined.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","source":"analyst","name":"bot","hour_start":3600000}',
    ),
    (
        events.ResponsesChanged(enabled=True, actions=("block_account",), begins=(3, 0), **SYSTEM),
        b'{"type":"responses_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","enabled":true,"actions":["block_account"],"begins":[3,0]}',
    ),
    (
        events.DriftDetected(
            feature="amount", statistic="psi", magnitude=0.5, severity="high", window_start=1, window_end=2, **SYSTEM
        ),
        b'{"type":"drift_detected.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1'
        b'","feature":"amount","statistic":"psi","magnitude":0.5,"severity":"high","window_start":1,"window_end":2'
        b"}",
    ),
    (
        events.DriftCleared(feature="amount", **SYSTEM),
        b'{"type":"drift_cleared.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1"'
        b',"feature":"amount"}',
    ),
    (
        events.ModelWithdrawn(alias="shadow", **SYSTEM),
        b'{"type":"model_withdrawn.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id"'
        b':"c-1","alias":"shadow"}',
    ),
    (
        events.GovernanceChanged(four_eyes=True, **SYSTEM),
        b'{"type":"governance_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_'
        b'id":"c-1","four_eyes":true}',
    ),
    (
        events.IdentityAdded(
            name="bob",
            roles=("admin", "publisher"),
            public_key=HEX,
            subject="b.smith",
            key="ab",
            signature="c2ln",
            **SYSTEM,
        ),
        b'{"type":"identity_added.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","key":"ab","signature":"c2ln","name":"bob","roles":["admin","publisher"],"public_key":"0f0f0f0f0f'
        b'0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","subject":"b.smith"}',
    ),
    (
        events.IdentityChanged(name="bob", roles=("viewer",), subject="b.smith", **SYSTEM),
        b'{"type":"identity_changed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","name":"bob","roles":["viewer"],"subject":"b.smith"}',
    ),
    (
        events.IdentityRevoked(name="bob", **SYSTEM),
        b'{"type":"identity_revoked.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","name":"bob"}',
    ),
    (
        events.IdentityKeyAdded(name="bob", public_key=HEX, **SYSTEM),
        b'{"type":"identity_key_added.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id'
        b'":"c-1","name":"bob","public_key":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.IdentityKeyRevoked(name="bob", key_id="0f0f0f0f0f0f0f0f", **SYSTEM),
        b'{"type":"identity_key_revoked.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_'
        b'id":"c-1","name":"bob","key_id":"0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.IdentityRequired(required=True, **SYSTEM),
        b'{"type":"identity_required.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id"'
        b':"c-1","required":true}',
    ),
    (
        events.ChangeProposed(
            proposal_id="p1", change={"type": "thresholds_changed.v1", "review": 0.25, "decline": 1.0}, **SYSTEM
        ),
        b'{"type":"change_proposed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","proposal_id":"p1","change":{"type":"thresholds_changed.v1","review":0.25,"decline":1.0}}',
    ),
    (
        events.ChangeWithdrawn(proposal_id="p1", **SYSTEM),
        b'{"type":"change_withdrawn.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":'
        b'"c-1","proposal_id":"p1"}',
    ),
    (
        events.DeploymentProposed(proposal_id="p1", name="m", version="1.0.0", digest=HEX, alias="shadow", **SYSTEM),
        b'{"type":"deployment_proposed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation'
        b'_id":"c-1","proposal_id":"p1","name":"m","version":"1.0.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0'
        b'f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","alias":"shadow"}',
    ),
    (
        events.ProgramRegistered(name="p", version="1.0.0", digest=HEX, parent="a5" * 32, **SYSTEM),
        b'{"type":"program_registered.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"name":"p","version":"1.0.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",'
        b'"parent":"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"}',
    ),
    (
        events.ProgramProposed(proposal_id="p1", digest=HEX, **SYSTEM),
        b'{"type":"program_proposed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"proposal_id":"p1","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.ProgramApproved(proposal_id="p1", **SYSTEM),
        b'{"type":"program_approved.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"proposal_id":"p1"}',
    ),
    (
        events.ProgramWithdrawn(proposal_id="p1", **SYSTEM),
        b'{"type":"program_withdrawn.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"proposal_id":"p1"}',
    ),
    (
        events.DeploymentWithdrawn(proposal_id="p1", **SYSTEM),
        b'{"type":"deployment_withdrawn.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","proposal_id":"p1"}',
    ),
    (
        events.ProgramPrepared(digest=HEX, partitions=(0, 3), **SYSTEM),
        b'{"type":"program_prepared.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","partitions":[0,3]}',
    ),
    (
        events.ProgramDeployed(digest=HEX, **SYSTEM),
        b'{"type":"program_deployed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.ProgramRolledBack(digest=HEX, **SYSTEM),
        b'{"type":"program_rolled_back.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1",'
        b'"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.ExperimentStarted(
            experiment_id="e1",
            arms=(
                events.Arm("control", "m", "1.0.0", HEX, 9000),
                events.Arm("new", "m", "1.1.0", HEX, 1000),
            ),
            salt="s",
            traffic=500,
            window_ms=1,
            maturity_ms=2,
            alpha=0.01,
            primary="fraud_caught",
            guardrails=("false_positive",),
            accounts_min=3,
            duration_max_ms=4,
            **SYSTEM,
        ),
        b'{"type":"experiment_started.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_'
        b'id":"c-1","experiment_id":"e1","arms":[{"name":"control","model":"m","version":"1.0.0","digest":"0f0'
        b'f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","share":9000},{"name":"new","model":"'
        b'm","version":"1.1.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","sh'
        b'are":1000}],"salt":"s","traffic":500,"window_ms":1,"maturity_ms":2,"alpha":0.01,"primary":"fraud_cau'
        b'ght","guardrails":["false_positive"],"accounts_min":3,"duration_max_ms":4}',
    ),
    (
        events.ExperimentRamped(experiment_id="e1", traffic=1000, **SYSTEM),
        b'{"type":"experiment_ramped.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_i'
        b'd":"c-1","experiment_id":"e1","traffic":1000}',
    ),
    (
        events.ExperimentStopped(experiment_id="e1", **SYSTEM),
        b'{"type":"experiment_stopped.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_'
        b'id":"c-1","experiment_id":"e1"}',
    ),
    (
        events.ExperimentConcluded(
            experiment_id="e1", verdict="promote", winner="new", evidence={"e_value": 40.5}, **SYSTEM
        ),
        b'{"type":"experiment_concluded.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causatio'
        b'n_id":"c-1","experiment_id":"e1","verdict":"promote","winner":"new","evidence":{"e_value":40.5}}',
    ),
    (
        events.RetrainingStarted(run_id="r1", trigger="drift", known_until=T0, parent="m-1.0.0", **SYSTEM),
        b'{"type":"retraining_started.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_'
        b'id":"c-1","run_id":"r1","trigger":"drift","known_until":1524000000000,"parent":"m-1.0.0"}',
    ),
    (
        events.RetrainingFinished(
            run_id="r1", name="m", version="1.1.0", digest=HEX, metrics={"auc_roc": 0.9}, **SYSTEM
        ),
        b'{"type":"retraining_finished.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation'
        b'_id":"c-1","run_id":"r1","name":"m","version":"1.1.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
        b'0f0f0f0f0f0f0f0f0f0f0f0f0f0f","metrics":{"auc_roc":0.9}}',
    ),
    (
        events.RetrainingRejected(run_id="r1", metrics={"auc_roc": 0.4}, **SYSTEM),
        b'{"type":"retraining_rejected.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation'
        b'_id":"c-1","run_id":"r1","metrics":{"auc_roc":0.4}}',
    ),
    (
        events.DegradationDetected(
            model="m-1.1.0",
            digest=HEX,
            metric="average_precision",
            value=0.25,
            limit=0.5,
            window_start=1,
            window_end=2,
            **SYSTEM,
        ),
        b'{"type":"degradation_detected.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causatio'
        b'n_id":"c-1","model":"m-1.1.0","digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
        b'0f0f","metric":"average_precision","value":0.25,"limit":0.5,"window_start":1,"window_end":2}',
    ),
    (
        events.SegmentArchived(partition=3, first_sequence=1, last_sequence=9, digest=HEX, **SYSTEM),
        b'{"type":"segment_archived.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c'
        b'-1","partition":3,"first_sequence":1,"last_sequence":9,"digest":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0'
        b'f0f0f0f0f0f0f0f0f0f0f0f0f"}',
    ),
    (
        events.AccountsErased(
            accounts=("acct_3_ab",),
            searched={"log": 7},
            found={"log": 1},
            seals=(events.SealPoint(0, 5, "d"),),
            **SYSTEM,
        ),
        b'{"type":"accounts_erased.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1","'
        b'accounts":["acct_3_ab"],"searched":{"log":7},"found":{"log":1},"seals":[{"partition":0,"sequence":5,"digest":"'
        b'd"}]}',
    ),
    (
        events.SealedValuesOpened(account="acct_3_ab", place="p03:1-5", fields=("email",), **SYSTEM),
        b'{"type":"sealed_values_opened.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1","'
        b'account":"acct_3_ab","place":"p03:1-5","fields":["email"]}',
    ),
    (
        events.ValuesUnmasked(place="p03:1-5", fields=("account_id", "ip"), **SYSTEM),
        b'{"type":"values_unmasked.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1","'
        b'place":"p03:1-5","fields":["account_id","ip"]}',
    ),
    (
        events.LogTrimmed(partition=3, up_to_sequence=9, **SYSTEM),
        b'{"type":"log_trimmed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1","'
        b'partition":3,"up_to_sequence":9}',
    ),
    (
        events.PartitionParked(partition=3, code="corrupt", **SYSTEM),
        b'{"type":"partition_parked.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c'
        b'-1","partition":3,"code":"corrupt"}',
    ),
    (
        events.PartitionResumed(partition=3, **SYSTEM),
        b'{"type":"partition_resumed.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"'
        b'c-1","partition":3}',
    ),
    (
        events.MessagesSkipped(
            topic="feedback",
            generation=2,
            partition=3,
            first_offset=4,
            next_offset=7,
            code="messages_expired",
            **SYSTEM,
        ),
        b'{"type":"messages_skipped.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c'
        b'-1","topic":"feedback","generation":2,"partition":3,"first_offset":4,"next_offset":7,"code":"messages_ex'
        b'pired"}',
    ),
]

# Events with the fields that their type has got since; the lines above are what it began with.
EXTENDED: list[tuple[Any, bytes]] = [
    (
        events.AccountBlocked(actor="svc", recorded_at=5, ends_at=9, **ACCOUNT),
        b'{"type":"account_blocked.v1","account_id":"a1","occurred_at":1524000000000,"actor":"svc","recorded_at":5'
        b',"ends_at":9}',
    ),
    (
        events.CaseOpened(
            case_id="k1", actor="ann", recorded_at=5, severity="low", queue="q", note="n", act_id="x", **ACCOUNT
        ),
        b'{"type":"case_opened.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann",'
        b'"recorded_at":5,"act_id":"x","severity":"low","queue":"q","note":"n"}',
    ),
    (
        events.CaseAssigned(case_id="k1", actor="ann", assignee="", recorded_at=5, revision=2, act_id="x", **ACCOUNT),
        b'{"type":"case_assigned.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann'
        b'","recorded_at":5,"act_id":"x","revision":2,"assignee":""}',
    ),
    (
        events.CaseResolved(
            case_id="k1", actor="ann", verdict="fraud", recorded_at=5, revision=2, act_id="x", **ACCOUNT
        ),
        b'{"type":"case_resolved.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann'
        b'","recorded_at":5,"act_id":"x","revision":2,"verdict":"fraud"}',
    ),
    (
        events.ActionSucceeded(
            action="block_account",
            actor="svc",
            causation_id="c",
            recorded_at=5,
            severity="high",
            requested_at=4,
            attempts=2,
            delay_ms=3,
            **ACCOUNT,
        ),
        b'{"type":"action_succeeded.v1","account_id":"a1","action":"block_account","occurred_at":1524000000000,"ac'
        b'tor":"svc","causation_id":"c","recorded_at":5,"severity":"high","requested_at":4,"attempts":2,"delay_ms"'
        b":3}",
    ),
    (
        events.ActionFailed(
            action="block_account",
            actor="svc",
            causation_id="c",
            error="e",
            recorded_at=5,
            code="expired",
            severity="low",
            requested_at=4,
            attempts=2,
            delay_ms=3,
            **ACCOUNT,
        ),
        b'{"type":"action_failed.v1","account_id":"a1","action":"block_account","occurred_at":1524000000000,"a'
        b'ctor":"svc","causation_id":"c","recorded_at":5,"severity":"low","requested_at":4,"attempts":2,"delay'
        b'_ms":3,"error":"e","code":"expired"}',
    ),
    (
        events.DriftDetected(
            feature="performance:auc_roc",
            statistic="auc_roc",
            magnitude=0.125,
            severity="critical",
            window_start=3,
            window_end=4,
            kind="performance",
            test="delong",
            p_value_adjusted=0.0078125,
            effects={"auc_roc": 0.125},
            reference_start=1,
            reference_end=2,
            rows=7,
            reference_rows=9,
            design_effect=1.5,
            **SYSTEM,
        ),
        b'{"type":"drift_detected.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1'
        b'","feature":"performance:auc_roc","statistic":"auc_roc","magnitude":0.125,"severity":"critical","window_'
        b'start":3,"window_end":4,"kind":"performance","test":"delong","p_value_adjusted":0.0078125,"effects":{"au'
        b'c_roc":0.125},"reference_start":1,"reference_end":2,"rows":7,"reference_rows":9,"design_effect":1.5}',
    ),
    (
        events.DriftCleared(feature="amount", window_start=3, window_end=4, statistic="ks", magnitude=0.0625, **SYSTEM),
        b'{"type":"drift_cleared.v1","occurred_at":1524000000000,"actor":"ann","reason":"why","causation_id":"c-1"'
        b',"feature":"amount","window_start":3,"window_end":4,"statistic":"ks","magnitude":0.0625}',
    ),
]
# fmt: on


def decoder_of(event: Any) -> Any:
    """The decoder that reads this type from its stream."""
    own = {
        events.TransactionReceived: codec.decode_transaction,
        events.TransactionScored: codec.decode_score,
        events.AlertRaised: codec.decode_alert,
        events.TransactionRejected: codec.decode_reject,
        events.Seal: codec.decode_seal,
    }
    return own.get(type(event)) or (decode_account_event if isinstance(event, AccountEvent) else decode_control)


FORMER: list[tuple[Any, bytes]] = [
    (
        events.CaseOpened(case_id="k1", actor="ann", alert_id="03:1-9", recorded_at=5, **ACCOUNT),
        b'{"type":"case_opened.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann","ale'
        b'rt_id":"03:1-9","recorded_at":5}',
    ),
    (
        events.CaseAssigned(case_id="k1", actor="ann", assignee="bob", recorded_at=5, **ACCOUNT),
        b'{"type":"case_assigned.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann","a'
        b'ssignee":"bob","recorded_at":5}',
    ),
    (
        events.CaseResolved(case_id="k1", actor="ann", verdict="unsure", note="n", recorded_at=5, **ACCOUNT),
        b'{"type":"case_resolved.v1","account_id":"a1","case_id":"k1","occurred_at":1524000000000,"actor":"ann","v'
        b'erdict":"unsure","note":"n","recorded_at":5}',
    ),
]
"""Bytes of past releases whose fields stood in another order."""


@pytest.mark.parametrize(("event", "written"), FORMER)
def test_bytes_of_past_releases_decode(event: Any, written: bytes) -> None:
    """An event that a past release wrote with its fields in another order is the same event."""
    assert decoder_of(event)(written) == event


@pytest.mark.parametrize(
    ("event", "golden"), [*GOLDEN, *EXTENDED], ids=lambda v: type(v).__name__ if isinstance(v, msgspec.Struct) else ""
)
def test_golden_bytes(event: Any, golden: bytes) -> None:
    """The event encodes to the bytes that it always had, and they decode to the event."""
    assert encode(event) == golden
    assert decoder_of(event)(golden) == event


def test_every_event_type_has_golden_bytes() -> None:
    """No event of the unions, nor of the partition's streams, is without a golden line."""
    kinds = {
        *get_args(AccountEvent),
        *get_args(Control),
        TransactionReceived,
        events.TransactionScored,
        events.AlertRaised,
    }
    assert {type(e) for e, _ in GOLDEN} == kinds | {events.TransactionRejected, events.Seal}
    tags = [type(e).__struct_config__.tag for e, _ in GOLDEN]
    assert len(set(tags)) == len({type(e) for e, _ in GOLDEN})
    assert all(tag.rpartition(".v")[2].isdigit() for tag in tags)


@pytest.mark.parametrize(
    ("event", "golden"), [*GOLDEN, *EXTENDED], ids=lambda v: type(v).__name__ if isinstance(v, msgspec.Struct) else ""
)
def test_unknown_fields_are_tolerated_in_the_log(event: Any, golden: bytes) -> None:
    """A field that a newer version wrote is skipped, whatever it holds."""
    assert decoder_of(event)(golden[:-1] + b',"new_field":{"deep":[1,null,"x"]}}') == event


@pytest.mark.parametrize(
    ("event", "golden"), [*GOLDEN, *EXTENDED], ids=lambda v: type(v).__name__ if isinstance(v, msgspec.Struct) else ""
)
@pytest.mark.parametrize("damage", ["tag", "cut", "type", "utf8"])
def test_damaged_entries_are_corrupt(event: Any, golden: bytes, damage: str) -> None:
    """Another tag, a missing end, a wrong type or broken UTF-8 raise Corrupt and nothing else."""
    tag = type(event).__struct_config__.tag.encode()
    broken = {
        "tag": golden.replace(tag, b"nobody.v1", 1),
        "cut": golden[: len(golden) // 2],
        "type": b'{"type":"%s"}' % tag,
        "utf8": golden.replace(b'":"', b'":"\xff', 2),
    }[damage]
    with pytest.raises(Corrupt):
        decoder_of(event)(broken)


SCORES = [event for event, _ in GOLDEN if isinstance(event, events.TransactionScored)]


@pytest.mark.parametrize("severity", [None, "low", "critical"])
@pytest.mark.parametrize("rules", [(), ("VELOCITY_10M",), ("ACCOUNT_BLOCKED", "MY_RULE")])
@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.model)
def test_a_score_read_in_part_is_the_whole_ones(score: events.TransactionScored, severity: Any, rules: Any) -> None:
    """The key of a score has its positions, engine, program and outcome, whatever else the score holds."""
    whole = msgspec.structs.replace(score, severity=severity, rules=rules)
    key = codec.decode_score_key(encode(whole))
    assert key.outcome == events.Outcome(whole.decision, severity, rules)
    for name in ("feedback_position", "control_position", "engine", "program", "degraded"):
        assert getattr(key, name) == getattr(whole, name)


def test_old_entries_read_with_todays_defaults() -> None:
    """Entries with nothing but the first version's required fields decode."""
    t = codec.decode_transaction(
        b'{"type":"transaction.v1","recorded_at":1,"transaction_id":"t","account_id":"a","amount":1,"occurred_at":2}'
    )
    assert (t.amount, t.currency, t.attributes) == (1.0, "", {})
    f = decode_account_event(
        b'{"type":"feedback.v1","account_id":"a","transaction_id":"t","occurred_at":1,"source":"chargeback",'
        b'"verdict":"fraud"}'
    )
    assert isinstance(f, events.FeedbackReceived) and (f.confidence, f.recorded_at) == (1.0, 0)


_text = st.text(max_size=10)


@fuzz(max_examples=200)
@given(
    st.builds(
        Transaction,
        transaction_id=_text,
        account_id=_text,
        amount=st.floats(0, 1e12),
        occurred_at=st.integers(0, 2**42),
        currency=_text,
        merchant_id=_text,
        merchant_category=_text,
        country=_text,
        channel=_text,
        device_id=_text,
        ip=_text,
        card_id=_text,
        attributes=st.dictionaries(_text, st.floats(allow_nan=False, allow_infinity=False) | _text, max_size=3),
    ),
    st.integers(0, 2**42),
)
def test_encode_transaction_is_the_encoded_event(t: Transaction, recorded_at: int) -> None:
    """The shortcut writes the very bytes of the TransactionReceived that it stands for."""
    received = TransactionReceived(recorded_at=recorded_at, **msgspec.structs.asdict(t))
    assert encode_transactions([t], recorded_at)[0] == encode(received)
    assert codec.decode_transaction(encode_transactions([t], recorded_at)[0]) == received


@fuzz(max_examples=300)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_exact(x: float) -> None:
    """A float64 survives the log to its last bit, the sign of zero included."""
    again = codec.decode_transaction(encode_transactions([transaction(amount=x)], 0)[0]).amount
    assert again.hex() == x.hex()


def test_feature_bytes_are_exact() -> None:
    """A feature vector's bytes, whatever they are, survive the log."""
    every = bytes(range(256))
    score = msgspec.structs.replace(
        next(e for e, _ in GOLDEN if isinstance(e, events.TransactionScored)), features=every
    )
    assert codec.decode_score(encode(score)).features == every


@fuzz(max_examples=100)
@given(st.integers(0, 2**31), st.integers(0, 2**62))
def test_positions_print_and_parse(generation: int, offset: int) -> None:
    """`str` and `parse` are inverse, and positions order by generation, then offset."""
    position = Position(generation, offset)
    assert Position.parse(str(position)) == Position.parse(str(position).encode()) == position
    assert position < Position(generation, offset + 1) < Position(generation + 1, 0)


@pytest.mark.parametrize("text", ["", "1", "1-", "-1", "a-b", "1-2-3", b"\xff-1"])
def test_bad_positions_are_refused(text: str | bytes) -> None:
    """Anything that is no position raises ValueError."""
    with pytest.raises(ValueError):
        Position.parse(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_control_event_that_nobody_could_read_again_is_not_written(value: float) -> None:
    """JSON has no NaN and no infinity: such a number would stop every reader of the control stream for good."""
    event = events.RetrainingRejected(occurred_at=T0, actor="ann", run_id="r", metrics={"auc": value})
    with pytest.raises(Corrupt):
        decode_control(encode(event))
    with pytest.raises(BadInput, match="RetrainingRejected"):
        encode_control(event)
    with pytest.raises(BadInput):
        encode_control(events.ExperimentStopped(occurred_at=T0, actor="\ud800", experiment_id="e"))
    with pytest.raises(BadInput):
        encode_control(events.ExperimentStopped(occurred_at=2**70, actor="ann", experiment_id="e"))


@pytest.mark.parametrize("decode", [decode_control, decode_account_event, codec.decode_seal, codec.decode_transaction])
def test_an_event_of_a_newer_release_is_told_from_damage(decode: Any) -> None:
    """A type that this release does not know: the error names it, and what to do. Anything else is damage."""
    with pytest.raises(codec.UnknownEvent, match=r"is a list_changed\.v9, which this release does not know"):
        decode(b'{"type":"list_changed.v9","occurred_at":1}')
    known = b'{"type":"score.v1"}'  # of another stream, or not as it was written
    for damaged in (b'{"type":"list_chan\xff', b'{"type":7}', b'{"type":"no version"}', b"{}", known):
        with pytest.raises(Corrupt) as raised:
            decode(damaged)
        assert not isinstance(raised.value, codec.UnknownEvent), damaged
