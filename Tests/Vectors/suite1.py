"""Suite 1 of the Engram protocol, written from docs/protocol/ alone, sharing no code with the Swift sources.

It exists to disagree: the Swift implementation and this one seal for each other, and both must refuse the
same hostile bytes with the same code. Needs Python 3.9, libsodium and libzstd; nothing from a package index.
"""

import ctypes
import ctypes.util
import hashlib


def _library(name, *candidates):
    for candidate in (*candidates, ctypes.util.find_library(name)):
        try:
            return ctypes.CDLL(candidate)
        except (OSError, TypeError):
            continue
    raise SystemExit(f"error: lib{name} is needed and was not found")


_sodium = _library("sodium", "libsodium.so.23", "libsodium.so.26", "libsodium.so", "libsodium.dylib")
_zstd = _library("zstd", "libzstd.so.1", "libzstd.so", "libzstd.dylib")
_zstd.ZSTD_compress.restype = ctypes.c_size_t
_zstd.ZSTD_compressBound.restype = ctypes.c_size_t
_zstd.ZSTD_decompress.restype = ctypes.c_size_t
_zstd.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
_zstd.ZSTD_getFrameContentSize.restype = ctypes.c_uint64
if _sodium.sodium_init() < 0:
    raise SystemExit("error: libsodium could not be initialised")


class Refused(Exception):
    """Bytes that must not be believed; the message is the name of the error code."""


# -- Notation ------------------------------------------------------------------------------------------------


def u8(value):
    return value.to_bytes(1, "big")


def u16(value):
    return value.to_bytes(2, "big")


def u32(value):
    return value.to_bytes(4, "big")


def u64(value):
    return value.to_bytes(8, "big")


def lp(value):
    return u32(len(value)) + value


def row(*fields):
    """a | b | c, and equally the inside of a list field."""
    return b"".join(lp(field) for field in fields)


def T(label, *parts, key=b""):
    return hashlib.blake2b(row(b"engram/v1/" + label.encode(), *parts), digest_size=32, key=key).digest()


def signed_message(label, *parts):
    return row(b"engram/v1/" + label.encode(), *parts)


def kid_of(signing_key):
    return T("kid", signing_key)[:16]


def prekey_id_of(public_key):
    return T("prekey-id", public_key)[:16]


# -- Primitives ----------------------------------------------------------------------------------------------


def signing_public(seed):
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    _sodium.crypto_sign_seed_keypair(public, secret, seed)
    return public.raw


def sign_bytes(seed, message):
    public, secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
    _sodium.crypto_sign_seed_keypair(public, secret, seed)
    signature = ctypes.create_string_buffer(64)
    _sodium.crypto_sign_detached(signature, None, message, ctypes.c_ulonglong(len(message)), secret)
    return signature.raw


def verify_bytes(public, signature, message):
    if _sodium.crypto_core_ed25519_is_valid_point(public) != 1:
        raise Refused("weak-key")
    length = ctypes.c_ulonglong(len(message))
    if len(signature) != 64 or _sodium.crypto_sign_verify_detached(signature, message, length, public) != 0:
        raise Refused("bad-signature")


def sign(seed, label, *parts):
    return sign_bytes(seed, signed_message(label, *parts))


def verify(public, signature, label, *parts):
    verify_bytes(public, signature, signed_message(label, *parts))


def sealing_public(secret):
    public = ctypes.create_string_buffer(32)
    _sodium.crypto_scalarmult_base(public, secret)
    return public.raw


def box_seal(message, public, ephemeral):
    """crypto_box_seal with its ephemeral secret given, so that vectors can be made again."""
    ephemeral_public = sealing_public(ephemeral)
    nonce = hashlib.blake2b(ephemeral_public + public, digest_size=24).digest()
    boxed = ctypes.create_string_buffer(len(message) + 16)
    _sodium.crypto_box_easy(boxed, message, ctypes.c_ulonglong(len(message)), nonce, public, ephemeral)
    return ephemeral_public + boxed.raw


def box_open(sealed, secret):
    plain = ctypes.create_string_buffer(max(len(sealed) - 48, 1))
    length = ctypes.c_ulonglong(len(sealed))
    if (
        len(sealed) < 48
        or _sodium.crypto_box_seal_open(plain, sealed, length, sealing_public(secret), secret) != 0
    ):
        raise Refused("unseal-failed")
    return plain.raw[: len(sealed) - 48]


def aead_seal(plain, aad, nonce, key):
    out = ctypes.create_string_buffer(len(plain) + 16)
    _sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
        out, None, plain, ctypes.c_ulonglong(len(plain)), aad, ctypes.c_ulonglong(len(aad)), None, nonce, key
    )
    return nonce + out.raw


def aead_open(ciphertext, aad, key):
    sealed = ciphertext[24:]
    plain = ctypes.create_string_buffer(max(len(sealed) - 16, 1))
    failed = _sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
        plain,
        None,
        None,
        sealed,
        ctypes.c_ulonglong(len(sealed)),
        aad,
        ctypes.c_ulonglong(len(aad)),
        ciphertext[:24],
        key,
    )
    if failed:
        raise Refused("unseal-failed")
    return plain.raw[: len(sealed) - 16]


def zstd_compress(data):
    bound = _zstd.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(bound)
    size = _zstd.ZSTD_compress(out, ctypes.c_size_t(bound), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:size]


def zstd_decompress(data, limit):
    """Exactly one frame with its size declared, at most `limit` bytes of output."""
    if _zstd.ZSTD_findFrameCompressedSize(data, ctypes.c_size_t(len(data))) != len(data):
        raise Refused("unseal-failed")
    size = _zstd.ZSTD_getFrameContentSize(data, ctypes.c_size_t(len(data)))
    if size > limit:
        raise Refused("unseal-failed")
    out = ctypes.create_string_buffer(max(size, 1))
    if _zstd.ZSTD_decompress(out, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data))) != size:
        raise Refused("unseal-failed")
    return out.raw[:size]


# -- Texts ---------------------------------------------------------------------------------------------------

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def node_id_text(key):
    value = int.from_bytes(key, "big") << 4  # 256 bits and four spare zeros make 52 digits
    return "engram-node:" + "".join(_BASE32[(value >> shift) & 31] for shift in range(255, -1, -5))


def padme(length):
    if length <= 256:
        return 256
    exponent = length.bit_length() - 1
    keep = exponent.bit_length()
    mask = (1 << (exponent - keep)) - 1
    return (length + mask) & ~mask


def safety_number(a, b):
    groups = []
    for address, identity in sorted([a, b]):
        digest = T("fingerprint", address.encode(), identity)
        groups += [f"{int.from_bytes(digest[i:i + 5], 'big') % 100000:05d}" for i in range(0, 30, 5)]
    return " ".join(groups)


# -- Strict reading ------------------------------------------------------------------------------------------


class Reader:
    """Fields of `a | b | c`, strictly: bounded, no trailing bytes."""

    def __init__(self, data):
        self.data, self.position = data, 0

    @property
    def at_end(self):
        return self.position == len(self.data)

    def field(self, limit=1 << 32, width=None):
        head = self.data[self.position : self.position + 4]
        if len(head) < 4:
            raise Refused("malformed")
        size = int.from_bytes(head, "big")
        if size > limit:
            raise Refused("too-large")
        value = self.data[self.position + 4 : self.position + 4 + size]
        if len(value) < size:
            raise Refused("malformed")
        if width is not None and size != width:
            raise Refused("malformed")
        self.position += 4 + size
        return value

    def integer(self, width):
        return int.from_bytes(self.field(width=width), "big")

    def text(self, limit):
        try:
            return self.field(limit).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused("non-canonical") from None

    def finish(self):
        if not self.at_end:
            raise Refused("trailing-bytes")


_NAME_FIRST = set("abcdefghijklmnopqrstuvwxyz0123456789")
_NAME_REST = _NAME_FIRST | set("._-")


def is_local_name(text):
    return 1 <= len(text) <= 63 and text[0] in _NAME_FIRST and set(text) <= _NAME_REST


def is_node_name(text):
    labels = text.split(".")
    return (
        len(text) <= 253
        and len(labels) >= 2
        and all(
            1 <= len(label) <= 63
            and set(label) <= _NAME_FIRST | {"-"}
            and label[0] != "-"
            and label[-1] != "-"
            for label in labels
        )
    )


def check_address(text):
    name, at, node = text.partition("@")
    if not at or not is_local_name(name) or not is_node_name(node):
        raise Refused("non-canonical")
    return text


def is_topic(text):
    return len(text) <= 255 and all(
        token and set(token) <= _NAME_FIRST | {"-", "_"} for token in text.split(".")
    )
