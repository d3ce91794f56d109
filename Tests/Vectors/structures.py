"""Keys, receipts, hello, frames and tokens: the second implementation of docs/protocol/."""

import base64
import json

from suite1 import (
    Reader,
    Refused,
    T,
    kid_of,
    lp,
    node_id_text,
    prekey_id_of,
    row,
    sealing_public,
    sign,
    sign_bytes,
    signing_public,
    u8,
    u16,
    u32,
    u64,
    verify,
    verify_bytes,
)


def _signed(body, *signatures):
    return row(body, *signatures)


# -- Client keys ---------------------------------------------------------------------------------------------


def device_certificate_body(address, identity, device, serial, not_before, not_after, suites=b"\x01"):
    return row(
        u8(1), address.encode(), identity, device, u64(serial), u64(not_before), u64(not_after), suites
    )


def device_certificate(address, identity_seed, device_seed, serial, not_before, not_after):
    body = device_certificate_body(
        address, signing_public(identity_seed), signing_public(device_seed), serial, not_before, not_after
    )
    return _signed(
        body, sign(identity_seed, "device-cert-sig", body), sign(device_seed, "device-pop-sig", body)
    )


def check_device_certificate(data):
    """Returns address, identity key and device key."""
    r = Reader(data)
    body, by_identity, by_device = r.field(), r.field(), r.field()
    r.finish()
    b = Reader(body)
    if b.integer(1) != 1:
        raise Refused("unknown-value")
    address, identity, device = b.field().decode(), b.field(32, 32), b.field(32, 32)
    _serial, not_before, not_after, suites = b.integer(8), b.integer(8), b.integer(8), b.field(8)
    b.finish()
    if not suites or list(suites) != sorted(set(suites)):
        raise Refused("non-canonical")
    verify(identity, by_identity, "device-cert-sig", body)
    verify(device, by_device, "device-pop-sig", body)
    if not not_before < not_after or identity == device:
        raise Refused("bad-certificate")
    return address, identity, device


def device_list(address, identity_seed, version, issued, valid_until, entries):
    """`entries`: (kid, state, since_ms)."""
    inner = row(*(row(kid, u8(state), u64(since)) for kid, state, since in sorted(entries)))
    body = row(
        address.encode(), signing_public(identity_seed), u64(version), u64(issued), u64(valid_until), inner
    )
    return _signed(body, sign(identity_seed, "device-list-sig", body))


def check_device_list(data, address, identity):
    """Returns the active kids."""
    r = Reader(data)
    body, signature = r.field(), r.field()
    r.finish()
    b = Reader(body)
    named, key = b.field().decode(), b.field(32, 32)
    _version, issued, valid_until, entries = b.integer(8), b.integer(8), b.integer(8), Reader(b.field())
    b.finish()
    states = []
    while not entries.at_end:
        item = Reader(entries.field())
        states.append((item.field(16, 16), item.integer(1), item.integer(8)))
        item.finish()
    kids = [kid for kid, _, _ in states]
    if (named, key) != (address, identity) or kids != sorted(set(kids)):
        raise Refused("bad-certificate")
    if not issued < valid_until <= issued + 30 * 86_400_000:
        raise Refused("non-canonical")
    verify(key, signature, "device-list-sig", body)
    return [kid for kid, state, _ in states if state == 1]


def prekey(kind, address, device_seed, public, not_before, not_after):
    kid = kid_of(signing_public(device_seed))
    body = row(
        u8(1), u8(kind), address.encode(), kid, prekey_id_of(public), public, u64(not_before), u64(not_after)
    )
    return _signed(body, sign(device_seed, "prekey-sig", body))


def check_prekey(data, address, device):
    """Returns kind and public key."""
    r = Reader(data)
    body, signature = r.field(), r.field()
    r.finish()
    b = Reader(body)
    suite, kind, named, kid, identifier, public = (
        b.integer(1),
        b.integer(1),
        b.field().decode(),
        b.field(),
        b.field(),
        b.field(32, 32),
    )
    not_before, not_after = b.integer(8), b.integer(8)
    b.finish()
    if suite != 1 or kind not in (1, 2) or not not_before < not_after <= not_before + 30 * 86_400_000:
        raise Refused("bad-prekey")
    if (named, kid, identifier) != (address, kid_of(device), prekey_id_of(public)):
        raise Refused("bad-prekey")
    verify(device, signature, "prekey-sig", body)
    return kind, public


def registration(node_id, invite, certificate, list_bytes, signed_prekey, identity_seed):
    body = Reader(certificate).field()
    address = check_device_certificate(certificate)[0]
    signature = sign(
        identity_seed,
        "register-sig",
        node_id,
        address.encode(),
        signing_public(identity_seed),
        T("invite", invite),
        T("device-cert", body),
    )
    return row(invite, row(certificate, list_bytes, signature), signed_prekey)


def bundle(list_bytes, certificate, signed_prekey, one_time=b""):
    return row(list_bytes, certificate, signed_prekey, one_time)


def directory_answer(node_name, node_seed, address, issued, bundles):
    body = row(node_name.encode(), signing_public(node_seed), address.encode(), u64(issued), row(*bundles))
    return _signed(body, sign(node_seed, "directory-sig", body))


# -- Receipts ------------------------------------------------------------------------------------------------


def receipt_body(r, issuer_key):
    return row(
        u8(r["role"]),
        r["issuer_name"].encode(),
        issuer_key,
        bytes.fromhex(r["envelope"]),
        r["sender"].encode(),
        bytes.fromhex(r["sender_kid"]),
        bytes.fromhex(r["message_id"]),
        r["recipient"].encode(),
        bytes.fromhex(r["recipient_kid"]),
        u8(r["state"]),
        u16(r["code"]),
        u32(r["attempt"]),
        u64(r["at_ms"]),
    )


def _root(leaves):
    """RFC 6962, section 2.1, as written there."""
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return T("receipt-node", _root(leaves[:k]), _root(leaves[k:]))


def _path(index, leaves):
    """RFC 6962, section 2.1.1, as written there."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if index < k:
        return _path(index, leaves[:k]) + [_root(leaves[k:])]
    return _path(index - k, leaves[k:]) + [_root(leaves[:k])]


def receipts(bodies, issuer_seed):
    leaves = [T("receipt", body) for body in bodies]
    count = u32(len(bodies))
    signature = sign(issuer_seed, "receipt-sig", count, _root(leaves))
    return [row(body, u32(i), count, b"".join(_path(i, leaves)), signature) for i, body in enumerate(bodies)]


def fields(data):
    """The fields of `a | b | c`."""
    r, parts = Reader(data), []
    while not r.at_end:
        parts.append(r.field())
    return parts


def check_receipt(data, issuer_key):
    """RFC 9162, section 2.1.3.2: from leaf and path to the root, then the signature."""
    r = Reader(data)
    body, index, count, path, signature = r.field(), r.integer(4), r.integer(4), r.field(640), r.field(64, 64)
    r.finish()
    if not index < count or len(path) % 32:
        raise Refused("non-canonical")
    if Reader(body).integer(1) == 3 and count > 256:
        raise Refused("bad-signature")
    fn, sn, node = index, count - 1, T("receipt", body)
    for i in range(0, len(path), 32):
        sibling = path[i : i + 32]
        if sn == 0:
            raise Refused("bad-signature")
        if fn & 1 or fn == sn:
            node = T("receipt-node", sibling, node)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = T("receipt-node", node, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn or _issuer(body) != issuer_key:
        raise Refused("bad-signature")
    verify(issuer_key, signature, "receipt-sig", u32(count), node)
    return body


def _issuer(body):
    r = Reader(body)
    r.integer(1)
    r.field()
    return r.field(32, 32)


# -- Federation ----------------------------------------------------------------------------------------------


def hello_body(h):
    return row(
        u8(h["role"]),
        u16(h["version"]),
        h["name"].encode(),
        bytes.fromhex(h["node_id"]),
        h["peer_name"].encode(),
        bytes.fromhex(h["peer_node_id"]),
        u64(h["now_ms"]),
        u64(h["epoch"]),
        u64(h["through_epoch"]),
        u64(h["through"]),
        u32(h["max_frame"]),
        u32(h["window"]),
        u64(h["features"]),
        b"",
    )


def hello(h, node_seed, exporter):
    body = hello_body(h)
    return _signed(body, sign(node_seed, "hello-sig", body, exporter))


def check_hello(data, node_id, exporter):
    r = Reader(data)
    body, signature = r.field(), r.field()
    r.finish()
    verify(node_id, signature, "hello-sig", body, exporter)
    return body


def deliver(f):
    return row(
        bytes.fromhex(f["origin"]),
        bytes.fromhex(f["destination"]),
        u64(f["epoch"]),
        u64(f["first_seq"]),
        u16(len(f["envelopes"])),
        *(bytes.fromhex(e) for e in f["envelopes"]),
    )


def ack(f):
    return row(
        bytes.fromhex(f["origin"]),
        bytes.fromhex(f["destination"]),
        u64(f["epoch"]),
        u64(f["through"]),
        *(
            row(u64(i["seq"]), u8(i["outcome"]), u16(i["code"]), bytes.fromhex(i["receipt"]))
            for i in f["items"]
        ),
    )


def part(f):
    return row(
        u32(f["stream"]), u64(f["first_seq"]), u32(f["total"]), u32(f["offset"]), bytes.fromhex(f["bytes"])
    )


def receipts_frame(f):
    return row(u64(f["epoch"]), u64(f["seq"]), *(bytes.fromhex(r) for r in f["receipts"]))


def receipts_ack(f):
    return row(u64(f["epoch"]), u64(f["through"]))


def directory_query(f):
    return row(u32(f["request"]), f["address"].encode())


def directory_reply(f):
    return row(u32(f["request"]), u16(f["code"]), bytes.fromhex(f["answer"]))


def certificate(f):
    return row(bytes.fromhex(f["certificate"]), bytes.fromhex(f["device_list"]))


def goodbye(f):
    return row(u16(f["code"]), u32(f["retry_after_ms"]))


# By their names in the vector file.
SMALL_FRAMES = dict(
    receipts=receipts_frame,
    receipts_ack=receipts_ack,
    certificate=certificate,
    directory_query=directory_query,
    directory_answer=directory_reply,
    directory_refusal=directory_reply,
    goodbye=goodbye,
)


def mailbox_items(items):
    return row(*(row(u8(i["kind"]), u64(i["seq"]), bytes.fromhex(i["payload"])) for i in items))


def outcomes(items):
    return row(*(row(u8(i["outcome"]), u16(i["code"]), bytes.fromhex(i["receipt"])) for i in items))


# -- Tokens (RFC 7519, RFC 8037) -----------------------------------------------------------------------------


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(address, device_seed, node_id, iat, exp, jti, header=None, claims=None, signature=None):
    head = header or {"alg": "EdDSA", "typ": "JWT", "kid": kid_of(signing_public(device_seed)).hex()}
    body = claims or {
        "iss": address,
        "sub": address,
        "aud": node_id_text(node_id),
        "iat": iat,
        "exp": exp,
        "jti": jti,
    }
    text = f"{b64url(json.dumps(head).encode())}.{b64url(json.dumps(body).encode())}"
    return f"{text}.{b64url(sign_bytes(device_seed, text.encode()) if signature is None else signature)}"


def check_token(text, device_key, node_id):
    head, body, signature = text.split(".")
    pad = lambda part: base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    header, claims = json.loads(pad(head)), json.loads(pad(body))
    if header["alg"] != "EdDSA" or bytes.fromhex(header["kid"]) != kid_of(device_key):
        raise Refused("token-invalid")
    if claims["aud"] != node_id_text(node_id) or not 0 < claims["exp"] - claims["iat"] <= 300:
        raise Refused("token-invalid")
    verify_bytes(device_key, pad(signature), f"{head}.{body}".encode())
    return claims


def key_pair(stream):
    secret = stream(32)
    return secret, sealing_public(secret)
