#!/usr/bin/env python3
"""Checks the vector files in Tests/Vectors with an implementation of its own, and opens what Swift sealed.

    python3 Tests/verify_vectors.py                check every file
    python3 Tests/verify_vectors.py --generate     write the files that this implementation seals, then check
    python3 Tests/verify_vectors.py --directory D  use files elsewhere

Exit status 0 when everything agrees, 1 when anything does not.
"""

import argparse
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent / "Vectors"
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import envelope as E  # noqa: E402
import generate as G  # noqa: E402
import structures as S  # noqa: E402
from parties import describe, hexed  # noqa: E402
from suite1 import (  # noqa: E402
    Refused,
    T,
    kid_of,
    node_id_text,
    padme,
    prekey_id_of,
    safety_number,
    sealing_public,
    signing_public,
    verify,
)

H = bytes.fromhex


class Tally:
    """Counts what was compared; prints what differed."""

    def __init__(self):
        self.passed, self.failed = {}, []

    def equal(self, group, name, got, want):
        if got == want:
            self.passed[group] = self.passed.get(group, 0) + 1
        else:
            self.failed.append(f"{group}: {name}: got {str(got)[:120]}, want {str(want)[:120]}")

    def verdict(self, group, name, action, want="accepted"):
        """`action` returns when the bytes are good and raises Refused when they are not."""
        try:
            action()
            got = "accepted"
        except Refused as refusal:
            got = str(refusal)
        self.equal(group, name, got, want)


# -- Envelopes -----------------------------------------------------------------------------------------------


def check_envelopes(tally, group, vectors):
    for v in vectors:
        name, sender = v["name"], v["sender"]
        address, identity, device = S.check_device_certificate(H(sender["certificate"]))
        active = S.check_device_list(H(sender["device_list"]), address, identity)
        tally.equal(group, name, (address, kid_of(device) in active), (sender["address"], True))
        copies = [("full", v["envelope"], list(range(len(v["recipients"]))))]
        copies += [(f"pruned to {p['keep']}", p["bytes"], p["keep"]) for p in v["pruned"]]
        copies.append(("stub", v["stub"], []))
        for copy, data, keep in copies:
            e = E.parse_envelope(H(data))
            tally.verdict(group, f"{name}, {copy}", lambda: E.verify_envelope(e, address, device))
            tally.equal(group, f"{name}, {copy}", hexed(e["digests"]), v["digests"])
            tally.equal(group, f"{name}, {copy}", hexed(describe(e["header"])), v["header"])
            for i, r in enumerate(v["recipients"]):
                want = (v["content_type"], H(v["body"]), r["seq"], H(r["prev"])) if i in keep else None
                tally.equal(group, f"{name}, {copy}, recipient {i}", opened(e, r), want)
        if v["compressed"]:
            tally.equal(group, name, v["header"]["padded_len"] < len(v["body"]) // 2, True)


def opened(e, r):
    secret = H(r["prekey_secret"])
    try:
        content_type, body, seq, previous = E.open_envelope(
            e, r["address"], H(r["kid"]), {prekey_id_of(sealing_public(secret)): secret}
        )
    except Refused:
        return None
    return content_type, body, seq, previous


def check_attacks(tally, file):
    parties = file["parties"]
    for case in file["cases"]:
        sender, recipient = parties[case["sender"]], parties[case["recipient"]]
        secret = H(recipient["prekey_secret"])
        try:
            address, _, device = S.check_device_certificate(H(sender["certificate"]))
            e = E.parse_envelope(H(case["envelope"]))
            E.verify_envelope(e, address, device)
            E.open_envelope(
                e, recipient["address"], H(recipient["kid"]), {prekey_id_of(sealing_public(secret)): secret}
            )
            got = "opened"
        except Refused as refusal:
            got = str(refusal)
        tally.equal("attacks", case["name"], got, case["expect"])


def check_bit_flips(tally, vector):
    """Every single bit of one envelope: refused while parsing, by the signature, or while opening."""
    r, data = vector["recipients"][0], bytearray(H(vector["envelope"]))
    address, _, device = S.check_device_certificate(H(vector["sender"]["certificate"]))
    accepted = 0
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        try:
            e = E.parse_envelope(bytes(data))
            E.verify_envelope(e, address, device)
            accepted += 1
        except Refused:
            pass
        data[bit // 8] ^= 1 << bit % 8
    tally.equal("bit flips", vector["name"], accepted, 0)
    tally.equal(
        "bit flips",
        "control: the last flip was undone",
        opened(E.parse_envelope(bytes(data)), r) is None,
        False,
    )


# -- Structures ----------------------------------------------------------------------------------------------


def check_structures(tally, f):
    for h in f["hashes"]:
        tally.equal(
            "hashes", h["label"], T(h["label"], *map(H, h["parts"]), key=H(h["key"])).hex(), h["digest"]
        )
    for k in f["kids"]:
        tally.equal("ids", "kid", kid_of(H(k["key"])).hex(), k["kid"])
    for k in f["prekey_ids"]:
        tally.equal("ids", "prekey id", prekey_id_of(H(k["key"])).hex(), k["id"])
    for n in f["node_ids"]:
        tally.equal("ids", "node id", node_id_text(H(n["key"])), n["text"])
    for length, padded in f["padded_lengths"]:
        tally.equal("padding", length, padme(length), padded)
    for s in f["safety_numbers"]:
        a, b = ((s[x]["address"], H(s[x]["identity"])) for x in "ab")
        tally.equal("safety numbers", a[0], safety_number(a, b), s["number"])
    check_keys(tally, f["keys"])
    check_receipts(tally, f["receipts"])
    check_hello(tally, f["hello"])
    frames = f["frames"]
    tally.equal("frames", "deliver", S.deliver(frames["deliver"]).hex(), frames["deliver"]["bytes"])
    tally.equal("frames", "ack", S.ack(frames["ack"]).hex(), frames["ack"]["bytes"])
    part = dict(frames["part"], bytes=frames["part"]["bytes_field"])
    tally.equal("frames", "part", S.part(part).hex(), frames["part"]["bytes"])
    for name, encode in S.SMALL_FRAMES.items():
        tally.equal("frames", name, encode(frames[name]).hex(), frames[name]["bytes"])
    tally.equal(
        "frames", "items", S.mailbox_items(frames["mailbox"]["items"]).hex(), frames["mailbox"]["bytes"]
    )
    tally.equal(
        "frames", "outcomes", S.outcomes(frames["outcomes"]["items"]).hex(), frames["outcomes"]["bytes"]
    )
    check_token(tally, f["token"])


def check_keys(tally, k):
    address, identity, device = S.check_device_certificate(H(k["certificate"]))
    seeds = tuple(map(signing_public, (H(k["identity_seed"]), H(k["device_seed"]))))
    tally.equal("keys", "certificate", (address, (identity, device)), (k["address"], seeds))
    listed = k["list"]
    active = [H(e["kid"]) for e in listed["entries"] if e["state"] == 1]
    tally.equal("keys", "list", S.check_device_list(H(listed["bytes"]), address, identity), active)
    for p in k["prekeys"]:
        got = S.check_prekey(H(p["bytes"]), address, device)
        tally.equal("keys", "prekey", got, (p["kind"], sealing_public(H(p["secret"]))))
    r = k["registration"]
    made = S.registration(
        H(r["node_id"]),
        H(r["invite"]),
        H(k["certificate"]),
        H(k["registration_list"]),
        H(k["prekeys"][0]["bytes"]),
        H(k["identity_seed"]),
    )
    tally.equal("keys", "registration", made.hex(), r["bytes"])
    d = k["directory"]
    answer = S.directory_answer(
        d["node"], H(d["node_seed"]), d["address"], d["issued_ms"], map(H, k["bundles"])
    )
    tally.equal("keys", "directory answer", answer.hex(), d["bytes"])


def check_receipts(tally, batches, group="receipts"):
    for batch in batches:
        key = signing_public(H(batch["issuer_seed"]))
        bodies = [S.receipt_body(b, key) for b in batch["bodies"]]
        for i, data in enumerate(batch["receipts"]):
            name = f"{i} of {len(bodies)}"
            tally.equal(group, name, S.check_receipt(H(data), key), bodies[i])
            other = S.receipt_body(dict(batch["bodies"][i], attempt=99), key)
            forged = H(data).replace(bodies[i], other)
            tally.verdict(group, f"{name}, forged", lambda: S.check_receipt(forged, key), "bad-signature")
            check_displaced(tally, group, name, i, batch["receipts"], key)
        tally.equal(
            group, "made again", hexed(S.receipts(bodies, H(batch["issuer_seed"]))), batch["receipts"]
        )


def check_displaced(tally, group, name, i, receipts, key):
    """The signature and the statement are right, the place under the signature is not."""
    body, index, count, path, signature = S.fields(H(receipts[i]))
    number = int.from_bytes(count, "big")
    other = S.fields(H(receipts[(i + 1) % number]))
    displaced = {
        "index beyond the count": ([body, count, count, path, signature], "non-canonical"),
        "half a path node": ([body, index, count, path + bytes(16), signature], "non-canonical"),
        "longer path": ([body, index, count, path + bytes(32), signature], "bad-signature"),
        "larger count": ([body, index, S.u32(number + 1), path, signature], "bad-signature"),
        "count above any device's": ([body, index, S.u32(257), path, signature], "bad-signature"),
    }
    if number > 1:
        displaced["path of another"] = ([body, index, count, other[3], signature], "bad-signature")
        displaced["place of another"] = ([body, other[1], count, other[3], signature], "bad-signature")
        displaced["shorter path"] = ([body, index, count, path[:-32], signature], "bad-signature")
    for what, (parts, code) in displaced.items():
        tally.verdict(group, f"{name}, {what}", lambda: S.check_receipt(S.row(*parts), key), code)


def check_too_many(tally):
    """257 receipts under a good signature: a node's hold, a device's do not."""
    seed = bytes(range(32))
    key = signing_public(seed)
    for role, want in ((2, "accepted"), (3, "bad-signature")):
        batch = G.device_receipts(1)["bodies"][0] | dict(role=role)
        bodies = [S.receipt_body(dict(batch, attempt=i), key) for i in range(257)]
        last = S.receipts(bodies, seed)[-1]
        tally.verdict("receipts", f"257 of role {role}", lambda: S.check_receipt(last, key), want)


def check_hello(tally, h):
    node, exporter = signing_public(H(h["node_seed"])), H(h["exporter"])
    tally.equal("hello", "signed", S.check_hello(H(h["bytes"]), node, exporter), S.hello_body(h["fields"]))
    other = bytes(32)
    tally.verdict(
        "hello", "other connection", lambda: S.check_hello(H(h["bytes"]), node, other), "bad-signature"
    )


def check_token(tally, t):
    claims = S.check_token(t["text"], signing_public(H(t["device_seed"])), H(t["node_id"]))
    tally.equal(
        "tokens", "claims", (claims["sub"], claims["iat"], claims["exp"]), (t["address"], t["iat"], t["exp"])
    )


def check_swift_structures(tally, f):
    """What the Swift implementation made with keys and values of its own."""
    group = "swift structures"
    address, identity, device = S.check_device_certificate(H(f["certificate"]))
    tally.equal(
        group, "list", kid_of(device) in S.check_device_list(H(f["device_list"]), address, identity), True
    )
    tally.equal(group, "prekey", S.check_prekey(H(f["prekey"]), address, device)[0], 1)
    tally.equal(group, "registration", S.Reader(H(f["registration"])).field(), H(f["invite"]))
    check_swift_registration(tally, f, address, identity)
    check_receipts(tally, f["receipts"], group)
    check_hello(tally, f["hello"])
    check_token(tally, f["token"])


def check_swift_registration(tally, f, address, identity):
    r = S.Reader(H(f["registration"]))
    invite, inner = r.field(), S.Reader(r.field())
    certificate, _list, signature = inner.field(), inner.field(), inner.field()
    parts = (
        H(f["node_id"]),
        address.encode(),
        identity,
        T("invite", invite),
        T("device-cert", S.Reader(certificate).field()),
    )
    tally.verdict(
        "swift structures", "registration", lambda: verify(identity, signature, "register-sig", *parts)
    )


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--generate", action="store_true")
    arguments.add_argument("--directory", type=pathlib.Path, default=HERE)
    options = arguments.parse_args()
    if options.generate:
        for name, content in G.all_files().items():
            text = json.dumps(content, indent=1, ensure_ascii=True, sort_keys=True)
            (options.directory / name).write_text(text + "\n")
    files = {path.name: json.loads(path.read_text()) for path in sorted(options.directory.glob("*.json"))}
    tally = Tally()
    check_envelopes(tally, "envelopes sealed by Python", files["envelopes-python.json"])
    check_envelopes(tally, "envelopes sealed by Swift", files["envelopes-swift.json"])
    check_bit_flips(tally, files["envelopes-swift.json"][0])
    check_attacks(tally, files["attacks.json"])
    check_structures(tally, files["structures.json"])
    check_too_many(tally)
    check_swift_structures(tally, files["structures-swift.json"])
    for group, count in tally.passed.items():
        print(f"{count:6}  {group}")
    for failure in tally.failed:
        print(f"differs: {failure}", file=sys.stderr)
    print(f"{sum(tally.passed.values())} comparisons agree, {len(tally.failed)} differ")
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
