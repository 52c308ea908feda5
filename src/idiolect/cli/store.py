"""`idiolect store`: what there is, and encryption of people's files at rest. No torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from idiolect.cli.options import JsonOption, StoreOption, open_house, wants_json
from idiolect.cli.output import count, emit, note, say
from idiolect.cli.progress import stages

app = typer.Typer(no_args_is_help=True, help="Look at the store, and encrypt people's files in it.")


@app.command()
def info(ctx: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """Say where the store is, what is in it, whether it is encrypted, and whether a forgetting was cut off."""
    from idiolect.store.tables import REVISION

    with open_house(ctx, store) as house:
        kept = house.store
        about = {
            "store": kept.place,
            "schema": REVISION,
            "people": len(kept.people()),
            "adapters": len(kept.adapters()),
            "encrypted": kept.is_encrypted(),
            "keys": str(kept.keys.folder),
            "forgotten": sum(row.state == "done" for row in kept.forgettings()),
            "cut_off": sum(row.state != "done" for row in kept.forgettings()),
        }
    if wants_json(ctx, json):
        return emit(about)
    for name, value in about.items():
        say(f"{name.replace('_', ' '):<10} {'yes' if value is True else 'no' if value is False else value}")
    if about["cut_off"]:
        note("a forgetting was cut off; go on with it: idiolect forget --resume")


@app.command()
def encrypt(
    ctx: typer.Context,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FOLDER", help="Where keys lie, best on a disk that no backup takes (in the store)."),
    ] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Encrypt people's adapters, from now on and those that are there: each person's with a key of their own."""
    with open_house(ctx, store) as house:
        with stages() as shown:
            step = shown("encrypting", len(house.adapters()))
            done = house.store.encrypt(keys, lambda n, of: step(n, "", None))
        place = house.store.keys.folder
    if wants_json(ctx, json):
        return emit({**asdict(done), "keys": str(place)})
    say(f"{count(done.n_sealed, 'file')} encrypted, {done.n_already:,} were already; keys are in {place}")
    for digest in done.damaged:
        note(f"adapter {digest[:12]} is damaged, and was left as it is; train it again")
    note("histories and shared pieces are in the database, which is not encrypted; keep the keys out of backups of the store")
