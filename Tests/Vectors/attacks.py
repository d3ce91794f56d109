"""Hostile envelopes, each beside the honest one that it was made from.

All of them are signed validly by whoever claims to have sent them unless the case is about the signature, so
that exactly one check stands between the attack and its victim.
"""

import ctypes

import envelope as E
from suite1 import T, _sodium, aead_open, lp, row, u8, u32, u64, zstd_compress

L = 2**252 + 27742317777372353535851937790883648493


def _signed(seed, header, wraps, ciphertext):
    return E.full(header, wraps, ciphertext, E.sign_envelope(seed, header, wraps, ciphertext))


def _with_header(parts, seed, stream, **changes):
    """The same message under a changed header, consistently sealed and signed by the same device."""
    header = E.encode_header({**parts["values"], **changes})
    header_digest = T("header", header)
    padded = aead_open(
        parts["ciphertext"], parts["digests"]["header"], E.body_key(parts["digests"]["header"], parts["key"])
    )
    ciphertext = E.aead_seal(padded, header_digest, stream(24), E.body_key(header_digest, parts["key"]))
    wraps = [E.seal_wrap(parts["key"], header_digest, r, stream(32)) for r in parts["recipients"]]
    return _signed(seed, header, wraps, ciphertext)


def form_cases(base, alice, stream):
    """Second encodings and unknown values in a header that is otherwise sealed and signed as it should be."""
    recipients = [
        row(r["address"].encode(), r["kid"], r["prekey_id"], u8(r["prekey_kind"])) for r in base["recipients"]
    ]
    upper = base["recipients"][0]["address"].replace("b", "B", 1).encode()
    first = base["recipients"][0]
    shouting = row(upper, first["kid"], first["prekey_id"], u8(first["prekey_kind"]))
    cases = [
        ("another magic", "unknown-value", dict(magic=b"ENGRAM2")),
        ("suite 2", "unknown-suite", dict(suite=u8(2))),
        ("suite 0", "unknown-suite", dict(suite=u8(0))),
        ("suite in two bytes", "malformed", dict(suite=b"\0\1")),
        ("kind 4", "unknown-value", dict(kind=u8(4))),
        ("kind 0", "unknown-value", dict(kind=u8(0))),
        ("type 36", "unknown-value", dict(type=u8(36))),
        ("priority 0", "unknown-value", dict(priority=u8(0))),
        ("priority 6", "unknown-value", dict(priority=u8(6))),
        ("message id of 15 bytes", "malformed", dict(message_id=bytes(15))),
        ("message id of 17 bytes", "too-large", dict(message_id=bytes(17))),
        ("parent of 31 bytes", "malformed", dict(parent=bytes(31))),
        ("upper-case sender", "non-canonical", dict(sender=b"Alice@acme.example")),
        ("sender with a final dot", "non-canonical", dict(sender=b"alice@acme.example.")),
        ("sender that is a topic", "non-canonical", dict(sender=b"#alice@acme.example")),
        ("sender that is not UTF-8", "non-canonical", dict(sender=b"alic\xff@acme.example")),
        ("topic with an empty token", "non-canonical", dict(topic=b"a..b")),
        ("upper-case topic", "non-canonical", dict(topic=b"Builds")),
        ("duplicate label", "non-canonical", dict(labels=row(b"k", b"1", b"k", b"2"))),
        ("labels out of order", "non-canonical", dict(labels=row(b"l", b"1", b"k", b"2"))),
        ("label key without value", "malformed", dict(labels=row(b"k"))),
        ("label key of another alphabet", "non-canonical", dict(labels=row(b"K", b"1"))),
        ("17 labels", "too-large", dict(labels=row(*sum(([b"k%02d" % i, b""] for i in range(17)), [])))),
        ("duplicate attachment", "non-canonical", dict(attachments=row(bytes(32), bytes(32)))),
        ("65 attachments", "too-large", dict(attachments=row(*(bytes(31) + u8(i) for i in range(65))))),
        ("recipients out of order", "non-canonical", dict(recipients=row(*reversed(recipients)))),
        ("recipient twice", "non-canonical", dict(recipients=row(recipients[0], *recipients))),
        ("no recipient", "non-canonical", dict(recipients=b"")),
        ("upper-case recipient", "non-canonical", dict(recipients=row(shouting, *recipients[1:]))),
        (
            "recipient with a fifth field",
            "trailing-bytes",
            dict(recipients=row(recipients[0] + lp(b""), *recipients[1:])),
        ),
        ("prekey kind 3", "unknown-value", dict(recipients=row(recipients[0][:-1] + b"\3", *recipients[1:]))),
        ("a length that Padmé does not know", "non-canonical", dict(padded_len=u32(257))),
        ("a length below the floor", "non-canonical", dict(padded_len=u32(255))),
        ("a critical extension", "critical-extension", dict(extensions=row(b"x"))),
    ]
    made = [(name, code, _with_header(base, alice["device_seed"], stream, **c)) for name, code, c in cases]
    longer = base["header"] + lp(b"")
    extra = _signed(alice["device_seed"], longer, base["wraps"], base["ciphertext"])
    return made + [("a field after the last header field", "trailing-bytes", extra)]


def shape_cases(base, alice):
    header, wraps, ct, seed = base["header"], base["wraps"], base["ciphertext"], alice["device_seed"]
    slots = [b"\x01" + w for w in wraps]
    body, s = b"\x01" + ct, base["signature"]
    wrong = E.sign_envelope(seed, header, wraps, ct[:-1])
    order = (int.from_bytes(s[32:], "little") + L).to_bytes(32, "little")
    return [
        ("bytes after the signature", "trailing-bytes", base["bytes"] + b"\0"),
        ("a signature of 63 bytes", "malformed", E.assemble(header, slots, body, s[:-1])),
        ("a signature of 65 bytes", "too-large", E.assemble(header, slots, body, s + b"\0")),
        ("one slot too few", "malformed", E.assemble(header, slots[:-1], body, s)),
        ("one slot too many", "malformed", E.assemble(header, slots + [slots[0]], body, s)),
        (
            "a slot of unknown kind",
            "unknown-value",
            E.assemble(header, [b"\x03" + wraps[0], slots[1]], body, s),
        ),
        ("an empty slot", "malformed", E.assemble(header, [b"", slots[1]], body, s)),
        ("a wrap one byte short", "malformed", E.assemble(header, [slots[0][:-1], slots[1]], body, s)),
        ("a wrap one byte long", "too-large", E.assemble(header, [slots[0] + b"\0", slots[1]], body, s)),
        ("a body of unknown kind", "unknown-value", E.assemble(header, slots, b"\x03" + ct, s)),
        ("an empty body field", "malformed", E.assemble(header, slots, b"", s)),
        ("a ciphertext one byte short", "malformed", E.assemble(header, slots, b"\x01" + ct[:-1], wrong)),
        ("S + L for S in the signature", "bad-signature", E.assemble(header, slots, body, s[:32] + order)),
        (
            "R negated in the signature",
            "bad-signature",
            E.assemble(header, slots, body, s[:31] + bytes([s[31] ^ 0x80]) + s[32:]),
        ),
        ("two wraps exchanged", "bad-signature", E.assemble(header, slots[::-1], body, s)),
    ]


def theft_cases(base, other, alice, mallory, stream):
    """Who said it, to whom: the attacks for which sender, recipients, wraps and ciphertext are bound."""
    values = {**base["values"], "sender": mallory["address"].encode(), "sender_kid": mallory["kid"]}
    stolen_header = E.encode_header(values)
    stolen = _signed(mallory["device_seed"], stolen_header, base["wraps"], base["ciphertext"])
    digest = T("header", stolen_header)
    rewrapped = [E.seal_wrap(base["key"], digest, r, stream(32)) for r in base["recipients"]]
    rewrapped = _signed(mallory["device_seed"], stolen_header, rewrapped, base["ciphertext"])
    own_name = E.assemble(
        base["header"],
        [b"\x01" + w for w in base["wraps"]],
        b"\x01" + base["ciphertext"],
        E.sign_envelope(mallory["device_seed"], base["header"], base["wraps"], base["ciphertext"]),
    )
    swapped = [other["wraps"][0], base["wraps"][1]]
    moved = _signed(alice["device_seed"], base["header"], swapped, base["ciphertext"])
    header_digest = base["digests"]["header"]
    forged = E.aead_seal(
        E.pad(0, row(b"text/plain", b"pay mallory")),
        header_digest,
        stream(24),
        E.body_key(header_digest, base["key"]),
    )
    slots = [b"\x01" + w for w in base["wraps"]]
    retargeted = [
        {**base["recipients"][0], "address": mallory["address"], "kid": mallory["kid"]},
        base["recipients"][1],
    ]
    changed = E.encode_header(
        {**base["values"], "recipients": E.encode_recipients(E.sorted_recipients(retargeted))}
    )
    rerouted = E.seal_wrap(
        base["key"], header_digest, {**base["recipients"][0], **mallory["recipient"]}, stream(32)
    )
    signature, body = base["signature"], b"\x01" + base["ciphertext"]
    return [
        (
            "attribution theft: another device signs the body and wraps under its own name",
            "unseal-failed",
            stolen,
            "mallory",
        ),
        (
            "attribution theft by a recipient, who can wrap the content key again",
            "unseal-failed",
            rewrapped,
            "mallory",
        ),
        ("another device signs under the sender's name", "bad-signature", own_name, "alice"),
        (
            "a device signs under its own key but is not the one the header names",
            "unknown-device",
            own_name,
            "mallory",
        ),
        (
            "recipient tampering: a header with other recipients under the old signature",
            "bad-signature",
            E.assemble(changed, slots, body, signature),
            "alice",
        ),
        (
            "surreptitious forwarding: a recipient wraps the key for somebody else",
            "bad-signature",
            E.assemble(base["header"], [b"\x01" + rerouted, slots[1]], body, signature),
            "alice",
        ),
        (
            "co-recipient forgery: another text under the right content key",
            "bad-signature",
            E.assemble(base["header"], slots, b"\x01" + forged, signature),
            "alice",
        ),
        ("a wrap of another envelope, moved by the sender's own device", "unseal-failed", moved, "alice"),
    ]


def _poly_parts(key, nonce):
    """One-time Poly1305 key and the key stream of block 1 and later."""
    subkey = ctypes.create_string_buffer(32)
    _sodium.crypto_core_hchacha20(subkey, nonce[:16], key, None)
    inner = bytes(4) + nonce[16:]
    stream = ctypes.create_string_buffer(64 + 256)
    _sodium.crypto_stream_chacha20_ietf(stream, ctypes.c_ulonglong(320), inner, subkey)
    r = int.from_bytes(stream.raw[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    return r, int.from_bytes(stream.raw[16:32], "little"), stream.raw[64:]


def _salamander(padded, free_block, aad, key1, key2, stream):
    """A ciphertext of 16 blocks whose tag holds under two keys.

    Poly1305 is linear in every block, so one free block solves for equal tags (Dodis, Grubbs, Ristenpart,
    Woodage 2018). Under key1 the ciphertext decrypts to `padded` but for that block.
    """
    p = 2**130 - 5
    while True:
        nonce = stream(24)
        (r1, s1, stream1), (r2, s2, _) = _poly_parts(key1, nonce), _poly_parts(key2, nonce)
        blocks = [
            bytes(a ^ b for a, b in zip(padded[i : i + 16], stream1[i : i + 16])) for i in range(0, 256, 16)
        ]
        blocks[free_block] = bytes(16)
        full = [aad[:16], aad[16:], *blocks, (32).to_bytes(8, "little") + (256).to_bytes(8, "little")]
        numbers = [int.from_bytes(b, "little") + 2**128 for b in full]
        position = 2 + free_block
        numbers[position] = 0
        power = len(full) - position
        a1 = sum(b * pow(r1, len(full) - i, p) for i, b in enumerate(numbers)) % p
        a2 = sum(b * pow(r2, len(full) - i, p) for i, b in enumerate(numbers)) % p
        for m in range(-4, 5):
            x = (a2 - a1 + s2 - s1 + m * 2**128) * pow(pow(r1, power, p) - pow(r2, power, p), -1, p) % p
            if not 2**128 <= x < 2**129:
                continue
            tag1 = ((a1 + x * pow(r1, power, p)) % p + s1) % 2**128
            tag2 = ((a2 + x * pow(r2, power, p)) % p + s2) % 2**128
            if tag1 == tag2:
                blocks[free_block] = (x - 2**128).to_bytes(16, "little")
                return nonce + b"".join(blocks) + tag1.to_bytes(16, "little")


def commitment_cases(base, alice, stream):
    """Two content keys in one envelope. The ciphertext is a real one that authenticates under both."""
    header, digest = base["header"], base["digests"]["header"]
    second = stream(32)
    keys = [E.body_key(digest, base["key"]), E.body_key(digest, second)]
    padded = E.pad(0, row(b"application/octet-stream", bytes(64)))
    ciphertext = _salamander(padded, 3, digest, keys[0], keys[1], stream)
    for key in keys:
        aead_open(ciphertext, digest, key)  # the cipher alone accepts both: refused would end the generation
    wraps = [E.seal_wrap(k, digest, r, stream(32)) for k, r in zip((base["key"], second), base["recipients"])]
    two = _signed(alice["device_seed"], header, wraps, ciphertext)
    return [
        (
            "key commitment: the second recipient's wrap holds another key that authenticates",
            "commitment-mismatch",
            two,
            1,
        ),
        ("control: the first recipient of the same envelope opens it", "opened", two, 0),
    ]


def sealed_cases(base, alice, stream):
    """What only the sealed part can get wrong; every one is the sender's own, validly signed doing."""
    key, header, digest = base["key"], base["header"], base["digests"]["header"]
    message = row(b"text/plain", b"the honest text")
    zeros = zstd_compress(bytes(11 << 20))
    frame = zstd_compress(row(b"text/plain", b"a" * 5000))
    skippable = bytes.fromhex("502a4d18") + bytes.fromhex("04000000") + b"skip"
    # Magic, descriptor, window, content size if declared, one last raw block: RFC 8878, section 3.1.1.
    block = (1 | len(message) << 3).to_bytes(3, "little") + message
    undeclared = frame[:4] + b"\x00\x58" + block

    def declaring(size):
        return frame[:4] + b"\xc0\x58" + size.to_bytes(8, "little") + block

    assert E.unpad(E.pad(1, declaring(len(message)))) == ("text/plain", b"the honest text")
    bodies = [
        ("padding that is not zero", E.pad(0, message, fill=b"\1")),
        ("one padding bit set", E.pad(0, message)[:-1] + b"\1"),
        ("body encoding 2", E.pad(2, message)),
        ("a message longer than the padding", u8(0) + u32(252) + bytes(251)),
        ("bytes after the body", E.pad(0, message + b"\0")),
        ("a body without content type", E.pad(0, lp(b"only one field"))),
        ("a content type that is not UTF-8", E.pad(0, row(b"\xff", b"x"))),
        ("two zstd frames", E.pad(1, zstd_compress(message[:9]) + zstd_compress(message[9:]))),
        ("a zstd frame and an empty one", E.pad(1, zstd_compress(message) + zstd_compress(b""))),
        ("a skippable frame behind the frame", E.pad(1, zstd_compress(message) + skippable)),
        ("a zstd frame that declares a pebibyte", E.pad(1, declaring(2**50))),
        ("a zstd frame that declares a byte more than it holds", E.pad(1, declaring(len(message) + 1))),
        ("a zstd frame that declares a byte less than it holds", E.pad(1, declaring(len(message) - 1))),
        ("a zstd frame with bytes behind", E.pad(1, zstd_compress(message) + b"\0")),
        ("a skippable frame before the frame", E.pad(1, skippable + zstd_compress(message))),
        ("half a zstd frame", E.pad(1, frame[: len(frame) // 2])),
        ("a zstd frame without its size", E.pad(1, undeclared)),
        ("raw bytes called compressed", E.pad(1, message)),
    ]
    cases = []
    for name, padded in bodies:
        assert len(padded) == 256, name
        ct = E.aead_seal(padded, digest, stream(24), E.body_key(digest, key))
        cases.append((name, "unseal-failed", _signed(alice["device_seed"], header, base["wraps"], ct)))
    cases.append(_longer("a compression bomb: 11 MiB of zeros", E.pad(1, zeros), base, alice, stream))
    cases.append(
        _longer("more padding than Padmé asks for", E.pad(0, message, length=272), base, alice, stream)
    )
    cases.append(_longer("a content type of 256 bytes", E.pad(0, row(b"a" * 256, b"x")), base, alice, stream))
    wraps = base["wraps"]
    for name, plain in (
        ("a wrap for another header", row(key, bytes(16), u64(1), bytes(32))),
        ("a wrap with its fields in another order", row(digest[:16], key, u64(1), bytes(32))),
        (
            "a wrap whose length fields do not add up",
            b"\0\0\0\x21" + row(key, digest[:16], u64(1), bytes(32))[4:],
        ),
    ):
        first = E.box_seal(plain, base["recipients"][0]["prekey_public"], stream(32))
        cases.append(
            (
                name,
                "unseal-failed",
                _signed(alice["device_seed"], header, [first, wraps[1]], base["ciphertext"]),
            )
        )
    return cases


def _longer(name, padded, base, alice, stream):
    header = E.encode_header({**base["values"], "padded_len": u32(len(padded))})
    digest = T("header", header)
    ct = E.aead_seal(padded, digest, stream(24), E.body_key(digest, base["key"]))
    wraps = [E.seal_wrap(base["key"], digest, r, stream(32)) for r in base["recipients"]]
    return name, "unseal-failed", _signed(alice["device_seed"], header, wraps, ct)
