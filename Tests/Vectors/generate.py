"""Makes the vectors that this implementation seals: `verify_vectors.py --generate`.

Everything is drawn from named seeds, so that a second run writes the same files (given the same zstd).
"""

import attacks
import envelope as E
import structures as S
from parties import DAY, NOW, PARTIES, describe, hexed, message_values, recipient, stream_of
from suite1 import (
    T,
    node_id_text,
    padme,
    prekey_id_of,
    row,
    safety_number,
    sealing_public,
    signing_public,
    u64,
    zstd_compress,
)

# -- Envelopes -----------------------------------------------------------------------------------------------


def envelope_cases():
    alice, bob, carol, dave = (PARTIES[n] for n in ("alice", "bob", "carol", "dave"))
    text = b"text/plain; charset=utf-8"
    everything = dict(
        kind=b"\x02",
        parent=T("test-parent"),
        type=b"\x10",
        priority=b"\x05",
        not_before_ms=u64(NOW + 1000),
        topic=b"builds.linux_x86.failed-2",
        labels=row(b"cost-centre", b"42", b"env", "prod \N{SNOWMAN}".encode()),
        attachments=row(*sorted([T("test-a"), T("test-b"), T("test-c")])),
    )
    log = b"".join(b"2026-01-01 line %d: nothing happened\n" % i for i in range(200))
    three = [
        recipient(bob),
        recipient(carol, kind=2, seq=7, prev=T("test-previous")),
        recipient(dave, seq=2**53 + 1, prev=T("test-far")),
    ]
    return [
        ("one recipient", [recipient(bob)], {}, text, b"hello bob", False),
        (
            "three recipients on two nodes, one of them by one-time prekey",
            three,
            {},
            text,
            b"hello all",
            False,
        ),
        ("every header field", [recipient(bob)], everything, b"application/json", b'{"task":1}', False),
        (
            "a memory envelope to oneself",
            [recipient(alice)],
            dict(kind=b"\x03", type=b"\x42"),
            text,
            b"m",
            False,
        ),
        ("empty body and content type", [recipient(bob)], {}, b"", b"", False),
        ("a body that fills the smallest padding", [recipient(bob)], {}, b"x", bytes(range(242)), False),
        ("a body one byte longer than that", [recipient(bob)], {}, b"x", bytes(range(243)), False),
        ("a compressed log", [recipient(bob), recipient(carol)], {}, b"text/plain", log, True),
        ("the same log uncompressed", [recipient(bob)], {}, b"text/plain", log, False),
    ]


def envelope_vector(case):
    name, recipients, changes, content_type, body, compress = case
    alice, stream = PARTIES["alice"], stream_of(f"envelope/{name}")
    message = row(content_type, body)
    padded = E.pad(1, zstd_compress(message)) if compress else E.pad(0, message)
    parts = E.seal(
        message_values(stream, alice, **changes), recipients, padded, stream(32), alice["device_seed"], stream
    )
    count = len(parts["recipients"])
    keeps = [[]] + [[i] for i in range(count)] + ([[0, count - 1]] if count > 2 else [])
    return hexed(
        dict(
            name=name,
            sender={k: alice[k] for k in ("address", "certificate", "device_list")},
            recipients=[{k: v for k, v in r.items() if k != "prekey_public"} for r in parts["recipients"]],
            header=describe(E.parse_header(parts["header"])),
            content_type=content_type.decode(),
            body=body,
            compressed=compress,
            content_key=parts["key"],
            envelope=parts["bytes"],
            pruned=[dict(keep=keep, bytes=E.pruned(parts, keep)) for keep in keeps],
            stub=E.stub(parts),
            digests=parts["digests"],
        )
    )


# -- Attacks -------------------------------------------------------------------------------------------------


def attack_vectors():
    alice, bob, carol, mallory = (PARTIES[n] for n in ("alice", "bob", "carol", "mallory"))
    stream, body = stream_of("attacks"), b"the honest text"

    def honest():
        return E.seal(
            message_values(stream, alice),
            [recipient(bob), recipient(carol)],
            E.pad(0, row(b"text/plain", body)),
            stream(32),
            alice["device_seed"],
            stream,
        )

    base, other = honest(), honest()
    cases = [("control: the honest envelope", "opened", base["bytes"], "alice", r) for r in ("bob", "carol")]
    for name, code, data in (
        attacks.form_cases(base, alice, stream)
        + attacks.shape_cases(base, alice)
        + attacks.sealed_cases(base, alice, stream)
    ):
        cases.append((name, code, data, "alice", "bob"))
    for name, code, data, sender in attacks.theft_cases(base, other, alice, mallory, stream):
        cases.append((name, code, data, sender, "bob"))
    for name, code, data, index in attacks.commitment_cases(base, alice, stream):
        cases.append((name, code, data, "alice", ("bob", "carol")[index]))
    cases.append(("an envelope for others", "not-for-this-device", base["bytes"], "alice", "dave"))
    cases.append(
        ("a pruned copy of somebody else", "not-for-this-device", E.pruned(base, [1]), "alice", "bob")
    )
    cases.append(("a stub", "not-for-this-device", E.stub(base), "alice", "bob"))
    parties = {
        name: dict(
            address=p["address"], certificate=p["certificate"], kid=p["kid"], prekey_secret=p["secrets"][1]
        )
        for name, p in PARTIES.items()
    }
    keys = ("name", "expect", "envelope", "sender", "recipient")
    return hexed(dict(parties=parties, body=body, cases=[dict(zip(keys, case)) for case in cases]))


# -- Structures ----------------------------------------------------------------------------------------------


def key_vectors():
    p, bob = PARTIES["alice"], PARTIES["bob"]
    node_seed = stream_of("node/acme.example")(32)
    node_id, invite = signing_public(node_seed), stream_of("invite")(20)
    entries = [(p["kid"], 1, NOW), (bob["kid"], 2, NOW + 5), (bytes(16), 1, NOW)]
    public = {kind: sealing_public(p["secrets"][kind]) for kind in (1, 2)}
    prekeys = {
        kind: S.prekey(kind, p["address"], p["device_seed"], public[kind], NOW, NOW + 7 * DAY)
        for kind in (1, 2)
    }
    registration = S.registration(
        node_id, invite, p["certificate"], p["device_list"], prekeys[1], p["identity_seed"]
    )
    bundles = [
        S.bundle(p["device_list"], p["certificate"], prekeys[1], prekeys[2]),
        S.bundle(p["device_list"], p["certificate"], prekeys[1]),
    ]
    return dict(
        address=p["address"],
        identity_seed=p["identity_seed"],
        device_seed=p["device_seed"],
        serial=1,
        not_before_ms=NOW,
        not_after_ms=NOW + 365 * DAY,
        certificate=p["certificate"],
        list=dict(
            version=3,
            issued_ms=NOW,
            valid_until_ms=NOW + 30 * DAY,
            entries=[dict(kid=k, state=s, since_ms=t) for k, s, t in sorted(entries)],
            bytes=S.device_list(p["address"], p["identity_seed"], 3, NOW, NOW + 30 * DAY, entries),
        ),
        registration_list=p["device_list"],
        prekeys=[
            dict(
                kind=k,
                secret=p["secrets"][k],
                not_before_ms=NOW,
                not_after_ms=NOW + 7 * DAY,
                bytes=prekeys[k],
            )
            for k in (1, 2)
        ],
        registration=dict(
            node_id=node_id, invite=invite, invite_digest=T("invite", invite), bytes=registration
        ),
        bundles=bundles,
        directory=dict(
            node="acme.example",
            node_seed=node_seed,
            address=p["address"],
            issued_ms=NOW,
            bytes=S.directory_answer("acme.example", node_seed, p["address"], NOW, bundles),
        ),
    )


def receipt_vectors():
    seed = stream_of("node/beta.example")(32)
    batches = []
    for count in (1, 2, 3, 5, 8):
        stream = stream_of(f"receipts/{count}")
        bodies = []
        for i in range(count):
            whole = i % 3 == 2
            bodies.append(
                dict(
                    role=2,
                    issuer_name="beta.example",
                    envelope=stream(32).hex(),
                    sender="alice@acme.example",
                    sender_kid=stream(16).hex(),
                    message_id=stream(16).hex(),
                    recipient="" if whole else "bob@beta.example",
                    recipient_kid="" if whole else stream(16).hex(),
                    state=(2, 3, 5, 6, 7, 8, 1, 2)[i],
                    code=401 if i == 2 else 0,
                    attempt=i,
                    at_ms=NOW + i,
                )
            )
        batches.append(signed_batch(bodies, seed))
    return batches + [device_receipts(count) for count in (1, 3, 9)]


def signed_batch(bodies, seed):
    encoded = [S.receipt_body(b, signing_public(seed)) for b in bodies]
    return dict(issuer_seed=seed, bodies=bodies, receipts=S.receipts(encoded, seed))


def device_receipts(count):
    """What one device says about messages of one sender, under one signature."""
    stream = stream_of(f"device receipts/{count}")
    seed, sender_kid, kid = stream(32), stream(16).hex(), stream(16).hex()
    bodies = [
        dict(
            role=3,
            issuer_name="bob@beta.example",
            envelope=stream(32).hex(),
            sender="alice@acme.example",
            sender_kid=sender_kid,
            message_id=stream(16).hex(),
            recipient="bob@beta.example",
            recipient_kid=kid,
            state=5 if i == 1 else 4,
            code=401 if i == 1 else 0,
            attempt=0,
            at_ms=NOW + i,
        )
        for i in range(count)
    ]
    return signed_batch(bodies, seed)


def hello_vector():
    seed, peer = stream_of("node/acme.example")(32), signing_public(stream_of("node/beta.example")(32))
    exporter = stream_of("exporter")(32)
    h = dict(
        role=1,
        version=1,
        name="acme.example",
        node_id=signing_public(seed).hex(),
        peer_name="beta.example",
        peer_node_id=peer.hex(),
        now_ms=NOW,
        epoch=2**64 - 2,
        through_epoch=77,
        through=12,
        max_frame=1 << 20,
        window=4096,
        features=15,
    )
    return dict(node_seed=seed, exporter=exporter, fields=h, bytes=S.hello(h, seed, exporter))


def frame_vectors(envelopes):
    stream = stream_of("frames")
    origin, destination = stream(32).hex(), stream(32).hex()
    receipt = receipt_vectors()[1]["receipts"][0].hex()
    deliver = dict(
        origin=origin,
        destination=destination,
        epoch=9,
        first_seq=41,
        envelopes=[e["envelope"] for e in envelopes],
    )
    items = [
        dict(seq=41, outcome=1, code=0, receipt=receipt),
        dict(seq=42, outcome=2, code=0, receipt=receipt),
        dict(seq=43, outcome=3, code=202, receipt=""),
        dict(seq=44, outcome=4, code=602, receipt=""),
    ]
    ack = dict(origin=origin, destination=destination, epoch=9, through=44, items=items)
    part = dict(stream=5, first_seq=50, total=1_000_000, offset=262_144, bytes=stream(40).hex())
    p, entry = PARTIES["alice"], key_vectors()["directory"]["bytes"].hex()
    small = dict(
        receipts=dict(epoch=9, seq=7, receipts=[r.hex() for r in receipt_vectors()[2]["receipts"]]),
        receipts_ack=dict(epoch=9, through=2**32),
        certificate=dict(certificate=p["certificate"].hex(), device_list=p["device_list"].hex()),
        directory_query=dict(request=2**32 - 1, address=p["address"]),
        directory_answer=dict(request=3, code=0, answer=entry),
        directory_refusal=dict(request=4, code=404, answer=""),
        goodbye=dict(code=507, retry_after_ms=1_500),
    )
    mailbox = [
        dict(kind=1, seq=0, payload=stream(9).hex()),
        dict(kind=2, seq=3, payload=envelopes[0]["envelope"]),
        dict(kind=3, seq=4, payload=receipt),
    ]
    return dict(
        deliver=dict(deliver, bytes=S.deliver(deliver)),
        ack=dict(ack, bytes=S.ack(ack)),
        part=dict(part, bytes_field=part["bytes"], bytes=S.part(part)),
        mailbox=dict(items=mailbox, bytes=S.mailbox_items(mailbox)),
        outcomes=dict(items=items, bytes=S.outcomes(items)),
        **{name: dict(fields, bytes=S.SMALL_FRAMES[name](fields)) for name, fields in small.items()},
    )


def text_vectors():
    keys = [bytes(32), b"\xff" * 32, signing_public(stream_of("node/acme.example")(32))]
    lengths = [
        0,
        1,
        5,
        255,
        256,
        257,
        271,
        272,
        273,
        511,
        512,
        513,
        1023,
        1025,
        4097,
        65535,
        65537,
        10**6,
        10485760,
    ]
    a, b = ((PARTIES[n]["address"], signing_public(PARTIES[n]["identity_seed"])) for n in ("alice", "bob"))
    return dict(
        node_ids=[dict(key=k, text=node_id_text(k)) for k in keys],
        padded_lengths=[[n, padme(n)] for n in lengths],
        safety_numbers=[
            dict(
                a=dict(address=x[0], identity=x[1]),
                b=dict(address=y[0], identity=y[1]),
                number=safety_number(x, y),
            )
            for x, y in ((a, b), (b, a), (a, a))
        ],
    )


def hash_vectors():
    key = stream_of("hash-key")(32)
    cases = [
        ("kid", [], b""),
        ("kid", [bytes(32)], b""),
        ("header", [b"a", b"", b"b"], b""),
        ("header", [b"ab"], b""),
        ("commit", [bytes(16)], key),
        ("body", [b"x" * 1000], key),
        ("wraps", [bytes(32)] * 3, b""),
    ]
    return [
        dict(label=label, parts=parts, key=k, digest=T(label, *parts, key=k)) for label, parts, k in cases
    ]


def token_vectors():
    p, node = PARTIES["alice"], signing_public(stream_of("node/acme.example")(32))
    stream, iat = stream_of("token"), NOW // 1000
    text = S.token(p["address"], p["device_seed"], node, iat, iat + 120, stream(16).hex())
    return dict(
        address=p["address"], device_seed=p["device_seed"], node_id=node, iat=iat, exp=iat + 120, text=text
    )


def structure_vectors(envelopes):
    kids = [p["kid"] for p in PARTIES.values()]
    publics = [sealing_public(p["secrets"][1]) for p in PARTIES.values()]
    return hexed(
        dict(
            hashes=hash_vectors(),
            kids=[
                dict(key=signing_public(p["device_seed"]), kid=kid) for p, kid in zip(PARTIES.values(), kids)
            ],
            prekey_ids=[dict(key=public, id=prekey_id_of(public)) for public in publics],
            keys=key_vectors(),
            receipts=receipt_vectors(),
            hello=hello_vector(),
            frames=frame_vectors(envelopes[:2]),
            token=token_vectors(),
            **text_vectors(),
        )
    )


def all_files():
    envelopes = [envelope_vector(case) for case in envelope_cases()]
    return {
        "envelopes-python.json": envelopes,
        "attacks.json": attack_vectors(),
        "structures.json": structure_vectors(envelopes),
    }
