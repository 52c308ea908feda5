"""The receipt of a forgetting: what was asked for, what was done, what can be said of it, signed.

    body ─ canonical JSON ─ Ed25519, the store's key ─▶ signature

A signature proves that the file is as this store wrote it. What it says is checked against the store itself: nothing that went
is there, and everything that took its place is, and is sound. A receipt names the person, so it lies outside the store.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from idiolect.data.files import replace_file
from idiolect.errors import FileFormatError, InputError, NotFoundError, StoreError
from idiolect.forget.closure import Closure, hidden
from idiolect.store.game.leaving import same_source
from idiolect.store.store import Store
from idiolect.types import canonical_json

FORMAT = "idiolect-receipt-1"
_FIELDS = {
    "format",
    "request",
    "closure",
    "old",
    "new",
    "guarantee",
    "key_destroyed",
    "began",
    "ended",
    "version",
    "public_key",
}


@dataclass(frozen=True)
class Receipt:
    """A receipt as it was read.

    Attributes:
        body: everything but the signature.
        signed: whether the signature is the one of the key that it names.
    """

    body: Mapping[str, Any]
    signed: bool

    @property
    def user_id(self) -> str:
        """Who was forgotten, or whose item."""
        return self.body["request"]["user"]

    @property
    def item_id(self) -> str | None:
        """The item; None: the whole person."""
        return self.body["request"]["item"]


def body_of(request: str, closure: Closure, new: Mapping[str, str], key_destroyed: bool, began: datetime) -> dict[str, Any]:
    """What a receipt says.

    Args:
        new: digest of what took an adapter's place, by the old one's.
    """
    nodes = [asdict(hidden(node, closure.user_id)) | {"new": new.get(node.id)} for node in closure.nodes]
    return {
        "format": FORMAT,
        "request": {"id": request, "user": closure.user_id, "item": closure.item_id},
        "closure": nodes,
        "old": closure.gone,
        "new": dict(new),
        "guarantee": closure.guarantee_with(new),
        "key_destroyed": key_destroyed,
        "began": began.isoformat(),
        "ended": datetime.now(UTC).isoformat(),
        "version": version("idiolect"),
    }


def write(body: Mapping[str, Any], store: Store, path: Path) -> str:
    """Sign a receipt and write it for its owner only, whole or not at all; SHA-256 of the file.

    Raises:
        StoreError: it cannot be written.
    """
    key = store.keys.signing()
    signed = {**body, "public_key": key.public_key().public_bytes_raw().hex()}
    signature = key.sign(canonical_json(signed).encode()).hex()
    text = json.dumps({**signed, "signature": signature}, indent=2, ensure_ascii=False) + "\n"
    data = text.encode("utf-8", "backslashreplace")
    try:
        replace_file(path, [data])
    except OSError as error:
        raise StoreError(
            f"the receipt cannot be written to {path}: {error.strerror}; everything is deleted, so only give another place: "
            "idiolect forget --resume --receipt FILE"
        ) from None
    return hashlib.sha256(data).hexdigest()


def check_place(path: Path, store: Store) -> None:
    """Raises InputError unless a receipt can be written there, and tells nothing in the store of who was forgotten."""
    if "://" not in store.place and path.resolve().is_relative_to(Path(store.place).resolve()):
        raise InputError(
            f"the receipt names who is forgotten, so it must not lie in the store; give another --receipt than {path}"
        )
    if path.exists():
        raise InputError(f"{path} is there already; give another --receipt")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"the receipt cannot be written to {path.parent}; give another --receipt")


def read(path: Path) -> Receipt:
    """A receipt, its signature checked.

    Raises:
        FileFormatError: the file is no receipt.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        signature = bytes.fromhex(found.pop("signature"))
        if set(found) != _FIELDS or found["format"] != FORMAT:
            raise ValueError
        _check_shape(found)
        key, said = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found["public_key"])), canonical_json(found).encode()
    except OSError as error:
        raise FileFormatError(f"{path.name}: cannot be read ({error.strerror}); give the file that forget wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{path.name}: not a receipt of idiolect ({type(error).__name__}); give the file that forget wrote"
        ) from None
    try:
        key.verify(signature, said)
    except InvalidSignature:
        return Receipt(found, signed=False)
    return Receipt(found, signed=True)


def _check_shape(body: Mapping[str, Any]) -> None:
    """Raises ValueError, KeyError or TypeError for what no receipt is."""
    names = [body["request"]["user"], *body["old"], *body["new"], *body["new"].values()]
    item = body["request"]["item"]
    if not all(isinstance(name, str) for name in names) or not isinstance(item, str | None):
        raise ValueError
    if not all(isinstance(node["kind"], str) and isinstance(node["id"], str) for node in body["closure"]):
        raise ValueError
    if not all(0 <= int(node["id"]) < 2**63 for node in body["closure"] if node["kind"] == "piece"):
        raise ValueError


def is_of(receipt: Receipt, store: Store) -> bool:
    """Whether this store's key signed it, so that nobody else can have."""
    return receipt.body["public_key"] == store.keys.signing().public_key().public_bytes_raw().hex()


def problems(receipt: Receipt, store: Store) -> Iterator[str]:
    """What in the store contradicts a receipt, a line each."""
    if not receipt.signed:
        yield "the signature does not fit: the file was changed after it was signed"
    body, user, item = receipt.body, receipt.user_id, receipt.item_id
    new = set(body["new"].values())
    if item is None:
        if store.has_person(user):
            yield f"user {user!r} is in the store"
        elif store.knows(user) and body["guarantee"] in ("exact", "exact-after-rebuild"):
            yield f"user {user!r} is named in what an adapter was made from"
    elif store.has_person(user):
        for same in {one.id for one in store.history(user)} & set(same_source(item)):
            yield f"item {same!r} of user {user!r} is in the store"
    for digest in body["old"]:
        if digest not in new and (store.has_adapter(digest) or store.blob_path(digest).exists()):
            yield f"adapter {digest[:12]} is still there"
    pieces = [int(node["id"]) for node in body["closure"] if node["kind"] == "piece"]
    if there := store.pieces_there(pieces):
        yield f"{len(there)} of {len(pieces)} pieces are still there"
    replaced = set(assembled_since(receipt, store))
    for old, digest in body["new"].items():
        if digest not in replaced and (reason := _unsound(store, digest)):
            yield f"adapter {digest[:12]}, which took the place of {old[:12]}, {reason}"


def assembled_since(receipt: Receipt, store: Store) -> list[str]:
    """Digests of adapters that were assembled again and are no more. That contradicts nothing: what is assembled comes and goes
    with the pieces that others share.
    """
    body = receipt.body
    again = [body["new"].get(node["id"]) for node in body["closure"] if node.get("action") == "reassemble"]
    return [digest for digest in again if digest is not None and not store.has_adapter(digest)]


def _unsound(store: Store, digest: str) -> str | None:
    """What is wrong with an adapter that should be there; None: nothing."""
    try:
        store.payload(digest)
    except NotFoundError:
        return "is not there any more: forgotten or deleted since, or never there"
    except StoreError as error:
        return f"is damaged ({type(error).__name__})"
    return None
