"""The people of the generated vectors, with keys from named seeds."""

import hashlib

import structures as S
from suite1 import kid_of, prekey_id_of, sealing_public, signing_public, u64

NOW = 1_767_225_600_000
DAY = 86_400_000


def stream_of(name):
    """Seeded bytes: BLAKE2b of a name and a counter."""
    state = {"counter": 0}

    def take(count):
        out = b""
        while len(out) < count:
            out += hashlib.blake2b(f"{name}/{state['counter']}".encode(), digest_size=64).digest()
            state["counter"] += 1
        return out[:count]

    return take


def party(address):
    stream = stream_of(address)
    identity_seed, device_seed = stream(32), stream(32)
    device = signing_public(device_seed)
    secrets = {1: stream(32), 2: stream(32)}
    kid = kid_of(device)
    return dict(
        address=address,
        identity_seed=identity_seed,
        device_seed=device_seed,
        kid=kid,
        secrets=secrets,
        certificate=S.device_certificate(address, identity_seed, device_seed, 1, NOW, NOW + 365 * DAY),
        device_list=S.device_list(address, identity_seed, 1, NOW, NOW + 30 * DAY, [(kid, 1, NOW)]),
    )


def recipient(p, kind=1, seq=1, prev=bytes(32)):
    public = sealing_public(p["secrets"][kind])
    return dict(
        address=p["address"],
        kid=p["kid"],
        prekey_id=prekey_id_of(public),
        prekey_kind=kind,
        prekey_public=public,
        prekey_secret=p["secrets"][kind],
        seq=seq,
        prev=prev,
    )


PARTIES = {
    name.split("@")[0]: party(name)
    for name in (
        "alice@acme.example",
        "bob@beta.example",
        "carol@beta.example",
        "dave@gamma.example",
        "mallory@beta.example",
    )
}
for _party in PARTIES.values():
    _party["recipient"] = recipient(_party)


def message_values(stream, sender, **changes):
    return dict(
        message_id=stream(16),
        sender=sender["address"].encode(),
        sender_kid=sender["kid"],
        thread=stream(16),
        created_ms=u64(NOW),
        expires_ms=u64(NOW + DAY),
        **changes,
    )


def hexed(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: hexed(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [hexed(v) for v in value]
    return value


def describe(header):
    """The header fields as both implementations name them in vector files."""
    names = "kind message_id thread parent type priority created_ms expires_ms not_before_ms topic".split()
    return dict(
        {name: header[name] for name in names},
        labels=[list(label) for label in header["labels"]],
        attachments=header["attachments"],
        padded_len=header["padded_len"],
        kcommit=header["kcommit"],
    )
