"""Forgetting, from a request to a receipt. Every step can be done again, so a run that was cut off goes on where it was.

    plan ─▶ note it ─▶ destroy the key ─▶ delete all rows at once ─▶ files, folders, old pages ─▶ make again ─▶ receipt
            begun                         deleted                                                 rebuilt       done

Until the rows are deleted nothing has changed but the key; from then on nothing downstream can be found any more, and whoever
used it has what was below it, or nothing, until it is made again. What the journal says of a request while it runs is all that
is left of it, and goes once the receipt is written.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from idiolect.errors import CorruptBlob, IdiolectError, PersonNotFound, StoreError
from idiolect.forget import answers, receipt
from idiolect.forget.closure import Closure, Guarantee
from idiolect.forget.planning import Means, Options, Planned, gates_of, plan, plan_for
from idiolect.forget.teaching import Teaching
from idiolect.store.records import Affected, Downstream, ForgettingRow, ForgettingState
from idiolect.store.store import Store

_TRIES = 5
"""Plans that are made anew because something else was published meanwhile."""


@dataclass(frozen=True)
class Forgotten:
    """What became of a request.

    Attributes:
        new: digest of what took an adapter's place, by the old one's.
        problems: why an adapter was not made again, by digest; it is gone all the same.
        unchanged: why a folder outside the store still has answers of theirs, by place.
        scrubbed: False where another process was reading: old pages of the database stay until it ends.
    """

    request: str
    closure: Closure
    new: dict[str, str]
    problems: dict[str, str]
    unchanged: dict[str, str]
    key_destroyed: bool
    receipt: Path
    scrubbed: bool

    @property
    def guarantee(self) -> Guarantee:
        """What can be said of it."""
        return self.closure.guarantee_with(self.new)


def forget(means: Means, user_id: str, item_id: str | None = None, options: Options | None = None) -> Forgotten:
    """Forget a person, or one item of theirs, with everything that was made from it.

    The same request again goes on with one that was cut off.

    Raises:
        StoreBusy: something else is being trained or forgotten on this store.
        StoreError: another request was cut off, and is to be finished first.
        PersonNotFound, NotFoundError, InputError, MismatchError: as `plan`; nothing was changed.
    """
    options = options or Options()
    with means.store.lock():
        for row in _unfinished(means.store):
            if (row.user_id, row.item_id) == (user_id, item_id):
                done = _Run.of(means, row, options).finish()
                if not _is_there(means.store, user_id, item_id):
                    return done
                options = replace(options, receipt=None)  # imported again since: that one is finished, and this one begins
        planned = _asked(means, user_id, item_id, options)
        request = secrets.token_hex(8)
        place = Path(options.receipt or f"forget-{request}.json").expanduser().absolute()
        receipt.check_place(place, means.store)
        means.store.require_keys()
        means.store.keys.signing()  # before anything hangs on it: whether receipts can be signed
        settled = Options(options.data, options.leave_task_adapters, options.rebuild, place)
        notes = _notes(planned, settled)
        means.store.begin_forgetting(request, user_id, item_id, notes)
        means.at("begun")
        row = next(row for row in _unfinished(means.store) if row.request == request)
        return _Run.of(means, row).finish()


def preview(means: Means, user_id: str, item_id: str | None = None, options: Options | None = None) -> Closure:
    """What `forget` would do. Changes nothing; raises what it would raise, but for a store that is busy."""
    return _asked(means, user_id, item_id, options or Options()).closure


def _asked(means: Means, user_id: str, item_id: str | None, options: Options) -> Planned:
    """The plan of a new request, unless it cannot be begun."""
    if waiting := _unfinished(means.store):
        raise StoreError(f"{describe(waiting[0])} was cut off, and comes first: idiolect forget --resume")
    if options.receipt is not None:
        receipt.check_place(Path(options.receipt).expanduser().absolute(), means.store)
    return plan(means, user_id, item_id, options)


def resume(means: Means, options: Options | None = None) -> list[Forgotten]:
    """Finish every request that was cut off; where there is none, wipe old pages that a reader kept.

    Args:
        options: what is given counts instead of what was the first time, so that one that cannot be carried out as it was
            asked for can be carried out otherwise.
    """
    with means.store.lock():
        done = [_Run.of(means, row, options).finish() for row in _unfinished(means.store)]
        if not done:
            means.store.compact()
        return done


def _is_there(store: Store, user_id: str, item_id: str | None) -> bool:
    if item_id is None or not store.has_person(user_id):
        return store.has_person(user_id)
    return any(item.id == item_id for item in store.history(user_id))


def _unfinished(store: Store) -> list[ForgettingRow]:
    return [row for row in store.forgettings() if row.state != "done"]


def describe(row: ForgettingRow) -> str:
    """An unfinished request in words; names nobody."""
    return f"forgetting (request {row.request}, begun {row.began:%Y-%m-%d %H:%M:%S}Z)"


def _notes(planned: Planned, options: Options) -> dict[str, Any]:
    """What the journal says of a request."""
    return {
        "closure": planned.closure.to_dict(),
        "teachings": [one.to_dict() for one in planned.teachings],
        "options": options.to_dict(),
        "new": {},
        "problems": {},
        "unchanged": {},
        "key_destroyed": False,
    }


@dataclass
class _Run:
    """One request on its way. notes: what the journal says of it."""

    means: Means
    row: ForgettingRow
    state: ForgettingState
    notes: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, means: Means, row: ForgettingRow, options: Options | None = None) -> _Run:
        notes, given, usual = dict(row.plan), (options or Options()).to_dict(), Options().to_dict()
        changed = {name: value for name, value in given.items() if value != usual[name]}
        if "receipt" in changed and changed["receipt"] != notes["options"]["receipt"]:
            receipt.check_place(Path(changed["receipt"]), means.store)
        notes["options"] = {**notes["options"], **changed}
        return cls(means, row, row.state, notes)

    @property
    def closure(self) -> Closure:
        return Closure.from_dict(self.notes["closure"])

    @property
    def options(self) -> Options:
        return Options.from_dict(self.notes["options"])

    def finish(self) -> Forgotten:
        """Do what is left to do."""
        self.means.store.require_keys()
        if self.state == "begun":
            self._delete()
        if self.state == "deleted":
            self._clear()
            self._make_again()
        return self._close()

    def _note(self, state: ForgettingState) -> None:
        self.means.store.note_forgetting(self.row.request, state, self.notes)
        self.state = state

    def _delete(self) -> None:
        """The key, and then every row at once."""
        store = self.means.store
        for _ in range(_TRIES):
            planned = self._plan()
            keys = self.notes["key_destroyed"]
            self.notes = _notes(planned, self.options) | {"key_destroyed": keys}
            if planned.found.item_id is None and planned.found.key is not None:
                self._destroy(planned.found.key)
                self.means.at("key")
            if store.erase(self.row.request, planned.found, self.notes):
                self.state = "deleted"
                self.means.drop(self.closure.gone)
                return self.means.at("deleted")
        raise StoreError("others keep publishing on this store; stop them, and go on: idiolect forget --resume")

    def _destroy(self, key: str) -> None:
        """Noted first: whoever goes on after a crash does not find it any more. One that is not there was lost before."""
        if self.means.store.keys.has(key):
            self.notes["key_destroyed"] = True
            self._note(self.state)
            self.means.store.keys.destroy(key)

    def _plan(self) -> Planned:
        """As things are now; whoever was deleted by other means meanwhile is gone already."""
        user, item = self.row.user_id or "", self.row.item_id
        try:
            return plan(self.means, user, item, self.options)
        except PersonNotFound:
            nobody = Downstream(user, item, False, 0, 0, (), (), (), (), (), None)
            return plan_for(self.means, nobody, self.options)

    def _clear(self) -> None:
        """Files, keys, folders, memory and old pages."""
        store, closure = self.means.store, self.closure
        for key in closure.places("key") if closure.item_id is not None else ():
            if store.has_person(closure.user_id):
                store.renew_key(closure.user_id, key)
            self._destroy(key)
        store.sweep(0)  # nobody publishes meanwhile; a killed run may have left a file that no row names
        self.means.drop(closure.gone)  # once more: until now whoever was answering found the files
        for folder in gates_of(store):
            shutil.rmtree(folder, ignore_errors=True)
        for place in closure.places("evaluation"):
            if why := answers.take_out(Path(place), closure.user_id, closure.item_id):
                self.notes["unchanged"][place] = why
        store.clear_up()
        self._note("deleted")
        self.means.at("cleared")

    # -- making again ----------------------------------------------------------------------------------------------

    def _make_again(self) -> None:
        """What was in use, in order; what is there already is found again."""
        again = self.closure.again
        if not self.options.rebuild:  # said only when it went on, or there would be nothing to make again
            self.notes["problems"] |= {one.digest: "not made again, as asked" for one in again if not self._is_done(one)}
        trained = [one for one in again if one.kind != "assembled"]
        for one in trained:
            self._once(one, len(again), lambda one=one: self._train(one))
        assembled = [one for one in again if one.kind == "assembled" and not self._is_done(one)]
        if assembled:
            self._assemble(assembled, len(again))
        self._note("rebuilt")
        self.means.at("rebuilt")

    def _is_done(self, one: Affected) -> bool:
        return one.digest in self.notes["new"] or one.digest in self.notes["problems"]

    def _once(self, one: Affected, total: int, make: Callable[[], str]) -> None:
        """One adapter, and a note of it; a problem with it is noted too, and the others go on."""
        if self._is_done(one):
            return
        self._tell(f"{one.kind} adapter · {one.task}", total)
        try:
            self.notes["new"][one.digest] = make()
        except IdiolectError as error:
            if isinstance(error, StoreError) and not isinstance(error, CorruptBlob):
                raise  # a full disk, or a busy store: this can go on later
            self.notes["problems"][one.digest] = str(error)
        self._note("deleted")
        self.means.at(f"made {one.kind}")

    def _tell(self, what: str, total: int) -> None:
        self.means.on_step(what, len(self.notes["new"]) + len(self.notes["problems"]), total)

    def _train(self, one: Affected) -> str:
        from idiolect.forget.rebuilding import task_again, user_again

        store = self.means.store
        if one.kind == "task":
            teaching = next(Teaching.from_dict(said) for said in self.notes["teachings"] if said["digest"] == one.digest)
            made = task_again(self.means.based(None), store, one, teaching)
            if (other := self.notes["new"].get(teaching.in_use, teaching.in_use)) is not None and store.has_adapter(other):
                store.set_head(other)
            return made
        under = one.manifest.task_adapter
        return user_again(self.means.based(self.notes["new"].get(under, under)), store, one)

    def _assemble(self, again: Sequence[Affected], total: int) -> None:
        """People whose adapters cited what went, those of the same order together."""
        from idiolect.forget.rebuilding import grouped

        for group in grouped(again):
            self._tell(f"assembled adapters · {group[0].task}", total)
            for report in self.means.reassemble(group):
                for one in group:
                    if (digest := report.adapters.get(one.user_id or "")) is not None:
                        self.notes["new"][one.digest] = digest
                    elif (problem := report.problems.get(one.user_id or "")) is not None:
                        self.notes["problems"][one.digest] = problem
            self._note("deleted")
            self.means.at("made assembled")

    def _close(self) -> Forgotten:
        """The receipt, and then nothing is kept that names anybody."""
        store, closure = self.means.store, self.closure
        assert self.options.receipt is not None
        place = Path(self.options.receipt)
        body = receipt.body_of(self.row.request, closure, self.notes["new"], self.notes["key_destroyed"], self.row.began)
        digest = receipt.write(body, store, place)
        self.means.at("receipt")
        scrubbed = store.finish_forgetting(self.row.request, digest)
        self.means.at("done")
        names = ("new", "problems", "unchanged", "key_destroyed")
        said = {name: self.notes[name] for name in names}
        return Forgotten(self.row.request, closure, **said, receipt=place, scrubbed=scrubbed)
