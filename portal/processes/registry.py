"""All processes of the portal: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.change_pin import ChangeCardPin
from portal.processes.delete_virtual_card import DeleteCard
from portal.processes.get_virtual_smart_card import GetVirtualSmartCard
from portal.processes.handle_issued import HandleIssued
from portal.processes.lock_for_operator import LockForOperator
from portal.processes.renew_virtual_smart_card import RenewVirtualSmartCard
from portal.processes.replace_virtual_smart_card import ReplaceVirtualSmartCard
from portal.processes.show_puk import ShowPuk

if TYPE_CHECKING:
    from portal.processes.context import Context
    from portal.processes.definition import Definition


def definitions(context: Context) -> list[Definition]:
    """The processes, in the order in which pages offer them."""
    return [
        GetVirtualSmartCard(context),
        ChangeCardPin(context),
        RenewVirtualSmartCard(context),
        ReplaceVirtualSmartCard(context),
        DeleteCard(context),
        ArchiveRecovery(context),
        HandleIssued(context),
        LockForOperator(context),
        ShowPuk(context),
    ]
