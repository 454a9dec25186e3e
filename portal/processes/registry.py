"""All processes of the portal: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.processes.abort_card import AbortCard
from portal.processes.activate_card import ActivateCard
from portal.processes.archive_recovery import ArchiveRecovery
from portal.processes.assign_temporary_card import AssignTemporaryCard
from portal.processes.block_card import BlockCardInReader
from portal.processes.change_pin import ChangeCardPin
from portal.processes.change_puk import ChangeCardPuk
from portal.processes.check_card import CheckCard
from portal.processes.deactivate_card import DeactivateCard
from portal.processes.delete_virtual_card import DeleteCard
from portal.processes.extend_temporary_card import ExtendTemporaryCard
from portal.processes.get_virtual_smart_card import GetVirtualSmartCard
from portal.processes.handle_issued import HandleIssued
from portal.processes.issue_card import IssueCard
from portal.processes.issue_multiple_temporary_cards import IssueMultipleTemporaryCards
from portal.processes.issue_temporary_card import IssueTemporaryCard
from portal.processes.lock_card import LockCard
from portal.processes.lock_for_operator import LockForOperator
from portal.processes.lock_temporary_card import LockTemporaryCard
from portal.processes.produce_temporary_card import ProduceTemporaryCard
from portal.processes.reactivate_card import ReactivateCard
from portal.processes.read_card import ReadCardInReader
from portal.processes.renew_virtual_smart_card import RenewVirtualSmartCard
from portal.processes.replace_virtual_smart_card import ReplaceVirtualSmartCard
from portal.processes.request_card import RequestCard
from portal.processes.request_temporary_card import RequestTemporaryCard
from portal.processes.set_first_pin import SetFirstPin
from portal.processes.show_puk import ShowPuk
from portal.processes.sign_text import SignText
from portal.processes.unblock_change_pin import UnblockChangePin
from portal.processes.verify_pin import VerifyCardPin
from portal.processes.withdraw_temporary_card import WithdrawTemporaryCard

if TYPE_CHECKING:
    from portal.processes.context import Context
    from portal.processes.definition import Definition


def definitions(context: Context) -> list[Definition]:
    """The processes, in the order in which pages offer them."""
    return [
        GetVirtualSmartCard(context),
        ChangeCardPin(context),
        CheckCard(context),
        SignText(context),
        UnblockChangePin(context),
        VerifyCardPin(context),
        RenewVirtualSmartCard(context),
        ReplaceVirtualSmartCard(context),
        DeleteCard(context),
        ArchiveRecovery(context),
        HandleIssued(context),
        LockForOperator(context),
        ShowPuk(context),
        ReadCardInReader(context),
        RequestCard(context),
        IssueCard(context),
        AbortCard(context),
        SetFirstPin(context),
        ActivateCard(context),
        DeactivateCard(context),
        ReactivateCard(context),
        LockCard(context),
        RequestTemporaryCard(context),
        IssueMultipleTemporaryCards(context),
        ProduceTemporaryCard(context),
        IssueTemporaryCard(context),
        AssignTemporaryCard(context),
        ExtendTemporaryCard(context),
        WithdrawTemporaryCard(context),
        LockTemporaryCard(context),
        ChangeCardPuk(context),
        BlockCardInReader(context),
    ]
