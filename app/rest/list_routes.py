"""Named lists: which a user has, their order, and which entry stands where."""

from __future__ import annotations

from starlette.responses import Response

from app.core.errors import (
    AlreadyInWatchlist,
    CapacityExceeded,
    InstrumentUnknown,
    ListExists,
    ListLimit,
    ListUnknown,
    NotInWatchlist,
    StoreUnavailable,
)
from app.rest import examples, schemas
from app.rest.answers import JsonAnswer
from app.rest.operations import Caller, Operation
from app.rest.records import entry_record, evicted_records, list_record
from app.rest.services import Services
from app.rest.users import require_user
from app.rest.watchlist_routes import UserInPath


class ListRoutes:
    def __init__(self, services: Services) -> None:
        self._services = services

    def operations(self) -> list[Operation]:
        post, changed = "POST", schemas.ListsChanged
        return [
            Operation(
                0, post, "/watchlists/create", self.create_list, changed,
                "Make a list, behind the others", examples.LISTS_CHANGED, (ListExists, ListLimit, StoreUnavailable),
                request=examples.CREATE_LIST, is_users=True,
            ),
            Operation(
                0, post, "/watchlists/rename", self.rename_list, changed,
                "Give a list another name; its entries stay", examples.LISTS_CHANGED,
                (ListUnknown, ListExists, StoreUnavailable), request=examples.RENAME_LIST, is_users=True,
            ),
            Operation(
                0, post, "/watchlists/delete", self.delete_list, changed,
                "Delete a list; its entries leave as by remove", examples.LIST_DELETED,
                (ListUnknown, StoreUnavailable), request=examples.DELETE_LIST, is_users=True,
            ),
            Operation(
                0, post, "/watchlists/order", self.order_lists, changed,
                "Put lists into an order", examples.LISTS_CHANGED, (ListUnknown, StoreUnavailable),
                request=examples.ORDER_LISTS, is_users=True,
            ),
            Operation(
                0, "GET", "/watchlists/{user_id}", self.lists, schemas.NamedLists,
                "A user's lists, in their order", examples.NAMED_LISTS, query="/watchlists/1", is_users=True,
            ),
            Operation(
                0, post, "/watchlist/order", self.order_entries, schemas.ListOrdered,
                "Put the entries of a list into an order", examples.LIST_ORDERED,
                (ListUnknown, NotInWatchlist, StoreUnavailable), request=examples.ORDER_ENTRIES, is_users=True,
            ),
            Operation(
                0, post, "/watchlist/move", self.move_entry, schemas.EntryMoved,
                "Move or copy an entry to a list, or within its own", examples.ENTRY_MOVED,
                (
                    InstrumentUnknown, ListUnknown, NotInWatchlist, AlreadyInWatchlist, ListLimit, CapacityExceeded,
                    StoreUnavailable,
                ),
                request=examples.MOVE_ENTRY, is_users=True,
            ),
        ]  # fmt: skip

    async def lists(self, caller: Caller, user_id: UserInPath) -> Response:
        """The list `default` is always among them: endpoints 1 and 2 mean it where they are told no other."""
        caller.require_act_for(user_id)
        lists = self._records(user_id)
        return JsonAnswer({"user_id": user_id, "count": len(lists), "lists": lists})

    async def create_list(self, caller: Caller, body: schemas.ListRequest) -> Response:
        await require_user(self._services, caller, body.user_id, f"create list {body.name}")
        name = await self._services.watchlists.create_list(body.user_id, body.name)
        return self._changed(body.user_id, f"list {name} created")

    async def rename_list(self, caller: Caller, body: schemas.RenameListRequest) -> Response:
        await require_user(self._services, caller, body.user_id, f"rename list {body.list}")
        name = await self._services.watchlists.rename_list(body.user_id, body.list, body.name)
        return self._changed(body.user_id, f"list {body.list} is called {name} now")

    async def delete_list(self, caller: Caller, body: schemas.DeleteListRequest) -> Response:
        await require_user(self._services, caller, body.user_id, f"delete list {body.list}")
        gone = await self._services.watchlists.delete_list(body.user_id, body.list)
        message = f"list {gone.name} deleted, {gone.removed} entries removed"
        return self._changed(body.user_id, message, removed=gone.removed, unsubscribed=gone.unsubscribed)

    async def order_lists(self, caller: Caller, body: schemas.OrderListsRequest) -> Response:
        """Those named come first, in that order; the others keep theirs behind them."""
        await require_user(self._services, caller, body.user_id, "order lists")
        await self._services.watchlists.order_lists(body.user_id, body.lists)
        return self._changed(body.user_id, "lists ordered")

    async def order_entries(self, caller: Caller, body: schemas.OrderEntriesRequest) -> Response:
        """Those named come first, in that order; the others keep theirs behind them."""
        await require_user(self._services, caller, body.user_id, f"order list {body.list}")
        await self._services.watchlists.order_entries(body.user_id, body.list, body.ids)
        message = f"list {body.list} ordered"
        return JsonAnswer({"success": True, "message": message, **self._entries(body.user_id, body.list)})

    async def move_entry(self, caller: Caller, body: schemas.MoveRequest) -> Response:
        """A copy is a second owner of the same instruments: removing one leaves the other as it is."""
        await require_user(self._services, caller, body.user_id, f"move entry {body.id}")
        watchlists = self._services.watchlists
        place = watchlists.copy_entry if body.is_copy else watchlists.move_entry
        placed = await place(body.user_id, body.id, body.list, body.position)
        return JsonAnswer(
            {
                "success": True,
                "message": placed.message,
                "entry": entry_record(placed.entry, self._services.calendar.zone),
                "evicted": evicted_records(placed.evicted),
                **self._entries(body.user_id, placed.entry.list_name),
            }
        )

    def _records(self, user_id: int) -> list[dict[str, object]]:
        return [list_record(each) for each in self._services.watchlists.lists(user_id)]

    def _changed(self, user_id: int, message: str, **more: object) -> Response:
        return JsonAnswer({"success": True, "message": message, **more, "lists": self._records(user_id)})

    def _entries(self, user_id: int, list_name: str) -> dict[str, object]:
        zone = self._services.calendar.zone
        entries = [entry_record(each, zone) for each in self._services.watchlists.entries(user_id, list_name)]
        return {"list": entries[0]["list"] if entries else list_name, "watchlist": entries}
