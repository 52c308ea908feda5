"""What a request to forget reaches, as one list: every node, what becomes of it, and why.

    store.downstream ─▶ nodes: person or item, key, adapters, pieces, exports, evaluations
                         ├─ delete       it goes, and nothing takes its place
                         ├─ retrain      it goes, and is trained again from what is left, in the same way
                         ├─ reassemble   it goes, and is assembled again from the pieces that are left
                         ├─ revoke       a piece, with its gate: taken out of its pool
                         ├─ name         it lies outside the store: said, and not touched
                         └─ leave        it stays, because the caller said so

Only what is in use is made again. Retrieval indexes and prompt caches are made anew for every call, and no profile is kept, so
there is none of them to delete; what is in memory of adapters goes with them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from idiolect.store.game.leaving import same_source
from idiolect.store.records import Affected, Downstream
from idiolect.types import AdapterManifest

Action = Literal["delete", "revoke", "reassemble", "retrain", "name", "leave"]
NodeKind = Literal[
    "history", "item", "key", "user adapter", "task adapter", "pooled adapter", "assembled adapter", "piece", "gates", "export",
    "evaluation",
]  # fmt: skip
Guarantee = Literal["exact", "exact-after-rebuild", "approximate", "incomplete"]

MADE_AGAIN = ("retrain", "reassemble")
_ORDER = {"task": 0, "user": 1, "pooled": 2, "assembled": 3}


@dataclass(frozen=True)
class Node:
    """One thing that a request reaches.

    Attributes:
        id: a digest, an id, or a place.
        owner: whose it is; None: nobody's.
        why: how it hangs on what is forgotten.
        task: of an adapter or piece.
        in_use: whether it answered until now.
        approximate: whether it had been unlearned without being trained again.
    """

    kind: NodeKind
    id: str
    owner: str | None
    action: Action
    why: str
    task: str = ""
    in_use: bool = False
    approximate: bool = False


@dataclass(frozen=True)
class Closure:
    """A request, and all that it reaches.

    Attributes:
        again: adapters that are made again, in order: what others stand on first.
        share_again: (person, task) of those whose shared pieces go with an adapter that is trained again. They agreed to share
            the old one's; whether they share the new one's is theirs to say.
    """

    user_id: str
    item_id: str | None
    nodes: tuple[Node, ...]
    again: tuple[Affected, ...] = ()
    share_again: tuple[tuple[str, str], ...] = ()

    @property
    def guarantee(self) -> Guarantee:
        """What can be said once it is all done."""
        return self.guarantee_with([node.id for node in self.nodes])

    def guarantee_with(self, made: Collection[str]) -> Guarantee:
        """What can be said where only these adapters were made again: the others are gone all the same."""
        left = [node for node in self.nodes if node.action == "leave"]
        if left:
            return "approximate" if all(node.approximate for node in left) else "incomplete"
        trained = any(node.action == "retrain" and node.id in made for node in self.nodes)
        return "exact-after-rebuild" if trained else "exact"

    @property
    def gone(self) -> list[str]:
        """Digests of the adapters that go."""
        return [node.id for node in self.nodes if node.kind.endswith("adapter") and node.action != "leave"]

    def places(self, kind: NodeKind) -> list[str]:
        """Ids of the nodes of one kind."""
        return [node.id for node in self.nodes if node.kind == kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Closure:
        """The closure again."""
        again = (Affected(**{**one, "manifest": AdapterManifest.from_dict(one["manifest"])}) for one in value["again"])
        shared = tuple((user, task) for user, task in value["share_again"])
        return cls(value["user_id"], value["item_id"], tuple(Node(**node) for node in value["nodes"]), tuple(again), shared)


@dataclass(frozen=True)
class Choice:
    """What becomes of adapters that are in use, by digest.

    Attributes:
        actions: "retrain" or "reassemble"; an adapter that is not named here is only deleted.
        notes: why one that was in use is not made again.
    """

    actions: Mapping[str, Action] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


def closure_of(found: Downstream, choice: Choice, gates: Sequence[str] = ()) -> Closure:
    """The list of everything that is downstream.

    Args:
        gates: folders with gates of evaluations, which say of nobody whose they are, and can all be made again.
    """
    nodes = [*_person(found), *_adapters(found, choice), *_pieces(found), *(_gates(place) for place in gates), *_outside(found)]
    ordered = sorted(found.adapters, key=lambda one: _ORDER[one.kind])
    again = tuple(one for one in ordered if one.digest in choice.actions)
    trained = {(one.user_id, one.task) for one in again if one.kind == "user" and one.user_id is not None}
    owners = {piece.user_id for piece in found.pieces}
    shared = tuple(sorted((user, task) for user, task in trained if user in owners))
    return Closure(found.user_id, found.item_id, tuple(nodes), again, shared)


def _person(found: Downstream) -> list[Node]:
    user, nodes = found.user_id, []
    if found.item_id is not None:
        nodes.append(Node("item", found.item_id, user, "delete", "asked for"))
        for twin in same_source(found.item_id)[1:] if found.n_items > 1 else ():
            nodes.append(Node("item", twin, user, "delete", "made of the same round"))
    elif found.here:
        what = f"items: {found.n_items:,}, queries: {found.n_queries:,}"
        nodes.append(Node("history", user, user, "delete", what))
    if found.key is not None:
        renewed = "a new one takes its place" if found.item_id is not None else "backups of their adapters die with it"
        nodes.append(Node("key", found.key, user, "delete", renewed))
    return nodes


def _adapters(found: Downstream, choice: Choice) -> list[Node]:
    made = []
    for one in sorted(found.adapters, key=lambda one: _ORDER[one.kind]):
        why = "; ".join(part for part in (one.why, choice.notes.get(one.digest, "")) if part)
        made.append(_adapter(one, choice.actions.get(one.digest, "delete"), why))
    return made + [_adapter(one, "leave", one.why) for one in found.left]


def _adapter(one: Affected, action: Action, why: str) -> Node:
    kind: NodeKind = f"{one.kind} adapter"  # type: ignore[assignment]
    unlearned = bool(one.manifest.settings.get("unlearned"))
    return Node(kind, one.digest, one.user_id, action, why, one.task, one.was_head, unlearned)


def _pieces(found: Downstream) -> list[Node]:
    return [Node("piece", str(piece.id), piece.user_id, "revoke", f"pool {piece.pool[:12]}") for piece in found.pieces]


def _gates(place: str) -> Node:
    return Node("gates", place, None, "delete", "of evaluations, whoever's they are")


def _outside(found: Downstream) -> list[Node]:
    exported = [Node("export", row.place, row.user_id, "name", f"holds {row.kind} {row.digest[:12]}") for row in found.exports]
    answered = [
        Node("evaluation", place, found.user_id, "delete", "answers to their queries; its figures are of many people")
        for place in found.evaluations
    ]
    return exported + answered


def hidden(node: Node, user_id: str) -> Node:
    """The node as it may be shown to the person: whose else it is, and where they keep it, is nobody's business."""
    if node.owner in (None, user_id):
        return node
    return replace(node, owner=None, id="elsewhere" if node.kind == "export" else node.id)
