"""Sealing, checking and opening envelopes: the second implementation of docs/protocol/envelope.md."""

from suite1 import (
    Reader,
    Refused,
    T,
    aead_open,
    aead_seal,
    box_open,
    box_seal,
    check_address,
    is_local_name,
    is_topic,
    kid_of,
    lp,
    padme,
    row,
    sign,
    u8,
    u32,
    u64,
    verify,
    zstd_decompress,
)

TYPES = {1, 2, 3, 16, 17, 18, 19, 32, 33, 34, 35, 48, 49, 50, 64, 65, 66}
BODY_MAX, CONTENT_TYPE_MAX, ENVELOPE_MAX, HEADER_MAX = 10 << 20, 255, 16 << 20, 512 << 10
WRAP_BYTES = 152

HEADER_FIELDS = (
    "magic suite kind message_id sender sender_kid thread parent type priority created_ms expires_ms "
    "not_before_ms topic labels attachments recipients padded_len kcommit extensions"
).split()


def header_values(**changes):
    """Encoded header fields by name, in order; `changes` replace or add encoded bytes."""
    values = dict(
        magic=b"ENGRAM1",
        suite=u8(1),
        kind=u8(1),
        parent=b"",
        type=u8(35),
        priority=u8(2),
        not_before_ms=u64(0),
        topic=b"",
        labels=b"",
        attachments=b"",
        extensions=b"",
    )
    values.update(changes)
    return values


def encode_header(values):
    return row(*(values[name] for name in HEADER_FIELDS))


def encode_recipients(recipients):
    return row(
        *(row(r["address"].encode(), r["kid"], r["prekey_id"], u8(r["prekey_kind"])) for r in recipients)
    )


def sorted_recipients(recipients):
    return sorted(recipients, key=lambda r: (r["address"].encode(), r["kid"]))


def pad(alg, payload, length=None, fill=b"\0"):
    start = u8(alg) + lp(payload)
    length = length or padme(len(start))
    return start + fill * (length - len(start))


def commitment(message_id, key):
    return T("commit", message_id, key=key)


def body_key(header_digest, key):
    return T("body", header_digest, key=key)


def wrap_plain(key, header_digest, seq, previous):
    return row(key, header_digest[:16], u64(seq), previous)


def seal_wrap(key, header_digest, recipient, ephemeral):
    plain = wrap_plain(key, header_digest, recipient["seq"], recipient["prev"])
    return box_seal(plain, recipient["prekey_public"], ephemeral)


def digests(header, wrap_digests, ct_digest, signature):
    header_digest, wraps_digest = T("header", header), T("wraps", *wrap_digests)
    return dict(
        header=header_digest,
        wraps=wraps_digest,
        ciphertext=ct_digest,
        id=T("envelope", header_digest, wraps_digest, ct_digest, signature),
    )


def sign_envelope(seed, header, wraps, ciphertext):
    wrap_digests = [T("wrap", wrap) for wrap in wraps]
    return sign(seed, "envelope-sig", T("header", header), T("wraps", *wrap_digests), T("ct", ciphertext))


def assemble(header, slots, body, signature):
    return row(header, row(*slots), body, signature)


def full(header, wraps, ciphertext, signature):
    return assemble(header, [b"\x01" + wrap for wrap in wraps], b"\x01" + ciphertext, signature)


def seal(values, recipients, padded, key, device_seed, stream):
    """All parts of one envelope by name; `values` lack recipients, padded_len and kcommit."""
    recipients = sorted_recipients(recipients)
    values = header_values(
        **{
            "kcommit": commitment(values["message_id"], key),
            "padded_len": u32(len(padded)),
            "recipients": encode_recipients(recipients),
            **values,
        }
    )
    header = encode_header(values)
    header_digest = T("header", header)
    ciphertext = aead_seal(padded, header_digest, stream(24), body_key(header_digest, key))
    wraps = [seal_wrap(key, header_digest, recipient, stream(32)) for recipient in recipients]
    signature = sign_envelope(device_seed, header, wraps, ciphertext)
    return dict(
        values=values,
        recipients=recipients,
        header=header,
        ciphertext=ciphertext,
        wraps=wraps,
        signature=signature,
        key=key,
        bytes=full(header, wraps, ciphertext, signature),
        digests=digests(header, [T("wrap", w) for w in wraps], T("ct", ciphertext), signature),
    )


def pruned(parts, keep):
    slots = [b"\x01" + w if i in keep else b"\x02" + T("wrap", w) for i, w in enumerate(parts["wraps"])]
    return assemble(parts["header"], slots, b"\x01" + parts["ciphertext"], parts["signature"])


def stub(parts):
    slots = [b"\x02" + T("wrap", w) for w in parts["wraps"]]
    return assemble(parts["header"], slots, b"\x02" + T("ct", parts["ciphertext"]), parts["signature"])


# -- Checking ------------------------------------------------------------------------------------------------


def _known(value, table):
    if value not in table:
        raise Refused("unknown-value")
    return value


def _require(condition, code="non-canonical"):
    if not condition:
        raise Refused(code)


def _ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))


def parse_header(data):
    _require(len(data) <= HEADER_MAX, "too-large")
    r, h = Reader(data), {}
    _known(r.field(7), {b"ENGRAM1"})
    _require(r.integer(1) == 1, "unknown-suite")
    h["kind"] = _known(r.integer(1), {1, 2, 3})
    h["message_id"] = r.field(16, 16)
    h["sender"] = check_address(r.text(317))
    h["sender_kid"] = r.field(16, 16)
    h["thread"] = r.field(16, 16)
    h["parent"] = r.field(32)
    _require(len(h["parent"]) in (0, 32), "malformed")
    h["type"] = _known(r.integer(1), TYPES)
    h["priority"] = _known(r.integer(1), {1, 2, 3, 4, 5})
    h["created_ms"], h["expires_ms"], h["not_before_ms"] = r.integer(8), r.integer(8), r.integer(8)
    h["topic"] = r.text(255)
    _require(h["topic"] == "" or is_topic(h["topic"]))
    h["labels"] = _parse_labels(Reader(r.field()))
    h["attachments"] = _parse_attachments(Reader(r.field()))
    h["recipients"] = _parse_recipients(Reader(r.field()))
    h["padded_len"] = r.integer(4)
    _require(h["padded_len"] <= ENVELOPE_MAX and padme(h["padded_len"]) == h["padded_len"])
    h["kcommit"] = r.field(32, 32)
    _require(r.field(1024) == b"", "critical-extension")
    r.finish()
    return h


def _parse_labels(r):
    labels = []
    while not r.at_end:
        _require(len(labels) < 16, "too-large")
        key, value = r.text(63), r.text(256)
        _require(is_local_name(key))
        labels.append((key, value))
        _require(_ascending([label[0] for label in labels]))
    return labels


def _parse_attachments(r):
    ids = []
    while not r.at_end:
        _require(len(ids) < 64, "too-large")
        ids.append(r.field(32, 32))
        _require(_ascending(ids))
    return ids


def _parse_recipients(r):
    recipients = []
    while not r.at_end:
        _require(len(recipients) < 1000, "too-large")
        item = Reader(r.field())
        recipients.append(
            dict(
                address=check_address(item.text(317)),
                kid=item.field(16, 16),
                prekey_id=item.field(16, 16),
                prekey_kind=_known(item.integer(1), {1, 2}),
            )
        )
        item.finish()
        _require(_ascending([(p["address"].encode(), p["kid"]) for p in recipients]))
    _require(recipients)
    return recipients


def parse_envelope(data):
    _require(len(data) <= ENVELOPE_MAX, "too-large")
    r = Reader(data)
    header = r.field(HEADER_MAX)
    e = dict(header_bytes=header, header=parse_header(header), wraps=[], wrap_digests=[])
    slots = Reader(r.field())
    while not slots.at_end:
        _require(len(e["wraps"]) < 1000, "too-large")
        slot = slots.field(WRAP_BYTES + 1)
        _require(slot, "malformed")
        _known(slot[0], {1, 2})
        _require(len(slot) == (WRAP_BYTES + 1 if slot[0] == 1 else 33), "malformed")
        e["wraps"].append(slot[1:] if slot[0] == 1 else None)
        e["wrap_digests"].append(T("wrap", slot[1:]) if slot[0] == 1 else slot[1:])
    _require(len(e["wraps"]) == len(e["header"]["recipients"]), "malformed")
    body = r.field()
    _require(body, "malformed")
    _known(body[0], {1, 2})
    _require(len(body) == (1 + e["header"]["padded_len"] + 40 if body[0] == 1 else 33), "malformed")
    e["ciphertext"] = body[1:] if body[0] == 1 else None
    e["ct_digest"] = T("ct", body[1:]) if body[0] == 1 else body[1:]
    e["signature"] = r.field(64, 64)
    r.finish()
    e["digests"] = digests(header, e["wrap_digests"], e["ct_digest"], e["signature"])
    return e


def verify_envelope(e, sender_address, sender_key):
    if (e["header"]["sender"], e["header"]["sender_kid"]) != (sender_address, kid_of(sender_key)):
        raise Refused("unknown-device")
    d = e["digests"]
    verify(sender_key, e["signature"], "envelope-sig", d["header"], d["wraps"], d["ciphertext"])


def open_envelope(e, address, kid, secrets):
    """`secrets`: prekey id → X25519 secret. Returns content type, body, seq, previous envelope id."""
    header = e["header"]
    index = next(
        (i for i, r in enumerate(header["recipients"]) if (r["address"], r["kid"]) == (address, kid)), None
    )
    if index is None or e["wraps"][index] is None or e["ciphertext"] is None:
        raise Refused("not-for-this-device")
    secret = secrets.get(header["recipients"][index]["prekey_id"])
    if secret is None:
        raise Refused("prekey-gone")
    key, seq, previous = _unwrap(e["wraps"][index], secret, e["digests"]["header"])
    if commitment(header["message_id"], key) != header["kcommit"]:
        raise Refused("commitment-mismatch")
    padded = aead_open(e["ciphertext"], e["digests"]["header"], body_key(e["digests"]["header"], key))
    content_type, body = unpad(padded)
    return content_type, body, seq, previous


def _unwrap(wrap, secret, header_digest):
    r = Reader(box_open(wrap, secret))
    try:
        key, prefix, seq, previous = r.field(32, 32), r.field(16, 16), r.integer(8), r.field(32, 32)
        r.finish()
    except Refused:
        raise Refused("unseal-failed") from None
    if prefix != header_digest[:16]:
        raise Refused("unseal-failed")
    return key, seq, previous


def unpad(padded):
    r = Reader(padded)
    r.position = 1
    try:
        payload = r.field()
        _require(padded[0] in (0, 1))
        _require(not any(padded[r.position :]) and padme(len(payload) + 5) == len(padded))
        limit = BODY_MAX + CONTENT_TYPE_MAX + 8
        m = Reader(payload if padded[0] == 0 else zstd_decompress(payload, limit))
        content_type, body = m.text(CONTENT_TYPE_MAX), m.field(BODY_MAX)
        m.finish()
    except Refused:
        raise Refused("unseal-failed") from None
    return content_type, body
